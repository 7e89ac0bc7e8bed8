"""Stand-ins that are real enough to be measured by: a backbone that counts what passes it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import numpy as np

from featstore.backbones import BackboneSpec


class CountingBackbone:
    """A linear map of 8 x 8 pixels to ``feature_dim`` numbers, which remembers how many images it saw."""

    weights: ClassVar[str] = "closed-form"
    provenance: ClassVar[dict[str, str]] = {"engine": "fake"}
    devices: tuple[str, ...] = ("the only one",)

    def __init__(
        self,
        *,
        feature_dim: int = 5,
        batch_size: int = 4,
        seed: int = 0,
        dtype: str = "float32",
        before_batch: Callable[[int], Any] = lambda number: None,
    ) -> None:
        self.feature_dim = feature_dim
        self.batch_size = batch_size
        self.spec = BackboneSpec(
            architecture=f"fake{seed}",
            weights_digest=f"{seed:064x}",
            layer="last",
            size_px=(8, 8),
            preprocessing="none",
            dtype=dtype,
        )
        self.images = 0
        self.batches = 0
        self._before_batch = before_batch
        self._matrix = np.random.default_rng(seed).normal(size=(192, feature_dim)).astype(np.float32)

    def forward(self, pixels: np.ndarray) -> np.ndarray:
        assert pixels.dtype == np.uint8
        assert pixels.shape[1:] == (8, 8, 3)
        return pixels.reshape(len(pixels), -1).astype(np.float32) @ self._matrix / 255

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for batch in batches:
            self._before_batch(self.batches)
            self.batches += 1
            self.images += len(batch)
            yield self.forward(batch)
