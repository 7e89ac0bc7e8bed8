"""The folder of an exported model: what may be replaced by one."""

import os

from featstore.errors import ExportError
from featstore.export.card import CARD, LABELS, PHOTO
from featstore.export.description import DESCRIPTION, read_description
from featstore.io.hdf5.raw import refusal
from featstore.io.new_folder import files_below

__all__ = ["check_place", "write_text"]


def check_place(place: str, *, overwrite: bool) -> None:
    """Raise ExportError if a folder cannot be created or replaced."""
    if not os.path.isdir(os.path.dirname(place)):
        raise ExportError(f"the folder {os.path.dirname(place)} does not exist; make it, or choose another")
    if not os.path.lexists(place) or (os.path.isdir(place) and not os.listdir(place)):
        return
    elsewhere = "choose another folder" if os.path.isdir(place) else "choose another place"
    nothing_else = ", and --force replaces nothing else" if overwrite else ""
    try:
        ours = {*read_description(place).files, LABELS, CARD, PHOTO, DESCRIPTION}
    except ExportError as error:
        if os.path.isdir(place) and refusal(error):
            raise
        raise ExportError(
            f"{place} exists and is not an exported model{nothing_else}; {elsewhere}"
        ) from error
    if others := sorted({*files_below(place)} - ours):
        raise ExportError(
            f"{place} holds more than an exported model, such as {others[0]}, which --force would remove; "
            "take it out, or choose another folder"
        )
    if not overwrite:
        raise ExportError(f"{place} exists; choose another folder, or replace it with --force")


def write_text(path: str, text: str) -> None:
    """Write a new text file."""
    # Labels that come from folders keep the bytes of names that are not UTF-8.
    with open(path, "x", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.write(text)
