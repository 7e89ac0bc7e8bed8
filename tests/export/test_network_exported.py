"""The head ``mlp`` as a part of a model: two dense layers."""

from pathlib import Path

import numpy as np
import pytest

import featstore
from featstore.export import FORMATS
from featstore.images.decode import decode_image


@pytest.fixture(scope="module")
def mlp(shared_table):
    return featstore.fit(shared_table, head="mlp", params={"alpha": 0.01, "hidden_units": 7, "steps": 60})


@pytest.mark.parametrize("runtime", FORMATS)
def test_the_model_gives_the_heads_probabilities(mlp, shared_table, tmp_path, runtime):
    model = featstore.export_head(mlp, tmp_path / "out", format=runtime, table=shared_table)
    photos = [Path(path).read_bytes() for path in shared_table.paths[:6]]
    [found] = model.run([np.stack([decode_image(photo, size_px=(16, 20)) for photo in photos])])

    assert model.description.verification["largest_difference"] < 1e-5
    np.testing.assert_allclose(found, mlp.predict_proba(shared_table.X[:6]), atol=1e-5)


@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_quantized_models_keep_the_labels(mlp, shared_table, tmp_path, quantize):
    model = featstore.export_head(
        mlp, tmp_path / "out", format="tflite", table=shared_table, quantize=quantize
    )
    assert model.description.verification["top1_agreement"] > 0.9
