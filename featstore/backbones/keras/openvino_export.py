"""Keras models in OpenVINO's intermediate representation."""

import sys
from typing import Any

__all__ = ["export_openvino"]


def export_openvino(model: Any, path: str) -> None:
    """Write a Keras model as ``path`` (.xml), with its weights beside it (.bin)."""
    if sys.version_info >= (3, 13):
        _mend_version_check()
    model.export(path, format="openvino", verbose=False)


def _mend_version_check() -> None:
    # OpenVINO (2026.4) imports TensorFlow by exec() and deletes the name by another, which since Python 3.13
    # does not find it: exec() writes into a copy of a function's names (PEP 667).
    from openvino.frontend.tensorflow import utils

    utils.get_environment_setup = lambda framework: {"tensorflow": sys.modules["tensorflow"].__version__}
