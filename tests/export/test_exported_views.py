"""Exported heads that average over mirror images, or look through several networks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import featstore
from featstore.errors import BackboneError, ExportError, NotInStoreError, VerificationError
from featstore.export import FORMATS, ExportedModel
from featstore.images.decode import decode_image

FLIP = featstore.ViewRecipe(flip=True)


@pytest.fixture(scope="module")
def store(original, tiny_backbone):
    """The photos in a space with their mirror images, and in one that is pooled otherwise."""
    store = featstore.FeatureStore(original / "views.fstore", create=True)
    photos, options = original / "land", {"backbone": tiny_backbone, "preprocessing": "unit"}
    featstore.extract(photos, store, **options, views=FLIP, n_views=2)
    featstore.extract(photos, store, **options, layer="maps", pooling="max")
    return store


@pytest.fixture(scope="module")
def tables(store):
    mirrored, pooled = sorted(store.space_names, key=lambda name: store.space(name).spec.views is None)
    return {
        "mirrored": store.table(space=mirrored),
        "joined": store.table(space=[pooled, mirrored]),
    }


@pytest.fixture(scope="module")
def heads(tables):
    fitted = {name: featstore.fit(table, params={"C": 0.1}) for name, table in tables.items()}
    return fitted | {"mirrored": replace(fitted["mirrored"], train_views=2, test_views=2)}


def pixels_of(table):
    return np.stack([decode_image(Path(path).read_bytes(), size_px=(16, 20)) for path in table.paths[:7]])


@pytest.mark.parametrize("runtime", FORMATS)
@pytest.mark.parametrize("kind", ["mirrored", "joined"])
def test_the_model_gives_the_heads_probabilities(tables, heads, tmp_path, kind, runtime):
    table, head = tables[kind], heads[kind]
    made = featstore.export_head(head, tmp_path / "out", format=runtime, table=table)
    model = ExportedModel.load(made.path)
    X = table.X[:7]
    if kind == "mirrored":
        X = table.with_views(2).X[:14].reshape(7, 2, -1)
        assert np.abs(head.predict_proba(X) - head.predict_proba(X[:, 0])).max() > 1e-3
    pixels = pixels_of(table)
    found = np.concatenate(list(model.run([pixels[:4], pixels[4:5], pixels[5:]])))
    np.testing.assert_allclose(found, head.predict_proba(X), atol=1e-5)
    told = model.description.verification
    assert (told["n"], told["n_lost"]) == (head.test["n"], 0)
    assert told["largest_difference"] < 1e-5


@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_mirror_images_are_averaged_in_rounded_models_too(tables, heads, tmp_path, quantize):
    table = tables["mirrored"]
    model = featstore.export_head(
        heads["mirrored"], tmp_path / "out", format="tflite", quantize=quantize, table=table
    )
    assert model.description.verification["mean_difference"] < 0.01
    (found,) = model.run([pixels_of(table)])
    # The probabilities themselves are not rounded: to 1/256 they would not sum to 1.
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_a_keras_model_of_mirror_images_and_networks_loads_without_featstore(tables, heads, tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, keras, numpy as np\n"
        "for path in sys.argv[1:]:\n"
        "    model = keras.saving.load_model(path, compile=False)\n"
        "    assert model.predict_on_batch(np.zeros((3, 16, 20, 3), np.uint8)).shape == (3, 3)\n"
        "assert 'featstore' not in sys.modules\n"
    )
    paths = []
    for kind in ("mirrored", "joined"):
        model = featstore.export_head(heads[kind], tmp_path / kind, format="keras", verify=False)
        paths.append(str(Path(model.path) / "model.keras"))
    subprocess.run([sys.executable, "-c", code, *paths], check=True, capture_output=True)


def test_the_head_is_exported_for_the_image_itself_where_that_is_asked_for(tables, heads, tmp_path):
    table, head = tables["mirrored"], heads["mirrored"]
    model = featstore.export_head(head, tmp_path / "out", format="keras", table=table, test_views=1)
    found = np.concatenate(list(model.run([pixels_of(table)])))
    np.testing.assert_allclose(found, head.predict_proba(table.X[:7]), atol=1e-5)
    assert model.description.test_views == 1
    assert model.description.head["test_views"] == 2
    card = (tmp_path / "out" / "model_card.md").read_text()
    assert "the head's, which averages over 2 views of each image; this model looks at 1" in card
    assert "mirror image" not in card


def test_it_predicts_what_the_head_predicts(tables, heads, store, tmp_path):
    head, table = heads["mirrored"], tables["mirrored"]
    model = featstore.export_head(head, tmp_path / "out", format="keras", table=table)
    of_head = [one.probability for one in featstore.predict(head, table.paths.tolist(), store=store)]
    of_model = [one.probability for one in featstore.predict(model, table.paths.tolist())]
    np.testing.assert_allclose(of_model, of_head, atol=1e-4)


def test_views_and_networks_are_described(tables, heads, tmp_path):
    for kind in ("mirrored", "joined"):
        featstore.export_head(heads[kind], tmp_path / kind, format="keras", table=tables[kind])
    told = json.loads((tmp_path / "mirrored" / "model.json").read_text())
    assert (told["test_views"], told["head"]["test_views"], told["spec"]["views"]) == (2, 2, {"flip": True})
    card = (tmp_path / "mirrored" / "model_card.md").read_text()
    assert "looks at the image and at its mirror image, and its probabilities are their mean" in card
    assert "- views of the images that it has features of: flip\n" in card
    assert "fitted on train and validation with seed 0, 2 views of each image, " in card

    told = json.loads((tmp_path / "joined" / "model.json").read_text())
    assert (told["size_px"], told["input"]["shape"]) == ([16, 20], [None, 16, 20, 3])
    assert [part["pooling"] for part in told["spec"]["parts"]] == ["max", "none"]
    card = (tmp_path / "joined" / "model_card.md").read_text()
    assert "tiny and tiny with the head logistic" in card
    assert card.count("- weights: SHA-256") == 2
    again = ExportedModel.load(tmp_path / "joined").description
    assert again.spec == heads["joined"].spec


def test_models_of_one_view_were_described_without_saying_so(exported, tmp_path):
    from featstore.export.description import ModelDescription

    told = exported("keras").description.to_dict()
    assert told.pop("test_views") == 1
    assert ModelDescription.from_dict(told).test_views == 1


@pytest.mark.parametrize(
    ("recipe", "n_views"), [({"flip": True, "random_crop": 10}, 2), ({"flip": True}, 3), (None, 2)]
)
def test_views_that_are_no_mirror_images_are_refused(heads, tmp_path, recipe, n_views):
    views = None if recipe is None else featstore.ViewRecipe(**recipe)
    spec = replace(heads["mirrored"].spec, views=views)
    head = replace(heads["mirrored"], spec=spec, fingerprint=spec.fingerprint, test_views=n_views)
    with pytest.raises(ExportError, match=rf"look at {n_views} views .*--test-views 1"):
        featstore.export_head(head, tmp_path / "out", format="keras")
    featstore.export_head(head, tmp_path / "out", format="keras", test_views=1)


def test_views_are_at_least_one(heads, tmp_path):
    with pytest.raises(ExportError, match="at least 1; found 0"):
        featstore.export_head(heads["mirrored"], tmp_path / "out", test_views=0)


def test_networks_that_see_images_in_several_sizes_are_refused(original, tiny_backbone, store, tmp_path):
    own = {"backbone": tiny_backbone, "preprocessing": "unit"}
    featstore.extract(original / "land", store, **own, resize="crop")
    cropped = next(name for name in store.space_names if store.space(name).spec.resize == "crop")
    other = next(name for name in store.space_names if store.space(name).spec.pooling == "max")
    head = featstore.fit(store.table(space=[other, cropped]), params={"C": 0.1})
    with pytest.raises(
        ExportError, match=r"tiny-\w+ 16 x 20 px, stretch, views none; tiny-\w+ 16 x 20 px, crop"
    ):
        featstore.export_head(head, tmp_path / "out", format="keras")


def test_stored_views_that_are_gone_are_asked_for(heads, tables, original, tiny_backbone, tmp_path):
    short = featstore.FeatureStore(tmp_path / "short.fstore", create=True)
    space = short.create_space(heads["mirrored"].spec, feature_dim=6, provenance={})
    table = tables["mirrored"]
    space.append(table.X, table.content_hash_bytes)
    short.write_catalog(featstore.FeatureStore(original / "views.fstore").catalog("land"))
    with pytest.raises(NotInStoreError, match="--views 2"):
        featstore.export_head(heads["mirrored"], tmp_path / "out", format="keras", table=short.table())


def test_a_model_without_its_mirror_images_is_found_out(tables, heads, tmp_path, monkeypatch):
    monkeypatch.setattr("featstore.export.composing.average_with_mirrored", lambda model: model)
    with pytest.raises(VerificationError, match="largest difference"):
        featstore.export_head(heads["mirrored"], tmp_path / "out", format="keras", table=tables["mirrored"])


def test_weights_of_one_of_several_networks_that_have_moved_are_asked_for(heads, tiny_backbone, tmp_path):
    moved = replace(heads["joined"], weights=(tiny_backbone, str(tmp_path / "moved.keras")))
    second = heads["joined"].spec.parts[1].name
    with pytest.raises(BackboneError, match=rf"moved\.keras.*It is about {second}, one of 2 .*--weights"):
        featstore.export_head(moved, tmp_path / "out", format="keras")
    for weights in (tiny_backbone, [None, tiny_backbone], [tiny_backbone, tiny_backbone]):
        featstore.export_head(moved, tmp_path / "out", format="keras", weights=weights, overwrite=True)
