"""Images that are copies of each other, to the byte or nearly, by their stored features."""

from typing import TYPE_CHECKING

from featstore.lazy import lazy_names

if TYPE_CHECKING:
    from featstore.duplicates.finding import (
        DuplicateGroup,
        DuplicateImage,
        DuplicatePair,
        Duplicates,
        find_duplicates,
    )

__all__ = ["DuplicateGroup", "DuplicateImage", "DuplicatePair", "Duplicates", "find_duplicates"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "DuplicateGroup": "finding",
        "DuplicateImage": "finding",
        "DuplicatePair": "finding",
        "Duplicates": "finding",
        "find_duplicates": "finding",
    },
)
