"""The file of a head that gives several labels, or a number: with its own version, manifest and members."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from featstore.errors import FeatstoreError, HeadError, first_line
from featstore.heads.files.head_file import (
    FORMAT,
    KERNEL,
    LINEAR,
    NEIGHBORS,
    QUESTIONS,
    SEEN,
    read_arrays,
    read_members,
    write_archive,
)
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.neighbors import NeighborForm
from featstore.heads.seen import SeenImages

__all__ = ["Form", "read_question_file", "write_question_file"]

Form = LinearForm | KernelForm | NeighborForm
_KINDS: Mapping[str, type[Form]] = {LINEAR: LinearForm, KERNEL: KernelForm, NEIGHBORS: NeighborForm}


def write_question_file(
    path: str, question: str, manifest: Mapping[str, Any], form: Form, seen: SeenImages
) -> None:
    """Write the file of a head that answers another question than one label; old readers refuse it."""
    version = QUESTIONS[question].version
    described = {"format": FORMAT, "format_version": version, "question": question, **manifest}
    [member] = [name for name, kind in _KINDS.items() if isinstance(form, kind)]
    write_archive(
        path, described, {member: form, SEEN: seen}, None, lambda made: read_question_file(made, question)
    )


def read_question_file(
    path: str, question: str
) -> tuple[dict[str, Any], dict[str, NDArray[Any]], dict[str, NDArray[Any]], Any]:
    """Return manifest, arrays of the form, arrays of the seen images, and the kind of form."""
    manifest, members = read_members(path, question=question)
    [name] = members.keys() & _KINDS.keys()
    try:
        return manifest, read_arrays(members[name], name), read_arrays(members[SEEN], SEEN), _KINDS[name]
    except FeatstoreError as error:
        raise HeadError(f"{path} is damaged: {first_line(error)}") from error
