"""Keras models in memory: copied as they are, and cached as files for later programs."""

import os
import re
import tempfile
from typing import Any, TypeGuard

from featstore.backbones.files.foreign_classes import is_hub_network
from featstore.backbones.spec import digest_values
from featstore.errors import BackboneError, first_line
from featstore.hashing import content_hash
from featstore.io.archives.safe_zip import allow_any_clock
from featstore.io.cache_folder import cache_folder

__all__ = ["frozen_model", "is_keras_model", "keep_model"]

# Names that Keras numbers through the process, so that they mean nothing.
_COUNTED = re.compile(r"(functional|sequential|model)(_\d+)?")

_frozen: dict[str, Any] = {}


def is_keras_model(found: object) -> TypeGuard[Any]:
    """Return whether an object is a Keras model, without importing Keras."""
    return any(
        base.__name__ == "Model" and base.__module__.split(".")[0] == "keras" for base in type(found).__mro__
    )


def keep_model(model: Any) -> str:
    """Copy a model in its current state, and return the path of the saved copy."""
    # The file is in the cache folder, so that later programs find it, or else in a temporary folder. This
    # program uses the copy in memory.
    try:
        if not model.inputs:
            raise ValueError("it has no inputs that are known")  # noqa: TRY301
        copy = _copied(model)
        copy.set_weights(model.get_weights())
        configuration = copy.to_json()
    except Exception as error:
        # Layers of the user's own raise anything.
        raise BackboneError(
            f"the model {model.name!r} cannot be copied: {first_line(error)}. It has to be built, and a "
            "functional or sequential one: keras.Model(inputs, outputs)"
        ) from error
    stem = "keras_model" if _COUNTED.fullmatch(model.name) else re.sub(r"[^A-Za-z0-9_.]+", "_", model.name)
    digest = digest_values(copy.get_weights(), salt=content_hash(configuration.encode()))[:16]
    path = os.path.join(cache_folder(), "models", digest, f"{stem}.keras")
    if path not in _frozen and not os.path.exists(path):
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _save(copy, path)
        except OSError:
            path = os.path.join(tempfile.mkdtemp(prefix="featstore-"), os.path.basename(path))
            _save(copy, path)
    _frozen[path] = copy
    return path


def frozen_model(path: str) -> Any | None:
    """Return the in-memory copy saved in a file by this program."""
    return _frozen.get(path)


def _copied(model: Any) -> Any:
    import keras

    if not is_hub_network(model):
        return keras.models.clone_model(model)
    # Of which some layers have configurations that they cannot be built from.
    return type(model).from_config(model.get_config())


def _save(model: Any, path: str) -> None:
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path), prefix=".tmp-") as folder:
        temporary = os.path.join(folder, os.path.basename(path))
        allow_any_clock()
        model.save(temporary)
        os.replace(temporary, path)
