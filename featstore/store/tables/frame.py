"""Feature tables as pandas data frames."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.extras import check_extra
from featstore.store.tables.columns import Columns

if TYPE_CHECKING:
    from featstore.store.segments.segment import FeatureArray

__all__ = ["table_frame"]


def table_frame(
    columns: Columns,
    *,
    content_hash: NDArray[np.str_],
    splits: NDArray[np.str_],
    features: "FeatureArray | None",
) -> Any:
    """Return a table's columns as a pandas.DataFrame; see :meth:`FeatureTable.to_frame`."""
    check_extra("notebook", "to_frame", "pandas")
    import pandas as pd

    frame = pd.DataFrame(
        {
            "path": _texts(columns.file_paths(slice(None))),
            "label": columns.labels.tolist(),
            "group": columns.groups.tolist(),
            "split": splits.tolist(),
            "content_hash": content_hash.tolist(),
        }
    )
    if not np.isnan(columns.weights).all():
        frame["weight"] = columns.weights
    if not np.isnan(columns.targets).all():
        frame["target"] = columns.targets
    if columns.views.any():
        frame["view"] = columns.views
    if features is None:
        return frame
    names = [f"feature_{number}" for number in range(features.shape[1])]
    return pd.concat([frame, pd.DataFrame(features, columns=names)], axis=1)


def _texts(values: list[str]) -> Any:
    """Return a column of texts, of which some may not be UTF-8."""
    import pandas as pd

    try:
        return pd.Series(values)
    except UnicodeEncodeError:
        # With pyarrow pandas keeps texts in UTF-8; without, as Python does.
        return pd.Series(values, dtype=object)
