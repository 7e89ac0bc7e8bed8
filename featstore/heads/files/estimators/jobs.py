"""Removal of parallelism and side effects from loaded estimators."""

from typing import Any

__all__ = ["without_jobs"]

_VALUES = {"n_jobs": None, "memory": None, "backend": None, "verbose": 0}


def without_jobs(estimator: Any) -> None:
    """Clear, in place and recursively, what would start processes, write files or print."""
    seen: set[int] = set()
    left = [estimator]
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list | tuple | set):
            left.extend(value)
        elif isinstance(attributes := getattr(value, "__dict__", None), dict):
            for name in _VALUES.keys() & attributes.keys():
                setattr(value, name, _VALUES[name])
            left.extend(attributes.values())
