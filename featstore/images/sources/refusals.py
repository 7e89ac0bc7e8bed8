"""Stops a run when a server denies access to every image, not to single ones."""

from featstore.errors import ImageError, SourceUnavailableError
from featstore.io.remote.failures import DeniedError

__all__ = ["Refusals"]

_MOST = 32


class Refusals:
    """Counts images that access is denied to before any other could be read, in order."""

    def __init__(self) -> None:
        self._n_denied = 0
        self._is_settled = False

    def note(self, path: str, error: ImageError | None) -> None:
        """Raise SourceUnavailableError if access to the first 32 images was denied."""
        if self._is_settled:
            return
        if not isinstance(error, DeniedError):
            self._is_settled = error is None
            return
        self._n_denied += 1
        if self._n_denied == _MOST:
            raise SourceUnavailableError(
                f"{error} to each of the first {_MOST} images, the last {path}; check the credentials in the "
                "environment and what they permit, and run the same command again"
            )
