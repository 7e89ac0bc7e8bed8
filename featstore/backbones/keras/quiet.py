"""Import TensorFlow without its log noise, and with fewer searches for garbage."""

import contextlib
import gc
import os
import re
import sys
import tempfile
from collections.abc import Iterator

from featstore.process import Shared

__all__ = ["quiet_import"]

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# TensorFlow's C++ parts log before they read the setting that would stop them.
_CHATTER = re.compile(
    rb"^(WARNING: All log messages before absl|[IWE]\d{4} |\d{4}-\d\d-\d\d .*: [IWE] "
    rb"|INFO: Created TensorFlow Lite|fully_quantize: )"
)


def quiet_import() -> Shared:
    """Capture standard error, and pass on all but the notices of TensorFlow's C++ parts."""
    # If the block raises, everything is passed on. With several threads, the last to leave passes it on.
    return _quiet


@contextlib.contextmanager
def _held() -> Iterator[None]:
    # 3: on a machine without a GPU TensorFlow reports that as an error. It reads this once.
    is_ours = _LEVEL not in os.environ
    os.environ.setdefault(_LEVEL, "3")
    # Modules stay: looking for garbage among them after every 700 new objects takes a tenth of the import.
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000, *thresholds[1:])
    try:
        with _held_stream():
            yield
    finally:
        gc.set_threshold(*thresholds)
        if is_ours:
            os.environ.pop(_LEVEL, None)


@contextlib.contextmanager
def _held_stream() -> Iterator[None]:
    try:
        sys.stderr.flush()
        held = tempfile.TemporaryFile()  # noqa: SIM115
        kept = os.dup(2)
    except (AttributeError, OSError, ValueError):
        # There is no standard error stream: a service, or a window without a console. Or no room on the disk.
        yield
        return
    quiet = False
    with held:
        os.dup2(held.fileno(), 2)
        try:
            yield
            quiet = True
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            lines = held.readlines()
            shown = [line for line in lines if not (quiet and _CHATTER.match(line))]
            if shown:
                with contextlib.suppress(OSError):
                    os.write(2, b"".join(shown))


_quiet = Shared(_held)
