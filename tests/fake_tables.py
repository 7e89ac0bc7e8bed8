"""A table of features as the store hands it out, without a store."""

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from featstore.backbones.spec import BackboneSpec
from featstore.splits import SplitRule, assign_splits, group_keys

# Parameters of heads, where the length of the training is not what is tested.
SHORT_TRAINING = {"mlp": {"steps": 200}, "sgd": {"max_iter": 3}, "softmax": {"steps": 200}}


def spec_of(architecture="scattering", **changes):
    values = {"weights_digest": "0" * 64, "layer": "top", "size_px": (96, 96), "preprocessing": "unit"}
    return BackboneSpec(architecture=architecture, **(values | changes))


@dataclass
class FakeTable:
    """Each row is an image; its further views lie in ``bank``, of shape (n, n_views, feature_dim)."""

    X: np.ndarray
    y: np.ndarray
    content_hash_bytes: np.ndarray
    groups: np.ndarray
    given_splits: np.ndarray
    spec: BackboneSpec = field(default_factory=spec_of)
    weights: str = "closed-form"
    catalog_name: str = "photos"
    catalog_digests: dict = field(default_factory=dict)
    bank: np.ndarray | None = None
    views: np.ndarray = None
    paths: np.ndarray = None
    sample_weight: np.ndarray | None = None
    dims: "tuple[int, ...]" = ()
    # Of selected rows, the table that rules go by, and which of its rows these are.
    _whole: "tuple[FakeTable, np.ndarray] | None" = None

    def __post_init__(self):
        if self.views is None:
            self.views = np.zeros(len(self.y), np.uint16)
        if self.paths is None:
            self.paths = np.array([f"/photos/{number:04d}.jpg" for number in range(len(self.y))])

    @property
    def fingerprint(self):
        return self.spec.fingerprint

    @property
    def space_name(self):
        return self.spec.name

    label_separator = ""
    spaces_that_saw_labels = ()

    @property
    def label_texts(self):
        return self.y

    @property
    def classes(self):
        return np.unique(self.y[self.y != ""])

    @property
    def content_hash(self):
        return np.array([row.tobytes().hex() for row in self.content_hash_bytes], dtype="<U64")

    def splits(self, rule=None):
        if self._whole is not None:
            table, rows = self._whole
            return table.splits(rule)[rows]
        return assign_splits(
            rule or SplitRule(),
            content_hash=self.content_hash_bytes,
            groups=self.groups,
            paths=self.paths,
            given=self.given_splits,
            labels=self.y,
        )

    def group_keys(self, rule):
        if self._whole is not None:
            table, rows = self._whole
            return table.group_keys(rule)[rows]
        return group_keys(
            rule, content_hash=self.content_hash_bytes, groups=self.groups, paths=self.paths.tolist()
        )

    @property
    def dtype(self):
        return self.X.dtype

    @property
    def feature_dim(self):
        return self.X.shape[1]

    @property
    def feature_dims(self):
        return self.dims or (self.feature_dim,)

    def __len__(self):
        return len(self.y)

    def select(self, index):
        columns = ("X", "y", "content_hash_bytes", "groups", "given_splits", "views", "paths")
        columns += tuple(name for name in ("bank", "sample_weight") if getattr(self, name) is not None)
        table, rows = self._whole or (self, np.arange(len(self)))
        selected = {name: getattr(self, name)[index] for name in columns}
        return replace(self, **selected, _whole=(table, rows[index]))

    @property
    def n_views(self):
        return 1 if self.bank is None else self.bank.shape[1]

    def without_weights(self):
        return replace(self, sample_weight=None)

    def with_splits(self, splits):
        return self.but(given_splits=np.asarray(splits, "<U10"))

    def with_views(self, n_views):
        if n_views == 1:
            return self
        repeated = self.select(np.repeat(np.arange(len(self)), n_views))
        X = self.bank[:, :n_views].reshape(-1, self.feature_dim)
        views = np.tile(np.arange(n_views, dtype=np.uint16), len(self))
        return replace(repeated, X=X, views=views)

    def but(self, **changes):
        """Return a table of its own with other columns."""
        return replace(self, **changes, _whole=None)


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


def viewed_table(n=240, n_views=4, blur=1.0, **shape):
    """A table with several views of each image: view 0 and blurred ones of the same."""
    X, y = blobs(n, **shape)
    noise = np.random.default_rng(1).normal(size=(n, n_views, X.shape[1]))
    noise[:, 0] = 0
    bank = (X[:, None] + blur * noise).astype(np.float32)
    return table_of(np.ascontiguousarray(bank[:, 0]), y).but(bank=bank)
