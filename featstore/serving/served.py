"""A model that is served, and what its page shows beside a prediction."""

from base64 import b64encode
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.duplicates.likeness import Likeness, fit_likeness
from featstore.errors import ImageError
from featstore.export import ExportedModel
from featstore.heads import RegressionHead
from featstore.images.decode import decode_image
from featstore.images.thumbnails import read_thumbnail, webp
from featstore.label_sets import split_labels
from featstore.prediction import Predictor

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["ServedModel"]

# 256 MB of features of MobileNetV2; above that, a selection that is as good as drawn at random.
_MOST_ROWS = 50_000
_THUMBNAIL_PX = 160


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedModel:
    """A head or an exported model under a name, with the images it was fitted on where they are at hand."""

    name: str
    predictor: Predictor
    table: "FeatureTable | None" = None

    @property
    def classes(self) -> list[str]:
        """The labels that can be predicted."""
        labels: list[str] = self.predictor.classes.tolist()
        return labels

    @property
    def _spec(self) -> Any:
        model = self.predictor.model
        return (model.description if isinstance(model, ExportedModel) else model).spec.parts[0]

    def to_dict(self) -> dict[str, Any]:
        """Return what a client may want to know."""
        told = {
            "name": self.name,
            "classes": self.classes,
            "size_px": list(self._spec.size_px),
            "resize": self._spec.resize,
            "rejects_below": self.predictor.rejects_below,
            "shows_neighbors": self.table is not None,
        }
        if self.predictor.gives_several_labels:
            thresholds = np.asarray(self.predictor.model.thresholds, np.float64).tolist()  # type: ignore[union-attr]
            told["thresholds"] = dict(zip(self.classes, thresholds, strict=True))
        return told

    def warm_up(self) -> None:
        """Compile the network, and prepare the comparison with training images."""
        self.predictor.predict(np.zeros((*self._spec.size_px, 3), np.uint8))
        if self.table is not None:
            _ = self._training

    def seen(self, image: bytes) -> str:
        """Return the picture that the network gets, as a data URI."""
        pixels = decode_image(image, **self._spec.picture)
        return _uri(webp(pixels, size_px=max(pixels.shape[:2]), quality=85))

    def neighbors(self, features: NDArray[Any], n: int) -> list[dict[str, Any]]:
        """Return the most similar training images: label, similarity, and a picture where it can be read."""
        if self.table is None:
            return []
        rows, vectors, likeness = self._training
        similarity = vectors @ likeness.vectors(features[np.newaxis])[0]
        best = np.argsort(-similarity, kind="stable")[:n]
        return [
            {
                "label": self._label(int(rows[at])),
                "similarity": round(float(similarity[at]), 4),
                "picture": self._picture(int(rows[at])),
            }
            for at in best
        ]

    def _label(self, row: int) -> str:
        assert self.table is not None
        text = str(self.table.label_texts[row])
        if not self.table.label_separator:
            return text
        return ", ".join(split_labels(text, self.table.label_separator)) or "none"

    @cached_property
    def _training(self) -> tuple[NDArray[np.intp], NDArray[np.float32], Likeness]:
        assert self.table is not None
        assert not isinstance(self.predictor.model, ExportedModel | RegressionHead)
        hashes = np.ascontiguousarray(self.table.content_hash_bytes)
        rows = np.flatnonzero(self.predictor.model.was_fitted_on(self.table))
        # Copies would be shown several times.
        _, first = np.unique(hashes[rows].view("V32").ravel(), return_index=True)
        rows = np.sort(rows[first][:_MOST_ROWS])
        likeness = fit_likeness(self.table.X, hashes)
        step = 2048
        vectors = [likeness.vectors(self.table.X[rows[at : at + step]]) for at in range(0, len(rows), step)]
        width = self.table.feature_dim + 1
        return rows, np.concatenate(vectors) if vectors else np.empty((0, width), np.float32), likeness

    @cached_property
    def _picture(self) -> Any:
        assert self.table is not None
        paths, hashes = self.table.paths, np.ascontiguousarray(self.table.content_hash_bytes)

        @lru_cache(maxsize=2000)
        def picture(row: int) -> str | None:
            try:
                pixels = read_thumbnail(str(paths[row]), hashes[row].tobytes(), _THUMBNAIL_PX)
            except ImageError:
                return None
            return _uri(webp(pixels, size_px=_THUMBNAIL_PX, quality=70))

        return picture


def _uri(file: bytes) -> str:
    return f"data:image/webp;base64,{b64encode(file).decode('ascii')}"
