"""What heads share that answer another question than which one label an image has."""

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.spec import BackboneSpec, JoinedSpec
from featstore.errors import FeatstoreError, HeadError, first_line
from featstore.heads.files.question_file import Form, read_question_file, write_question_file
from featstore.heads.mismatch import mismatch_error
from featstore.heads.seen import SeenImages
from featstore.io.outputs import check_head_output
from featstore.io.storage.opening import absolute_place
from featstore.splits import SplitRule

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["QuestionHead"]

_KEPT_APART = ("form", "seen")


class QuestionHead:
    """A head's file, and the images that it knows."""

    question: ClassVar[str]

    name: str
    spec: BackboneSpec | JoinedSpec
    fingerprint: str
    split_rule: SplitRule
    form: Form
    seen: SeenImages

    def check_fingerprint(self, fingerprint: str, *, spec: BackboneSpec | JoinedSpec | None = None) -> None:
        """Raise FingerprintMismatchError unless features, or a backbone, are the head's own."""
        if fingerprint != self.fingerprint:
            raise mismatch_error(self.name, self.spec, fingerprint, spec)

    def was_fitted_on(self, table: "FeatureTable") -> NDArray[np.bool_]:
        """Return whether it was fitted on each image of a table of any catalog, bool of shape (n,)."""
        return self.seen.have_fitted(np.asarray(table.content_hash_bytes))

    def was_chosen_on(self, table: "FeatureTable") -> NDArray[np.bool_]:
        """Return whether it was chosen, and not fitted, on each image of a table, bool of shape (n,)."""
        return self.seen.have_chosen(np.asarray(table.content_hash_bytes))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the form as JSON values; the keys are stable."""
        values = {name: getattr(self, name) for name in self.manifest_fields()}
        return values | {"spec": self.spec.to_dict(), "split_rule": self.split_rule.to_dict()}

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the head to a file, atomically.

        Parameters
        ----------
        path : path_like
            A head in a store (:meth:`featstore.FeatureStore.head_path`) is replaced.
        overwrite : bool
            Whether to replace an existing file elsewhere.

        Raises
        ------
        OutputError
            The file exists, or lies in a store outside its heads.
        StoreError
            The file cannot be written.
        """
        place = check_head_output(path, overwrite=overwrite)
        write_question_file(place, self.question, self.to_dict(), self.form, self.seen)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a head from a file, without running any code in it.

        Parameters
        ----------
        path : path_like

        Raises
        ------
        HeadError
            The file does not exist, is not such a head, or is damaged.
        FormatVersionError
            A newer version of featstore wrote the file.
        """
        place = absolute_place(path)
        manifest, form, seen, kind = read_question_file(place, cls.question)
        try:
            values = {**cls._checked(manifest), "seen": SeenImages.from_arrays(seen)}
            return cls(**values, form=kind.from_arrays(form))  # type: ignore[call-arg]
        except (FeatstoreError, AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise HeadError(f"{place} is damaged: {first_line(error)}") from error

    @classmethod
    def manifest_fields(cls) -> list[str]:
        """Return the names of the fields that the manifest of a file has."""
        return [one.name for one in fields(cls) if one.name not in _KEPT_APART]  # type: ignore[arg-type]

    @classmethod
    def _checked(cls, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a manifest; raise an error unless they fit."""
        raise NotImplementedError
