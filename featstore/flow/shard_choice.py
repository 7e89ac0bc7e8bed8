"""Which of a source's images are in which of its shards."""

import hashlib
import os
from dataclasses import dataclass, replace

from featstore.errors import SourceError
from featstore.images.sources.records import Records, Source

__all__ = ["ShardChoice", "shard_number"]

_MAX_SHARDS = 100_000


@dataclass(frozen=True)
class ShardChoice:
    """Shard ``number`` of ``n_shards``, counted from 1 as the arrays of Slurm mostly are."""

    number: int
    n_shards: int

    def __post_init__(self) -> None:
        if not 1 <= self.n_shards <= _MAX_SHARDS or not 1 <= self.number <= self.n_shards:
            raise SourceError(
                f"there is no shard {self.number} of {self.n_shards}: shards are counted from 1 to their "
                f"number, which is at most {_MAX_SHARDS:,}: (1, 16) is the first of sixteen"
            )

    def __str__(self) -> str:
        return f"{self.number}-of-{self.n_shards}"

    def of(self, source: Source) -> Source:
        """Return this shard of a source; what could not even be listed is in shards too."""
        return replace(
            source,
            records=Records(record for record in source.records if self._has(record.path)),
            failures=[failure for failure in source.failures if self._has(failure[0])],
        )

    def _has(self, path: str) -> bool:
        return shard_number(path, self.n_shards) == self.number


def shard_number(path: str, n_shards: int) -> int:
    """Return the shard that an image is in, from 1, by its path in the source alone."""
    digest = hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
    return int.from_bytes(digest, "big") % n_shards + 1
