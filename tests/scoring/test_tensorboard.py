import os
import subprocess
import sys
from types import ModuleType

import pytest

from featstore.errors import HeadError, MissingExtraError, StoreError
from featstore.heads import fit
from featstore.scoring import write_scalars, write_sweep


@pytest.fixture(autouse=True)
def reader_without_tensorflow(monkeypatch):
    """TensorBoard takes this module's being there as a wish to do without TensorFlow, which loads slowly."""
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("notf"))


def read(folder):
    """Read a run back with TensorBoard's own reader: ``{tag: [(step, value), …]}``."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(os.fspath(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_tensorboard_reads_what_was_written(tmp_path):
    path = write_scalars(tmp_path / "run", [("loss", 0, 2.5), ("loss", 10, 1.25), ("accuracy", 10, 0.75)])

    assert os.path.dirname(path) == str(tmp_path / "run")
    assert read(tmp_path / "run") == {"loss": [(0, 2.5), (10, 1.25)], "accuracy": [(10, 0.75)]}


@pytest.mark.parametrize("name", ["logistic", "svm"])
def test_a_sweep_is_written_step_by_step(table, name, tmp_path):
    head = fit(table, head=name)
    run = write_sweep(tmp_path, head)
    found = read(run)

    assert os.path.basename(run).startswith(f"{name}-{table.spec.name}-")
    for tag, key in (
        ("validation/accuracy", "top1"),
        ("train/accuracy", "train_top1"),
        ("validation/cross_entropy", "cross_entropy"),
    ):
        expected = [(number, pytest.approx(step[key])) for number, step in enumerate(head.sweep)]
        assert found[tag] == expected
    assert [value for _, value in found["setting/C"]] == pytest.approx([s["params"]["C"] for s in head.sweep])


def test_what_a_sweep_measures_of_the_chosen_setting_is_what_the_head_does(table):
    head = fit(table, refit=False)
    train = table.splits() == "train"
    (chosen,) = [step for step in head.sweep if step["params"]["C"] == head.params["C"]]

    assert chosen["train_top1"] == (head.predict(table.X[train]) == table.y[train]).mean()


def test_a_head_without_a_sweep_is_refused(table, tmp_path):
    with pytest.raises(HeadError, match="has no sweep"):
        write_sweep(tmp_path, fit(table, params={"C": 0.1}))
    assert os.listdir(tmp_path) == []


def test_tensorflow_is_not_loaded(tmp_path):
    program = (
        "import sys, featstore\n"
        f"featstore.write_scalars({str(tmp_path)!r}, [('loss', 0, 1.0)])\n"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_failure_leaves_no_file(tmp_path):
    def scalars():
        yield "loss", 0, 1.0
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_scalars(tmp_path / "new" / "run", scalars())
    assert os.listdir(tmp_path / "new") == []


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*: not a directory"):
        write_scalars(tmp_path / "file" / "run", [])


def test_without_tensorboard_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r'pip install "featstore\[tensorboard\]"'):
        write_scalars(tmp_path, [])


def test_the_passes_of_sgd_are_a_run_of_their_own(table, tmp_path):
    head = fit(table, head="sgd", params={"alpha": 0.001, "max_iter": 4})
    run = write_sweep(tmp_path, head)

    assert not head.sweep
    assert [step["step"] for step in head.steps] == [1, 2, 3, 4]
    assert head.steps[-1]["top1"] == head.validation["top1"]
    found = read(os.path.join(run, "passes"))
    for tag, key in (
        ("train/accuracy", "train_top1"),
        ("validation/accuracy", "top1"),
        ("validation/cross_entropy", "cross_entropy"),
    ):
        assert found[tag] == [(step["step"], pytest.approx(step[key], rel=1e-6)) for step in head.steps]


def test_the_passes_told_are_those_of_the_chosen_setting(table):
    head = fit(table, head="sgd", params={"max_iter": 3})
    chosen = next(step for step in head.sweep if step["params"]["alpha"] == head.params["alpha"])

    assert len(head.steps) == 3
    assert head.steps[-1] == {"step": 3, **{key: chosen[key] for key in head.steps[-1] if key != "step"}}
