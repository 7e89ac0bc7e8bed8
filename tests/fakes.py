"""Stand-ins that are real enough to be measured by: a backbone that counts what passes it, a model that looks
at brightness alone."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from featstore.backbones import BackboneSpec
from featstore.images import ViewRecipe

GAIN_LAYERS = """
import keras

@keras.saving.register_keras_serializable(package="ours")
class Gain(keras.layers.Layer):
    def __init__(self, factor, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
"""
"""A module of the user's own, with a layer that a model needs."""


class CountingBackbone:
    """A linear map of some pixels to ``feature_dim`` numbers, which remembers how many images it saw."""

    weights: ClassVar[str] = "closed-form"
    provenance: ClassVar[dict[str, str]] = {"engine": "fake"}
    devices: tuple[str, ...] = ("the only one",)
    threads: int | None = None

    def __init__(
        self,
        *,
        feature_dim: int = 5,
        batch_size: int = 4,
        seed: int = 0,
        dtype: str = "float32",
        views: ViewRecipe | None = None,
        size_px: tuple[int, int] = (8, 8),
        before_batch: Callable[[int], Any] = lambda number: None,
    ) -> None:
        self.feature_dim = feature_dim
        self.batch_size = batch_size
        self.spec = BackboneSpec(
            architecture=f"fake{seed}",
            weights_digest=f"{seed:064x}",
            layer="last",
            size_px=size_px,
            preprocessing="none",
            dtype=dtype,
            views=views,
        )
        self.images = 0
        self.batches = 0
        self._before_batch = before_batch
        shape = (3 * size_px[0] * size_px[1], feature_dim)
        self._matrix = np.random.default_rng(seed).normal(size=shape).astype(np.float32)

    def forward(self, pixels: np.ndarray) -> np.ndarray:
        assert pixels.dtype == np.uint8
        assert pixels.shape[1:] == (*self.spec.size_px, 3)
        rows = pixels.reshape(len(pixels), -1).astype(np.float32)
        # A matrix product would round a row otherwise among others.
        return np.einsum("ij,jk->ik", rows, self._matrix) / np.float32(255)

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for batch in batches:
            self._before_batch(self.batches)
            self.batches += 1
            self.images += len(batch)
            yield self.forward(batch)


def write_mean_model(folder: Path, *, rejects_below: float = 0.0) -> Path:
    """Write an exported ONNX model that tells bright from dark pictures of 8 x 8 pixels by their mean."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from featstore.export.description import ModelDescription, file_digests

    weights = {
        "axes": np.array([1, 2], np.int64),
        "kernel": np.array([[1, -1]] * 3, np.float32) / 100,
        "bias": np.array([-3.75, 3.75], np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "kernel", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [None, 8, 8, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    description = ModelDescription(
        runtime="onnx",
        file="model.onnx",
        files=file_digests(str(folder), ["model.onnx"]),
        classes=("bright", "dark"),
        spec=CountingBackbone().spec,
        rejects_below=rejects_below,
    )
    (folder / "model.json").write_text(json.dumps(description.to_dict()), encoding="utf-8")
    return folder
