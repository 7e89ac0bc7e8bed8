"""The state of a training between two epochs, as one file that is replaced atomically."""

import io
import json
import os
import zipfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import TuningError
from featstore.io.atomic import replacing

__all__ = ["Progress", "read_progress", "write_progress"]

_VERSION = 1


@dataclass(kw_only=True, eq=False)
class Progress:
    """What a training goes on from."""

    plan: str  # fingerprint of all that decides the training
    epoch: int = 0  # epochs that are done
    batch_size: int = 0  # less than asked for once memory has run out
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)  # a line for each epoch; 0 is the probe
    stopped: str = ""  # why it stopped early
    arrays: list[NDArray[Any]] = field(default_factory=list)
    best: list[NDArray[Any]] = field(default_factory=list)  # trained weights; none where the best is 0


def write_progress(path: str, progress: Progress) -> None:
    """Replace the file by the state after an epoch."""
    facts = {name: value for name, value in vars(progress).items() if name not in ("arrays", "best")}
    text = json.dumps({"format": "featstore tuning", "version": _VERSION, **facts})
    members: dict[str, Any] = {f"arrays_{number}": array for number, array in enumerate(progress.arrays)}
    members |= {f"best_{number}": array for number, array in enumerate(progress.best)}
    members["facts"] = np.frombuffer(text.encode(), np.uint8)
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **members)
    data = content.getvalue()

    def verify(temporary: str) -> None:
        with open(temporary, "rb") as file:
            if file.read() != data:
                raise ValueError("it holds other bytes")

    with replacing(path, verify=verify) as temporary, open(temporary, "xb") as file:
        file.write(data)


def read_progress(path: str, plan: str) -> Progress | None:
    """Return the state that a training of the same plan left, or None where there is none."""
    if not os.path.exists(path):
        return None
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            facts = json.loads(stored["facts"].tobytes())
            arrays, best = (
                [stored[name] for name in sorted(stored.files, key=_number) if name.startswith(start)]
                for start in ("arrays_", "best_")
            )
        if facts.pop("format") != "featstore tuning" or facts.pop("version") != _VERSION:
            raise ValueError("of another format")  # noqa: TRY301
        progress = Progress(arrays=arrays, best=best, **facts)
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise TuningError(
            f"{path} is not the state of an unfinished tuning ({error}); remove it, or choose another name"
        ) from error
    if progress.plan != plan:
        raise TuningError(
            f"{path} is the state of an unfinished tuning with other options, images or weights; run that "
            "one again to finish it, start over with --force (overwrite=True), or choose another name"
        )
    return progress


def _number(name: str) -> int:
    return int(name.rpartition("_")[2]) if name != "facts" else -1
