"""The choice of the layer from which on a network is tuned."""

import os
from typing import TYPE_CHECKING, Any

from featstore.backbones import Backbone, load_backbone
from featstore.errors import TuningError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featstore.backbones.keras.cuts import NetworkCut

__all__ = ["AUTO_SHARE", "choose_cut", "network_cuts"]

AUTO_SHARE = 0.1
"""Largest share of the network's cost above the cut that ``"auto"`` chooses."""

# Of two cuts with nearly the same weights above, the one that takes less room serves as well.
_NEARLY = 0.95


def network_cuts(
    backbone: Backbone | str | os.PathLike[str] = "mobilenet_v2", **options: Any
) -> "list[NetworkCut]":
    """Return the layers from which on a network can be tuned.

    Parameters
    ----------
    backbone : str, path or Backbone
        As for :func:`featstore.load_backbone`; or a loaded backbone.
    **options
        As for :func:`featstore.load_backbone`.

    Returns
    -------
    list of NetworkCut
        From the input to the output, each with ``layer``, ``shape``, ``share`` of the cost above it and
        trainable ``parameters`` above it.

    Raises
    ------
    BackboneError
        The network cannot be built, or has nothing to train.

    Examples
    --------
    >>> import tempfile
    >>> import keras
    >>> network = keras.Sequential(
    ...     [
    ...         keras.Input((8, 8, 3)),
    ...         keras.layers.Conv2D(4, 3, name="edges"),
    ...         keras.layers.Conv2D(6, 3, name="parts"),
    ...     ]
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     network.save(f"{folder}/small.keras")
    ...     cuts = network_cuts(f"{folder}/small.keras", preprocessing="unit")
    >>> [(cut.layer, cut.shape, cut.parameters) for cut in cuts]
    [('edges', (6, 6, 4), 222)]
    """
    loaded = backbone if isinstance(backbone, Backbone) else load_backbone(backbone, **options)
    return loaded.tunable().cuts


def choose_cut(cuts: "Sequence[NetworkCut]", name: str) -> "NetworkCut":
    """Return the cut with the most weights above it that costs at most a tenth of the network."""
    cheap = [cut for cut in cuts if cut.share <= AUTO_SHARE]
    if not cheap:
        raise TuningError(
            f"no part of {name} that can be cut off costs at most a tenth of it; name a layer with "
            "--from-layer, one of those that featstore finetune --cuts lists, or all"
        )
    most = max(cut.parameters for cut in cheap)
    return min((cut for cut in cheap if cut.parameters >= _NEARLY * most), key=lambda cut: cut.size)
