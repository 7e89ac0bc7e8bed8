"""A source's images on their way through an executor's machines."""

import contextlib
from collections import Counter
from collections.abc import Generator

import numpy as np

from featstore.flow.ledger import Ledger
from featstore.flow.sealing import Sealer, in_all_spaces
from featstore.flow.shard import Executor, Shard, ShardJob
from featstore.store import FeatureStore

__all__ = ["Elsewhere"]


class Elsewhere:
    """Settles a ledger by what an executor's shards have become; counts the rows sealed in ``n_rows``."""

    def __init__(self, job: ShardJob, executor: Executor) -> None:
        self.n_rows = 0
        self._job = job
        self._executor = executor
        self._images: Counter[str] = Counter()

    def run(self, ledger: Ledger, store: FeatureStore) -> Generator[None, None, None]:
        """Run what is not settled, shard by shard, and settle it."""
        ledger.check_strict()
        if ledger.settled == ledger.n_images:
            return
        row_bytes = self._job.n_views * max(
            network.feature_dim * np.dtype(network.spec.dtype).itemsize for network in self._job.networks
        )
        size = self._executor.size_of_shards(ledger.n_images - ledger.settled, row_bytes)
        with contextlib.closing(self._executor.run(self._job, _shards(ledger, size, store))) as results:
            for shard, result in results:
                ledger.settle_shard(shard, result)
                self.n_rows += result.n_rows
                self._images[result.node] += len(shard.records)
                yield

    def unseen(self, ledger: Ledger, store: FeatureStore) -> list[str]:
        """Take settled images back whose features this machine does not see; return their paths."""
        sealers = [Sealer(store, network, n_views=self._job.n_views) for network in self._job.networks]
        return ledger.unsettle_lacking(in_all_spaces(sealers))

    def images_per_second(self, seconds: float) -> dict[str, float]:
        """Return the rate of each node over the whole run."""
        return {node: n_images / seconds for node, n_images in sorted(self._images.items())}


def _shards(ledger: Ledger, size: int, store: FeatureStore) -> Generator[Shard, None, None]:
    """Yield the shards, the first once the store is there: a machine that does not see it says so."""
    store.make()
    yield from ledger.shards(size)
