"""Prediction of labels with a head and its backbones, or with an exported model."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.answering import Answering, back_off_hierarchy
from featstore.backbones import Backbone
from featstore.backbones.parts import WeightsFiles, backbones_among, backbones_from_spec
from featstore.errors import ExportError, HeadError, ImageError
from featstore.export import ExportedModel
from featstore.export.exported import is_exported
from featstore.flow.loading import GivenItem
from featstore.flow.stream import Group, Pass, stream_images
from featstore.head_features import HeadFeatures
from featstore.heads import AnyHead, MultiLabelHead, RegressionHead, checked_reject, load_head
from featstore.images.in_memory import GivenImage, is_one_image
from featstore.images.video import video_frames
from featstore.predicted import Prediction

if TYPE_CHECKING:
    from featstore.store import FeatureStore

__all__ = ["Prediction", "Predictor", "is_exported", "predict"]

# A matrix product rounds otherwise for other numbers of rows. Of one number always, equal features have equal
# probabilities, whichever images they come with. With several views of each, as nearly so many as fit.
_BLOCK_ROWS = 8


class Predictor:
    """Labels images with a head or an exported model; reusable and thread-safe.

    A head with several test views (:attr:`featstore.Head.test_views`) averages its probabilities over them; a
    head on several spaces passes an image through all of their networks. Each image is read once.

    The network is compiled when the first image passes. With OpenVINO, neither TensorFlow nor Keras is
    imported if the network was converted on this machine before.

    Parameters
    ----------
    model : Head, MultiLabelHead, RegressionHead, ExportedModel or path
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
    model : Head, MultiLabelHead, RegressionHead or ExportedModel
    classes : ndarray of shape (n_classes,), str
        The labels that can be predicted.
    target : str or None
        Name of the number that is predicted in place of labels, if one is.
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
        model: AnyHead | ExportedModel | str | os.PathLike[str],
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
            model = ExportedModel.load(model, **code) if is_model else load_head(model)
        elif isinstance(model, ExportedModel) and (trust_model or imports):
            raise ExportError("give trust_model and imports of an exported model to ExportedModel.load")
        self.model = model
        self.target: str | None = getattr(model, "target", None)
        self.classes: NDArray[np.str_] = model.classes
        # Of a model that gives several labels, the probability from which on each is given.
        self._thresholds = getattr(model, "thresholds", None)
        self.rejects_below = model.rejects_below
        self._workers = workers
        self._n_views = 1
        self._features: HeadFeatures | None = None
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
            backbones = backbones_among(model.spec, backbone)
        else:
            backbones = backbones_from_spec(
                model.spec,
                weights=weights,
                remembered=model.weights,
                engine=engine,
                trust_model=trust_model,
                imports=imports,
            )
        self._features = HeadFeatures(model.spec, backbones, store=store, n_views=self._n_views)
        self._passes = self._features.passes

    @property
    def gives_several_labels(self) -> bool:
        """Whether predictions have ``labels`` instead of one ``label``."""
        return self._thresholds is not None

    def __repr__(self) -> str:
        return f"<Predictor of {self.model!r}>"

    def predict(
        self,
        image: GivenImage,
        *,
        top: int = 1,
        reject: float | None = None,
        coverage: float | None = None,
        by_class: bool = False,
        back_off: float | None = None,
    ) -> Prediction:
        """Label one image.

        Parameters
        ----------
        image : path, bytes, PIL.Image.Image or ndarray
            A file's path or its whole bytes; a picture; or pixels in [0, 255], uint8 of shape
            (height, width, 3) in the order red, green, blue, or (height, width) for grayscale.
        top, reject, coverage, by_class, back_off
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
            As for :meth:`stream`.
        """
        asked: dict[str, Any] = {"reject": reject, "coverage": coverage, "by_class": by_class}
        (prediction,) = self.stream([image], top=top, **asked, back_off=back_off)
        return prediction

    def stream(
        self,
        images: Iterable[GivenImage],
        *,
        top: int = 1,
        reject: float | None = None,
        coverage: float | None = None,
        by_class: bool = False,
        back_off: float | None = None,
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
        coverage, by_class
            As for :meth:`featstore.Head.prediction_sets`: list in ``set`` the classes of this prediction set.
            Of a head that predicts a number, ``coverage`` gives the ``interval`` that holds it so often.
        back_off : float, optional
            In (0, 1): where no class is so probable, the label is its deepest ancestor that is
            (:attr:`featstore.Head.parents`), None if none is.
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
            ``reject`` is no probability, or the model has no prediction sets of this coverage.
        BackboneError
            The network cannot be compiled; only when the first image passes.
        """
        if is_one_image(images):
            raise TypeError(
                f"stream takes several images, predict takes one; found one {type(images).__name__}"
            )
        if top < 1:
            raise ValueError(f"top must be at least 1; found {top}")
        if self._thresholds is not None and (reject is not None or coverage is not None):
            raise HeadError(
                "reject and coverage are for models that give one label; this one gives each label by its "
                "own probability"
            )
        if self.target is not None and (top > 1 or reject is not None or by_class):
            raise HeadError(f"top, reject and by_class are for labels; this model predicts {self.target}")
        hierarchy = (
            None
            if back_off is None
            else back_off_hierarchy(self.model, back_off, reject=reject, coverage=coverage)
        )
        sets = half_width = None
        if coverage is not None and self.target is not None:
            assert isinstance(self.model, RegressionHead | ExportedModel)
            half_width = self.model.interval_half_width(coverage)
        elif coverage is not None and not isinstance(self.model, MultiLabelHead | RegressionHead):
            sets = self.model.set_thresholds(coverage=coverage, by_class=by_class)
        below = self.rejects_below if reject is None else checked_reject(reject)
        more: dict[str, Any] = {"hierarchy": hierarchy, "back_off": back_off, "half_width": half_width}
        answering = self._answering(top, below, set_thresholds=sets, **more)
        found = self._stream(images, answering, progress)
        return (prediction for prediction, _ in found)

    def stream_video(
        self, path: str | os.PathLike[str], *, every_s: float = 1.0, **labelled: Any
    ) -> Iterator[Prediction]:
        """Label frames of a video, as :func:`featstore.video_frames` yields them.

        ``labelled`` is as for :meth:`stream`. Each prediction has the video's path, and ``time_s``. A video
        that cannot be read, or no further, ends with a prediction that has only the path and the reason.
        """
        times: deque[float] = deque()
        reasons: list[str] = []

        def pixels() -> Iterator[NDArray[np.uint8]]:
            try:
                for frame in frames:
                    times.append(frame.time_s)
                    yield frame.pixels
            except ImageError as error:
                reasons.append(str(error))

        name, frames = os.fspath(path), video_frames(path, every_s=every_s)
        for prediction in self.stream(pixels(), **labelled):
            yield replace(prediction, path=name, time_s=times.popleft())
        for reason in reasons:
            yield Prediction(path=name, reason=reason)

    def stream_features(
        self, images: Iterable[GivenImage], *, top: int = 1
    ) -> Iterator[tuple[Prediction, NDArray[Any] | None]]:
        """Yield each prediction with the features of view 0; None where there are none."""
        return self._stream(images, self._answering(top, self.rejects_below), None)

    def _answering(self, top: int, below: float, **more: Any) -> Answering:
        return Answering(
            classes=self.classes,
            predicts_number=self.target is not None,
            top=top,
            below=below,
            thresholds=self._thresholds,
            **more,
        )

    def _stream(
        self,
        images: Iterable[GivenImage],
        answering: Answering,
        progress: Callable[[int], None] | None,
    ) -> Iterator[tuple[Prediction, NDArray[Any] | None]]:
        n_done = 0
        groups = stream_images(
            map(GivenItem, images), self._passes, n_views=self._n_views, workers=self._workers
        )
        for group in groups:
            features = None if self._features is None else self._features.of(group)
            rows = self._probabilities(group, features)
            at = 0
            for image in group.images:
                if image.reason is not None:
                    yield Prediction(path=image.item.path, reason=image.reason), None
                    continue
                prediction = answering.prediction(rows[at], image.item.path, is_reused=not image.views)
                yield prediction, None if features is None else features[at, 0]
                at += 1
            n_done += len(group.images)
            if progress is not None:
                progress(n_done)

    def _probabilities(self, group: Group[GivenItem], features: NDArray[Any] | None) -> NDArray[Any]:
        """Return probabilities (n, n_classes), or numbers (n, 1), of the images that could be decoded."""
        if features is None or isinstance(self.model, ExportedModel):
            return group.rows[0] if group.rows else np.empty((0, len(self.classes)))
        n_images = max(1, _BLOCK_ROWS // self._n_views)
        blocks = [features[at : at + n_images] for at in range(0, len(features), n_images)]
        rows = [_block_probabilities(self.model, block, n_images) for block in blocks]
        return np.concatenate(rows) if rows else np.empty((0, len(self.classes)))


def predict(
    model: AnyHead | ExportedModel | str | os.PathLike[str],
    images: Iterable[GivenImage],
    *,
    top: int = 1,
    reject: float | None = None,
    coverage: float | None = None,
    by_class: bool = False,
    back_off: float | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Iterator[Prediction]:
    """Label images once; keep a :class:`~featstore.Predictor` to label more later.

    Parameters
    ----------
    model : Head, MultiLabelHead, RegressionHead, ExportedModel or path
        As for :class:`~featstore.Predictor`.
    images, top, reject, coverage, by_class, back_off, progress
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
    labelled: dict[str, Any] = {"top": top, "reject": reject, "coverage": coverage, "by_class": by_class}
    return Predictor(model, **options).stream(images, **labelled, back_off=back_off, progress=progress)


def _block_probabilities(head: AnyHead, features: NDArray[Any], n_images: int) -> NDArray[np.float64]:
    """Return the probabilities of some images, computed as those of ``n_images``."""
    filled = np.concatenate([features, np.repeat(features[-1:], n_images - len(features), axis=0)])
    if isinstance(head, RegressionHead):
        return head.predict(filled[:, 0])[: len(features), np.newaxis]
    return head.predict_proba(filled if filled.shape[1] > 1 else filled[:, 0])[: len(features)]
