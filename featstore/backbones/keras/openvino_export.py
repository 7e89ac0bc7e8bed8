"""Keras models in OpenVINO's intermediate representation."""

import sys
from typing import Any

from featstore.backbones.engines.openvino import import_openvino

__all__ = ["export_openvino"]


def export_openvino(model: Any, path: str) -> None:
    """Write a Keras model as ``path`` (.xml), with its weights beside it (.bin)."""
    import keras

    openvino = import_openvino()
    if sys.version_info >= (3, 13):
        _mend_version_check()
    if keras.backend.backend() != "tensorflow":
        model.export(path, format="openvino", verbose=False)
        return
    import tensorflow

    # ``model.export`` first looks through all that the model refers to, at 1.5 times the processor time.
    signature = [tensorflow.TensorSpec(one.shape, one.dtype, one.name) for one in model.inputs]
    forward = tensorflow.function(model, input_signature=[signature[0] if len(signature) == 1 else signature])
    converted = openvino.convert_model(forward.get_concrete_function())
    for place, one in zip(converted.inputs, model.inputs, strict=True):
        place.get_node().set_friendly_name(one.name)
        place.tensor.set_names({one.name})
    openvino.serialize(converted, path)


def _mend_version_check() -> None:
    # OpenVINO (2026.4) imports TensorFlow by exec() and deletes the name by another, which since Python 3.13
    # does not find it: exec() writes into a copy of a function's names (PEP 667).
    import_openvino()
    from openvino.frontend.tensorflow import utils

    utils.get_environment_setup = lambda framework: {"tensorflow": sys.modules["tensorflow"].__version__}
