"""Interrupted trainings go on, and give what undisturbed ones give; memory and numbers that run out."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import featstore
from featstore import FeatureStore, Head
from featstore.errors import TuningError
from featstore.tuning import TuningInterrupted
from featstore.tuning.progress_file import Progress, read_progress, write_progress
from featstore.tuning.trainer import Trainer


class StoppedError(Exception):
    """Stands for a process that is killed."""


def read(path):
    with open(path, "rb") as file:
        return file.read()


@pytest.fixture
def stop_at(monkeypatch):
    """Have the n-th call of a function stop the run, before or after what it does."""

    def stop(where, number, *, after=False):
        module, name = where.rsplit(".", 1)
        owner = Trainer if module == "Trainer" else sys.modules[module]
        plain, calls = getattr(owner, name), []

        def stopping(*args, **options):
            calls.append(None)
            if len(calls) == number and not after:
                raise StoppedError
            result = plain(*args, **options)
            if len(calls) == number:
                raise StoppedError
            return result

        monkeypatch.setattr(owner, name, stopping)
        return lambda: monkeypatch.setattr(owner, name, plain)

    return stop


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def undisturbed(prepared, tmp_path_factory, patch):
    """What a run that nothing disturbs gives."""
    import shutil

    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(prepared / "photos.fstore", folder / "photos.fstore")
    store = FeatureStore(folder / "photos.fstore")
    probe = Head.load(store.head_path("probe"))
    patch.setattr("featstore.tuning.training._is_better", lambda *entries: True)
    return featstore.finetune(
        probe,
        store.table(),
        output=folder / "tuned",
        from_layer="block",
        engine="keras",
        epochs=3,
        batch_size=16,
        learning_rate=0.02,
        dropout=0.4,
    )


@pytest.mark.parametrize(
    ("where", "number", "after"),
    [
        ("Trainer.step", 2, False),
        ("featstore.tuning.training.write_progress", 1, True),
        ("Trainer.step", 6, True),
        ("featstore.tuning.training.write_progress", 3, False),
        ("featstore.tuning.training.write_progress", 4, True),
        ("featstore.tuning.results.in_other_space", 1, False),
        ("featstore.tuning.results.write_text", 1, False),
        ("featstore.tuning.results.write_text", 2, True),
    ],
)
def test_a_run_that_was_stopped_anywhere_gives_the_same_bits(
    tune, stop_at, here, undisturbed, where, number, after
):
    options = {"epochs": 3, "dropout": 0.4}
    go_on = stop_at(where, number, after=after)
    with pytest.raises(StoppedError):
        tune(**options)
    go_on()
    tuned = tune(**options)
    assert np.array_equal(tuned.head.linear.coef, undisturbed.head.linear.coef)
    assert tuned.head.fingerprint == undisturbed.head.fingerprint
    strip = ("seconds", "processor_seconds")
    found, expected = (
        [
            {name: value for name, value in entry.items() if name not in strip}
            for entry in one.report["epochs"]
        ]
        for one in (tuned, undisturbed)
    )
    assert found == expected
    assert not (here / "tuned.tuning").exists()
    assert not [name for name in os.listdir(here) if name.startswith(".tmp-")]


def test_epochs_that_are_done_are_not_repeated(tune, stop_at, monkeypatch):
    go_on = stop_at("featstore.tuning.training.write_progress", 3, after=True)
    with pytest.raises(StoppedError):
        tune(epochs=3)
    go_on()
    begun = []
    plain = Trainer.begin_epoch
    monkeypatch.setattr(Trainer, "begin_epoch", lambda self, epoch: (begun.append(epoch), plain(self, epoch)))
    tune(epochs=3)
    assert begun == [2]


@pytest.mark.slow
def test_a_killed_process_goes_on(prepared, here, undisturbed):
    program = textwrap.dedent("""
        import os, signal, sys
        import featstore
        from featstore.tuning import progress_file, training
        kill_at = int(sys.argv[1])
        written = []
        def writing(path, progress, plain=progress_file.write_progress):
            plain(path, progress)
            written.append(path)
            if len(written) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        training.write_progress = writing
        training._is_better = lambda *entries: True
        store = featstore.FeatureStore("photos.fstore")
        head = featstore.Head.load(store.head_path("probe"))
        featstore.finetune(head, store.table(space=head.space), output="tuned", from_layer="block", engine="keras", epochs=3,
            batch_size=16, learning_rate=0.02, dropout=0.4)
    """)
    first = subprocess.run([sys.executable, "-c", program, "3"], cwd=here, check=False, capture_output=True)
    assert first.returncode == -9, first.stderr
    assert (here / "tuned.tuning").exists()
    second = subprocess.run([sys.executable, "-c", program, "0"], cwd=here, check=False, capture_output=True)
    assert second.returncode == 0, second.stderr.decode()[-2000:]
    head = Head.load(FeatureStore(here / "photos.fstore").head_path("tuned"))
    assert np.array_equal(head.linear.coef, undisturbed.head.linear.coef)


def test_ctrl_c_keeps_the_best_so_far_and_the_same_call_goes_on(tune, here, monkeypatch, undisturbed):
    plain, steps = Trainer.step, []

    def interrupted(self, *args):
        steps.append(None)
        if len(steps) == 8:
            raise KeyboardInterrupt
        return plain(self, *args)

    monkeypatch.setattr(Trainer, "step", interrupted)
    with pytest.raises(TuningInterrupted) as caught:
        tune(epochs=3, dropout=0.4)
    tuned = caught.value.tuned
    assert len(tuned.report["epochs"]) == 2 + (undisturbed.report["images"]["train"] // 16 < 4)
    assert os.path.exists(tuned.weights)
    assert (here / "tuned.tuning").exists()
    assert np.array_equal(tune(epochs=3, dropout=0.4).head.linear.coef, undisturbed.head.linear.coef)


def test_the_state_of_another_run_is_not_taken_up(tune, stop_at, here):
    go_on = stop_at("featstore.tuning.training.write_progress", 2, after=True)
    with pytest.raises(StoppedError):
        tune(epochs=3)
    go_on()
    before = read(here / "tuned.tuning")
    with pytest.raises(TuningError, match="other options"):
        tune(epochs=3, seed=1)
    assert read(here / "tuned.tuning") == before
    tune(epochs=3, seed=1, overwrite=True)


def test_numbers_that_are_not_finite_stop_the_training(tune, caplog):
    tuned = tune(learning_rate=1e30, clip_norm=None, epochs=4)
    assert "a tenth of the learning rate, 1e+29" in tuned.report["stopped"]
    assert tuned.report["stopped"] in caplog.text
    assert len(tuned.report["epochs"]) < 5
    assert np.isfinite(tuned.head.linear.coef).all()


def test_weights_that_hide_from_the_loss_are_found(tune, monkeypatch):
    plain = Trainer.step

    def poisoned(self, *args):
        loss = plain(self, *args)
        for variable in self._variables[:1]:
            variable.assign(variable.numpy() * np.nan)
        return loss

    monkeypatch.setattr(Trainer, "step", poisoned)
    tuned = tune()
    assert "not a number" in tuned.report["stopped"]
    assert tuned.report["chosen"] == 0


def test_want_of_memory_halves_the_batch_and_says_so(tune, monkeypatch, caplog):
    class ResourceExhaustedError(Exception):
        pass

    plain = Trainer.step

    def narrow(self, inputs, *args):
        if len(inputs) > 8:
            raise ResourceExhaustedError("OOM when allocating tensor")
        return plain(self, inputs, *args)

    monkeypatch.setattr(Trainer, "step", narrow)
    tuned = tune(epochs=1)
    assert tuned.report["epochs"][1]["batch_size"] == 8
    assert "in batches of 8" in caplog.text
    halved = tuned.report["epochs"][1]["loss"]
    assert tune(output="small", epochs=1, batch_size=8).report["epochs"][1]["loss"] == halved


def test_a_single_image_that_does_not_fit_is_an_error(tune, monkeypatch, here):
    def never(self, *args):
        raise MemoryError("out of memory")

    monkeypatch.setattr(Trainer, "step", never)
    with pytest.raises(TuningError, match="not enough memory to train on a single image"):
        tune(epochs=1)
    assert not (here / "tuned.keras").exists()


def test_the_state_file_round_trips_and_refuses_others(tmp_path):
    path = str(tmp_path / "x.tuning")
    arrays = [np.arange(3, dtype=np.float32), np.array(7, np.int64)]
    progress = Progress(plan="p", epoch=2, batch_size=8, best_epoch=1, history=[{"epoch": 0}], arrays=arrays)
    progress.best = [np.full((2, 2), 0.5)] * 12
    write_progress(path, progress)
    found = read_progress(path, "p")
    assert (found.epoch, found.batch_size, found.history) == (2, 8, [{"epoch": 0}])
    assert len(found.best) == 12
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(found.arrays, arrays, strict=True))
    assert read_progress(str(tmp_path / "none"), "p") is None
    with pytest.raises(TuningError, match="other options"):
        read_progress(path, "q")
    (tmp_path / "x.tuning").write_bytes(read(path)[:-40])
    with pytest.raises(TuningError, match="is not the state of an unfinished tuning"):
        read_progress(path, "p")
