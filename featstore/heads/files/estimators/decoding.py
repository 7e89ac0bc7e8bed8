"""Decoding of a skops schema into plain values, arrays and estimators of known types, running none of it."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from featstore.heads.files.estimators.kinds import KINDS, NOT_READ
from featstore.heads.files.estimators.parts import Stored

__all__ = ["decode", "foreign_types", "written_with"]

_KEY_TYPES: Mapping[str, Callable[[str], Any]] = {"builtins.int": int, "builtins.float": float}
_NUMPY = frozenset(
    f"numpy.{name}"
    for name in (
        *("ndarray", "bool", "bool_", "str_", "float16", "float32", "float64"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    )
)
# Nodes with values and no code; estimators of known types contain only dicts, lists, tuples and arrays.
_PLAIN: Mapping[str, frozenset[str]] = {
    "BytesNode": frozenset({"builtins.bytes"}),
    "DictNode": frozenset({"builtins.dict"}),
    "ListNode": frozenset({"builtins.list"}),
    "NdArrayNode": _NUMPY,
    "SetNode": frozenset({"builtins.set"}),
    "SliceNode": frozenset({"builtins.slice"}),
    "TupleNode": frozenset({"builtins.tuple"}),
    "TypeNode": frozenset({"builtins.bool", "builtins.float", "builtins.int", "builtins.str"}) | _NUMPY,
}
# Trusting trees implies trusting the estimators that only call them.
_TREE = "sklearn.tree._tree.Tree"
_OF_TREES = frozenset(
    {
        "sklearn.ensemble._forest.ExtraTreesClassifier",
        "sklearn.ensemble._forest.RandomForestClassifier",
        "sklearn.tree._classes.DecisionTreeClassifier",
        "sklearn.tree._classes.ExtraTreeClassifier",
    }
)


def foreign_types(schema: Any) -> set[str]:
    """Return the names of unknown types in the parts of a schema that are read."""
    found = _foreign(schema)
    return found - _OF_TREES if _TREE in found else found


def _foreign(node: Any) -> set[str]:
    path, loader = f"{node['__module__']}.{node['__class__']}", node["__loader__"]
    is_read = loader == "ObjectNode" and path in KINDS
    within = _attributes(node, path).values() if is_read else _nodes(node)
    found: set[str] = set().union(*map(_foreign, within))
    is_known = is_read or loader == "JsonNode" or path in _PLAIN.get(loader, ())
    return found if is_known else {path, *found}


def _nodes(node: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the direct child nodes."""
    left = list(node.values())
    while left:
        value = left.pop()
        if isinstance(value, dict) and "__loader__" in value:
            yield value
        elif isinstance(value, dict | list):
            left.extend(value.values() if isinstance(value, dict) else value)


def decode(node: Any, array: Callable[[str], NDArray[Any]]) -> Any:
    """Decode a node without :func:`foreign_types`; ``array`` reads a member of the file."""
    match node["__loader__"]:
        case "JsonNode":
            return json.loads(node["content"])
        case "NdArrayNode":
            found = array(node["file"])
            return found[()] if found.ndim == 0 else found
        case "ObjectNode":
            path = f"{node['__module__']}.{node['__class__']}"
            values = {name: decode(value, array) for name, value in _attributes(node, path).items()}
            return Stored(kind=path, values=values)
        case "DictNode":
            return _dict(node, array)
        case "ListNode":
            return [decode(value, array) for value in node["content"]]
        case "TupleNode":
            return tuple(decode(value, array) for value in node["content"])
    raise ValueError(f"a {str(node['__loader__'])[:80]} stands where a value is expected")


def _attributes(node: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the nodes of an estimator's attributes that are read: parameters, and those used to predict."""
    fitted = KINDS[path].fitted
    return {
        name: value
        for name, value in node["content"]["content"].items()
        if name in fitted or not (name.startswith("_") or name.endswith("_") or name in NOT_READ)
    }


def _dict(node: Mapping[str, Any], array: Callable[[str], NDArray[Any]]) -> dict[Any, Any]:
    kinds = node["key_types"]["content"]
    if len(kinds) != len(node["content"]):
        raise ValueError("a dict has not one type for each of its keys")
    return {
        _KEY_TYPES.get(f"{kind['__module__']}.{kind['__class__']}", str)(name): decode(value, array)
        for kind, (name, value) in zip(kinds, node["content"].items(), strict=True)
    }


def written_with(node: Mapping[str, Any]) -> str:
    """Return the version of scikit-learn that wrote an estimator; empty if unknown."""
    attributes = node["content"]["content"] if "content" in node else {}
    version = attributes.get("_sklearn_version") if isinstance(attributes, dict) else None
    return "" if version is None else str(json.loads(version["content"]))
