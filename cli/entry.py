"""Entry point of the program `featstore`."""

import os
import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; signals before it is loaded and after it ends simply end the process."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Python would print a traceback from its imports.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _import_nothing_from_here()
    from .main import main

    try:
        main()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _import_nothing_from_here() -> None:
    """Remove the current folder, which may be untrusted, from the import path: here and in subprocesses."""
    os.environ["PYTHONSAFEPATH"] = "1"
    here = os.path.realpath(os.getcwd())
    if sys.flags.safe_path or not sys.path or os.path.realpath(sys.path[0] or here) != here:
        return
    # `python -m` has put it there.
    sys.path.pop(0)
    if os.path.realpath(os.path.dirname(os.path.dirname(__file__))) == here:
        sys.path.append(here)
