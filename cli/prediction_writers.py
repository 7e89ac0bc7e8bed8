"""The output of `featstore predict`: its formats, and the summary."""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import click

from .printing import count, json_text, printable

if TYPE_CHECKING:
    from featstore import Prediction

__all__ = ["WRITERS", "Tally", "Writer"]


class Writer:
    """Prints each prediction as soon as it is available.

    ``top`` is the number of classes listed per image, ``rejected`` the word for a rejected image.
    """

    def __init__(self, top: int, rejected: str) -> None:
        self.top = top
        self.rejected = rejected

    def write_prediction(self, prediction: "Prediction") -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Print what follows the last prediction."""


class _Table(Writer):
    def write_prediction(self, prediction: "Prediction") -> None:
        if prediction.reason is None:
            ranked = "  ".join(
                f"{printable(label)} {probability:.4f}" for label, probability in prediction.top
            )
            result = f"unknown (rejected; {ranked})" if prediction.is_rejected else ranked
            click.echo(f"{printable(prediction.path)}\t{result}")


class _Labels(Writer):
    def write_prediction(self, prediction: "Prediction") -> None:
        click.echo(self.rejected if prediction.is_rejected else printable(prediction.label or ""))


class _Csv(Writer):
    def __init__(self, top: int, rejected: str) -> None:
        super().__init__(top, rejected)
        self._rows = csv.writer(self)
        self._has_header = False

    def write_prediction(self, prediction: "Prediction") -> None:
        self._header()
        ranked = [*chain.from_iterable(prediction.top or [(None, None)] * self.top)] if self.top > 1 else []
        self._rows.writerow(
            [prediction.path, prediction.label, prediction.probability, prediction.reason, *ranked]
        )

    def end(self) -> None:
        self._header()

    def write(self, line: str) -> None:
        # File names that are not UTF-8 keep their bytes. The CSV writer quotes every line end within a name
        # only if its own line end is this one.
        click.echo(line.removesuffix("\r\n").encode("utf-8", "surrogateescape"))

    def _header(self) -> None:
        if not self._has_header:
            ranks = range(1, self.top + 1) if self.top > 1 else ()
            ranked = [name for rank in ranks for name in (f"label_{rank}", f"probability_{rank}")]
            self._rows.writerow(["path", "label", "probability", "reason", *ranked])
            self._has_header = True


class _JsonLines(Writer):
    def write_prediction(self, prediction: "Prediction") -> None:
        click.echo(json_text(prediction.to_dict()))


class _Json(Writer):
    """One list, indented as by :func:`print_json`, but never held in memory as a whole."""

    def __init__(self, top: int, rejected: str) -> None:
        super().__init__(top, rejected)
        self._before = "["

    def write_prediction(self, prediction: "Prediction") -> None:
        text = json_text(prediction.to_dict(), indent=2).replace("\n", "\n  ")
        click.echo(f"{self._before}\n  {text}", nl=False)
        self._before = ","

    def end(self) -> None:
        click.echo("[]" if self._before == "[" else "\n]")


WRITERS: dict[str, Callable[[int, str], Writer]] = {
    "table": _Table,
    "labels": _Labels,
    "csv": _Csv,
    "jsonl": _JsonLines,
    "json": _Json,
}


@dataclass
class Tally:
    """Counts of images by outcome."""

    images: int = 0
    rejected: int = 0
    reused: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)

    def count(self, prediction: "Prediction") -> None:
        self.images += 1
        self.rejected += prediction.is_rejected
        self.reused += prediction.is_reused
        self.failed += prediction.reason is not None

    def summary(self, *, n_ignored: int, has_store: bool) -> str:
        seconds = max(time.monotonic() - self.started, 1e-9)
        parts = [f"{self.images - self.rejected - self.failed:,} labelled"]
        if self.rejected:
            parts.append(f"{self.rejected:,} unknown (rejected)")
        parts.append(f"{self.failed:,} failed")
        if n_ignored:
            parts.append(f"{count(n_ignored, 'file')} ignored")
        if has_store:
            parts.append(f"the features of {self.reused:,} reused")
        rate = f"{self.images / seconds:,.0f} images/s"
        return f"{count(self.images, 'image')} in {seconds:.1f} s: {', '.join(parts)} ({rate})"
