"""From images to labels: a head with the backbone that it was trained on, or an exported model."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones import Backbone, backbone_from_spec
from featstore.errors import ExportError, FingerprintMismatchError
from featstore.export import ExportedModel
from featstore.export.description import DESCRIPTION
from featstore.heads import Head, checked_reject
from featstore.images.given import GivenImage, is_one_image
from featstore.streaming import Network, PassedImages, stream_images

if TYPE_CHECKING:
    from featstore.store import FeatureStore, Space

__all__ = ["Prediction", "Predictor", "is_exported", "predict"]

# A matrix product rounds otherwise for other numbers of rows. Of one number always, equal features have equal
# probabilities, whichever images they come with.
_BLOCK_ROWS = 8


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a head or an exported model says about one image.

    Attributes
    ----------
    path : str or None
        The file, as it was given; None for an image that was given as bytes, picture or pixels.
    label : str or None
        The most probable class; None where the image could not be decoded, and for "unknown", where the class
        is less probable than the head, or ``reject``, asks for.
    probability : float or None
        The most probable class's probability, in [0, 1], whether it is the label or not; None where the image
        could not be decoded.
    top : tuple of (str, float)
        The most probable classes with their probabilities, best first.
    reason : str or None
        Why the image could not be decoded.
    is_reused : bool
        Whether its features came from the store.
    """

    path: str | None
    label: str | None = None
    probability: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    reason: str | None = None
    is_reused: bool = False

    @property
    def is_unknown(self) -> bool:
        """Whether the image was looked at and no class is probable enough."""
        return self.label is None and self.reason is None

    def to_dict(self) -> dict[str, Any]:
        """Return path, label, probability and top as JSON values; ``reason`` only where there is one."""
        told: dict[str, Any] = {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "top": [{"label": label, "probability": probability} for label, probability in self.top],
        }
        return told if self.reason is None else {**told, "reason": self.reason}


