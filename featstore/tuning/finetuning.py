"""Fine-tuning of a network from a linear head."""

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featstore.backbones.parts import backbones_from_spec
from featstore.errors import TuningError, ViewError
from featstore.heads.head import Head
from featstore.images.views import ViewRecipe, checked_n_views
from featstore.io.outputs import check_destination
from featstore.scoring.plotting.tensorboard import check_tensorboard, write_scalars
from featstore.store import FeatureStore
from featstore.store.tables.joining import store_folder
from featstore.tuning.cut_choice import choose_cut
from featstore.tuning.division import class_weights, divide, image_weights
from featstore.tuning.job import Job, open_inputs
from featstore.tuning.options import TuningOptions
from featstore.tuning.report import curve_scalars
from featstore.tuning.results import finish
from featstore.tuning.training import StepProgress, train

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["Tuned", "TuningInterrupted", "finetune"]


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """Result of :func:`finetune`.

    Attributes
    ----------
    weights : str
        Absolute path of the network's weights, ``NAME.weights.h5``, for ``extract --weights``; of a model of
        your own the whole, ``NAME.keras``, for ``extract --backbone``.
    head : Head
        On the tuned network's features; the given head where no epoch was better.
    report : dict
        JSON values: ``cut``, ``options``, ``epochs`` (validation after each, from 0, the probe), ``chosen``,
        ``comparison`` with the given head on the test images, ``maps``, ``seconds``, ``space``. See
        :func:`featstore.tuning.report_text`.

    Examples
    --------
    >>> import featstore
    >>> head = featstore.fit(table, head="ridge")
    >>> tuned = Tuned(weights="/photos/tuned.weights.h5", head=head, report={"chosen": 2})
    >>> tuned.head.name, tuned.report["chosen"]
    ('ridge', 2)
    """

    weights: str
    head: Head
    report: dict[str, Any]


class TuningInterrupted(KeyboardInterrupt):
    """Ctrl-C during the training; raised after the best epoch so far was written.

    Attributes
    ----------
    tuned : Tuned
        By the best epoch so far. The same call goes on with the next epoch.
    """

    def __init__(self, tuned: Tuned) -> None:
        super().__init__("tuning interrupted")
        self.tuned = tuned


