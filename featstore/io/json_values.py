"""Dataclasses as JSON values."""

from dataclasses import fields, is_dataclass
from typing import Any

__all__ = ["json_values"]


def json_values(record: Any) -> dict[str, Any]:
    """Return a dataclass's fields as JSON values: tuples as lists, dataclasses within as objects."""
    return {field.name: _plain(getattr(record, field.name)) for field in fields(record)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return json_values(value)
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return {**value} if isinstance(value, dict) else value
