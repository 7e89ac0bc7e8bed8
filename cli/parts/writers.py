"""The output of `featstore predict`: its formats, and the summary."""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import click

from featstore.messages import count, printable

from ..printing import json_text, rate_text

if TYPE_CHECKING:
    from featstore import Prediction

__all__ = ["WRITERS", "Tally", "Writer"]


class Writer:
    """Prints each prediction as soon as it is available.

    ``top`` is the number of classes listed per image, ``rejected`` the word for a rejected image, and
    ``lists`` the column that lists several labels, ``set`` or ``labels``, or nothing.
    """

    def __init__(self, top: int, rejected: str, *, lists: str = "") -> None:
        self.top = top
        self.rejected = rejected
        self.lists = lists
        self.lists_times = False

    def write_prediction(self, prediction: "Prediction") -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Print what follows the last prediction."""


class _Table(Writer):
    def write_prediction(self, prediction: "Prediction") -> None:
        if prediction.reason is None:
            ranked = "  ".join(
                f"{printable(label)} {probability:.4f}"
                for label, probability in prediction.set or prediction.top
            )
            if prediction.labels is not None:
                given = [f"{printable(label)} {probability:.4f}" for label, probability in prediction.labels]
                ranked = "  ".join(given) or "none"
            if prediction.value is not None:
                ranked = _number(prediction)
            label, best = prediction.label, prediction.top[:1]
            if label is not None and best and best[0][0] != label:
                # An ancestor of the most probable class.
                ranked = f"{printable(label)} {prediction.probability:.4f} ({ranked})"
            result = f"unknown (rejected; {ranked})" if prediction.is_rejected else ranked
            at = "" if prediction.time_s is None else f"\t{prediction.time_s:.3f} s"
            click.echo(f"{printable(prediction.path)}{at}\t{result}")


class _Labels(Writer):
    def write_prediction(self, prediction: "Prediction") -> None:
        if prediction.value is not None:
            click.echo(f"{prediction.value:.6g}")
            return
        if prediction.labels is not None:
            click.echo(json_text([label for label, _ in prediction.labels]))
            return
        click.echo(self.rejected if prediction.is_rejected else printable(prediction.label or ""))


class _Csv(Writer):
    def __init__(self, top: int, rejected: str, *, lists: str = "") -> None:
        super().__init__(top, rejected, lists=lists)
        self._rows = csv.writer(self)
        self._has_header = False

    def write_prediction(self, prediction: "Prediction") -> None:
        self._header()
        ranked = [*chain.from_iterable(prediction.top or [(None, None)] * self.top)] if self.top > 1 else []
        # A list of JSON: any separator might be in a label.
        several = prediction.set if prediction.labels is None else prediction.labels
        names = None if several is None else json_text([label for label, _ in several])
        listed = [names] if self.lists else []
        self._rows.writerow(
            [
                prediction.path,
                *([prediction.time_s] if self.lists_times else []),
                prediction.label,
                prediction.probability,
                prediction.reason,
                *ranked,
                *listed,
            ]
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
            listed = [self.lists] if self.lists else []
            timed = ["time_s"] if self.lists_times else []
            self._rows.writerow(["path", *timed, "label", "probability", "reason", *ranked, *listed])
            self._has_header = True


class _Numbers(_Csv):
    """CSV of numbers, with the ends of their intervals if ``lists`` says so."""

    def write_prediction(self, prediction: "Prediction") -> None:
        self._header()
        timed = [prediction.time_s] if self.lists_times else []
        ends = list(prediction.interval or (None, None)) if self.lists else []
        self._rows.writerow([prediction.path, *timed, prediction.value, *ends, prediction.reason])

    def _header(self) -> None:
        if not self._has_header:
            timed = ["time_s"] if self.lists_times else []
            ends = ["low", "high"] if self.lists else []
            self._rows.writerow(["path", *timed, "value", *ends, "reason"])
            self._has_header = True


class _JsonLines(Writer):
    def write_prediction(self, prediction: "Prediction") -> None:
        click.echo(json_text(prediction.to_dict()))


class _Json(Writer):
    """One list, indented as by :func:`print_json`, but never held in memory as a whole."""

    def __init__(self, top: int, rejected: str, *, lists: str = "") -> None:
        super().__init__(top, rejected, lists=lists)
        self._before = "["

    def write_prediction(self, prediction: "Prediction") -> None:
        text = json_text(prediction.to_dict(), indent=2).replace("\n", "\n  ")
        click.echo(f"{self._before}\n  {text}", nl=False)
        self._before = ","

    def end(self) -> None:
        click.echo("[]" if self._before == "[" else "\n]")


WRITERS: dict[str, Callable[..., Writer]] = {
    "table": _Table,
    "labels": _Labels,
    "csv": _Csv,
    "jsonl": _JsonLines,
    "json": _Json,
    "numbers": _Numbers,
}


def _number(prediction: "Prediction") -> str:
    """Return a number with its interval, if there is one."""
    if prediction.interval is None:
        return f"{prediction.value:.6g}"
    low, high = prediction.interval
    return f"{prediction.value:.6g} ({low:.6g} to {high:.6g})"


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
        rate = rate_text(self.images / seconds, "images")
        return f"{count(self.images, 'image')} in {seconds:.1f} s: {', '.join(parts)} ({rate})"
