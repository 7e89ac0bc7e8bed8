"""Exported models, opened again and run by their own runtime."""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ExportError
from featstore.export.description import DESCRIPTION, ModelDescription, file_digests, read_description
from featstore.export.runtimes import Runtime, open_runtime
from featstore.heads import interval_half_width, set_thresholds

__all__ = ["ExportedModel", "is_exported"]

_BATCH_SIZE = 32


class ExportedModel:
    """A model written by ``featstore export``, run in the runtime of its format.

    Made by :meth:`load`. The runtime is imported when the first batch is run; nothing of the backbone, the
    store or scikit-learn is needed. Several threads may use one model at once.

    Attributes
    ----------
    description : ModelDescription
        The content of ``model.json``.
    path : str
        The absolute path of its folder.

    Examples
    --------
    >>> import tempfile
    >>> from featstore import FeatureStore, export_head, extract, fit
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     n_images = write_digits(f"{folder}/digits", n_images=60)
    ...     report = extract(f"{folder}/digits", store=f"{folder}/digits.fstore", backbone="scattering")
    ...     head = fit(FeatureStore(report.store).table(), head="svm")
    ...     _ = export_head(head, f"{folder}/model", format="keras", verify=False)
    ...     model = ExportedModel.load(f"{folder}/model")
    ...     next(model.run([np.zeros((2, 96, 96, 3), np.uint8)])).shape
    (2, 10)
    """

    def __init__(
        self,
        description: ModelDescription,
        *,
        path: str,
        trust_model: bool = False,
        imports: Sequence[str] = (),
    ) -> None:
        self.description = description
        self.path = path
        self._code: dict[str, Any] = {"trust_model": trust_model, "imports": tuple(imports)}
        named = [name for name, given in self._code.items() if given]
        if named and description.runtime != "keras":
            raise ExportError(
                f"a model exported as {description.runtime} needs no code of its layers; "
                f"leave out: {', '.join(named)}"
            )
        self._runtime: Runtime | None = None
        self._opening = threading.Lock()

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, trust_model: bool = False, imports: Sequence[str] = ()
    ) -> Self:
        """Open an exported model.

        Parameters
        ----------
        path : path_like
            Its folder, or the model's file in it.
        trust_model, imports
            As for :func:`featstore.load_backbone`, of a model in the format ``keras``: one with layers of
            the user's own is opened with the modules that define them.

        Returns
        -------
        ExportedModel

        Raises
        ------
        ExportError
            There is no such model, its files are not those that were written, or it is of another format
            than ``keras`` and was given with code.
        FormatVersionError
            A newer version of featstore wrote it.
        """
        place = os.path.abspath(os.fspath(path))
        if not os.path.exists(place):
            raise ExportError(f"there is no exported model at {place}; featstore export writes one")
        folder = place if os.path.isdir(place) else os.path.dirname(place)
        description = read_description(folder)
        if place != folder and os.path.basename(place) not in (description.file, DESCRIPTION):
            raise ExportError(
                f"{place} is not the model that the {DESCRIPTION} beside it describes, which is "
                f"{description.file}"
            )
        _check_files(folder, description)
        return cls(description, path=folder, trust_model=trust_model, imports=imports)

    def __repr__(self) -> str:
        answers = f"{len(self.classes)} classes" if self.target is None else self.target
        return f"<ExportedModel {self.runtime}: {answers} by {self.description.spec.name}>"

    @property
    def classes(self) -> NDArray[np.str_]:
        """The labels, in the order of the probabilities, str of shape (n_classes,)."""
        return np.array(self.description.classes, np.str_)

    @property
    def target(self) -> str | None:
        """The name of the number that the model predicts in place of labels, if it does; else None."""
        return self.description.target

    def interval_half_width(self, coverage: float) -> float:
        """Return that of the head, as :meth:`featstore.RegressionHead.interval_half_width` does."""
        return interval_half_width(
            self.description.head.get("held_out_errors", []),
            coverage=coverage,
            name=f"the exported model {self.path}",
        )

    @property
    def thresholds(self) -> NDArray[np.float64] | None:
        """The probability from which on each label is given, if the model gives several; else None."""
        given = self.description.thresholds
        return None if given is None else np.array(given, np.float64)

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of its input images, in pixels."""
        return self.description.size_px

    @property
    def resize(self) -> str:
        """How images of another shape are brought to that size: ``"stretch"``, ``"crop"`` or ``"pad"``."""
        return self.description.resize

    @property
    def rejects_below(self) -> float:
        """The probability below which the answer is "unknown"; 0 if there is always an answer."""
        return float(self.description.rejects_below)

    def set_thresholds(self, *, coverage: float, by_class: bool = False) -> NDArray[np.float64]:
        """Return those of the head, as :meth:`featstore.Head.set_thresholds` does."""
        return set_thresholds(
            self.description.head.get("held_out", {}),
            list(self.description.classes),
            coverage=coverage,
            by_class=by_class,
            name=f"the exported model {self.path}",
        )

    @property
    def runtime(self) -> str:
        """Its runtime: ``"keras"``, ``"saved_model"``, ``"tflite"``, ``"onnx"`` or ``"openvino"``."""
        return self.description.runtime

    @property
    def batch_size(self) -> int:
        """Images in a batch that keeps the runtime busy; :meth:`run` takes any number."""
        return _BATCH_SIZE

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Compute batch after batch, in order.

        Parameters
        ----------
        batches : iterable of ndarray of shape (n, height, width, 3), uint8
            RGB in [0, 255], of ``size_px``; any n from 1. One or two may be taken ahead.

        Yields
        ------
        ndarray of shape (n, n_classes), float32
            Probabilities: each row has the sum 1, unless the model gives several labels; or numbers, of
            shape (n, 1).

        Raises
        ------
        MissingExtraError
            The package that runs its format is not installed; when the first batch is run.
        ExportError
            The package cannot open it; likewise.
        ValueError
            The images are of another shape or type.
        """
        checked = map(self._checked, batches)
        for first in checked:
            with self._opening:
                if self._runtime is None:
                    self._runtime = open_runtime(self.runtime, self._model_path(), **self._code)
            yield from self._runtime.run(chain([first], checked))

    def _checked(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (*self.size_px, 3) or not len(pixels):
            height, width = self.size_px
            raise ValueError(
                f"expected uint8 pixels of shape (n, {height}, {width}, 3), n at least 1; "
                f"found {pixels.dtype} of shape {pixels.shape}"
            )
        return np.ascontiguousarray(pixels)

    def _model_path(self) -> str:
        is_folder = self.runtime == "saved_model"
        return self.path if is_folder else os.path.join(self.path, self.description.file)


def _check_files(folder: str, description: ModelDescription) -> None:
    try:
        found = file_digests(folder, list(description.files))
    except OSError as error:
        remedy = "; export it again" if isinstance(error, FileNotFoundError) else ""
        raise ExportError(f"{error.filename} cannot be read: {error.strerror}{remedy}") from error
    for name, digest in description.files.items():
        if found[name] != digest:
            raise ExportError(
                f"{os.path.join(folder, name)} is not the file that was exported: its SHA-256 is "
                f"{found[name][:12]}…, and {DESCRIPTION} says {digest[:12]}…; export it again"
            )


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is an exported model's folder or file."""
    given = os.fspath(path)
    folder = given if os.path.isdir(given) else os.path.dirname(given)
    # A head may lie beside a model.
    is_head = given.endswith(".head")
    return os.path.exists(given) and not is_head and os.path.exists(os.path.join(folder, DESCRIPTION))
