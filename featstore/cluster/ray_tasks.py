"""What runs in the worker processes of a Ray cluster."""

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from featstore.backbones import Backbone
from featstore.flow.shard import ShardJob, ShardResult, run_shard
from featstore.images.sources.records import ImageRecord
from featstore.store.keys import ContentFilter

__all__ = ["SentJob", "extract_shard", "send"]

# Of the last job: a process lives through many of its tasks.
_opened: dict[str, Backbone] = {}


@dataclass(frozen=True, kw_only=True)
class SentJob:
    """A job whose large parts lie in Ray's object store, once on each node."""

    root: str
    store: str
    n_views: int
    workers: int
    network: Any  # reference to the pickled backbone, which a process opens once
    prefixes: Any  # reference to those of the filter, shared on a node
    threads: int


def send(job: ShardJob, *, threads: int) -> Any:
    """Put a job into Ray's object store."""
    return ray.put(
        SentJob(
            root=job.root,
            store=job.store,
            n_views=job.n_views,
            workers=job.workers or threads,
            network=ray.put(pickle.dumps(job.network)),
            prefixes=ray.put(job.present.prefixes),
            threads=threads,
        )
    )


def extract_shard(sent: SentJob, records: Sequence[ImageRecord]) -> ShardResult:
    """Extract a shard with the network that this process has opened."""
    key = sent.network.hex()
    network = _opened.get(key)
    if network is None:
        # Of Keras' back ends, TensorFlow has no other way to be told.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(sent.threads))
        network = pickle.loads(ray.get(sent.network))
        network.threads = sent.threads
        _opened.clear()
        _opened[key] = network
    job = ShardJob(
        root=sent.root,
        store=sent.store,
        network=network,
        n_views=sent.n_views,
        present=ContentFilter(ray.get(sent.prefixes)),
        workers=sent.workers,
    )
    return replace(run_shard(job, records), node=ray.get_runtime_context().get_node_id())
