"""Search of a table for the images most like given ones."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones import Backbone
from featstore.backbones.parts import WeightsFiles, backbones_among, backbones_from_spec
from featstore.errors import ImageError, SearchError
from featstore.hashing import content_hash
from featstore.images import decode_image
from featstore.images.in_memory import GivenImage, content_of, is_one_image, path_of
from featstore.notebook_table import html_table

if TYPE_CHECKING:
    from featstore.store import FeatureTable

__all__ = ["SimilarImage", "SimilarImages", "find_similar"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SimilarImage:
    """An image of a table that is like a given one.

    Parameters
    ----------
    row : int
        Row in the table.
    path : str
        Absolute path.
    label : str
        Empty if the image has none.
    similarity : float
        Cosine of the features, in [-1, 1].
    content_hash : str
        SHA-256 of the file's content, 64 hexadecimal digits.

    Examples
    --------
    >>> from featstore import SimilarImage
    >>> SimilarImage(row=3, path="a.jpg", label="rose", similarity=0.9, content_hash="00").to_dict()["label"]
    'rose'
    """

    row: int
    path: str
    label: str
    similarity: float
    content_hash: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; the keys are stable."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, kw_only=True)
class SimilarImages:
    """Result of :func:`find_similar` for one image.

    Parameters
    ----------
    path : str or None
        The file, as it was given; None for bytes, pictures and pixels.
    content_hash : str
        Empty where the image could not be read.
    images : tuple of SimilarImage
        The most similar first.
    copies : tuple of str
        Paths of the images of the table with the same content, which are not among ``images``.
    reason : str or None
        Why the image could not be read or decoded.

    Examples
    --------
    >>> from featstore import SimilarImages
    >>> SimilarImages(path="new.jpg", content_hash="", reason="not an image").to_dict()["reason"]
    'not an image'
    """

    path: str | None
    content_hash: str
    images: tuple[SimilarImage, ...] = ()
    copies: tuple[str, ...] = ()
    reason: str | None = None

    def _repr_html_(self) -> str:
        return html_table(
            f"images like {self.path or 'the given one'}",
            ("similarity", "label", "image"),
            [(image.similarity, image.label, image.path) for image in self.images],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; the keys are stable."""
        return {
            "path": self.path,
            "content_hash": self.content_hash,
            "images": [image.to_dict() for image in self.images],
            "copies": list(self.copies),
            "reason": self.reason,
        }


