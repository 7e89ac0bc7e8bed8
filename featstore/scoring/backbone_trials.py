"""What backbones cost and bring on a sample of one's own images."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from featstore.io.json_values import json_values
from featstore.scoring.plotting.figures import BLUE, error_lengths, new_figure

__all__ = ["BackboneTrial", "BackboneTrials", "plot_trials"]


@dataclass(frozen=True, kw_only=True)
class BackboneTrial:
    """One backbone on the sample.

    Attributes
    ----------
    backbone : str
        As it was named.
    space : str
        What its space is called.
    feature_dim : int
    ms_per_image : float
        Milliseconds of the forward pass for one image, in batches: the least of three passes over the sample.
    top1 : float
        Share of the sample that is right in folds, in [0, 1].
    top1_ci : tuple of float
        95% interval.
    cross_entropy : float
        In folds, nats.

    Examples
    --------
    >>> trial = BackboneTrial(
    ...     backbone="mobilenet_v2=weights/own.h5",
    ...     space="mobilenet_v2-fe87f92d591e",
    ...     feature_dim=1280,
    ...     ms_per_image=6.1,
    ...     top1=0.7,
    ...     top1_ci=(0.58, 0.8),
    ...     cross_entropy=0.75,
    ... )
    >>> trial.label
    'mobilenet_v2=own.h5'
    """

    backbone: str
    space: str
    feature_dim: int
    ms_per_image: float
    top1: float
    top1_ci: tuple[float, float]
    cross_entropy: float

    @property
    def label(self) -> str:
        """The name without the folder of a file."""
        return "=".join(os.path.basename(part) for part in self.backbone.split("="))


@dataclass(frozen=True, kw_only=True)
class BackboneTrials:
    """Several backbones on one sample of images.

    Attributes
    ----------
    trials : tuple of BackboneTrial
        The cheapest first.
    failures : dict of str to str
        Why others could not be tried.
    n_images, n_classes, folds : int
        Of the sample.
    head : str
        The kind of head in the folds.
    device : str
        What computed.

    Examples
    --------
    >>> from dataclasses import replace
    >>> quick = BackboneTrial(
    ...     backbone="quick",
    ...     space="quick-0",
    ...     feature_dim=8,
    ...     ms_per_image=1,
    ...     top1=0.7,
    ...     top1_ci=(0.6, 0.8),
    ...     cross_entropy=0.8,
    ... )
    >>> slow = replace(quick, backbone="slow", ms_per_image=9, cross_entropy=0.9)
    >>> slower = replace(quick, backbone="slower", ms_per_image=20, cross_entropy=0.4)
    >>> found = BackboneTrials(
    ...     trials=(quick, slow, slower),
    ...     failures={},
    ...     n_images=64,
    ...     n_classes=5,
    ...     folds=4,
    ...     head="logistic",
    ...     device="a processor",
    ... )
    >>> [trial.backbone for trial in found.frontier]
    ['quick', 'slower']
    """

    trials: tuple[BackboneTrial, ...]
    failures: dict[str, str]
    n_images: int
    n_classes: int
    folds: int
    head: str
    device: str

    @property
    def frontier(self) -> tuple[BackboneTrial, ...]:
        """The trials than which no cheaper one has a lower cross entropy."""
        found: list[BackboneTrial] = []
        for trial in self.trials:
            if not found or trial.cross_entropy < found[-1].cross_entropy:
                found.append(trial)
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**json_values(self), "frontier": [trial.backbone for trial in self.frontier]}


def plot_trials(found: BackboneTrials) -> Any:
    """Return a figure of accuracy against the time of the forward pass."""
    figure = new_figure(7.2, 5.0)
    axes = figure.subplots()
    cost = [trial.ms_per_image for trial in found.trials]
    top1 = np.array([trial.top1 for trial in found.trials])
    ends = np.array([trial.top1_ci for trial in found.trials])
    axes.errorbar(cost, top1, yerr=error_lengths(top1, ends), fmt="o", color=BLUE, capsize=3)
    for trial in found.trials:
        axes.annotate(
            trial.label,
            (trial.ms_per_image, trial.top1),
            xytext=(6, 6),
            textcoords="offset points",
            fontsize=9,
            parse_math=False,
        )
    axes.set_xscale("log")
    axes.margins(x=0.25)
    axes.grid(alpha=0.3)
    axes.set_xlabel("forward pass, ms an image")
    axes.set_ylabel(f"accuracy in {found.folds} folds, 95% interval")
    figure.suptitle(
        f"{found.head} on {found.n_images} images of {found.n_classes} classes; {found.device}",
        fontsize=10,
        parse_math=False,
    )
    return figure
