"""Heads on networks of other libraries, exported."""

import numpy as np
import pytest
from graph_material import SIDE, write_tokens

import featstore
from featstore.errors import ExportError
from featstore.images import write_digits

OPTIONS = {"mean": 0.4, "std": 0.3, "layer": ["last_hidden_state", "pooler_output"], "pooling": "tokens"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Digits in two layers of a network for any number of images, and of one for a single image; mirrored."""
    folder = tmp_path_factory.mktemp("graphs")
    write_digits(str(folder / "digits"), n_images=80)
    tables = {}
    for name, batch in (("many.onnx", "n"), ("one.onnx", 1)):
        write_tokens(str(folder / name), batch=batch)
        report = featstore.extract(
            folder / "digits",
            folder / f"{name}.fstore",
            backbone=folder / name,
            views=featstore.ViewRecipe(flip=True),
            n_views=2,
            **OPTIONS,
        )
        tables[name] = featstore.FeatureStore(report.store).table(space=report.space.split("+"))
    return tables


@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
@pytest.mark.parametrize(("name", "test_views"), [("many.onnx", 1), ("many.onnx", 2), ("one.onnx", 1)])
def test_a_model_of_them_gives_the_heads_probabilities(tables, tmp_path, runtime, name, test_views):
    table = tables[name]
    head = featstore.fit(table, head="logistic", views={"train": 1, "test": test_views})
    model = featstore.export_head(head, tmp_path / "model", format=runtime, table=table)
    assert model.description.verification["largest_difference"] < 1e-5
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    assert next(model.run([pixels])).shape == (3, 10)


def test_formats_that_cannot_hold_them_name_the_one_that_can(tables, tmp_path):
    head = featstore.fit(tables["many.onnx"], head="logistic")
    with pytest.raises(ExportError, match="exported as openvino or onnx; found tflite"):
        featstore.export_head(head, tmp_path / "model", format="tflite", verify=False)
    assert not (tmp_path / "model").exists()


def test_one_for_a_single_image_does_not_look_at_two(tables, tmp_path):
    table = tables["one.onnx"]
    head = featstore.fit(table, head="logistic", views={"train": 1, "test": 2})
    with pytest.raises(ExportError, match="--test-views 1"):
        featstore.export_head(head, tmp_path / "model", format="openvino", table=table)
