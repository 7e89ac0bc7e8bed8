"""Parallel fits with the same results as sequential ones."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self

from featstore.errors import HeadError
from featstore.process import one_thread, warnings_to

__all__ = ["WarningNotes", "has_own_memory", "is_sequential", "run_tasks"]


class WarningNotes:
    """Collects the warnings of the entering thread, and of others through :meth:`in_thread`."""

    # Warnings of all other threads are shown as usual. In another process it must be entered again.

    def __init__(self) -> None:
        self._process = 0
        self._by_thread: dict[int, set[str]] = {}

    def __enter__(self) -> Self:
        self._noting = self.in_thread()
        self._noting.__enter__()
        self._process = os.getpid()
        return self

    def __exit__(self, *_: object) -> None:
        self._noting.__exit__(None, None, None)

    def __getstate__(self) -> dict[str, Any]:
        return {"_process": self._process, "_by_thread": {}}

    @property
    def is_active(self) -> bool:
        """Whether it was entered in this process."""
        return self._process == os.getpid()

    def in_thread(self) -> AbstractContextManager[None]:
        """Also collect the warnings of the current thread."""
        return warnings_to(self._note)

    def take(self) -> list[str]:
        """Return, and forget, the first lines of this thread's warnings."""
        return sorted(self._by_thread.pop(threading.get_ident(), set()))

    def _note(self, text: str) -> None:
        lines = text.strip().splitlines()
        self._by_thread.setdefault(threading.get_ident(), set()).add(lines[0] if lines else "")


def is_sequential(jobs: int | None, n_tasks: int, *, prefer: str) -> bool:
    """Return whether tasks would run one after the other."""
    # `jobs` is joblib's n_jobs. Tasks that prefer processes are not run in threads, even if joblib is
    # configured so: liblinear draws its random numbers from one state that all threads share.
    from joblib import effective_n_jobs

    try:
        n_jobs = int(effective_n_jobs(jobs))
    except (TypeError, ValueError) as error:
        raise HeadError(
            f"jobs must be a number of parallel fits, or -1 for one on each core; found {jobs!r}"
        ) from error
    return min(n_tasks, n_jobs) < 2 or (prefer == "processes" and not has_own_memory(prefer=prefer))


def has_own_memory(*, prefer: str) -> bool:
    """Return whether joblib would run tasks in other processes, by preference or by configuration."""
    from joblib.parallel import get_active_backend

    # As in joblib, backends without the attribute share no memory.
    return not getattr(get_active_backend(prefer=prefer)[0], "supports_sharedmem", False)


def run_tasks(
    tasks: Sequence[Callable[[WarningNotes], Any]], notes: WarningNotes, *, jobs: int | None, prefer: str
) -> Iterator[Any]:
    """Run tasks by joblib and yield their results in order."""
    # Threads share the features; other processes get large arrays as memory maps. A backend configured by the
    # caller takes precedence.
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=jobs, prefer=prefer, return_as="generator")
    with _safe_children() if has_own_memory(prefer=prefer) else nullcontext():
        yield from pool(delayed(_run)(task, notes) for task in tasks)


_SAFE_PATH = "PYTHONSAFEPATH"
_entering = threading.Lock()
_n_entered = 0
_before: str | None = None


@contextmanager
def _safe_children() -> Iterator[None]:
    """Prevent Python processes started meanwhile from importing modules of the current folder."""
    # joblib starts them by `python -m` and `python -c`; this process passes its own module path on to them.
    global _before, _n_entered
    with _entering:
        if not _n_entered:
            _before = os.environ.get(_SAFE_PATH)
            os.environ[_SAFE_PATH] = "1"
        _n_entered += 1
    try:
        yield
    finally:
        with _entering:
            _n_entered -= 1
            if not _n_entered:
                os.environ.pop(_SAFE_PATH, None)
                os.environ.update({} if _before is None else {_SAFE_PATH: _before})


def _run(task: Callable[[WarningNotes], Any], notes: WarningNotes) -> Any:
    if notes.is_active:
        with notes.in_thread():
            return task(notes)
    # Another process inherits neither the collection of warnings nor the limit on threads.
    with notes, one_thread:
        return task(notes)
