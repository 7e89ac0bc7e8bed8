"""Of how many views of each image a head is fitted on, and over how many its probabilities are averaged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import HeadError
from featstore.images.views import MAX_VIEWS
from featstore.splits import HashHoldout, HashKFold

if TYPE_CHECKING:
    from featstore.store.table import FeatureTable

__all__ = ["Views", "check_dealing", "check_images", "checked_views"]


@dataclass(frozen=True, kw_only=True)
class Views:
    """How many views of each image: number 0, the image itself, and those after it.

    Parameters
    ----------
    train : int
        That heads are fitted on, each as a row of its own.
    test : int
        Over which probabilities are averaged.
    """

    train: int = 1
    test: int = 1

    @property
    def most(self) -> int:
        """How many an image has to have."""
        return max(self.train, self.test)


def checked_views(views: Mapping[str, int] | None) -> Views:
    """Return what the user asks for.

    Parameters
    ----------
    views : mapping, optional
        ``{"train": n, "test": n}``; 1 each where it is left out.

    Raises
    ------
    HeadError
        It has other keys, or numbers of views that cannot be.
    """
    if views is None:
        return Views()
    if not isinstance(views, Mapping) or not {*views} <= {"train", "test"}:
        raise HeadError(f'views are given for train and test, as {{"train": 8, "test": 1}}; found {views!r}')
    for name, number in views.items():
        is_number = isinstance(number, int | np.integer) and not isinstance(number, bool)
        if not is_number or not 1 <= number <= MAX_VIEWS:
            raise HeadError(f"the views for {name} are a whole number, at least 1; found {number!r}")
    return Views(**{name: int(number) for name, number in views.items()})


def check_images(table: "FeatureTable") -> None:
    """Refuse a table whose rows are views, where rows are counted as images.

    Raises
    ------
    HeadError
    """
    if np.asarray(table.views).any():
        raise HeadError(
            "the rows of this table are views, which would count as images; give the table with a row for "
            "each image, and say how many views with views={'train': …, 'test': …}"
        )


def check_dealing(estimator: Any, views: Views) -> None:
    """Refuse a search of the user's own that could have views of one image on both sides of a fold.

    Raises
    ------
    HeadError
    """
    if views.train == 1:
        return
    for name, value in estimator.get_params(deep=True).items():
        if name.rpartition("__")[2] == "cv" and not isinstance(value, HashKFold | HashHoldout):
            raise HeadError(
                f"{type(estimator).__name__} divides rows by {name}={value!r}, which would tear the views of "
                f"an image apart; give it {name}=featstore.HashKFold(5), or fit on one view of each image"
            )
