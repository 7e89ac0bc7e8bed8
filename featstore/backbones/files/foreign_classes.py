"""Classes in the configuration of a Keras model, and which of them may be built without being asked for."""

from collections.abc import Container, Iterator
from typing import Any

__all__ = ["HUB_PACKAGE", "HUB_PREFIX", "foreign_class", "has_hub_classes", "is_hub_network"]

HUB_PACKAGE = "keras_hub"
"""The package of KerasHub, whose classes are code of Keras' authors."""

HUB_PREFIX = f"{HUB_PACKAGE}:"
"""Of the names of presets that KerasHub downloads."""

_HUB_MODULES = (f"{HUB_PACKAGE}.src.models.", f"{HUB_PACKAGE}.src.layers.modeling.")
_TRUST = "if you trust its author, pass --trust-model (trust_model=True)"


def foreign_class(config: Any, known: Container[str] = ()) -> str | None:
    """Return what a configuration would run or import beyond the classes of Keras and KerasHub, or None."""
    return next(_foreign(config, known), None)


def has_hub_classes(config: Any) -> bool:
    """Return whether a configuration names classes of KerasHub."""
    if isinstance(config, list):
        return any(map(has_hub_classes, config))
    if not isinstance(config, dict):
        return False
    names = (str(config.get("module")), str(config.get("registered_name")))
    return (
        names[0].startswith(f"{HUB_PACKAGE}.")
        or names[1].startswith(f"{HUB_PACKAGE}>")
        or any(map(has_hub_classes, config.values()))
    )


def is_hub_network(model: object) -> bool:
    """Return whether a model is of a class of KerasHub."""
    return type(model).__module__.startswith(f"{HUB_PACKAGE}.")


def _foreign(config: Any, known: Container[str]) -> Iterator[str]:
    """Yield what a model's configuration would run or import, beyond Keras' own classes."""
    if isinstance(config, list):
        for entry in config:
            yield from _foreign(entry, known)
    elif isinstance(config, dict):
        name, module = config.get("class_name"), config.get("module")
        if name in ("Lambda", "__lambda__"):
            yield (
                "a Lambda layer, which is Python code that would run when the file is opened (keras.ops or "
                f"Rescaling in its place would not); {_TRUST}"
            )
        elif name in ("TFSMLayer", "TorchModuleWrapper"):
            yield f"a {name}, which runs a program that the file names; {_TRUST}"
        elif name is not None and module is not None and not _is_keras(module) and not _is_hub(name, module):
            named = str(config.get("registered_name") or name)
            if str(name) not in known and named not in known:
                yield (
                    f"a {str(name)[:80]!r} of the module {str(module)[:80]!r}{_called(config)}, which is not "
                    f"one of Keras; if you trust its code, name the module with --import {_module(module)} "
                    f"(imports=[{_module(module)!r}])"
                )
        for entry in config.values():
            yield from _foreign(entry, known)


def _called(config: dict[str, Any]) -> str:
    inner = config.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    return f" (layer {name[:80]!r})" if isinstance(name, str) else ""


def _module(module: object) -> str:
    return str(module) if str(module).replace(".", "").isidentifier() and len(str(module)) <= 80 else "MODULE"


def _is_keras(module: object) -> bool:
    return isinstance(module, str) and (
        module in ("keras", "builtins") or module.startswith(("keras.", "tf_keras."))
    )


def _is_hub(name: object, module: object) -> bool:
    """Return whether a class is one of KerasHub that may be built."""
    # Its tokenizers read files that their configuration names.
    return isinstance(module, str) and module.startswith(_HUB_MODULES) and "Tokenizer" not in str(name)
