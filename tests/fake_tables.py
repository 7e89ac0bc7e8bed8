"""A table of features as the store hands it out, without a store."""

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from featstore.backbones.spec import BackboneSpec
from featstore.splits import SplitRule, assign_splits, group_keys


def spec_of(architecture="scattering", **changes):
    values = {"weights_digest": "0" * 64, "layer": "top", "size_px": (96, 96), "preprocessing": "unit"}
    return BackboneSpec(architecture=architecture, **(values | changes))


@dataclass
class FakeTable:
    X: np.ndarray
    y: np.ndarray
    content_hash_bytes: np.ndarray
    groups: np.ndarray
    given_splits: np.ndarray
    spec: BackboneSpec = field(default_factory=spec_of)
    weights: str = "closed-form"
    catalog_name: str = "photos"

    @property
    def fingerprint(self):
        return self.spec.fingerprint

    @property
    def space_name(self):
        return self.spec.name

    @property
    def content_hash(self):
        return np.array([row.tobytes().hex() for row in self.content_hash_bytes], dtype="<U64")

    @property
    def paths(self):
        return np.array([f"/photos/{number:04d}.jpg" for number in range(len(self.y))])

    def splits(self, rule=None):
        return assign_splits(
            rule or SplitRule(),
            content_hash=self.content_hash_bytes,
            groups=self.groups,
            paths=self.paths,
            given=self.given_splits,
        )

    def group_keys(self, rule):
        return group_keys(
            rule, content_hash=self.content_hash_bytes, groups=self.groups, paths=self.paths.tolist()
        )

    @property
    def dtype(self):
        return self.X.dtype

    @property
    def feature_dim(self):
        return self.X.shape[1]

    def __len__(self):
        return len(self.y)

    def select(self, index):
        columns = ("X", "y", "content_hash_bytes", "groups", "given_splits")
        return replace(self, **{name: getattr(self, name)[index] for name in columns})

    def but(self, **changes):
        return replace(self, **changes)


def table_of(X, y, *, given=None):
    y = np.asarray(y, dtype=np.str_)
    hashes = [hashlib.sha256(b"image %d" % number).digest() for number in range(len(y))]
    blank = np.full(len(y), "", dtype="<U10")
    return FakeTable(
        X=X,
        y=y,
        content_hash_bytes=np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, 32),
        groups=blank,
        given_splits=blank if given is None else np.asarray(given, dtype="<U10"),
    )


def blobs(n=240, n_classes=3, feature_dim=12, spread=1.0, seed=0):
    """Classes around centres of their own, well apart for a small spread."""
    random = np.random.default_rng(seed)
    numbers = np.arange(n) % n_classes
    centres = random.normal(size=(n_classes, feature_dim))
    X = (centres[numbers] + spread * random.normal(size=(n, feature_dim))).astype(np.float32)
    return X, np.array([f"class {number}" for number in range(n_classes)])[numbers]
