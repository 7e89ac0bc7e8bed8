"""Export for LiteRT (TensorFlow Lite), optionally quantized."""

import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.keras.quiet import quiet_import
from featstore.export.runtimes import IMAGES_SIGNATURE, INPUT, OUTPUT

with quiet_import():
    import keras
    import tensorflow as tf

__all__ = ["write_tflite"]

# What the head becomes: it is small, and rounding it would round the probabilities to 1/256.
_HEAD_OPERATIONS = ("FULLY_CONNECTED", "SOFTMAX")
# And the mean over views that follows it.
_AVERAGING_OPERATIONS = ("RESHAPE", "MEAN")


def write_tflite(
    model: Any,
    path: str,
    *,
    quantize: str | None = None,
    samples: Sequence[NDArray[np.uint8]] = (),
    averages: bool = False,
    output: str = OUTPUT,
) -> None:
    """Write a model for LiteRT with built-in operations only; "int8" calibrates on ``samples``."""
    with tempfile.TemporaryDirectory() as folder:
        signature = [tf.TensorSpec((None, *model.input.shape[1:]), tf.uint8, name=INPUT)]
        forward = tf.function(
            lambda images: {output: model(images, training=False)}, input_signature=signature
        )
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(IMAGES_SIGNATURE, forward)
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[IMAGES_SIGNATURE])
        exact = (*_HEAD_OPERATIONS, *(_AVERAGING_OPERATIONS if averages else ()))
        data = _int8(converter, samples, exact) if quantize == "int8" else _floats(converter, quantize)
    with open(path, "xb") as file:
        file.write(data)


def _floats(converter: Any, quantize: str | None) -> bytes:
    if quantize == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())


def _int8(converter: Any, samples: Sequence[NDArray[np.uint8]], exact: Sequence[str]) -> bytes:
    def shown() -> Iterator[list[NDArray[np.uint8]]]:
        return ([pixels[np.newaxis]] for pixels in samples)

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = shown
    experimental = tf.lite.experimental
    options = experimental.QuantizationDebugOptions(denylisted_ops=list(exact))
    debugger = experimental.QuantizationDebugger(
        converter=converter, debug_dataset=shown, debug_options=options
    )
    return bytes(debugger.get_nondebug_quantized_model())
