"""What runs in the worker processes of a Ray cluster."""

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import ray

from featstore.backbones.joint import JointBackbone, joint_backbones
from featstore.flow.shard import ShardJob, ShardResult, run_shard
from featstore.images.sources.records import ImageRecord
from featstore.store.segments.keys import ContentFilter

__all__ = ["SentJob", "extract_shard", "send"]

# Of the last job: a process lives through many of its tasks.
_opened: dict[str, list[JointBackbone]] = {}


@dataclass(frozen=True, kw_only=True)
class SentJob:
    """A job whose large parts lie in Ray's object store, once on each node."""

    root: str
    store: str
    n_views: int
    workers: int
    joints: Any  # reference to the pickled networks, by pass, which a process opens once
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
            joints=ray.put(pickle.dumps([joint for joint, _ in joint_backbones(job.networks)])),
            prefixes=ray.put(job.present.prefixes),
            threads=threads,
        )
    )


def extract_shard(sent: SentJob, records: Sequence[ImageRecord]) -> ShardResult:
    """Extract a shard with the networks that this process has opened."""
    key = sent.joints.hex()
    joints = _opened.get(key)
    if joints is None:
        # Of Keras' back ends, TensorFlow has no other way to be told.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(sent.threads))
        joints = pickle.loads(ray.get(sent.joints))
        for one in chain.from_iterable((joint, *joint.parts) for joint in joints):
            one.threads = sent.threads
        _opened.clear()
        _opened[key] = joints
    network, *others = (part for joint in joints for part in joint.parts)
    job = ShardJob(
        root=sent.root,
        store=sent.store,
        network=network,
        others=tuple(others),
        n_views=sent.n_views,
        present=ContentFilter(ray.get(sent.prefixes)),
        workers=sent.workers,
    )
    return replace(run_shard(job, records, joints), node=ray.get_runtime_context().get_node_id())
