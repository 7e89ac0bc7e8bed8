"""Tuning a network of keras.applications: weights that ``extract --weights`` takes."""

from pathlib import Path

import numpy as np
import pytest

import featstore
from featstore import FeatureStore, SplitRule
from featstore.images.decode import decode_image


@pytest.fixture(scope="module")
def mobilenet(prepared, tmp_path_factory, keras):
    """A narrow MobileNet, its features of the photos and a head on them."""
    from tuning_material import randomize

    folder = tmp_path_factory.mktemp("mobilenet")
    network = keras.applications.MobileNet(
        alpha=0.25, weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    randomize(network).save_weights(folder / "mobilenet.weights.h5")
    report = featstore.extract(
        prepared / "photos",
        folder / "photos.fstore",
        backbone="mobilenet",
        alpha=0.25,
        weights=folder / "mobilenet.weights.h5",
        image_size=32,
        engine="keras",
    )
    table = FeatureStore(report.store).table()
    head = featstore.fit(table, params={"C": 1.0}, rule=SplitRule(validation=0.2, test=0.2), refit=False)
    return folder, table, head


def tune(mobilenet, name, **options):
    folder, table, head = mobilenet
    settings = {"from_layer": "conv_pw_11_relu", "engine": "keras", "epochs": 2, "batch_size": 16}
    settings["maps_dtype"] = "float32"
    return featstore.finetune(head, table, output=folder / name, **(settings | options))


@pytest.fixture(scope="module")
def tuned(mobilenet):
    """The network after two epochs, whether they were better or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featstore.tuning.training._is_better", lambda *entries: True)
        return tune(mobilenet, "tuned", learning_rate=0.01)


def test_the_weights_are_taken_by_extract_and_give_the_same_features(mobilenet, tuned):
    folder, table, head = mobilenet
    assert tuned.weights == str(folder / "tuned.weights.h5")
    fresh = featstore.extract(
        table.paths.tolist(),
        folder / "fresh.fstore",
        backbone="mobilenet",
        alpha=0.25,
        weights=tuned.weights,
        image_size=32,
        engine="keras",
    )
    assert fresh.space == tuned.head.space != head.space
    found = FeatureStore(folder / "photos.fstore").table(space=fresh.space).X
    expected = FeatureStore(fresh.store).table().X
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("runtime", ["onnx", "tflite"])
def test_an_exported_model_gives_the_tuned_heads_probabilities(mobilenet, tuned, runtime):
    folder, _, _ = mobilenet
    table = FeatureStore(folder / "photos.fstore").table(space=tuned.head.space)
    exported = featstore.export_head(tuned.head, folder / runtime, format=runtime, table=table)
    told = exported.description.verification
    assert told["n"] == tuned.report["comparison"]["n"]
    assert told["largest_difference"] < 1e-4
    assert told["top1_model"] == pytest.approx(tuned.report["comparison"]["heads"][1]["top1"])
    pixels = np.stack([decode_image(Path(path).read_bytes(), size_px=(32, 32)) for path in table.paths[:6]])
    found = np.concatenate(list(featstore.ExportedModel.load(exported.path).run([pixels])))
    np.testing.assert_allclose(found, tuned.head.predict_proba(table.X[:6]), atol=1e-4)


def test_unchanged_weights_give_the_old_fingerprint(mobilenet, monkeypatch):
    _, _, head = mobilenet
    monkeypatch.setattr("featstore.tuning.training._is_better", lambda *entries: False)
    kept = tune(mobilenet, "kept", epochs=1)
    backbone = featstore.load_backbone("mobilenet", alpha=0.25, weights=kept.weights, image_size=32)
    assert backbone.spec.fingerprint == head.fingerprint == kept.head.fingerprint