def finetune(
    head: Head,
    table: "FeatureTable",
    *,
    output: str | os.PathLike[str],
    from_layer: str = "auto",
    weights: str | os.PathLike[str] | None = None,
    views: ViewRecipe | None = None,
    n_views: int = 1,
    maps_dtype: str = "float16",
    class_weight: str | Mapping[str, float] | None = None,
    tensorboard: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    trust_model: bool = False,
    imports: Sequence[str] = (),
    engine: str = "auto",
    workers: int | None = None,
    devices: int = 1,
    progress: StepProgress | None = None,
    **options: Any,
) -> Tuned:
    """Train the upper part of the head's network and the head, on stored activation maps.

    The frozen lower part runs once for each view of an image; its output is kept in a space of its own,
    where a later call finds it. Training starts from the linear head (LP-FT: Kumar et al., ICLR 2022), with
    batch normalisation frozen. After each epoch the validation images are scored; the one with the least
    cross entropy after calibration is kept, or the head that they start from, epoch 0. A head that was fitted
    on the validation images is first fitted again, with its own parameters, on train alone. The test images
    are scored once, at the end. Images count in the training as much as the catalog says, if it does, and all
    alike in scores and in the choice of the epoch, as in :func:`featstore.fit`.

    Beside the weights the tuned network's features of all images of the table are in the store afterwards,
    computed from the maps, and the head and the report are written: ``NAME`` among the store's heads,
    ``NAME.report.json`` and ``NAME.report.txt``. Until then a file ``NAME.tuning`` holds the state after
    each epoch; the same call goes on from it, and gives the same weights as one that was not interrupted
    (on a processor; graphics cards round differently from run to run).

    Parameters
    ----------
    head : Head
        A linear head on a single network's features.
    table : FeatureTable
        Images of the head's classes, with features of the head's space. The head's split rule divides them.
    output : path
        Folder and NAME of what is written. NAME becomes a head of the store: letters, digits, ``.``, ``_``
        and ``-``.
    from_layer : str
        The layer above which the network is trained, one of :func:`featstore.tuning.network_cuts`.
        ``"auto"``: the one with the most weights above it among those that leave at most a tenth of the cost
        to train. ``"all"``: the whole network, from pixels.
    weights : path, optional
        The network's weights file, if it has moved.
    views : ViewRecipe, optional
        How views for training are drawn; by default the recipe of the head's space.
    n_views : int
        Number of views of each training image, 0 to ``n_views - 1``. Each epoch sees one of them, by chance.
    maps_dtype : {"float16", "float32"}
        How maps are stored. The features computed from them are those of images to about three digits, or to
        those of float32.
    class_weight : "balanced" or mapping of str to float, optional
        Weight of an image of each class in training.
    tensorboard : path, optional
        Write curves for TensorBoard into this folder.
    overwrite : bool
        Replace files of an earlier run, and start over where one is unfinished.
    trust_model, imports
        As for :func:`featstore.load_backbone`, for a model of your own.
    engine : {"auto", "openvino", "keras"}
        What runs the frozen part. Training is always done by Keras.
    workers : int, optional
        Threads that read and decode; by default one for each core.
    devices : int
        Number of devices of TensorFlow that share each batch, which must be divisible by it. The weights are
        those of one device but for rounding.
    progress : callable, optional
        Called as ``progress(what, done, total)``.
    **options
        Fields of :class:`featstore.tuning.TuningOptions`: ``epochs``, ``batch_size``, ``optimizer``,
        ``learning_rate``, ``schedule``, ``dropout``, ``seed`` …

    Returns
    -------
    Tuned

    Raises
    ------
    TuningError
        The head is not linear or is on several networks, an option is out of its range, or the state of
        another run is in the way.
    FingerprintMismatchError
        The table is of another space, or the weights are not those of the head's network.
    HeadError
        Classes of the head and labels of the table differ.
    SplitError
        No labelled image is in validation.
    BackboneError
        The network cannot be cut at this layer.
    ExtractionError
        Maps, or pixels, are needed of images that are not where the catalog has them.
    OutputError
        A file exists already.
    TuningInterrupted
        Ctrl-C; what was best so far is written.

    Examples
    --------
    >>> import tempfile
    >>> import featstore
    >>> import keras
    >>> from featstore.images import write_digits
    >>> network = keras.Sequential(
    ...     [
    ...         keras.Input((8, 8, 3)),
    ...         keras.layers.Conv2D(8, 3, activation="relu", name="edges"),
    ...         keras.layers.Conv2D(16, 3, activation="relu", name="parts"),
    ...     ]
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     n_images = write_digits(f"{folder}/digits", n_images=200)
    ...     network.save(f"{folder}/small.keras")
    ...     report = featstore.extract(
    ...         f"{folder}/digits",
    ...         f"{folder}/digits.fstore",
    ...         backbone=f"{folder}/small.keras",
    ...         preprocess="unit",
    ...         engine="keras",
    ...     )
    ...     table = featstore.FeatureStore(report.store).table()
    ...     head = featstore.fit(table, params={"C": 1.0}, refit=False)
    ...     tuned = featstore.finetune(
    ...         head, table, output=f"{folder}/tuned", from_layer="edges", epochs=1, engine="keras"
    ...     )
    >>> [entry["epoch"] for entry in tuned.report["epochs"]]
    [0, 1]
    """
    started = time.monotonic()
    chosen = TuningOptions(**options)
    if maps_dtype not in ("float16", "float32"):
        raise TuningError(f"maps_dtype must be float16 or float32; found {maps_dtype!r}")
    if tensorboard is not None:
        check_tensorboard()
        check_destination(tensorboard)
    division = divide(head, table)
    weights_of_classes = class_weights(class_weight, head.classes, division.y[division.train])
    weights_of_images = image_weights(weights_of_classes, division, table)
    recipe = _recipe(head, views, n_views)
    store = FeatureStore(store_folder(table))
    (backbone,) = backbones_from_spec(
        head.spec,
        weights=weights,
        remembered=head.weights,
        engine=engine,
        trust_model=trust_model,
        imports=imports,
    )
    from featstore.tuning.mirroring import mirror

    mirrored = mirror(devices, chosen.batch_size)
    with mirrored.strategy.scope() if mirrored else contextlib.nullcontext():
        network = backbone.tunable()
    cut = None
    if from_layer == "auto":
        cut = choose_cut(network.cuts, head.spec.parts[0].architecture)
    elif from_layer != "all":
        cut = network.find_cut(from_layer)
    job = Job(
        head=head,
        table=table,
        store=store,
        network=network,
        division=division,
        options=chosen,
        cut=cut,
        maps_dtype=maps_dtype,
        recipe=recipe,
        n_views=n_views,
        devices=devices,
        class_weights=weights_of_classes,
        image_weights=weights_of_images,
        output=os.path.abspath(os.fspath(output)),
        load_options={"engine": engine, "imports": imports, "trust_model": trust_model},
        workers=workers,
        started=started,
    )
    state = job.open_state(overwrite=overwrite)
    report = progress or (lambda _what, _done, _total: None)
    inputs, maps = open_inputs(job, report)
    from featstore.tuning.trainer import Trainer

    part = network.from_pixels() if cut is None else network.above(cut.layer)
    temperature = division.probe.temperature or 1.0
    trainer = Trainer(part, division.form, temperature=temperature, options=chosen, mirrored=mirrored)
    untrained, interruption = trainer.trained(), None
    try:
        train(
            trainer,
            inputs,
            division,
            chosen,
            n_views=n_views,
            weights=weights_of_images,
            progress=state,
            path=job.state_path,
            report=report,
        )
    except KeyboardInterrupt as error:
        if not state.history:
            raise
        interruption = error
    trainer.set_trained(state.best or untrained)
    tuned_head, told = finish(job, state, trainer, inputs, maps, report)
    if tensorboard is not None:
        write_scalars(os.path.join(os.fspath(tensorboard), job.name), curve_scalars(state.history))
    tuned = Tuned(weights=job.weights_path, head=tuned_head, report=told)
    if interruption is not None:
        raise TuningInterrupted(tuned) from interruption
    os.unlink(job.state_path)
    return tuned


def _recipe(head: Head, views: ViewRecipe | None, n_views: int) -> ViewRecipe | None:
    """Return how views are drawn: as the head's space says or, where it does not, as given."""
    (spec,) = head.spec.parts
    if spec.views is not None:
        if views not in (None, spec.views):
            raise ViewError(
                f"the head's space {spec.name} has views of its own ({spec.views}); leave the recipe out"
            )
        if n_views > 1:
            checked_n_views(n_views, spec.views)
        return spec.views
    checked_n_views(n_views, views)
    return views
