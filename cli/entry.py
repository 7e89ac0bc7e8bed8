"""Where the program `featstore` starts."""

import signal

__all__ = ["main"]


def main() -> None:
    """Run the command line; before it is loaded, and after, there is nothing that a stop could spoil."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Python would show where in its imports it was.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .main import main

    try:
        main()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
