"""How the rows of a table are dealt to splits and groups: as those of the table they were selected from."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.splits import SplitRule, assign_splits, group_keys

if TYPE_CHECKING:
    from featstore.store.columns import Columns

__all__ = ["Dealing"]


class Dealing:
    """The columns of a whole table, and the places in it of the rows that are dealt."""

    def __init__(self, whole: "Columns", places: NDArray[np.int64] | None = None) -> None:
        self._whole = whole
        self._places = np.arange(len(whole)) if places is None else places
        # One entry, shared with all tables selected from the whole: rules are few, and rows may be millions.
        self._known: dict[SplitRule, NDArray[np.str_]] = {}

    def take(self, index: Any) -> "Dealing":
        """Return the dealing of some of the rows."""
        taken = Dealing(self._whole, self._places[index])
        taken._known = self._known
        return taken

    def splits(self, rule: SplitRule) -> NDArray[np.str_]:
        """Return each row's split; see :meth:`FeatureTable.splits`."""
        dealt = self._known.get(rule)
        if dealt is None:
            dealt = assign_splits(
                rule,
                content_hash=self._whole.content_hash,
                groups=self._whole.groups.tolist(),
                paths=self._whole.paths.tolist(),
                given=self._whole.splits.tolist(),
                labels=self._whole.labels.tolist(),
            )
            self._known.clear()
            self._known[rule] = dealt
        return dealt[self._places]

    def group_keys(self, rule: SplitRule) -> NDArray[np.str_]:
        """Return what the rule keeps together; see :meth:`FeatureTable.group_keys`."""
        keys = group_keys(
            rule,
            content_hash=self._whole.content_hash,
            groups=self._whole.groups.tolist(),
            paths=self._whole.paths.tolist(),
        )
        return keys[self._places]