class Predictor:
    """Labels images; loaded once, used as often as you like, by several threads at once.

    With OpenVINO neither TensorFlow nor Keras is imported where this machine has converted the network
    before. The network is compiled when the first image passes, which takes longer than the others. There is
    nothing to close.

    Parameters
    ----------
    model : Head, ExportedModel or path
        A fitted head, the file that one was saved in, an exported model, or its folder or file.
    store : FeatureStore or path, optional
        Where features may be already: an image whose content the head's space has there is not computed
        again. Nothing is written.
    backbone : Backbone, optional
        By default the one of the head's own specification is loaded.
    weights : path, optional
        The backbone's weights file, where it is not at the place that the head remembers.
    engine : {"auto", "openvino", "tensorflow"}
        What runs the backbone.
    trust_model : bool
        As for :func:`featstore.load_backbone`.
    workers : int, optional
        Threads that read and decode for each call of :meth:`stream`; by default one for each core.

    Attributes
    ----------
    model : Head or ExportedModel
    classes : ndarray of shape (n_classes,), str
        The labels that there are.
    rejects_below : float
        The probability below which the answer is "unknown", where a call does not say otherwise.

    Raises
    ------
    FingerprintMismatchError
        The backbone or the weights are not those that the head was trained on.
    HeadError
        The head file cannot be loaded.
    ExportError
        The exported model cannot be loaded, or was given with what only a head has a use for.
    BackboneError
        The backbone cannot be built.

    Examples
    --------
    >>> predictor = featstore.Predictor("flowers.head")  # doctest: +SKIP
    >>> predictor.predict("new.jpg").label  # doctest: +SKIP
    'roses'
    >>> for prediction in predictor.stream(["a.jpg", "b.jpg"], top=3):  # doctest: +SKIP
    ...     print(prediction.path, prediction.top)
    """

    def __init__(
        self,
        model: Head | ExportedModel | str | os.PathLike[str],
        *,
        store: "FeatureStore | str | os.PathLike[str] | None" = None,
        backbone: Backbone | None = None,
        weights: str | os.PathLike[str] | None = None,
        engine: str = "auto",
        trust_model: bool = False,
        workers: int | None = None,
    ) -> None:
        if isinstance(model, str | os.PathLike):
            model = ExportedModel.load(model) if is_exported(model) else Head.load(model)
        self.model = model
        self.classes: NDArray[np.str_] = model.classes
        self.rejects_below = model.rejects_below
        self._workers = workers
        self._space: Space | None = None
        self._network: Network
        if isinstance(model, ExportedModel):
            given = {"store": store, "backbone": backbone, "weights": weights}
            named = [name for name, value in given.items() if value is not None]
            if engine != "auto":
                named.append("engine")
            if named:
                raise ExportError(
                    f"an exported model holds its network and has no features; leave out: {', '.join(named)}"
                )
            self._network, self._size_px, self._resize = model, model.size_px, model.resize
            return
        if backbone is None:
            backbone = backbone_from_spec(
                model.spec, weights=weights or model.weights, engine=engine, trust_model=trust_model
            )
        elif backbone.spec.fingerprint != model.fingerprint:
            raise FingerprintMismatchError(
                f"the head was trained on features of {model.spec.name}, and the backbone is "
                f"{backbone.spec.name}"
            )
        self._network, self._size_px, self._resize = backbone, model.spec.size_px, model.spec.resize
        if store is not None:
            self._space = _space_of(model, store)

    def __repr__(self) -> str:
        return f"<Predictor of {self.model!r}>"

    def predict(self, image: GivenImage, *, top: int = 1, reject: float | None = None) -> Prediction:
        """Label one image.

        Parameters
        ----------
        image : path, bytes, PIL.Image.Image or ndarray
            A file's path or its whole bytes; a picture; or pixels in [0, 255], uint8 of shape
            (height, width, 3) in the order red, green, blue, or (height, width) for grayscale.
        top, reject
            As for :meth:`stream`.

        Returns
        -------
        Prediction
            With ``label`` None and a reason where the image cannot be decoded.

        Raises
        ------
        TypeError
            It is not one image.
        HeadError
            ``reject`` is no probability.
        """
        (prediction,) = self.stream([image], top=top, reject=reject)
        return prediction

    def stream(
        self,
        images: Iterable[GivenImage],
        *,
        top: int = 1,
        reject: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Prediction]:
        """Label images while they are still coming: reading, decoding and the forward pass run at once.

        Parameters
        ----------
        images : iterable of path, bytes, PIL.Image.Image or ndarray
            Each as for :meth:`predict`, in any mixture; an array of shape (n, height, width, 3) is n images.
            A few batches are drawn before the first prediction is out: there may be any number of images.
        top : int
            How many classes each prediction lists, at least 1.
        reject : float, optional
            In [0, 1): where the most probable class has less than this probability, the label is None. By
            default what the head was fitted with; 0 always answers.
        progress : callable, optional
            Called with the number of images done.

        Yields
        ------
        Prediction
            One for each image, in their order. An image that cannot be decoded has ``label`` None and a
            reason; an unknown one has ``label`` None alone.

        Raises
        ------
        TypeError
            ``images`` is one image, or one of them is none.
        HeadError
            ``reject`` is no probability.
        BackboneError
            The network cannot be compiled; only when the first image passes.
        """
        if is_one_image(images):
            raise TypeError(
                f"stream takes several images, predict takes one; found one {type(images).__name__}"
            )
        if top < 1:
            raise ValueError(f"top is the number of classes to list, at least 1; found {top}")
        below = self.rejects_below if reject is None else checked_reject(reject)
        return self._stream(images, top, below, progress)

    def _stream(
        self, images: Iterable[GivenImage], top: int, below: float, progress: Callable[[int], None] | None
    ) -> Iterator[Prediction]:
        n_done = 0
        groups = stream_images(
            images,
            self._network,
            size_px=self._size_px,
            resize=self._resize,
            is_known=None if self._space is None else self._space.contains,
            workers=self._workers,
        )
        for group in groups:
            rows = iter(self._probabilities(group))
            for image in group.images:
                if image.reason is not None:
                    yield Prediction(path=image.path, reason=image.reason)
                    continue
                row = next(rows)
                best = np.argsort(-row, kind="stable")[:top]
                ranked = tuple((str(self.classes[number]), float(row[number])) for number in best)
                label, probability = ranked[0]
                yield Prediction(
                    path=image.path,
                    label=None if probability < below else label,
                    probability=probability,
                    top=ranked,
                    is_reused=not image.is_computed,
                )
            n_done += len(group.images)
            if progress is not None:
                progress(n_done)

    def _probabilities(self, group: PassedImages) -> NDArray[Any]:
        """Return the probabilities of the images that could be decoded, of shape (n, n_classes)."""
        if isinstance(self.model, ExportedModel):
            return np.empty((0, len(self.classes))) if group.rows is None else group.rows
        decoded = [image for image in group.images if image.reason is None]
        features = np.empty((len(decoded), self.model.feature_dim), self.model.spec.dtype)
        is_computed = np.array([image.is_computed for image in decoded], np.bool_)
        if group.rows is not None:
            features[is_computed] = group.rows
        if self._space is not None and not is_computed.all():
            keys = b"".join(image.content_hash for image in decoded if not image.is_computed)
            found = self._space.lookup(np.frombuffer(keys, np.uint8).reshape(-1, 32))
            features[~is_computed] = self._space.rows(found)
        blocks = range(0, len(features), _BLOCK_ROWS)
        parts = [self._block_probabilities(self.model, features[at : at + _BLOCK_ROWS]) for at in blocks]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)))

    @staticmethod
    def _block_probabilities(head: Head, features: NDArray[Any]) -> NDArray[np.float64]:
        missing = _BLOCK_ROWS - len(features)
        filled = np.concatenate([features, np.repeat(features[-1:], missing, axis=0)])
        return head.predict_proba(filled)[: len(features)]


