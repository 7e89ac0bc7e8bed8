"""Limits of what a server takes."""

from dataclasses import dataclass

from featstore.errors import ImageError, ServingError
from featstore.images.formats import format_name, open_image
from featstore.images.reasons import image_error

__all__ = ["Limits", "checked_image"]

_MEGABYTE = 10**6


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may hold, and how long it may take."""

    request_mb: float = 32.0
    megapixels: float = 50.0
    images: int = 64
    waiting: int = 512
    seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("request_mb", "megapixels", "images", "waiting", "seconds"):
            if not getattr(self, name) > 0:
                raise ServingError(f"{name} must be above 0; found {getattr(self, name)}")

    @property
    def request_bytes(self) -> int:
        """Most bytes of a request's body."""
        return int(self.request_mb * _MEGABYTE)


def checked_image(data: bytes, limits: Limits) -> bytes:
    """Return an image's bytes; raise ImageError by its header alone."""
    try:
        width, height = open_image(data).size
    except ImageError:
        raise
    except Exception as error:
        # Pillow's plugins raise nearly every built-in exception on some malformed header.
        raise image_error(error, format_name(data)) from error
    if width * height > limits.megapixels * _MEGABYTE:
        raise ImageError(
            f"the image has {width} x {height} pixels; this server takes {limits.megapixels:g} megapixels"
        )
    return data
