"""Numbers of views of each image for training and for prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import HeadError
from featstore.images.views import MAX_VIEWS
from featstore.splits import HashHoldout, HashKFold

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["Views", "check_images", "check_search_folds", "checked_views"]


@dataclass(frozen=True, kw_only=True)
class Views:
    """Numbers of views: view 0, the image itself, and those after it."""

    train: int = 1  # each is a separate training row
    test: int = 1  # over which probabilities are averaged

    @property
    def most(self) -> int:
        """Number of views that an image must have."""
        return max(self.train, self.test)


def checked_views(views: Mapping[str, int] | None) -> Views:
    """Return the requested numbers of views, 1 each by default."""
    if views is None:
        return Views()
    if not isinstance(views, Mapping) or not {*views} <= {"train", "test"}:
        raise HeadError(
            f'views must be given for train and test, as {{"train": 8, "test": 1}}; found {views!r}'
        )
    for name, number in views.items():
        is_number = isinstance(number, int | np.integer) and not isinstance(number, bool)
        if not is_number or not 1 <= number <= MAX_VIEWS:
            raise HeadError(
                f"the number of views for {name} must be an integer of at least 1; found {number!r}"
            )
    return Views(**{name: int(number) for name, number in views.items()})


def check_images(table: "FeatureTable") -> None:
    """Raise HeadError for a table whose rows are views, if rows are counted as images."""
    if np.asarray(table.views).any():
        raise HeadError(
            "the rows of this table are views, which would count as images; pass the table with a row for "
            "each image, and the number of views as views={'train': …, 'test': …}"
        )


def check_search_folds(estimator: Any, views: Views) -> None:
    """Raise HeadError for a user's own search that could separate the views of an image."""
    if views.train == 1:
        return
    for name, value in estimator.get_params(deep=True).items():
        if name.rpartition("__")[2] == "cv" and not isinstance(value, HashKFold | HashHoldout):
            raise HeadError(
                f"{type(estimator).__name__} splits rows by {name}={value!r}, which would separate the views "
                f"of an image; use {name}=featstore.HashKFold(5), or fit on one view of each image"
            )
