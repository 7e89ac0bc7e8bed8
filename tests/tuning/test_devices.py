"""Several devices that share a batch: two logical ones of the processor, in a process of their own."""

import json
import subprocess
import sys
import textwrap

import pytest

from featstore.errors import TuningError

PROGRAM = textwrap.dedent("""
    import json, sys
    import numpy as np
    import featstore
    from featstore.backbones.keras.quiet import quiet_import
    with quiet_import():
        import tensorflow as tf
    from featstore.tuning import training

    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    training._is_better = lambda *entries: True
    store = featstore.FeatureStore("photos.fstore")
    head = featstore.Head.load(store.head_path("probe"))
    table = store.table(space=head.space)
    told = {}
    for name, options in json.loads(sys.argv[1]).items():
        arrays, losses = [], []
        for devices in (1, 2):
            tuned = featstore.finetune(
                head, table, output=f"{name}{devices}", from_layer="block", engine="keras", batch_size=16,
                epochs=1, class_weight="balanced", devices=devices, **options,
            )
            space = store.table(space=tuned.head.space)
            arrays.append([tuned.head.linear.coef, space.X])
            losses.append(tuned.report["epochs"][-1]["loss"])
        told[name] = {
            "off": [float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(*arrays)],
            "moved": float(np.abs(arrays[0][0] - head.linear.coef / (head.temperature or 1)).max()),
            "losses": losses,
        }
    print(json.dumps(told))
""")

WAYS = {
    "clipped": {"learning_rate": 0.02, "clip_norm": 0.05, "weight_decay": 0.1, "layer_decay": 0.5},
    "averaged": {
        "optimizer": "adam",
        "learning_rate": 0.01,
        "ema": 0.9,
        "clip_norm": None,
        "label_smoothing": 0.1,
    },
}


@pytest.fixture(scope="module")
def told(prepared, tmp_path_factory):
    """What each way to train gives on one device and on two."""
    import shutil

    folder = tmp_path_factory.mktemp("devices")
    shutil.copytree(prepared / "photos.fstore", folder / "photos.fstore")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(WAYS)],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("way", WAYS)
def test_two_devices_train_as_one(told, way):
    assert told[way]["moved"] > 1e-3
    assert max(told[way]["off"]) < 1e-5
    one, two = told[way]["losses"]
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (2, "2 devices were asked for; found 1: "),
        (0, "devices must be an integer of at least 1"),
        (True, "devices must be"),
    ],
)
def test_devices_that_are_not_there_are_refused(tune, here, devices, said):
    with pytest.raises(TuningError, match=said):
        tune(devices=devices)
    assert sorted(path.name for path in here.iterdir()) == ["photos.fstore"]


def test_fewer_images_than_devices_are_refused(tune, monkeypatch):
    monkeypatch.setattr("featstore.tuning.trainer.Trainer.n_devices", 99)
    with pytest.raises(TuningError, match=r"\d+ training images cannot be divided among 99 devices"):
        tune(batch_size=99)
