"""``model.json``: the machine-readable description of an exported model."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from featstore.backbones.spec import BackboneSpec, JoinedSpec, spec_from_dict
from featstore.errors import BackboneError, ExportError, FormatVersionError
from featstore.heads import are_held_out, are_held_out_errors, are_parents
from featstore.io.manifest import refuse_newer

__all__ = [
    "DESCRIPTION",
    "FORMAT",
    "FORMAT_VERSION",
    "RUNTIMES",
    "ModelDescription",
    "file_digests",
    "read_description",
]

DESCRIPTION = "model.json"
"""The file's name, beside the model."""

FORMAT = "featstore-model"
FORMAT_VERSION = 3
# Models that give one label are described as before, and several as by version 2; earlier readers would take
# others for such.
_OF_ONE_LABEL, _OF_SEVERAL = 1, 2

RUNTIMES: Mapping[str, str] = {
    "saved_model": "saved_model.pb",
    "keras": "model.keras",
    "tflite": "model.tflite",
    "onnx": "model.onnx",
    "openvino": "model.xml",
}
"""The formats that a head is exported in, each with the file that holds the model, or leads to it."""

_LARGEST = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """An exported model, as ``model.json`` describes it.

    Parameters
    ----------
    runtime : {"keras", "saved_model", "tflite", "onnx", "openvino"}
        What runs it.
    file : str
        The model's file in the folder.
    files : dict of str to str
        SHA-256 of each file of the model, by its path in the folder, with ``/``.
    classes : tuple of str
        The labels, in the order of the probabilities; none of a model that predicts a number.
    spec : BackboneSpec or JoinedSpec
        The backbones inside of it. Images come in the ``size_px`` of its parts, by their ``resize`` rule;
        all parts have the same.
    test_views : int
        How many views of each image the model averages over: 1, the image itself; or 2, it and its mirror
        image, which the model makes by itself. The head's own number is in ``head``.
    rejects_below : float
        In [0, 1): where the most probable class is less probable, the answer is "unknown"; 0 always answers.
    thresholds : tuple of float, optional
        Of a model that gives several labels, the probability from which on each of ``classes`` is given.
    target : str, optional
        Of a model that predicts a number, its name.
    quantization : {"float16", "int8"} or None
        How the weights, and with ``"int8"`` the activations, were rounded.
    head : dict
        Which head it was: ``name``, ``params``, ``catalog``, ``created``, ``counts``, ``split_rule``,
        ``validation``, ``test``, ``train_views``, ``test_views``, ``reject`` and ``held_out``, as in
        :class:`featstore.Head`; the last is empty for a model with other views or ``"int8"``. Of one that
        gives several labels, what :class:`featstore.MultiLabelHead` has of these, and ``n_images``; of one
        that predicts a number, what :class:`featstore.RegressionHead` has, and ``held_out_errors``.
    verification : dict
        How far its probabilities are from the head's (see :func:`featstore.export.verification.verify`); or
        ``{"skipped": reason}``.
    created : str
        ISO 8601 date and time, UTC.
    versions : dict of str to str
        Versions of the packages that made it.

    Raises
    ------
    ExportError
        A field has a value that it cannot have.
    """

    runtime: str
    file: str
    files: dict[str, str]
    classes: tuple[str, ...]
    spec: BackboneSpec | JoinedSpec
    test_views: int = 1
    rejects_below: float = 0.0
    thresholds: tuple[float, ...] | None = None
    target: str | None = None
    quantization: str | None = None
    head: dict[str, Any] = field(default_factory=dict)
    verification: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = [self.file, *self.files, *self.files.values(), *self.classes]
        fit = {
            "runtime": self.runtime in RUNTIMES,
            "file": self.file in self.files,
            "files": all(isinstance(text, str) for text in texts) and all(map(_is_inside, self.files)),
            "target": self.target is None or (isinstance(self.target, str) and self.target != ""),
            "classes": len({*self.classes} - {""}) == len(self.classes)
            and (len(self.classes) > 1 if self.target is None else not self.classes),
            "spec": len({(*part.picture.items(),) for part in self.spec.parts}) == 1,
            "test_views": self.test_views in (1, 2),
            "head": are_held_out(self.head.get("held_out", {}), self.classes)
            and are_parents(self.head.get("parents", {}), self.classes)
            and are_held_out_errors(self.head.get("held_out_errors", [])),
            "thresholds": self.thresholds is None or _are_shares(self.thresholds, len(self.classes)),
            "rejects_below": isinstance(self.rejects_below, int | float) and 0 <= self.rejects_below < 1,
        }
        if unfit := [name for name, is_fit in fit.items() if not is_fit]:
            raise ExportError(f"it has an invalid {unfit[0]}: {str(getattr(self, unfit[0]))[:80]}")

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of the images that the model takes, in pixels."""
        return self.spec.parts[0].size_px

    @property
    def resize(self) -> str:
        """How images of another shape are brought to that size: ``"stretch"``, ``"crop"`` or ``"pad"``."""
        return self.spec.parts[0].resize

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``model.json``; its keys are stable."""
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        for name in ("thresholds", "target"):
            if own[name] is None:
                del own[name]
        version = _OF_ONE_LABEL if self.thresholds is None else _OF_SEVERAL
        values = "probabilities" if self.target is None else "values"
        return {
            "format": FORMAT,
            "format_version": version if self.target is None else FORMAT_VERSION,
            **own,
            "classes": list(self.classes),
            "size_px": list(self.size_px),
            "resize": self.resize,
            "fingerprint": self.spec.fingerprint,
            "spec": self.spec.to_dict(),
            "input": {"shape": [None, *self.size_px, 3], "dtype": "uint8", "channels": "RGB, 0 to 255"},
            "output": {"shape": [None, len(self.classes) or 1], "dtype": "float32", "values": values},
        }

    def to_json(self) -> str:
        """Return the text of ``model.json``."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a description from :meth:`to_dict`, ignoring unknown keys."""
        version = data.get("format_version") if isinstance(data, Mapping) else None
        if not isinstance(version, int) or data.get("format") != FORMAT:
            raise ExportError(f"it is not the description of a {FORMAT}")
        refuse_newer("it", version, FORMAT_VERSION)
        try:
            # Models were written without test_views while there was but one.
            late = ("test_views", "thresholds", "target")
            values = {one.name: data[one.name] for one in fields(cls) if one.name not in late}
            if data.get("thresholds") is not None:
                values["thresholds"] = tuple(data["thresholds"])
            values |= {"classes": tuple(data["classes"]), "spec": spec_from_dict(data["spec"])}
            values |= {"test_views": data.get("test_views", 1), "target": data.get("target")}
            description = cls(**values)
        except (AttributeError, BackboneError, KeyError, TypeError) as error:
            raise ExportError(f"it is incomplete: {error}") from error
        if description.spec.fingerprint != data.get("fingerprint"):
            raise ExportError("its fingerprint is not that of its backbone's specification")
        return description


def read_description(folder: str) -> ModelDescription:
    """Read the description of an exported model from its folder."""
    path = os.path.join(folder, DESCRIPTION)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LARGEST)
    except FileNotFoundError as error:
        raise ExportError(
            f"{folder} holds no exported model: there is no {DESCRIPTION}; featstore export writes one"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} cannot be read: {error}") from error
    try:
        return ModelDescription.from_dict(json.loads(text))
    except FormatVersionError as error:
        raise FormatVersionError(f"{path} cannot be used: {error}") from error
    except (RecursionError, ValueError) as error:
        raise ExportError(f"{path} cannot be used: {error}") from error


def file_digests(folder: str, names: list[str]) -> dict[str, str]:
    """Return the SHA-256 of files, by their paths in a folder."""
    digests = {}
    for name in names:
        with open(os.path.join(folder, *name.split("/")), "rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _are_shares(thresholds: tuple[Any, ...], n: int) -> bool:
    return len(thresholds) == n and all(isinstance(one, float | int) and 0 <= one <= 1 for one in thresholds)


def _is_inside(name: str) -> bool:
    return bool(name) and not os.path.isabs(name) and ".." not in name.split("/") and "\\" not in name
