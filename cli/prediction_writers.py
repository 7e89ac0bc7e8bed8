"""The output formats of `featstore predict`."""

import csv
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING

import click

from .printing import json_text, printable

if TYPE_CHECKING:
    from featstore import Prediction

__all__ = ["WRITERS", "Writer"]


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
