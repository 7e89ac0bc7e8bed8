"""Results drawn into files, and written for TensorBoard."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .console import note, short_path

if TYPE_CHECKING:
    from featstore import FeatureTable, Head

__all__ = ["check_tensorboard_folder", "checked_plot_path", "plot_option", "save_plot", "show_sweep"]


def plot_option(what: str) -> Callable[[Any], Any]:
    """Return the option ``--plot FILE`` of a command that can draw ``what``."""
    return click.option(
        "--plot", metavar="FILE", type=click.Path(), help=f"Draw {what} into a .png, .svg or .pdf file."
    )


def checked_plot_path(path: str | None, table: "FeatureTable", *, force: bool) -> str | None:
    """Refuse a file that nothing can be drawn into, such as a photo, before anything is computed."""
    if path is None:
        return None
    from featstore.scoring.plots import check_plot_path

    return check_plot_path(path, overwrite=force, inputs=table.paths.tolist())


def save_plot(result: Any, path: str, *, force: bool) -> None:
    """Draw a result, and say where on stderr."""
    import featstore

    featstore.save_plot(result, path, overwrite=force)
    note(f"drawn in {short_path(path)}")


def check_tensorboard_folder(folder: str | None) -> None:
    """Refuse to write for TensorBoard without its package or into a store, before anything is computed."""
    if folder is not None:
        from featstore.io.outputs import check_outside_stores
        from featstore.scoring.tensorboard import check_tensorboard

        check_tensorboard()
        check_outside_stores(folder)


def show_sweep(head: "Head", plot: str | None, tensorboard: str | None, *, force: bool) -> None:
    """Draw what a head tried, and write it for TensorBoard, where these were asked for."""
    import featstore

    if plot is not None and head.sweep:
        save_plot(head, plot, force=force)
    elif plot is not None:
        note(f"{head.name} tried no settings: there is nothing to draw")
    if tensorboard is not None and not head.sweep and not head.steps:
        note(f"{head.name} tried no settings: there is nothing to write for TensorBoard")
    elif tensorboard is not None:
        note(f"for TensorBoard in {short_path(featstore.write_sweep(tensorboard, head))}")
