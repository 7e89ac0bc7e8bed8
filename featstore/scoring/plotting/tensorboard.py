"""Scalars for TensorBoard: accuracy and loss by step."""

import os
import socket
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from featstore.errors import HeadError
from featstore.extras import check_extra
from featstore.io.atomic import replacing
from featstore.io.new_folder import made_folder
from featstore.io.outputs import check_destination

if TYPE_CHECKING:
    from featstore.heads.head import Head

__all__ = ["check_tensorboard", "write_scalars", "write_sweep"]

Scalar = tuple[str, int, float]


def check_tensorboard() -> None:
    """Raise MissingExtraError if the package tensorboard is not installed."""
    check_extra("tensorboard", "writing event files", "tensorboard")


def write_scalars(folder: str | os.PathLike[str], scalars: Iterable[Scalar]) -> str:
    """Write scalars by step to a new TensorBoard event file, atomically and without TensorFlow.

    TensorBoard names a run by the folder's path relative to its log directory; files in one folder are one
    run.

    Parameters
    ----------
    folder : path_like
        Created if missing.
    scalars : iterable of (str, int, float)
        Tag (such as ``"validation/accuracy"``; the part before the slash is the heading), step, and value,
        which is stored as float32.

    Returns
    -------
    str
        Absolute path of the file.

    Raises
    ------
    MissingExtraError
        tensorboard is not installed.
    OutputError
        The folder lies in a store.
    StoreError
        The file cannot be written.

    Examples
    --------
    >>> import os
    >>> import tempfile
    >>> import featstore
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = featstore.write_scalars(folder, [("train/accuracy", 0, 0.8), ("train/accuracy", 1, 0.9)])
    ...     os.path.basename(path).split(".")[:3]
    ['events', 'out', 'tfevents']
    """
    check_tensorboard()
    check_destination(folder)
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    home, now = os.path.abspath(os.fspath(folder)), time.time()
    # As TensorBoard's own writers name it; files without "tfevents" are ignored.
    name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
    target = os.path.join(home, name)
    with made_folder(home), replacing(target) as temporary, open(temporary, "xb") as file:
        records = RecordWriter(file)
        records.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for tag, step, value in scalars:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            records.write(Event(wall_time=now, step=step, summary=summary).SerializeToString())
        records.flush()
    return target


def write_sweep(folder: str | os.PathLike[str], head: "Head") -> str:
    """Write the sweep of a head as a TensorBoard run, one step for each setting.

    For a head fitted by passes over the features, the scores after each pass with the chosen setting are
    written as a second run, in a subfolder ``passes``.

    The tags are ``validation/accuracy``, ``validation/cross_entropy``, ``train/accuracy`` and, to identify
    steps, ``setting/`` and the parameter's name for each numerical parameter.

    Parameters
    ----------
    folder : path_like
        Parent folder of the run, which is named by the head, the space and the time of fitting.
    head : Head

    Returns
    -------
    str
        Absolute path of the run.

    Raises
    ------
    HeadError
        The head has no sweep.
    MissingExtraError
        tensorboard is not installed.
    OutputError
        The folder lies in a store.
    StoreError
        The file cannot be written.

    Examples
    --------
    >>> import os
    >>> import tempfile
    >>> import featstore
    >>> head = featstore.fit(table, head="ridge")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = featstore.write_sweep(folder, head)
    ...     os.path.basename(run).startswith("ridge-tiny")
    True
    """
    if not head.sweep and not head.steps:
        raise HeadError(f"the head {head.name} has no sweep: there is nothing to write for TensorBoard")
    scalars = _scalars(list(enumerate(head.sweep)))
    scalars += [
        (f"setting/{name}", number, float(value))
        for number, step in enumerate(head.sweep)
        for name, value in step["params"].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    when = "".join(letter for letter in head.created[:19] if letter.isdigit())
    run = os.path.join(os.path.abspath(os.fspath(folder)), f"{head.name}-{head.spec.name}-{when}")
    if scalars:
        write_scalars(run, scalars)
    if head.steps:
        write_scalars(os.path.join(run, "passes"), _scalars([(step["step"], step) for step in head.steps]))
    return run


def _scalars(measured: list[tuple[int, dict[str, Any]]]) -> list[Scalar]:
    tags = {
        "top1": "validation/accuracy",
        "cross_entropy": "validation/cross_entropy",
        "train_top1": "train/accuracy",
    }
    return [
        (tag, number, float(step[name]))
        for number, step in measured
        for name, tag in tags.items()
        if name in step
    ]
