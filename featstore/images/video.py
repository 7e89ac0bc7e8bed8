"""Frames of videos, at even distances in time."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ImageError
from featstore.extras import check_extra
from featstore.images.reasons import MAX_PIXELS
from featstore.io.atomic import failure_reason

__all__ = ["VideoFrame", "video_frames"]

# Containers that hold their frames themselves: no list of addresses or of other files is followed.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,gif,h264,hevc,m4v,"
    "mjpeg,ivf,yuv4mpegpipe"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFrame:
    """A frame of a video.

    Parameters
    ----------
    time_s : float
        Seconds since the first frame.
    pixels : ndarray of shape (height, width, 3), uint8
        RGB, in [0, 255], upright.

    Examples
    --------
    >>> import featstore, numpy as np
    >>> featstore.VideoFrame(time_s=1.5, pixels=np.zeros((4, 6, 3), np.uint8)).pixels.shape
    (4, 6, 3)
    """

    time_s: float
    pixels: NDArray[np.uint8]


def video_frames(path: str | os.PathLike[str], *, every_s: float = 1.0) -> Iterator[VideoFrame]:
    """Yield frames of a video: the first one, and the first in each further stretch of so many seconds.

    Parameters
    ----------
    path : path_like
        A file that FFmpeg reads: MP4, MOV, Matroska, WebM, AVI, MPEG, …
    every_s : float
        Seconds, above 0. Below the time between two frames every frame is yielded.

    Yields
    ------
    VideoFrame

    Raises
    ------
    ImageError
        The file cannot be read, is no video, or is broken: what precedes the damage is yielded before.
    MissingExtraError
        PyAV is not installed.

    Examples
    --------
    >>> import av, featstore, numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with av.open(f"{folder}/film.avi", "w") as film:
    ...         stream = film.add_stream("mjpeg", rate=2)
    ...         stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
    ...         for _ in range(5):
    ...             frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
    ...             film.mux(stream.encode(frame))
    ...         film.mux(stream.encode())
    ...     [frame.time_s for frame in featstore.video_frames(f"{folder}/film.avi", every_s=1)]
    [0.0, 1.0, 2.0]
    """
    check_extra("video", "reading videos", "av")
    if not every_s > 0:
        raise ImageError(f"every_s must be a number of seconds above 0; found {every_s}")
    return _frames(os.fspath(path), every_s)


def _frames(path: str, every_s: float) -> Iterator[VideoFrame]:
    import av
    from av.error import FFmpegError

    last = None
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except IsADirectoryError as error:
            raise ImageError("a folder, not a video: name the videos in it, such as FOLDER/*.mp4") from error
        except OSError as error:
            raise ImageError(failure_reason(error)) from error
        try:
            options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
            container = stack.enter_context(av.open(file, options=options))
            if not container.streams.video:
                raise ImageError(f"the file, {container.format.long_name}, has no pictures")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            start, due = None, 0.0
            for frame in container.decode(stream):
                time = float(frame.time or 0)
                start = time if start is None else start
                last = time - start
                # Times are rounded to the container's clock.
                if last < due - 1e-6:
                    continue
                yield VideoFrame(time_s=round(last, 6), pixels=_pixels(frame))
                due = every_s * (1 + int((last + 1e-6) / every_s))
        except (FFmpegError, OSError) as error:
            if last is not None:
                raise ImageError(
                    f"the video is broken after {last:.3f} s: {failure_reason(error)}"
                ) from error
            raise ImageError(
                "not a video that can be read: MP4, MOV, Matroska, WebM, AVI and the like are, where whole"
            ) from error
    if last is None:
        raise ImageError("the video has no frame")


def _pixels(frame: Any) -> NDArray[np.uint8]:
    """Return a frame upright, as its film was held."""
    if frame.width * frame.height > MAX_PIXELS:
        raise ImageError(
            f"a frame of {frame.width} x {frame.height} pixels; at most {MAX_PIXELS:,} are decoded"
        )
    pixels = frame.to_ndarray(format="rgb24")
    upright: NDArray[np.uint8] = np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
    return upright
