"""Scikit-learn transformer from images to features of a frozen network."""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from featstore.backbones import Backbone, backbone_from_spec, load_backbone
from featstore.errors import ImageError
from featstore.flow.loading import GivenItem
from featstore.flow.sealing import Sealer, store_features, uninterrupted
from featstore.flow.stream import Group, Pass, stream_images
from featstore.images.in_memory import GivenImage, is_one_image
from featstore.store import FeatureStore
from featstore.store.segments.keys import HASH_BYTES

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = ["BackboneFeatures"]

_NAMED = 5

_BACKBONE_OPTIONS = (
    *("weights", "layer", "pooling", "image_size", "resize", "interpolation", "crop_fraction", "dtype"),
    *("precision", "preprocessing", "preprocess", "mean", "std", "scale", "input_name", "layout", "alpha"),
    "engine",
)

# By fingerprint and engine. Copies of an estimator, which searches make by the dozen, use one network.
_networks: dict[tuple[str, str], Backbone] = {}


class BackboneFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns images into the features of a frozen network, as a scikit-learn transformer.

    ``X`` is a sequence of images, each the path of a file, a file's whole bytes, a PIL picture, or pixels:
    uint8 in [0, 255] of shape (height, width, 3) in the order red, green, blue, or (height, width) for
    grayscale. The sequence is a list, an array of paths or of objects, one of shape (n, height, width, 3) or
    (n, height, width), a pandas Series, or a table with one column.

    With ``store``, an image's features are computed once: they are kept there under its content hash, where
    every later call finds them, on whichever folds, in this process or another, and :func:`featstore.extract`
    too. The content of a file is its bytes; that of pixels, in an array or a picture, is the binary PPM file
    (PGM for grayscale) that they would be written as.

    It is one network, and looks at the image itself, which is view 0: not at further views of it, and not at
    a space that was made for them. For several views or several networks, train a head on their spaces
    (:func:`featstore.fit`) and predict with it.

    ``fit`` finds the network and checks the parameters; nothing is learned from the images. The network is
    loaded at the first image that needs it, once for each process, and neither cloned nor pickled.

    Parameters
    ----------
    backbone : str or path
        One of :func:`~featstore.known_backbones`, or the path of a ``.keras`` model.
    store : path, optional
        A feature store, made where there is none. By default features are computed at each call.
    weights, layer, pooling, image_size, resize, interpolation, crop_fraction, dtype, precision, \
    preprocessing, preprocess, mean, std, scale, input_name, layout, alpha, engine
        As for :func:`~featstore.load_backbone`.
    workers : int, optional
        Threads that read and decode; by default one for each core.

    Attributes
    ----------
    spec_ : BackboneSpec
        What decides the features. A fitted transformer, also one that was pickled, refuses other weights.
    feature_dim_ : int
        Columns of the features.
    weights_ : str
        Where the weights came from: ``"imagenet"``, ``"closed-form"`` or the absolute path of a file.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> images = np.zeros((4, 8, 8), np.uint8)
    >>> images[:2, :, ::2] = 255
    >>> pipeline = make_pipeline(BackboneFeatures("scattering", image_size=32), LogisticRegression())
    >>> pipeline.fit(images, ["stripes", "stripes", "plain", "plain"]).predict(images[1:3]).tolist()
    ['stripes', 'plain']
    """

    def __init__(
        self,
        backbone: str | os.PathLike[str] = "mobilenet_v2",
        *,
        store: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
        layer: str | None = None,
        pooling: str = "avg",
        image_size: int | tuple[int, int] | None = None,
        resize: str | None = None,
        interpolation: str | None = None,
        crop_fraction: float | None = None,
        dtype: str = "float32",
        precision: str = "float32",
        preprocessing: str | None = None,
        preprocess: str | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        scale: float | None = None,
        input_name: str | None = None,
        layout: str | None = None,
        alpha: float | None = None,
        engine: str = "auto",
        workers: int | None = None,
    ) -> None:
        self.backbone = backbone
        self.store = store
        self.weights = weights
        self.layer = layer
        self.pooling = pooling
        self.image_size = image_size
        self.resize = resize
        self.interpolation = interpolation
        self.crop_fraction = crop_fraction
        self.dtype = dtype
        self.precision = precision
        self.preprocessing = preprocessing
        self.preprocess = preprocess
        self.mean = mean
        self.std = std
        self.scale = scale
        self.input_name = input_name
        self.layout = layout
        self.alpha = alpha
        self.engine = engine
        self.workers = workers

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the network and check the parameters; nothing is learned from the images.

        Parameters
        ----------
        X : sequence of n images
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        BackboneError
            The network cannot be built as asked.
        TypeError, ValueError
            ``X`` is no sequence of images, or ``store`` or ``workers`` is unfit.
        """
        _images(X)
        if not isinstance(self.store, str | os.PathLike | None):
            raise TypeError(f"store must be the path of a feature store, or None; found {self.store!r}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1; found {self.workers}")
        options = {name: getattr(self, name) for name in _BACKBONE_OPTIONS}
        network = load_backbone(self.backbone, **options)
        _networks.setdefault((network.spec.fingerprint, self.engine), network)
        self.spec_ = network.spec
        self.feature_dim_ = network.feature_dim
        self.weights_ = network.weights
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Compute the images' features, or find them in the store.

        Parameters
        ----------
        X : sequence of n images

        Returns
        -------
        ndarray of shape (n, feature_dim), float32

        Raises
        ------
        ImageError
            Some images cannot be used; the message names them. The features of the others are in the store,
            where there is one.
        FingerprintMismatchError
            The weights are no longer those that it was fitted with.
        TypeError
            ``X`` is no sequence of images.
        """
        check_is_fitted(self)
        images = _images(X)
        if not len(images):
            return np.empty((0, self.feature_dim_), np.float32)
        if self.store is None:
            return self._computed(images)
        store = FeatureStore(self.store, create="later")
        hashes = self._fill_store(store, images)
        space = store.space(self.spec_.name)
        return np.asarray(space.rows(space.lookup(hashes)), np.float32)

    @property
    def _n_features_out(self) -> int:
        return self.feature_dim_

    def __sklearn_tags__(self) -> "Tags":
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        return tags

    def _network(self) -> Backbone:
        key = self.spec_.fingerprint, self.engine
        if key not in _networks:
            network = backbone_from_spec(
                self.spec_, weights=self.weights or self.weights_, engine=self.engine
            )
            _networks.setdefault(key, network)
        return _networks[key]

    def _computed(self, images: Sequence[GivenImage]) -> NDArray[np.float32]:
        network = self._network()
        features = np.empty((len(images), self.feature_dim_), self.spec_.dtype)
        groups = stream_images(
            map(GivenItem, images), [Pass(network=network, spec=self.spec_)], workers=self.workers
        )
        for start, group in _numbered(groups, len(images)):
            is_computed = [bool(image.views) for image in group.images]
            if group.rows:
                features[start + np.flatnonzero(is_computed)] = group.rows[0]
        return features.astype(np.float32, copy=False)

    def _fill_store(self, store: FeatureStore, images: Sequence[GivenImage]) -> NDArray[np.uint8]:
        """Compute what the store lacks; return each image's content hash, of shape (n, 32)."""
        hashes = np.zeros((len(images), HASH_BYTES), np.uint8)
        sealer = Sealer(store, self._network())
        try:
            groups = store_features(map(GivenItem, images), [sealer], workers=self.workers)
            for start, group in _numbered(groups, len(images)):
                for number, image in enumerate(group.images, start):
                    if image.content_hash:
                        hashes[number] = np.frombuffer(image.content_hash, np.uint8)
        finally:
            uninterrupted(sealer.close)
            if sealer.n_rows:
                sealer.compact()
        return hashes