def find_similar(
    table: "FeatureTable",
    images: Iterable[GivenImage],
    *,
    top: int = 10,
    backbone: Backbone | Sequence[Backbone] | None = None,
    weights: WeightsFiles | None = None,
    engine: str = "auto",
    trust_model: bool = False,
    imports: Sequence[str] = (),
    progress: Callable[[int], Any] | None = None,
) -> list[SimilarImages]:
    """Find the images of a table that are most like given ones, by the cosine of their features.

    The search is exact (:meth:`FeatureTable.neighbors`). An image that is in the table needs no network; the
    network is loaded at the first one that is not.

    Parameters
    ----------
    table : FeatureTable
        One row for each image, not with views.
    images : iterable of path, bytes, PIL.Image.Image or ndarray
        As for :meth:`Predictor.stream <featstore.Predictor.stream>`; they are read one after another.
    top : int
        Number of similar images for each; copies of the image itself do not count.
    backbone : Backbone or sequence of Backbone, optional
        Loaded by the table's specification by default.
    weights : path or sequence of path, optional
        The backbone's weights file, if it has moved since the features were extracted.
    engine, trust_model, imports
        As for :class:`~featstore.Predictor`.
    progress : callable, optional
        Called with the number of images whose features are there.

    Returns
    -------
    list of SimilarImages
        One for each image, in order; with a reason where it cannot be read or decoded.

    Raises
    ------
    SearchError
        ``top`` is below 1, or the table has views.
    TypeError
        ``images`` is one image.
    FingerprintMismatchError
        The backbone or the weights are not those of the table.

    Examples
    --------
    >>> import tempfile
    >>> from featstore import FeatureStore, extract, find_similar
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     n_images = write_digits(f"{folder}/digits", n_images=60)
    ...     report = extract(f"{folder}/digits", store=f"{folder}/digits.fstore", backbone="scattering")
    ...     table = FeatureStore(report.store).table()
    ...     (found,) = find_similar(table, [f"{folder}/digits/0/0000.png"], top=3)
    >>> [image.label for image in found.images]
    ['0', '0', '0']
    """
    if is_one_image(images):
        raise TypeError(f"find_similar takes several images; found one {type(images).__name__}")
    if top < 1:
        raise SearchError(f"top must be at least 1; found {top}")
    if table.views.any():
        raise SearchError("the table has a row for each view; give the table of the images themselves")
    hashes = np.ascontiguousarray(table.content_hash_bytes).view("V32").ravel()
    network = _Network(table, backbone, weights, engine, trust_model, imports)
    given: list[tuple[str | None, bytes, NDArray[Any], str | None]] = []
    for image in images:
        digest, queries, reason = b"", np.empty((0, table.feature_dim), table.dtype), None
        try:
            content = content_of(image)
            digest = content_hash(content)
            rows = np.flatnonzero(hashes == np.void(digest))
            queries = table.select(rows[:1]).X if len(rows) else network.features(content)
        except ImageError as error:
            reason = str(error)
        given.append((path_of(image), digest, queries, reason))
        if progress is not None:
            progress(len(given))
    copies = [np.flatnonzero(hashes == np.void(digest)).tolist() if digest else [] for _, digest, *_ in given]
    most = max(map(len, copies), default=0)
    found = table.neighbors(np.concatenate([one[2] for one in given]), k=top + most) if given else None
    paths, results, at = table.paths, [], 0
    for (path, digest, queries, reason), same in zip(given, copies, strict=True):
        images_found: list[SimilarImage] = []
        if found is not None and len(queries):
            pairs = zip(found.rows[at].tolist(), found.similarity[at].tolist(), strict=True)
            images_found = [
                SimilarImage(
                    row=row,
                    path=str(paths[row]),
                    label=str(table.label_texts[row]),
                    similarity=similarity,
                    content_hash=hashes[row].tobytes().hex(),
                )
                for row, similarity in pairs
                if row not in same
            ][:top]
            at += 1
        results.append(
            SimilarImages(
                path=path,
                content_hash=digest.hex(),
                images=tuple(images_found),
                copies=tuple(str(paths[row]) for row in same),
                reason=reason,
            )
        )
    return results


class _Network:
    """The networks of a table's features, loaded at the first image that needs them."""

    def __init__(
        self,
        table: "FeatureTable",
        backbone: Backbone | Sequence[Backbone] | None,
        weights: WeightsFiles | None,
        engine: str,
        trust_model: bool,
        imports: Sequence[str],
    ) -> None:
        self._spec, self._remembered = table.spec, table.weights
        self._backbones = None if backbone is None else backbones_among(table.spec, backbone)
        self._options: dict[str, Any] = {
            "weights": weights,
            "engine": engine,
            "trust_model": trust_model,
            "imports": imports,
        }

    def features(self, content: bytes) -> NDArray[Any]:
        """Return an image's features, of shape (1, feature_dim)."""
        specs = self._spec.parts
        pixels = [decode_image(content, **spec.picture)[None] for spec in specs]
        if self._backbones is None:
            self._backbones = backbones_from_spec(self._spec, remembered=self._remembered, **self._options)
        rows = [
            np.asarray(backbone.forward(batch), backbone.spec.dtype)
            for backbone, batch in zip(self._backbones, pixels, strict=True)
        ]
        return np.concatenate(rows, axis=1)
