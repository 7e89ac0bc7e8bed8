"""Scalars for TensorBoard: accuracy and loss by step."""

import os
import socket
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from featstore.errors import HeadError, MissingExtraError, StoreError
from featstore.io.atomic import replacing
from featstore.io.outputs import check_outside_stores

if TYPE_CHECKING:
    from featstore.heads.head import Head

__all__ = ["check_tensorboard", "write_scalars", "write_sweep"]

Scalar = tuple[str, int, float]


def check_tensorboard() -> None:
    """Refuse where the package that writes TensorBoard's files is missing.

    Raises
    ------
    MissingExtraError
    """
    try:
        import tensorboard.summary.writer.record_writer  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "writing for TensorBoard needs the package tensorboard, which is not installed; "
            'run: pip install "featstore[tensorboard]"'
        ) from error


def write_scalars(folder: str | os.PathLike[str], scalars: Iterable[Scalar]) -> str:
    """Write numbers by step as a new event file, whole or not at all; TensorFlow is not loaded.

    TensorBoard takes the folder's path, as seen from where it is started, as the name of the run; several
    files in one folder are one run.

    Parameters
    ----------
    folder : path_like
        Made if it is not there.
    scalars : iterable of (str, int, float)
        The tag, under which TensorBoard draws one line (``"validation/accuracy"``: what stands before the
        stroke is the heading), the step, and the value, which is stored as float32.

    Returns
    -------
    str
        The absolute path of the file.

    Raises
    ------
    MissingExtraError
        tensorboard is not installed.
    OutputError
        The folder lies in a store.
    StoreError
        The file cannot be written.
    """
    check_tensorboard()
    check_outside_stores(folder)
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    home, now = os.path.abspath(os.fspath(folder)), time.time()
    try:
        os.makedirs(home, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the folder {home}: {error.strerror or error}") from error
    # The name that TensorBoard's own writers give; without "tfevents" in it the file is not looked at.
    name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
    target = os.path.join(home, name)
    with replacing(target) as temporary, open(temporary, "xb") as file:
        records = RecordWriter(file)
        records.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for tag, step, value in scalars:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            records.write(Event(wall_time=now, step=step, summary=summary).SerializeToString())
        records.flush()
    return target


def write_sweep(folder: str | os.PathLike[str], head: "Head") -> str:
    """Write what a head measured of each setting that it tried, one step for each, as a run of its own.

    Of a head that is fitted by passes over the features, what was measured after each pass with the chosen
    setting is written as a run of its own too, in a folder ``passes`` in that of the sweep.

    The tags are ``validation/accuracy``, ``validation/cross_entropy``, ``train/accuracy`` and, so that one
    sees what a step was, ``setting/`` and the parameter's name for each that is a number.

    Parameters
    ----------
    folder : path_like
        The run is a folder in it, named by the head, the space and the time of fitting.
    head : Head

    Returns
    -------
    str
        The run's absolute path.

    Raises
    ------
    HeadError
        The head tried no settings.
    MissingExtraError
        tensorboard is not installed.
    OutputError
        The folder lies in a store.
    StoreError
        The file cannot be written.
    """
    if not head.sweep and not head.steps:
        raise HeadError(f"the head {head.name} tried no settings: there is nothing to write for TensorBoard")
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
        write_scalars(os.path.join(run, "passes"), _scalars([(told["step"], told) for told in head.steps]))
    return run


def _scalars(measured: list[tuple[int, dict[str, Any]]]) -> list[Scalar]:
    tags = {
        "top1": "validation/accuracy",
        "cross_entropy": "validation/cross_entropy",
        "train_top1": "train/accuracy",
    }
    return [
        (tag, number, float(told[name]))
        for number, told in measured
        for name, tag in tags.items()
        if name in told
    ]
