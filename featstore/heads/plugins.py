"""Heads from other packages and from the user's own modules.

A package registers a head under the entry point group ``featstore.heads``, in its ``pyproject.toml``::

    [project.entry-points."featstore.heads"]
    forest = "my_package.heads:forest"

where ``forest()`` returns a :class:`featstore.HeadInfo`, or an unfitted scikit-learn classifier or
``Pipeline``, which is then fitted as it is. Nothing is imported before the head is used or heads are listed.
"""

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from featstore.errors import HeadError, first_line
from featstore.heads.info import HeadInfo

__all__ = ["load_head_factory", "load_plugin", "load_plugins", "plugin_names"]

_GROUP = "featstore.heads"

_logger = logging.getLogger(__name__)


def plugin_names() -> tuple[str, ...]:
    """Return the sorted names that installed packages register, without importing anything."""
    return tuple(sorted(entry_points(group=_GROUP).names))


def load_plugin(name: str) -> HeadInfo:
    """Import a registered head; raise HeadError if that fails."""
    found: Sequence[EntryPoint] = sorted(entry_points(group=_GROUP, name=name), key=lambda entry: entry.value)
    entry = found[0]
    return _info(entry.load, name=name, source=f"the head {name} of the package {_package(entry)}")


def load_plugins() -> tuple[HeadInfo, ...]:
    """Import all registered heads; those that fail are skipped with a warning."""
    loaded = []
    for name in plugin_names():
        try:
            loaded.append(load_plugin(name))
        except HeadError as error:
            _logger.warning("%s", error)
    return tuple(loaded)


def load_head_factory(text: str) -> HeadInfo:
    """Load a head from the user's own module. This runs the module's code.

    Parameters
    ----------
    text : str
        ``"module:factory"``; ``factory()`` returns a :class:`featstore.HeadInfo`, or an unfitted scikit-learn
        classifier or ``Pipeline``.

    Returns
    -------
    HeadInfo
        Named after the factory, unless the factory returns a HeadInfo.

    Raises
    ------
    HeadError
        The module or factory does not exist, or does not return a head.

    Examples
    --------
    >>> load_head_factory("sklearn.naive_bayes:GaussianNB").name
    'GaussianNB'
    """
    module, _, factory = text.partition(":")
    # A file's path would be taken for a relative import.
    if not all(module.split(".")) or {*module} & {*"/\\"} or not factory.isidentifier():
        raise HeadError(
            f"your own head must be given as MODULE:FACTORY, for example my_heads:forest; found {text!r}"
        )

    def load() -> Any:
        return getattr(importlib.import_module(module), factory)

    return _info(load, name=factory, source=f"the head {text}", keeps_name=True)


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module


def _info(load: Callable[[], Any], *, name: str, source: str, keeps_name: bool = False) -> HeadInfo:
    try:
        factory = load()
        made = factory() if callable(factory) else factory
    except Exception as error:  # foreign code may raise anything
        raise HeadError(f"{source} cannot be loaded: {type(error).__name__}: {first_line(error)}") from error
    if isinstance(made, HeadInfo):
        return made if keeps_name else replace(made, name=name)
    return _as_info(factory, made, name=name, source=source)


def _as_info(factory: Callable[[], Any], made: Any, *, name: str, source: str) -> HeadInfo:
    from sklearn.base import BaseEstimator, is_classifier
    from sklearn.pipeline import Pipeline

    if isinstance(made, type) or not isinstance(made, BaseEstimator) or not is_classifier(made):
        found = f"the class {made.__name__}" if isinstance(made, type) else type(made).__name__
        raise HeadError(
            f"{source} returns {found}; expected a featstore.HeadInfo or an unfitted scikit-learn classifier"
        )

    def make() -> Any:
        again = factory()
        return again if isinstance(again, Pipeline) else Pipeline([("classifier", again)])

    classifier = made[-1] if isinstance(made, Pipeline) else made
    return HeadInfo(
        name=name,
        summary=f"{type(classifier).__name__}, fitted as it is",
        make=make,
        grid={},
        settings=tuple(sorted(classifier.get_params(deep=False))),
    )
