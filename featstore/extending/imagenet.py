"""ImageNet's 1,000 classes, as the networks of keras.applications have them.

Order and WordNet ids are those of the ILSVRC 2012 challenge: ids sorted. A name is the first lemma of the
class's synset with underscores for spaces, as in Keras (``decode_predictions``). Four classes share two names
and have a disambiguation: ``crane_(bird)``, ``crane_(machine)``, ``maillot_(tights)`` and
``maillot_(tank_suit)``. ``Cardigan`` is the dog, ``cardigan`` the garment.

``imagenet_classes.tsv`` has an id and a name on each line. It was made from ``imagenet_synsets.txt`` and
``imagenet_synset_to_lemma.txt`` of the PyPI package timm 1.0.31 (Apache 2.0), whose lemmas are those of
WordNet 3.0 (Princeton University).
"""

from importlib.resources import files

__all__ = ["imagenet_classes"]


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, in the order of keras.applications.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> imagenet_classes()[:3]
    ('tench', 'goldfish', 'great_white_shark')
    """
    text = files("featstore.extending").joinpath("imagenet_classes.tsv").read_text(encoding="utf-8")
    return tuple(line.split("\t")[1] for line in text.splitlines())
