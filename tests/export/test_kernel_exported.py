"""The head ``rbf`` as a part of a model: distances as matrix products."""

from pathlib import Path

import numpy as np
import pytest

import featstore
from featstore.errors import ExportError
from featstore.export import FORMATS
from featstore.images.decode import decode_image


@pytest.fixture(scope="module")
def rbf(shared_table):
    return featstore.fit(shared_table, head="rbf", params={"gamma": 1.0, "alpha": 1e-3})


@pytest.mark.parametrize("runtime", FORMATS)
def test_the_model_gives_the_heads_probabilities(rbf, shared_table, tmp_path, runtime):
    model = featstore.export_head(rbf, tmp_path / "out", format=runtime, table=shared_table)
    photos = [Path(path).read_bytes() for path in shared_table.paths[:6]]
    [found] = model.run([np.stack([decode_image(photo, size_px=(16, 20)) for photo in photos])])

    assert model.description.verification["largest_difference"] < 1e-5
    np.testing.assert_allclose(found, rbf.predict_proba(shared_table.X[:6]), atol=1e-5)


def test_float16_keeps_the_labels(rbf, shared_table, tmp_path):
    model = featstore.export_head(
        rbf, tmp_path / "out", format="tflite", table=shared_table, quantize="float16"
    )
    assert model.description.verification["top1_agreement"] == 1


def test_int8_is_refused_by_name(rbf, shared_table, tmp_path):
    with pytest.raises(ExportError, match=r"int8 rounds features too much .* the head rbf; use float16"):
        featstore.export_head(rbf, tmp_path / "out", format="tflite", table=shared_table, quantize="int8")
    assert not (tmp_path / "out").exists()
