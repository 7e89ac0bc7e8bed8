"""Errors for features that a table needs and a space lacks: how many, and what to run."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import NotInStoreError
from featstore.messages import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featstore.store.space import Space
    from featstore.store.tables.columns import Columns

__all__ = ["check_complete", "check_views", "common_views"]

_NAMED = 3


def check_complete(spaces: "Sequence[Space]", columns: "Columns", *, catalog_name: str) -> None:
    """Raise NotInStoreError if images have features in one space and not in another."""
    for space, found in zip(spaces, columns.rows.T, strict=True):
        missing = np.flatnonzero(found < 0)
        if len(missing):
            named = listed(columns.file_paths(missing), most=_NAMED)
            sides = "x".join(map(str, dict.fromkeys(space.spec.size_px)))
            raise NotInStoreError(
                f"{len(missing):,} of {len(columns):,} images of the catalog {catalog_name} have features in "
                f"another of the spaces to join and none in {space.name}: {named}; "
                f"run featstore extract on its images with "
                f"--backbone {space.spec.architecture} --image-size {sides} and what else made that space"
            )


def check_views(space: "Space", is_there: NDArray[np.bool_]) -> None:
    """Raise NotInStoreError for missing views; ``is_there`` is of shape (n_images, n_views)."""
    n_images, n_views = is_there.shape
    if is_there.all():
        return
    recipe = space.spec.views
    if recipe is None:
        raise NotInStoreError(
            f"{n_views} views of each image are requested, but the space {space.name} has only the images "
            f"themselves; run featstore extract on them with --views {n_views} and a view recipe, "
            "such as --flip --random-crop 10: that makes a separate space"
        )
    if n_views > recipe.n_distinct:
        raise NotInStoreError(
            f"{n_views} views of each image are requested, but images of the space {space.name} have "
            f"{recipe.n_distinct}: the image and its mirror image"
        )
    options = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f" {value:g}")
        for name, value in recipe.to_dict().items()
    ]
    n_lacking = int((~is_there.all(axis=1)).sum())
    raise NotInStoreError(
        f"{n_lacking:,} of {n_images:,} images lack some of their views 0 to {n_views - 1} in the space "
        f"{space.name}: {int((~is_there).sum()):,} views in all; run the featstore extract that made it with "
        f"--views {n_views} {' '.join(options)}, which adds what is missing"
    )


def common_views(spaces: "Sequence[Space]", hashes: NDArray[np.uint8]) -> int:
    """Return the number of views, from 0 on, that all images have in all spaces."""
    most = min((int(space.view.max(initial=0)) + 1 for space in spaces), default=1)
    for view in range(1, most):
        if any((space.lookup(hashes, view) < 0).any() for space in spaces):
            return view
    return most
