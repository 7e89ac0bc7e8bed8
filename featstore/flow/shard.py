"""Extraction of a shard: some of a source's images, without the source, its catalog or the store's index."""

import contextlib
import os
import platform
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from featstore.backbones import Backbone
from featstore.backbones.joint import JointBackbone, joint_backbones
from featstore.errors import SourceError
from featstore.flow.loading import Loaded
from featstore.flow.record_item import RecordItem
from featstore.flow.sealing import JointSealer, close_all, store_features, uninterrupted
from featstore.images.sources.records import ImageRecord
from featstore.io.urls import is_url
from featstore.store import FeatureStore
from featstore.store.segments.keys import HASH_BYTES, ContentFilter

__all__ = ["Executor", "Shard", "ShardJob", "ShardResult", "run_shard"]


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """What all shards of an extraction have in common."""

    root: str
    store: str
    network: Backbone
    others: tuple[Backbone, ...] = ()  # further layers and sizes, each with a space of its own
    n_views: int = 1
    present: ContentFilter = field(default_factory=ContentFilter)  # what all spaces had at the start
    workers: int | None = None

    @property
    def networks(self) -> tuple[Backbone, ...]:
        """All networks that see the images."""
        return (self.network, *self.others)


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    """What became of a shard's images, in their order; ``reasons`` are by their place."""

    content_hash: NDArray[np.uint8]  # (n, 32): zeros where the file could not be read
    is_computed: NDArray[np.bool_]  # (n,): it passed the network
    is_racy: NDArray[np.bool_]  # (n,): the file may have changed while it was read
    reasons: dict[int, str]
    n_rows: int = 0
    node: str = ""  # as the executor calls it


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Some records of a source, and their numbers there."""

    numbers: NDArray[np.int64]
    records: list[ImageRecord]


class Executor(Protocol):
    """Runs shards somewhere else, in any order, each as often as it takes."""

    def size_of_shards(self, n_images: int, row_bytes: int) -> int:
        """Return the number of images of a shard."""

    def run(self, job: ShardJob, shards: Iterable[Shard]) -> Generator[tuple[Shard, ShardResult], None, None]:
        """Yield the outcome of each shard; closed early, it lets running ones end and starts no others."""


def run_shard(
    job: ShardJob, records: Sequence[ImageRecord], joints: Sequence[JointBackbone] | None = None
) -> ShardResult:
    """Compute and seal the features of some images; running it again changes nothing.

    ``joints`` are the job's networks by pass, where the caller keeps them for further shards.
    """
    # The catalog and compaction are left to the caller that has all shards.
    if not is_url(job.root) and not os.path.isdir(job.root):
        raise SourceError(
            f"there is no folder {job.root} on {platform.node()}: each machine must see the images and the "
            "store under the same paths"
        )
    store = FeatureStore(job.store)
    result = ShardResult(
        content_hash=np.zeros((len(records), HASH_BYTES), np.uint8),
        is_computed=np.zeros(len(records), np.bool_),
        is_racy=np.zeros(len(records), np.bool_),
        reasons={},
    )
    if joints is None:
        joints = [joint for joint, _ in joint_backbones(job.networks)]
    passes = [JointSealer(store, joint, n_views=job.n_views, present=job.present) for joint in joints]
    sealers = [part for one in passes for part in one.parts]
    items = (RecordItem(number, record, job.root) for number, record in enumerate(records))
    try:
        with contextlib.closing(store_features(items, passes, workers=job.workers)) as groups:
            for group in groups:
                for image in group.images:
                    _note(result, image)
    finally:
        uninterrupted(lambda: close_all(sealers))
    return replace(result, n_rows=max(sealer.n_rows for sealer in sealers))


def _note(result: ShardResult, image: Loaded[RecordItem]) -> None:
    number = image.item.number
    if image.content_hash:
        result.content_hash[number] = np.frombuffer(image.content_hash, np.uint8)
    result.is_racy[number] = image.item.is_racy or image.is_transient
    if image.reason is not None:
        result.reasons[number] = image.reason
    else:
        result.is_computed[number] = bool(image.views)
