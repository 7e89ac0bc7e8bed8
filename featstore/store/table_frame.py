"""Feature tables as pandas data frames."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.store.columns import Columns

if TYPE_CHECKING:
    from featstore.store.segment import FeatureArray

__all__ = ["table_frame"]


def table_frame(
    columns: Columns,
    *,
    content_hash: NDArray[np.str_],
    splits: NDArray[np.str_],
    features: "FeatureArray | None",
) -> Any:
    """Return a table's columns as a pandas.DataFrame; see :meth:`FeatureTable.to_frame`."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            'to_frame needs pandas, which is not installed; run: pip install "featstore[notebook]"'
        ) from error
    frame = pd.DataFrame(
        {
            "path": columns.file_paths(slice(None)),
            "label": columns.labels.tolist(),
            "group": columns.groups.tolist(),
            "split": splits.tolist(),
            "content_hash": content_hash.tolist(),
        }
    )
    if columns.views.any():
        frame["view"] = columns.views
    if features is None:
        return frame
    names = [f"feature_{number}" for number in range(features.shape[1])]
    return pd.concat([frame, pd.DataFrame(features, columns=names)], axis=1)
