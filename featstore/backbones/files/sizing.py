"""Quick size check of weights files, before Keras is imported.

A file that passes may still be of another architecture; only building the network can tell.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from math import comb

from featstore.backbones.files.weights import MOST_VARIABLES, layer_sizes, nested_network_error, weights_kind
from featstore.backbones.known import BackboneInfo, known_backbones
from featstore.errors import WeightsError

__all__ = ["check_size"]

# Versions of Keras keep some counters or not; networks differ by far more.
_TOLERANCE = 0.005

_MOST_TRIED = 100_000


def check_size(path: str, info: BackboneInfo, alpha: float | None) -> None:
    """Raise WeightsError if a file has too many or too few numbers for a network."""
    kind = weights_kind(path)
    wanted = info.parameters if alpha in (None, 1) else info.alpha_parameters.get(float(alpha or 1))
    if kind in ("model", "checkpoint") or wanted is None:
        return
    name = os.path.basename(path)
    sizes = layer_sizes(path, kind)
    is_ordered = kind == "layers"
    nested = [layer for layer, (n_variables, _) in sizes.items() if n_variables > MOST_VARIABLES]
    if kind == "layers" and nested:
        raise nested_network_error(path, info.name, nested[0])
    numbers = [number for _, number in sizes.values()]
    if _fits(numbers, wanted, info.top_layers, is_ordered=is_ordered):
        return
    others = [
        other if other_alpha == 1 else f"{other} with --alpha {other_alpha:g}"
        for other, other_alpha, parameters, top_layers in _known()
        if _fits(numbers, parameters, top_layers, is_ordered=is_ordered) and other != info.name
    ]
    own = [
        f"--alpha {one:g}"
        for other, one, parameters, top in _known()
        if other == info.name and _fits(numbers, parameters, top, is_ordered=is_ordered)
    ]
    hint = f"; they fit with {own[0]}" if own else ""
    if others and not own:
        hint = f"; by their number they are those of {' or '.join(others[:3])}"
    width = "" if alpha in (None, 1) else f" with alpha {alpha:g}"
    raise WeightsError(
        f"{name} does not hold the weights of {info.name}{width}: it has {len(sizes):,} layers with "
        f"{sum(numbers):,} weights, expected {wanted:,} and perhaps a classifier's{hint}"
    )


def _fits(numbers: Sequence[int], wanted: int, top_layers: int, *, is_ordered: bool) -> bool:
    """Return whether layers are a network's, with or without its classifier's."""
    total, most = sum(numbers), _TOLERANCE * wanted
    if abs(total - wanted) <= most:
        return True
    tops: Iterable[Sequence[int]] = [numbers[len(numbers) - top_layers :]]
    if not is_ordered and comb(len(numbers), top_layers) <= _MOST_TRIED:
        tops = combinations(numbers, top_layers)
    return any(abs(total - sum(top) - wanted) <= most for top in tops)


def _known() -> Iterator[tuple[str, float, int, int]]:
    for info in known_backbones():
        if info.weights == "imagenet":
            for alpha, parameters in {1.0: info.parameters, **info.alpha_parameters}.items():
                yield info.name, alpha, parameters, info.top_layers
