"""Plots of results, and TensorBoard logs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .printing import note, short_path

if TYPE_CHECKING:
    from featstore import FeatureTable, Head, MultiLabelHead

__all__ = ["check_tensorboard_folder", "checked_plot_path", "plot_option", "save_plot", "show_sweep"]


def plot_option(what: str) -> Callable[[Any], Any]:
    """Return the option ``--plot FILE`` of a command that can plot ``what``."""
    return click.option(
        "--plot", metavar="FILE", type=click.Path(), help=f"Plot the {what} to a .png, .svg or .pdf file."
    )


def checked_plot_path(path: str | None, table: "FeatureTable", *, force: bool) -> str | None:
    """Refuse a file that no plot can be written to, such as a photo, before anything is computed."""
    if path is None:
        return None
    from featstore.scoring import check_plot_path

    return check_plot_path(path, overwrite=force, inputs=table.paths.tolist())


def save_plot(result: Any, path: str, *, force: bool) -> None:
    """Plot a result, and print where on stderr."""
    import featstore

    featstore.save_plot(result, path, overwrite=force)
    note(f"plotted to {short_path(path)}")


def check_tensorboard_folder(folder: str | None) -> None:
    """Refuse TensorBoard logs without its package or in a store, before anything is computed."""
    if folder is not None:
        from featstore.io import check_destination
        from featstore.scoring import check_tensorboard

        check_tensorboard()
        check_destination(folder)


def show_sweep(
    head: "Head | MultiLabelHead", plot: str | None, tensorboard: str | None, *, force: bool
) -> None:
    """Plot the settings that a head tried, and write them as TensorBoard logs, if asked for."""
    import featstore

    if plot is not None and head.sweep:
        save_plot(head, plot, force=force)
    elif plot is not None:
        note(f"{head.name} tried no settings: there is nothing to plot")
    if tensorboard is None or isinstance(head, featstore.MultiLabelHead):
        return
    if not head.sweep and not head.steps:
        note(f"{head.name} tried no settings: there is nothing to write for TensorBoard")
    else:
        note(f"TensorBoard logs written to {short_path(featstore.write_sweep(tensorboard, head))}")
