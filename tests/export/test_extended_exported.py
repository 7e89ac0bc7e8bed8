"""A head whose new classes see a layer more than its old ones do, behind a kernel, as a model."""

from pathlib import Path

import numpy as np
import pytest

import featstore
from featstore.errors import ExportError
from featstore.export import FORMATS
from featstore.images.decode import decode_image


@pytest.fixture(scope="module")
def table(original, tiny_backbone, tmp_path_factory):
    path = tmp_path_factory.mktemp("layers") / "land.fstore"
    layers = ["maps", "pooled"]
    report = featstore.extract(
        original / "land", path, backbone=tiny_backbone, preprocessing="unit", layer=layers
    )
    return featstore.FeatureStore(path).table(space=report.space.split("+"))


@pytest.fixture(scope="module")
def extended(table, shared_table):
    old = featstore.fit(shared_table.select(shared_table.y != "wood"), head="logistic", params={"C": 0.1})
    new, known = table.select(table.y != "moor"), table.select(table.y == "moor")
    # Without old images the gate weighs cosines, here all nearly 1, by more than float32 has digits for.
    return featstore.extend(old, new, head="rbf", same={"fen": "fen"}, old_table=known)


@pytest.mark.parametrize("runtime", FORMATS)
def test_the_model_gives_the_heads_probabilities(extended, table, tmp_path, runtime):
    model = featstore.export_head(extended, tmp_path / "out", format=runtime, table=table)
    photos = [Path(path).read_bytes() for path in table.paths[:6]]
    [found] = model.run([np.stack([decode_image(photo, size_px=(16, 20)) for photo in photos])])

    assert extended.gated.old_columns is not None
    assert model.description.verification["largest_difference"] < 1e-5
    np.testing.assert_allclose(found, extended.predict_proba(table.X[:6]), atol=1e-5)


def test_photos_are_predicted_as_their_features_are(extended, table):
    predicted = [one.label for one in featstore.predict(extended, table.paths[:6].tolist())]
    assert predicted == extended.predict(table.X[:6]).tolist()


def test_int8_is_refused(extended, table, tmp_path):
    with pytest.raises(ExportError, match="int8 rounds features too much"):
        featstore.export_head(extended, tmp_path / "out", format="tflite", table=table, quantize="int8")
