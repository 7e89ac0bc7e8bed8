"""Results written to CSV files."""

import csv
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featstore import FeatureStore, FeatureTable

__all__ = ["checked_csv_path", "write_csv"]


def checked_csv_path(
    path: str | None, opened: "FeatureStore", table: "FeatureTable", *, force: bool
) -> str | None:
    """Refuse a file that cannot be written before minutes of work, not after."""
    if path is None:
        return None
    from featstore.io import check_output

    # A catalog may come from a CSV itself.
    lists = [opened.catalog(name).location for name in table.catalog_name.split("+")]
    return check_output(path, overwrite=force, inputs=[*lists, *table.paths.tolist()])


def write_csv(path: str | None, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows to a CSV file, whole or not at all, if one is given."""
    if path is None:
        return
    from featstore.io import replacing

    with (
        replacing(path) as temporary,
        # File names that are not UTF-8 keep their bytes.
        open(temporary, "x", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
