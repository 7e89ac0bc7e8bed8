"""Epoch after epoch: training, validation, and the choice of the best."""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.keras.engine import is_out_of_memory
from featstore.errors import TuningError, first_line
from featstore.heads.calibration import fit_temperature, mean_over_views, softmax
from featstore.stats.metrics import log_loss
from featstore.tuning.progress_file import Progress, write_progress

if TYPE_CHECKING:
    from featstore.heads.forms.linear import LinearForm
    from featstore.tuning.division import Division
    from featstore.tuning.inputs import Inputs
    from featstore.tuning.options import TuningOptions
    from featstore.tuning.trainer import Trainer

__all__ = ["StepProgress", "train"]

_log = logging.getLogger(__name__)

StepProgress = Callable[[str, int, int], None]
"""Called with what is being done, and numbers of steps or images: done, and in all."""


def train(
    trainer: "Trainer",
    inputs: "Inputs",
    division: "Division",
    options: "TuningOptions",
    *,
    n_views: int,
    weights: NDArray[np.float32],
    progress: Progress,
    path: str,
    report: StepProgress | None = None,
) -> None:
    """Train from where ``progress`` is to the last epoch; it is written to ``path`` after each."""
    if progress.arrays:
        trainer.set_state(progress.arrays)
    else:
        size = min(options.batch_size, len(division.train))
        if size < trainer.n_devices:
            raise TuningError(
                f"{size} training images cannot be divided among {trainer.n_devices} devices; use fewer"
            )
        progress.batch_size = size - size % trainer.n_devices
        scores = _validated(trainer, inputs, division, division.form)
        if scores is None:
            raise TuningError(
                "the head's scores of the validation images are no finite numbers; fit it again"
            )
        progress.history = [{"epoch": 0, **scores}]
        progress.arrays = trainer.state()
        write_progress(path, progress)
    while progress.epoch < options.epochs and not progress.stopped:
        started, used = time.monotonic(), time.process_time()
        trainer.set_state(progress.arrays)
        try:
            loss = _epoch(
                trainer, inputs, division, options, progress, n_views=n_views, weights=weights, report=report
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            _halve(progress, trainer.n_devices, error)
            continue
        epoch, arrays, scores = progress.epoch + 1, trainer.state(), None
        if np.isfinite(loss) and trainer.is_finite():
            trainer.set_trained(trainer.averages())
            scores = _validated(trainer, inputs, division, trainer.form())
        if scores is None:
            progress.stopped = (
                f"in epoch {epoch} weights, loss or scores became infinite or not a number; try a tenth of "
                f"the learning rate, {options.rate / 10:g}"
            )
            _log.warning("%s. The best epoch before it is kept", progress.stopped)
        else:
            entry: dict[str, Any] = {
                "epoch": epoch,
                "loss": loss,
                **scores,
                "batch_size": progress.batch_size,
                "learning_rate": options.rate_at(epoch - 1),
                "seconds": round(time.monotonic() - started, 3),
                "processor_seconds": round(time.process_time() - used, 3),
            }
            progress.history.append(entry)
            if _is_better(entry, progress.history[progress.best_epoch]):
                progress.best_epoch, progress.best = epoch, trainer.trained()
            progress.epoch, progress.arrays = epoch, arrays
        write_progress(path, progress)


def _epoch(
    trainer: "Trainer",
    inputs: "Inputs",
    division: "Division",
    options: "TuningOptions",
    progress: Progress,
    *,
    n_views: int,
    weights: NDArray[np.float32],
    report: StepProgress | None,
) -> float:
    """Train for one epoch; return its mean loss."""
    # Order and views depend on the seed and the epoch alone, so that an interrupted epoch is repeated.
    random = np.random.default_rng([options.seed, progress.epoch])
    size = progress.batch_size
    n_steps = len(division.train) // size
    images = division.train[random.permutation(len(division.train))][: n_steps * size]
    views = random.integers(0, n_views, len(images))
    trainer.begin_epoch(progress.epoch)
    losses = []
    what = f"epoch {progress.epoch + 1} of {options.epochs}"
    for step, batch in enumerate(inputs.batches(images, views, size)):
        chosen = images[step * size : (step + 1) * size]
        y = division.y[chosen]
        rate = options.rate_at(progress.epoch + (step + 0.5) / n_steps)
        losses.append(trainer.step(batch, y, weights[chosen], rate))
        if report is not None:
            report(what, step + 1, n_steps)
    return float(np.mean(losses))


def _validated(
    trainer: "Trainer", inputs: "Inputs", division: "Division", form: "LinearForm"
) -> dict[str, Any] | None:
    """Score the validation images by the weights as they are now; None if scores are not finite."""
    from featstore.tuning.trainer import EVALUATION_BATCH

    at, probe = division.validation, division.probe
    n_views = probe.test_views
    images, views = np.repeat(at, n_views), np.tile(np.arange(n_views), len(at))
    batches = inputs.batches(images, views, EVALUATION_BATCH)
    scores = form.scores(trainer.features(batches, form.feature_dim))
    if not np.isfinite(scores).all():
        return None
    y = division.y[at]
    # How much too sure of itself a trained network is differs by epoch: each is calibrated first.
    temperature = fit_temperature(scores, probe.classes[y], probe.classes, n_views=n_views)
    probabilities = mean_over_views(softmax(scores / temperature), n_views)
    return {
        "n": len(at),
        "top1": float((probabilities.argmax(axis=1) == y).mean()),
        "cross_entropy": float(log_loss(probabilities, y)),
        "temperature": temperature,
    }


def _is_better(entry: dict[str, Any], best: dict[str, Any]) -> bool:
    """Return whether an epoch has less cross entropy than the best before it, the probe among them."""
    # Not by accuracy, which a few images of a small validation split decide.
    return bool(entry["cross_entropy"] < best["cross_entropy"])


def _halve(progress: Progress, n_devices: int, error: Exception) -> None:
    size = progress.batch_size // 2
    size -= size % n_devices
    if not size:
        raise TuningError(
            "there is not enough memory to train on a single image; cut the network at a later layer, or "
            "use smaller images"
        ) from error
    progress.batch_size = size
    _log.warning(
        "out of memory (%s): repeating the epoch in batches of %d. At the same learning rate smaller batches "
        "train in more and noisier steps; compare only with runs of this batch size",
        first_line(error),
        progress.batch_size,
    )