def predict(
    model: Head | ExportedModel | str | os.PathLike[str],
    images: Iterable[GivenImage],
    *,
    top: int = 1,
    reject: float | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Iterator[Prediction]:
    """Label images once; to label more later, keep a :class:`~featstore.Predictor`.

    Parameters
    ----------
    model : Head, ExportedModel or path
        As for :class:`~featstore.Predictor`.
    images, top, reject, progress
        As for :meth:`Predictor.stream <featstore.Predictor.stream>`.
    **options
        As for :class:`~featstore.Predictor`: ``store``, ``backbone``, ``weights``, ``engine``,
        ``trust_model``, ``workers``.

    Yields
    ------
    Prediction
        One for each image, in their order. An image that cannot be decoded has ``label`` None and a reason;
        an unknown one has ``label`` None alone.

    Raises
    ------
    FingerprintMismatchError
        The backbone or the weights are not those that the head was trained on.
    HeadError
        The head file cannot be loaded, or ``reject`` is no probability.
    ExportError
        The exported model cannot be loaded.

    Examples
    --------
    >>> for prediction in featstore.predict("flowers.head", ["a.jpg"], top=3):  # doctest: +SKIP
    ...     print(prediction.path, prediction.label, prediction.probability)
    """
    return Predictor(model, **options).stream(images, top=top, reject=reject, progress=progress)


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path is that of an exported model's folder or file."""
    given = os.fspath(path)
    folder = given if os.path.isdir(given) else os.path.dirname(given)
    # A head may lie beside a model.
    is_head = given.endswith(".head")
    return os.path.exists(given) and not is_head and os.path.exists(os.path.join(folder, DESCRIPTION))


def _space_of(head: Head, store: "FeatureStore | str | os.PathLike[str]") -> "Space | None":
    from featstore.store import FeatureStore

    opened = store if isinstance(store, FeatureStore) else FeatureStore(store)
    return opened.space(head.spec.name) if head.spec.name in opened.space_names else None
