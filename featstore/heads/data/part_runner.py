"""What runs functions on parts of rows somewhere else."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

__all__ = ["Part", "PartRunner"]

Part = tuple[Any, tuple[Any, ...]]
"""Some rows, as :class:`~featstore.heads.data.blocks.Rows`, and what belongs to them."""


class PartRunner(Protocol):
    """Calls functions on parts of rows somewhere else."""

    def run(
        self, function: Callable[..., Any], parts: Iterable[Part], shared: tuple[Any, ...]
    ) -> Iterator[Any]:
        """Yield ``function(rows, *own, *shared)`` for each part ``(rows, own)``, in order."""
