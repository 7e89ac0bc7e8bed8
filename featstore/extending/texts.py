"""Heads made of class names by the text tower of a network such as CLIP."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featstore.backbones import Backbone, load_backbone
from featstore.backbones.text_towers import embed_texts
from featstore.errors import HeadError
from featstore.extending.importing import NAME, class_names, head_of_form, lines_of
from featstore.heads.forms.linear import LinearForm, row_lengths
from featstore.heads.head import Head

__all__ = ["DEFAULT_TEMPLATE", "import_text_head"]

DEFAULT_TEMPLATE = "a photo of a {}"
"""From CLIP (Radford et al., ICML 2021), section 3.1.4."""

# What CLIP's own logit scale is bounded by, and has reached in its published weights.
_LOGIT_SCALE = 100.0


def import_text_head(
    backbone: Backbone | str | os.PathLike[str],
    *,
    texts: Sequence[str] | Mapping[str, str] | str | os.PathLike[str],
    text_model: str | os.PathLike[str],
    tokenizer: str | os.PathLike[str],
    templates: Sequence[str] = (DEFAULT_TEMPLATE,),
    logit_scale: float | None = None,
    text_output: str | None = None,
    text_length: int | None = None,
    **options: Any,
) -> Head:
    """Make a head of class names, without a photo, for a pair of towers such as CLIP's (zero-shot).

    A class's score is the cosine between the image's features and the embedding of its text, times the logit
    scale: CLIP's own classifier (Radford et al., ICML 2021, section 3.1). With several templates the
    embeddings of unit length are averaged. The head was fitted on none of your images:
    ``featstore.evaluate(head, table, split="all")`` is a fair test.

    Parameters
    ----------
    backbone : str, path or Backbone
        The image tower, as for :func:`featstore.load_backbone`, cut where it gives the embedding.
    texts : sequence of str, mapping or path
        The classes, each described by its own name; a mapping from names to descriptions; or a text file with
        a name on each line, and after a tab its description where that is another.
    text_model : path
        The text tower: an ONNX model, or another file that OpenVINO reads, with the input ``input_ids`` and
        perhaps ``attention_mask``. It may be the file of both towers.
    tokenizer : path
        Its ``tokenizer.json``; a ``tokenizer_config.json`` beside it is read for padding and length.
    templates : sequence of str
        Texts with ``{}`` where the description goes.
    logit_scale : float, optional
        Factor of the cosines. By default the exponential of a constant ``logit_scale`` in the text model, or
        100, as CLIP has.
    text_output : str, optional
        The tensor of the text model with the embedding: by default ``text_embeds``, or its only output.
    text_length : int, optional
        Number of tokens to pad texts to, such as 64 for SigLIP. By default the model's or the tokenizer's.
    **options
        As for :func:`featstore.load_backbone`.

    Returns
    -------
    Head
        A linear head named ``"imported"`` on features of unit length, with sorted classes.

    Raises
    ------
    HeadError
        The texts are fewer than two, or names occur twice; a template lacks ``{}``; or the towers give
        different numbers of features.
    BackboneError
        A tower or the tokenizer cannot be used.
    MissingExtraError
        The package ``tokenizers`` is not installed.

    Examples
    --------
    >>> import featstore
    >>> towers = {"text_model": "clip-text.onnx", "tokenizer": "tokenizer.json"}
    >>> texts = ["a cat", "a dog"]
    >>> head = featstore.import_text_head("clip-image.onnx", texts=texts, **towers)  # doctest: +SKIP
    >>> featstore.import_text_head("scattering", texts=texts, templates=["a photo"], **towers)
    Traceback (most recent call last):
    featstore.errors.HeadError: a template has {} once, where the class goes; found ['a photo']
    """
    if not isinstance(backbone, Backbone):
        backbone = load_backbone(backbone, **options)
    elif options:
        raise TypeError(f"a loaded backbone has its options already; leave out: {', '.join(options)}")
    if unfit := [template for template in templates if template.count("{}") != 1] or not templates:
        raise HeadError(f"a template has {{}} once, where the class goes; found {unfit}")
    if logit_scale is not None and not 0 < logit_scale < np.inf:
        raise HeadError(f"logit_scale is above 0; found {logit_scale:g}")
    described = _described(texts)
    names = class_names([*described])
    sentences = [one.replace("{}", described[name]) for one in templates for name in names]
    embedded = embed_texts(
        sentences,
        model=os.fspath(text_model),
        tokenizer=os.fspath(tokenizer),
        output=text_output,
        length=text_length,
    )
    rows = embedded.rows.astype(np.float64)
    if rows.shape[1] != backbone.feature_dim:
        raise HeadError(
            f"{os.fspath(text_model)} gives {rows.shape[1]:,} numbers for a text, and {backbone.spec.name} "
            f"{backbone.feature_dim:,} for an image: choose the outputs of both towers that are compared, "
            "with --layer (image_embeds, say) and --text-output"
        )
    units = (rows / row_lengths(rows)).reshape(len(templates), len(names), -1).mean(axis=0)
    scale = logit_scale or embedded.logit_scale or _LOGIT_SCALE
    order = np.argsort(names)
    form = LinearForm(
        coef=scale * (units / row_lengths(units))[order],
        intercept=np.zeros(len(names)),
        mean=np.zeros(backbone.feature_dim),
        scale=np.ones(backbone.feature_dim),
    )
    return head_of_form(backbone, form, names[order], name=NAME)


def _described(texts: Sequence[str] | Mapping[str, str] | str | os.PathLike[str]) -> dict[str, str]:
    """Return the description of each class."""
    if isinstance(texts, Mapping):
        return {str(name): str(text) for name, text in texts.items()}
    lines = lines_of(os.fspath(texts)) if isinstance(texts, str | os.PathLike) else tuple(texts)
    parts = [[part.strip() for part in line.partition("\t")[::2]] for line in lines]
    pairs = [(name, text or name) for name, text in parts]
    # Which are checked for names that occur twice, before they would be lost.
    class_names([name for name, _ in pairs])
    return dict(pairs)
