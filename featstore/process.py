"""Thread-safe, reference-counted changes of process-wide state: log levels and warning filters."""

import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from typing import Any, Self

__all__ = ["Shared", "available_memory", "logging_from", "one_thread", "root_logger_kept", "warnings_to"]


class Shared:
    """A process-wide change shared by threads: the first makes it, the last undoes it."""

    # change returns the context manager that makes and undoes it. Saving and restoring in each thread
    # would leave another's change behind where they overlap.

    def __init__(self, change: Callable[[], AbstractContextManager[Any]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._users = 0

    def __enter__(self) -> Self:
        with self._lock:
            if not self._users:
                self._made = self._change()
                self._made.__enter__()
            self._users += 1
        return self

    def __exit__(self, *failure: Any) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._made.__exit__(*failure)


@contextmanager
def _limited() -> Iterator[None]:
    import threadpoolctl

    limits = _thread_pools(len(sys.modules)).limit(limits=1)
    try:
        yield
    finally:
        # From version 3.8 on only the thread that set a limit lifts it, and the last to leave may be another.
        if clear := getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", None):
            clear(force=True)
        limits.restore_original_limits()


@lru_cache(maxsize=1)
def _thread_pools(_n_modules: int) -> Any:
    """Return the libraries with threads of their own: searched for again once more modules are imported."""
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


one_thread = Shared(_limited)
"""Linear algebra on one thread, for as long as anybody wants it so."""


def available_memory() -> int | None:
    """Return the bytes of memory that programs may still take, or None where the system does not say."""
    with suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None


@contextmanager
def logging_from(level: int, *names: str) -> Iterator[None]:
    """Lower loggers of other libraries to a level for the block; best used in a ``Shared``."""
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, was in before.items():
            # What somebody else has set meanwhile stays.
            if logging.getLogger(name).level == level:
                logging.getLogger(name).setLevel(was)


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    root = logging.getLogger()
    level, filters, handlers = root.level, [*root.filters], [*root.handlers]
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters, root.handlers = filters, handlers


root_logger_kept = Shared(_root_logger_kept)
"""The root logger as it was: OpenVINO's converter leaves it to errors alone where it fails."""


@contextmanager
def warnings_to(note: Callable[[str], object], *, matching: str = "") -> Iterator[None]:
    """Pass this thread's warnings to a function instead of showing them."""
    # warnings.catch_warnings affects all threads, and leaves changes behind where two overlap. These
    # filters are shared while some thread wants them, and capture that thread's warnings alone.
    rules = _rules()
    rule = (re.compile(matching), note)
    with _watched:
        _put_first()
        rules.append(rule)
        try:
            yield
        finally:
            rules.remove(rule)


def _rules() -> list[tuple[re.Pattern[str], Callable[[str], object]]]:
    """Return the current thread's capturing rules, the innermost last."""
    if not hasattr(_here, "rules"):
        _here.rules = []
    return _here.rules  # type: ignore[no-any-return]


class _OfThisThread(type):
    def __subclasscheck__(cls, _other: type) -> bool:
        return any(not pattern.pattern for pattern, _ in _rules())


class _Noted(Warning, metaclass=_OfThisThread):
    """Warning category that matches everything in a capturing thread, and nothing elsewhere."""


class _Beginning:
    """Stands in for a filter's regular expression: matches texts that the thread captures."""

    pattern = "(?!)"

    def match(self, text: str) -> bool:
        for pattern, note in reversed(_rules()):
            if pattern.pattern and pattern.match(text):
                note(text)
                return True
        return False


def _show(message: Warning | str, *about: Any, **more: Any) -> None:
    for pattern, note in reversed(_rules()):
        if not pattern.pattern:
            note(str(message))
            return
    _shown_by[0](message, *about, **more)


# scikit-learn carries a thread's filters to where its tasks run: what holds back everything is therefore a
# plain filter, by category, and notes where warnings are shown.
_here = threading.local()
_FILTERS: Any = (("ignore", _Beginning(), Warning, None, 0), ("always", None, _Noted, None, 0))
_shown_by: list[Any] = [warnings.showwarning]


def _put_first() -> None:
    """Insert the filters; another catch_warnings may have restored a list without them."""
    filters: Any = warnings.filters
    if filters[:2] != [*_FILTERS]:
        _take_away(filters)
        filters[:0] = _FILTERS
    if warnings.showwarning is not _show:
        _shown_by[0] = warnings.showwarning
        warnings.showwarning = _show
    # Any call of this makes Python forget which warnings it has shown, and would not show again.
    warnings.simplefilter("ignore", _NeverWarned, append=True)
    with suppress(ValueError):
        filters.remove(("ignore", None, _NeverWarned, None, 0))


class _NeverWarned(Warning):
    """A category of no warning."""


def _take_away(filters: Any) -> None:
    for entry in _FILTERS:
        with suppress(ValueError):
            filters.remove(entry)


@contextmanager
def _watch() -> Iterator[None]:
    try:
        yield
    finally:
        _take_away(warnings.filters)
        if warnings.showwarning is _show:
            warnings.showwarning = _shown_by[0]


_watched = Shared(_watch)
