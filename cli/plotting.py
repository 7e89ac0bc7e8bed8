"""Results drawn into files, and written for TensorBoard."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .console import note, short_path

if TYPE_CHECKING:
    from featstore import Head

__all__ = ["check_tensorboard_installed", "checked_plot_path", "plot_option", "save_plot", "show_sweep"]


def plot_option(what: str) -> Callable[[Any], Any]:
    """Return the option ``--plot FILE`` of a command that can draw ``what``."""
    return click.option(
        "--plot", metavar="FILE", type=click.Path(), help=f"Draw {what} into a .png, .svg or .pdf file."
    )


def checked_plot_path(path: str | None) -> str | None:
    """Refuse a file that nothing can be drawn into, before anything is computed."""
    if path is None:
        return None
    from featstore.scoring.plots import check_plot_path

    check_plot_path(path)
    return os.path.abspath(path)


def save_plot(result: Any, path: str) -> None:
    """Draw a result, and say where on stderr."""
    import featstore

    featstore.save_plot(result, path)
    note(f"drawn in {short_path(path)}")


def check_tensorboard_installed() -> None:
    """Refuse to write for TensorBoard without its package, before anything is computed."""
    from featstore.scoring.tensorboard import check_tensorboard

    check_tensorboard()


def show_sweep(head: "Head", plot: str | None, tensorboard: str | None) -> None:
    """Draw what a head tried, and write it for TensorBoard, where these were asked for."""
    import featstore

    if plot is not None and head.sweep:
        save_plot(head, plot)
    elif plot is not None:
        note(f"{head.name} tried no settings: there is nothing to draw")
    if tensorboard is not None and not head.sweep and not head.steps:
        note(f"{head.name} tried no settings: there is nothing to write for TensorBoard")
    elif tensorboard is not None:
        note(f"for TensorBoard in {short_path(featstore.write_sweep(tensorboard, head))}")
