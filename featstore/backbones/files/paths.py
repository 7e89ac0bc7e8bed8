"""Checks of a model file's path, before anything in it is read."""

import os
import stat

from featstore.errors import BackboneError
from featstore.io.hdf5.raw import cannot_read

__all__ = ["check_model_path"]


def check_model_path(path: str) -> None:
    """Raise BackboneError unless there is a regular file."""
    try:
        is_regular = stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_regular = False
    except OSError as error:
        raise BackboneError(cannot_read(path, error)) from error
    if not is_regular:
        raise BackboneError(f"there is no model file at {path}")
