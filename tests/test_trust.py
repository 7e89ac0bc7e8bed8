"""A Keras model that holds code of its own: nothing runs it but where the caller trusts whoever made it."""

import keras
import numpy as np
import pytest
from PIL import Image

import featstore
from featstore.errors import BackboneError

OWN = {"preprocessing": "none"}


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    for number in range(30):
        path = tmp_path / "photos" / ("dark", "light")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 100, (8, 8, 3), np.uint8) + np.uint8(100 * (number % 2))).save(
            path
        )
    return tmp_path / "photos"


@pytest.fixture
def model(tmp_path):
    inputs = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    path = str(tmp_path / "own.keras")
    keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(pooled)).save(path)
    return path


def test_every_way_in_asks_for_trust_and_works_with_it(photos, model, tmp_path, monkeypatch):
    store, photo = tmp_path / "photos.fstore", str(photos / "light" / "1.png")
    with pytest.raises(BackboneError, match="--trust-model"):
        featstore.extract(photos, store, backbone=model, **OWN)
    featstore.extract(photos, store, backbone=model, trust_model=True, **OWN)
    head = featstore.fit(featstore.FeatureStore(store).table(), params={"C": 1.0})

    # Elsewhere, where no converted network is kept.
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(BackboneError, match="--trust-model"):
        list(featstore.predict(head, [photo], weights=model))
    [found] = featstore.predict(head, [photo], weights=model, trust_model=True)
    assert found.label == "light"
    with pytest.raises(BackboneError, match="--trust-model"):
        featstore.export_head(head, tmp_path / "exported", weights=model, verify=False)
    exported = featstore.export_head(
        head, tmp_path / "exported", weights=model, trust_model=True, verify=False
    )
    [same] = featstore.predict(exported, [photo])
    assert same.probability == pytest.approx(found.probability, abs=1e-5)
