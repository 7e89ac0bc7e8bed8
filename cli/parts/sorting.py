"""What `featstore predict` does with the images themselves: class folders and contact sheets."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from featstore.messages import count

from ..printing import note, short_path

if TYPE_CHECKING:
    from featstore import Prediction
    from featstore.sorting import ClassFolders

__all__ = ["Sorter"]


class Sorter:
    """Sorts images as they are labelled, if the options ask for it."""

    def __init__(
        self, sort_into: str | None, overlay: str | None, images: Sequence[str], *, link: bool
    ) -> None:
        self._overlay = overlay
        self._by_label: dict[str, list[tuple[str, float | None]]] = {}
        self._link = link
        for option, folder in (("--sort-into", sort_into), ("--overlay", overlay)):
            for image in images:
                if folder is not None and os.path.isdir(image) and _is_below(folder, image):
                    raise click.UsageError(
                        f"{option} {folder} lies in {image}, whose images are classified: they would be "
                        "classified again; name a folder elsewhere"
                    )
        self._folders = None if sort_into is None else _class_folders(sort_into, link=link)
        if overlay is not None:
            from featstore.sorting import check_new_folder

            check_new_folder(overlay)

    def add(self, prediction: "Prediction", rejected: str) -> None:
        """Sort an image that could be decoded."""
        if prediction.reason is not None or prediction.path is None:
            return
        label = rejected if prediction.label is None else prediction.label
        if self._folders is not None:
            self._folders.add(prediction.path, label)
        if self._overlay is not None:
            self._by_label.setdefault(label, []).append((prediction.path, prediction.probability))

    def end(self, *, quiet: bool) -> None:
        """Draw the contact sheets, and say on stderr what was done."""
        if (folders := self._folders) is not None and not quiet:
            done = "linked" if self._link else "copied"
            there = f", {folders.n_there:,} there already" if folders.n_there else ""
            note(f"{count(folders.n_added, 'image')} {done} into {short_path(folders.folder)}{there}")
        if self._overlay is not None:
            from featstore.sorting import write_sheets

            names = write_sheets(self._overlay, dict(sorted(self._by_label.items())))
            if not quiet:
                note(f"{count(len(names), 'contact sheet')} in {self._overlay}")


def _class_folders(folder: str, *, link: bool) -> "ClassFolders":
    from featstore.sorting import ClassFolders

    return ClassFolders(folder, link=link)


def _is_below(folder: str, home: str) -> bool:
    place, above = os.path.realpath(folder), os.path.realpath(home)
    return os.path.commonpath([place, above]) == above
