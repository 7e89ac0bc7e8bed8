"""User modules with custom layer classes, named explicitly with ``imports``."""

import ast
import hashlib
import inspect
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from featstore.errors import BackboneError

__all__ = ["code_digest", "custom_objects"]


def custom_objects(modules: Sequence[str]) -> dict[str, Any]:
    """Import modules and return their layers and functions by every name a saved model may use."""
    found: dict[str, Any] = {}
    for name in modules:
        try:
            module = import_module(name)
        except Exception as error:  # it is code of others, which may raise anything
            raise BackboneError(
                f"the module {name!r} that --import (imports=) names cannot be imported: "
                f"{type(error).__name__}: {error}"
            ) from error
        for key, value in vars(module).items():
            is_class = inspect.isclass(value) and hasattr(value, "from_config")
            if is_class or inspect.isfunction(value):
                found[key] = value
                found[_registered_name(value)] = value
    return found


def code_digest(modules: Sequence[str]) -> str:
    """Return a digest of the modules' code, which decides a model's numbers as its weights do."""
    # Comments, blank lines and docstrings do not count. Only parent packages are imported.
    digest = hashlib.sha256()
    for name in modules:
        try:
            spec = find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if spec is None and name != "__main__":
            raise BackboneError(
                f"there is no module {name!r}; expected one that Python finds: my_layers for ./my_layers.py"
            )
        if spec is None or spec.origin is None:
            continue
        try:
            with open(spec.origin, "rb") as file:
                source = file.read()
        except OSError as error:
            raise BackboneError(f"the module {name!r} cannot be read: {error}") from error
        digest.update(_bare(source))
    return digest.hexdigest()


def _bare(source: bytes) -> bytes:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return source
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if body and isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            # A docstring.
            body[:1] = [] if len(body) > 1 else [ast.Pass()]
    return ast.unparse(tree).encode("utf-8", "surrogatepass")


def _registered_name(value: Any) -> str:
    from keras.saving import get_registered_name

    return str(get_registered_name(value))
