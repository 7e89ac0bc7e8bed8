"""Assignment of a table's rows to splits and groups: the same as in the table they were selected from."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.splits import SplitRule, assign_splits, group_keys

if TYPE_CHECKING:
    from featstore.store.tables.columns import Columns

__all__ = ["SplitAssignment"]


class SplitAssignment:
    """The columns of a whole table, and the positions in it of the rows to assign."""

    def __init__(
        self, whole: "Columns", places: NDArray[np.int64] | None = None, *, has_classes: bool = True
    ) -> None:
        self._whole = whole
        self._has_classes = has_classes
        self._places = np.arange(len(whole)) if places is None else places
        # One entry, shared with all tables selected from the whole: rules are few, and rows may be millions.
        self._known: dict[SplitRule, NDArray[np.str_]] = {}

    def take(self, index: Any) -> "SplitAssignment":
        """Return the assignment of some of the rows."""
        taken = SplitAssignment(self._whole, self._places[index], has_classes=self._has_classes)
        taken._known = self._known
        return taken

    def splits(self, rule: SplitRule) -> NDArray[np.str_]:
        """Return each row's split; see :meth:`FeatureTable.splits`."""
        assigned = self._known.get(rule)
        if assigned is None:
            assigned = assign_splits(
                rule,
                content_hash=self._whole.content_hash,
                groups=self._whole.groups.tolist(),
                paths=self._whole.paths.tolist(),
                given=self._whole.splits.tolist(),
                # Images with several labels belong to no one class that could be spread evenly.
                labels=self._whole.labels.tolist() if self._has_classes else None,
            )
            self._known.clear()
            self._known[rule] = assigned
        return assigned[self._places]

    def group_keys(self, rule: SplitRule) -> NDArray[np.str_]:
        """Return what the rule keeps together; see :meth:`FeatureTable.group_keys`."""
        keys = group_keys(
            rule,
            content_hash=self._whole.content_hash,
            groups=self._whole.groups.tolist(),
            paths=self._whole.paths.tolist(),
        )
        return keys[self._places]
