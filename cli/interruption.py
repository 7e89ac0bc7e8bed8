"""Ctrl-C and SIGTERM: a command cleans up, prints one line and exits with the signal's status."""

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Stop", "stoppable"]

# One Ctrl-C may arrive twice: from the terminal, and again from the parent process.
_SAME_PRESS_SECONDS = 1.0


class Stop:
    """The handler of both signals: raises KeyboardInterrupt in the main thread.

    Attributes
    ----------
    status : int or None
        Exit status for the signal: 130 for Ctrl-C, 143 for SIGTERM; None if none has arrived.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self._number: signal.Signals = signal.SIGINT
        self._raised_s = float("-inf")
        self._again: threading.Timer | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if now_s - self._raised_s >= _SAME_PRESS_SECONDS:
            self._raised_s, self._number, self.status = now_s, signal.Signals(number), 128 + number
            raise KeyboardInterrupt

    def raise_again(self, dropped: Any) -> None:
        """Handle an exception that Python drops, as in a destructor; an interrupt is raised again."""
        if self.status is None or not isinstance(dropped.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(dropped)
            return
        self._raised_s = float("-inf")
        # Raised in here, it would be dropped as well.
        self._again = threading.Timer(0.01, _signal_main_thread, [self._number])
        self._again.daemon = True
        self._again.start()

    def end(self) -> None:
        """Neither handle nor send a signal any more: the next one is for the handler before this one."""
        self._raised_s = float("inf")
        if self._again is not None:
            self._again.cancel()
            self._again.join()


def _signal_main_thread(number: signal.Signals) -> None:
    """Send the main thread a signal, which also ends what it waits for."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(number)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Raise KeyboardInterrupt on Ctrl-C and SIGTERM while the block runs; yields the handler."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        # A process started to outlive its terminal (nohup) goes on ignoring Ctrl-C.
        if signal.getsignal(number) != signal.SIG_IGN
    ]
    before = [signal.signal(number, stop) for number in numbers]
    hook, sys.unraisablehook = sys.unraisablehook, stop.raise_again
    try:
        yield stop
    finally:
        sys.unraisablehook = hook
        stop.end()
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
