"""Prediction of labels with a head and its backbones, or with an exported model."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones import Backbone
from featstore.backbones.parts import WeightsFiles, backbones_among, backbones_from_spec
from featstore.errors import ExportError
from featstore.export import ExportedModel
from featstore.export.exported import is_exported
from featstore.flow.loading import GivenItem, Loaded
from featstore.flow.stored import lacking_views, spaces_of, stored_rows
from featstore.flow.stream import Group, Pass, stream_images
from featstore.heads import Head, checked_reject
from featstore.images.in_memory import GivenImage, is_one_image

if TYPE_CHECKING:
    from featstore.store import FeatureStore, Space

__all__ = ["Prediction", "Predictor", "is_exported", "predict"]

# A matrix product rounds otherwise for other numbers of rows. Of one number always, equal features have equal
# probabilities, whichever images they come with. With several views of each, as nearly so many as fit.
_BLOCK_ROWS = 8


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Prediction of a head or an exported model for one image.

    Attributes
    ----------
    path : str or None
        The file, as it was given; None for an image that was given as bytes, picture or pixels.
    label : str or None
        The most probable class; None where the image could not be decoded, and for "unknown", where the class
        is less probable than the threshold of the head, or ``reject``.
    probability : float or None
        The most probable class's probability, in [0, 1], whether it is the label or not; None where the image
        could not be decoded.
    top : tuple of (str, float)
        The most probable classes with their probabilities, best first.
    reason : str or None
        Why the image could not be decoded.
    is_reused : bool
        Whether all of its features came from the store.

    Examples
    --------
    >>> Prediction(path="new.jpg", label="roses", probability=0.9, top=(("roses", 0.9),)).to_dict()
    {'path': 'new.jpg', 'label': 'roses', 'probability': 0.9, 'top': [{'label': 'roses', 'probability': 0.9}]}
    """

    path: str | None
    label: str | None = None
    probability: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    reason: str | None = None
    is_reused: bool = False

    @property
    def is_rejected(self) -> bool:
        """Whether the image was readable but no class is probable enough for an answer."""
        return self.label is None and self.reason is None

    @property
    def is_unknown(self) -> bool:
        """Older name of :attr:`is_rejected`."""
        return self.is_rejected

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as JSON values.

        The keys are path, label, probability and top; ``rejected``, true, only where no class is probable
        enough, and ``reason`` only where there is one.
        """
        data: dict[str, Any] = {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "top": [{"label": label, "probability": probability} for label, probability in self.top],
        }
        if self.is_rejected:
            data["rejected"] = True
        return data if self.reason is None else {**data, "reason": self.reason}


class Predictor:
    """Labels images with a head or an exported model; reusable and thread-safe.

    A head with several test views (:attr:`featstore.Head.test_views`) averages its probabilities over them; a
    head on several spaces passes an image through all of their networks. Each image is read once.

    The network is compiled when the first image passes. With OpenVINO, neither TensorFlow nor Keras is
    imported if the network was converted on this machine before.

    Parameters
    ----------
    model : Head, ExportedModel or path
        A fitted head, the file that one was saved in, an exported model, or its folder or file.
    store : FeatureStore or path, optional
        A store to reuse features from: images whose features are in the head's space, with all views that
        the head uses, are not computed again. Nothing is written.
    backbone : Backbone or sequence of Backbone, optional
        Loaded by the head's specification by default.
    weights : path or sequence of path, optional
        The backbone's weights file, if it has moved since the head was fitted. For a head on several spaces,
        one file for all; or one for each of ``head.spec.parts``, None if it has not moved.
    engine : {"auto", "openvino", "keras"}
        What runs the backbone.
    trust_model, imports
        As for :func:`featstore.load_backbone`.
    workers : int, optional
        Threads that read and decode for each call of :meth:`stream`; by default one for each core.

    Attributes
    ----------
    model : Head or ExportedModel
    classes : ndarray of shape (n_classes,), str
        The labels that can be predicted.
    rejects_below : float
        The probability below which the answer is "unknown", unless a call overrides it.

    Raises
    ------
    FingerprintMismatchError
        The backbone or the weights are not those that the head was trained on.
    HeadError
        The head file cannot be loaded.
    ExportError
        The exported model cannot be loaded, or was given with options for heads only.
    BackboneError
        The backbone cannot be built, or the weights files are too few or too many.

    Examples
    --------
    >>> import tempfile
    >>> from featstore import FeatureStore, Predictor, extract, fit
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     n_images = write_digits(f"{folder}/digits", n_images=60)
    ...     report = extract(f"{folder}/digits", store=f"{folder}/digits.fstore", backbone="scattering")
    ...     head = fit(FeatureStore(report.store).table(), head="svm")
    ...     predictor = Predictor(head)
    ...     predictor.predict(f"{folder}/digits/0/0000.png").label
    '0'
    """

    def __init__(
        self,
        model: Head | ExportedModel | str | os.PathLike[str],
        *,
        store: "FeatureStore | str | os.PathLike[str] | None" = None,
        backbone: Backbone | Sequence[Backbone] | None = None,
        weights: WeightsFiles | None = None,
        engine: str = "auto",
        trust_model: bool = False,
        imports: Sequence[str] = (),
        workers: int | None = None,
    ) -> None:
        if isinstance(model, str | os.PathLike):
            is_model = is_exported(model)
            code: dict[str, Any] = {"trust_model": trust_model, "imports": imports}
            model = ExportedModel.load(model, **code) if is_model else Head.load(model)
        elif isinstance(model, ExportedModel) and (trust_model or imports):
            raise ExportError("give trust_model and imports of an exported model to ExportedModel.load")
        self.model = model
        self.classes: NDArray[np.str_] = model.classes
        self.rejects_below = model.rejects_below
        self._workers = workers
        self._n_views = 1
        self._backbones: Sequence[Backbone] = ()
        self._spaces: Sequence[Space | None] = []
        if isinstance(model, ExportedModel):
            given = {"store": store, "backbone": backbone, "weights": weights}
            named = [name for name, value in given.items() if value is not None]
            if engine != "auto":
                named.append("engine")
            if named:
                raise ExportError(
                    f"an exported model holds its network and has no features; leave out: {', '.join(named)}"
                )
            self._passes = [Pass(network=model, spec=model.description.spec.parts[0])]
            return
        self._n_views = model.test_views
        if backbone is not None:
            self._backbones = backbones_among(model.spec, backbone)
        else:
            self._backbones = backbones_from_spec(
                model.spec,
                weights=weights,
                remembered=model.weights,
                engine=engine,
                trust_model=trust_model,
                imports=imports,
            )
        parts = model.spec.parts
        self._spaces = [None] * len(parts) if store is None else spaces_of(store, parts)
        self._passes = [
            Pass(
                network=network,
                spec=part,
                wanted=None if space is None else partial(lacking_views, space, self._n_views),
            )
            for network, part, space in zip(self._backbones, parts, self._spaces, strict=True)
        ]

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
        """Label images as they arrive; reading, decoding and the forward pass overlap.

        Parameters
        ----------
        images : iterable of path, bytes, PIL.Image.Image or ndarray
            Each as for :meth:`predict`, in any mixture; an array of shape (n, height, width, 3) is n images.
            Read lazily, a few batches ahead: there may be any number of images.
        top : int
            How many classes each prediction lists, at least 1.
        reject : float, optional
            In [0, 1): below this probability of the most probable class, the label is None. Default: the
            head's own threshold; 0 always answers.
        progress : callable, optional
            Called with the number of images done.

        Yields
        ------
        Prediction
            One for each image, in order. ``label`` is None for rejected and, with a reason, undecodable ones.

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
            raise ValueError(f"top must be at least 1; found {top}")
        below = self.rejects_below if reject is None else checked_reject(reject)
        return self._stream(images, top, below, progress)

    def _stream(
        self, images: Iterable[GivenImage], top: int, below: float, progress: Callable[[int], None] | None
    ) -> Iterator[Prediction]:
        n_done = 0
        groups = stream_images(
            map(GivenItem, images), self._passes, n_views=self._n_views, workers=self._workers
        )
        for group in groups:
            rows = iter(self._probabilities(group))
            for image in group.images:
                if image.reason is not None:
                    yield Prediction(path=image.item.path, reason=image.reason)
                    continue
                row = next(rows)
                best = np.argsort(-row, kind="stable")[:top]
                ranked = tuple((str(self.classes[number]), float(row[number])) for number in best)
                label, probability = ranked[0]
                yield Prediction(
                    path=image.item.path,
                    label=None if probability < below else label,
                    probability=probability,
                    top=ranked,
                    is_reused=not image.views,
                )
            n_done += len(group.images)
            if progress is not None:
                progress(n_done)

    def _probabilities(self, group: Group[GivenItem]) -> NDArray[Any]:
        """Return the probabilities of the images that could be decoded, of shape (n, n_classes)."""
        if isinstance(self.model, ExportedModel):
            return group.rows[0] if group.rows else np.empty((0, len(self.classes)))
        decoded = [image for image in group.images if image.reason is None]
        parts = [self._features(group, decoded, number) for number in range(len(self._passes))]
        features = np.concatenate(parts, axis=2)
        n_images = max(1, _BLOCK_ROWS // self._n_views)
        blocks = [features[at : at + n_images] for at in range(0, len(features), n_images)]
        rows = [_block_probabilities(self.model, block, n_images) for block in blocks]
        return np.concatenate(rows) if rows else np.empty((0, len(self.classes)))

    def _features(
        self, group: Group[GivenItem], decoded: list[Loaded[GivenItem]], number: int
    ) -> NDArray[Any]:
        """Return one backbone's features of images, of shape (n, n_views, feature_dim)."""
        n_columns = self._backbones[number].feature_dim
        features = np.empty((len(decoded), self._n_views, n_columns), self._passes[number].spec.dtype)
        is_computed = np.array([number in image.views for image in decoded], np.bool_)
        if number in group.rows:
            features[is_computed] = group.rows[number].reshape(-1, self._n_views, n_columns)
        space = self._spaces[number]
        if space is not None and not is_computed.all():
            hashes = [image.content_hash for image in decoded if number not in image.views]
            features[~is_computed] = stored_rows(space, hashes, self._n_views)
        return features


def predict(
    model: Head | ExportedModel | str | os.PathLike[str],
    images: Iterable[GivenImage],
    *,
    top: int = 1,
    reject: float | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Iterator[Prediction]:
    """Label images once; keep a :class:`~featstore.Predictor` to label more later.

    Parameters
    ----------
    model : Head, ExportedModel or path
        As for :class:`~featstore.Predictor`.
    images, top, reject, progress
        As for :meth:`Predictor.stream <featstore.Predictor.stream>`.
    **options
        As for :class:`~featstore.Predictor`: ``store``, ``backbone``, ``weights``, ``engine``,
        ``trust_model``, ``imports``, ``workers``.

    Yields
    ------
    Prediction
        As :meth:`Predictor.stream <featstore.Predictor.stream>` does, which also raises the same errors.

    Examples
    --------
    >>> import tempfile
    >>> from featstore import FeatureStore, extract, fit, predict
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     n_images = write_digits(f"{folder}/digits", n_images=60)
    ...     report = extract(f"{folder}/digits", store=f"{folder}/digits.fstore", backbone="scattering")
    ...     head = fit(FeatureStore(report.store).table(), head="svm")
    ...     photos = [f"{folder}/digits/{digit}/000{digit}.png" for digit in range(3)]
    ...     [prediction.label for prediction in predict(head, photos, top=3)]
    ['0', '1', '2']
    """
    return Predictor(model, **options).stream(images, top=top, reject=reject, progress=progress)


def _block_probabilities(head: Head, features: NDArray[Any], n_images: int) -> NDArray[np.float64]:
    """Return the probabilities of some images, computed as those of ``n_images``."""
    filled = np.concatenate([features, np.repeat(features[-1:], n_images - len(features), axis=0)])
    return head.predict_proba(filled if filled.shape[1] > 1 else filled[:, 0])[: len(features)]
