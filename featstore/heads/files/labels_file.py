"""The file of a head that gives several labels: a head file with its own version, manifest and members."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from featstore.errors import FeatstoreError, HeadError, first_line
from featstore.heads.files.head_file import (
    FORMAT,
    KERNEL,
    LABELS,
    LABELS_VERSION,
    LINEAR,
    SEEN,
    read_arrays,
    read_members,
    write_archive,
)
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.seen import SeenImages

__all__ = ["read_labels_file", "write_labels_file"]


def write_labels_file(
    path: str, manifest: Mapping[str, Any], form: LinearForm | KernelForm, seen: SeenImages
) -> None:
    """Write the file of a head that gives several labels; old readers refuse its version."""
    described = {"format": FORMAT, "format_version": LABELS_VERSION, "question": LABELS, **manifest}
    parts = {LINEAR if isinstance(form, LinearForm) else KERNEL: form, SEEN: seen}
    write_archive(path, described, parts, None, read_labels_file)


def read_labels_file(
    path: str,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]], dict[str, NDArray[Any]], type[LinearForm | KernelForm]]:
    """Return manifest, arrays of the form, arrays of the seen images, and the kind of form."""
    manifest, members = read_members(path, question=LABELS)
    kind: type[LinearForm | KernelForm] = LinearForm if LINEAR in members else KernelForm
    name = LINEAR if LINEAR in members else KERNEL
    try:
        return manifest, read_arrays(members[name], name), read_arrays(members[SEEN], SEEN), kind
    except FeatstoreError as error:
        raise HeadError(f"{path} is damaged: {first_line(error)}") from error