def _numbered(groups: Iterator[Group[GivenItem]], n_images: int) -> Iterator[tuple[int, Group[GivenItem]]]:
    """Yield groups with their first image's number; then raise for unusable images."""
    start, n_failed, named = 0, 0, []
    for group in groups:
        yield start, group
        for number, image in enumerate(group.images, start):
            if image.reason is not None:
                n_failed += 1
                if n_failed <= _NAMED:
                    named.append(f"{image.item.path or f'image {number}'}: {image.reason}")
        start += len(group.images)
    if n_failed:
        more = f"; and {n_failed - len(named):,} more" if n_failed > len(named) else ""
        raise ImageError(
            f"{n_failed:,} of {n_images:,} images cannot be used: {'; '.join(named)}{more}. "
            "A row of features needs an image: leave these out of X, and of y"
        )


def _images(X: Any) -> Sequence[GivenImage]:
    """Return ``X`` as a sequence of images, none of which is checked yet."""
    if is_one_image(X):
        raise TypeError(f"X must be a sequence of images; found one {type(X).__name__}: give [image]")
    if hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if not isinstance(X, np.ndarray):
        if not hasattr(X, "__len__"):
            raise TypeError(f"X must be a sequence of images; found {type(X).__name__}: give list(X)")
        return X if isinstance(X, Sequence) else list(X)
    if X.dtype.kind in "OU" and X.ndim == 2 and X.shape[1] == 1:
        X = X[:, 0]
    if X.dtype.kind in "OU" and X.ndim == 1:
        return list(X)
    if X.dtype == np.uint8 and X.ndim in (3, 4):
        return list(X)
    raise ValueError(
        "X must be a sequence of images: paths, bytes, PIL pictures, or uint8 pixels of shape "
        f"(n, height, width, 3) or (n, height, width); found an array of {X.dtype} and shape {X.shape}"
    )
