"""Several layers and sizes in one run: each in its own space, as if extracted alone."""

import json
import pickle
import shutil

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from featstore.backbones import joint, load_backbone
from featstore.backbones.joint import joint_backbones
from featstore.backbones.several import load_backbones
from featstore.errors import BackboneError
from featstore.flow.extraction import run_extraction
from featstore.flow.shard import run_shard
from featstore_cli.main import main

LAYERS = ["early", "late"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network of images of any size: maps of half the size, of a quarter, and their mean."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="early")(inputs)
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name="padded")(x)
    x = keras.layers.Conv2D(6, 3, strides=2, activation="relu", name="late")(x)
    path = tmp_path_factory.mktemp("own") / "maps.keras"
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="pooled")(x)).save(path)
    return str(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos") / "land"
    random = np.random.default_rng(0)
    for number in range(30):
        label = "fen" if number % 2 else "moor"
        (folder / label).mkdir(parents=True, exist_ok=True)
        pixels = np.clip(random.normal(90 + 60 * (number % 2), 40, (20, 24, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / label / f"{number:02d}.png")
    return folder


def extract(photos, store, model, **options):
    return featstore.extract(
        photos, store, backbone=model, preprocessing="unit", **{"image_size": 16, **options}
    )


def rows(store, space):
    return np.asarray(featstore.FeatureStore(store).table(space=space).X)


@pytest.fixture(scope="module")
def joined(photos, model, tmp_path_factory):
    """A store of two layers of one pass, and the report."""
    store = tmp_path_factory.mktemp("joined") / "land.fstore"
    return store, extract(photos, store, model, layer=LAYERS)


@pytest.mark.parametrize("engine", ["openvino", "keras"])
def test_each_layer_has_the_bits_that_it_has_alone(photos, model, tmp_path, engine):
    extract(photos, tmp_path / "both.fstore", model, layer=LAYERS, engine=engine)
    for layer in LAYERS:
        extract(photos, tmp_path / "alone.fstore", model, layer=layer, engine=engine)
    names = featstore.FeatureStore(tmp_path / "alone.fstore").space_names

    assert featstore.FeatureStore(tmp_path / "both.fstore").space_names == names
    for name in names:
        found, alone = (rows(tmp_path / f"{store}.fstore", name) for store in ("both", "alone"))
        np.testing.assert_array_equal(found, alone)


def test_layers_pass_the_network_once(photos, model, tmp_path, monkeypatch):
    passed = []
    run = joint.JointBackbone.run
    monkeypatch.setattr(
        joint.JointBackbone, "run", lambda self, batches: passed.append(len(self.parts)) or run(self, batches)
    )
    monkeypatch.setattr(joint.Backbone, "run", None)
    report = extract(photos, tmp_path / "land.fstore", model, layer=LAYERS)

    assert passed == [2]
    assert (report.extracted, report.extracted_views) == (30, 30)


def test_a_file_is_read_once_for_all_layers_and_sizes(photos, model, tmp_path, monkeypatch):
    report = extract(photos, tmp_path / "land.fstore", model, layer=LAYERS, image_size=[16, 24])

    assert report.read == 30
    assert len(report.space.split("+")) == 4
    assert {space.spec.size_px for space in spaces(tmp_path / "land.fstore")} == {(16, 16), (24, 24)}


def spaces(store):
    opened = featstore.FeatureStore(store)
    return [opened.space(name) for name in opened.space_names]


def test_only_the_space_that_lacks_rows_gets_them(photos, model, tmp_path):
    store = tmp_path / "land.fstore"
    extract(photos, store, model, layer="late")
    report = extract(photos, store, model, layer=LAYERS)

    assert report.extracted == 30
    assert [len(space.content_hash) for space in spaces(store)] == [30, 30]
    assert extract(photos, store, model, layer=LAYERS).reused == 30


def test_new_photos_pass_alone(photos, model, joined, tmp_path):
    store, more = tmp_path / "land.fstore", tmp_path / "land"
    shutil.copytree(joined[0], store)
    shutil.copytree(photos, more)
    Image.new("RGB", (9, 9), (1, 2, 3)).save(more / "fen" / "new.png")
    report = extract(more, store, model, layer=LAYERS, catalog="more")

    assert (report.extracted, report.reused) == (1, 30)
    assert {len(space.content_hash) for space in spaces(store)} == {31}


def test_rich_is_the_last_layer_and_the_last_at_twice_its_size(model):
    found = load_backbones(model, preprocessing="unit", image_size=16, features="rich")

    # Padding is passed over, and the pooled end is the last layer's mean.
    assert [one.spec.layer for one in found] == ["pooled", "early"]


def test_rich_of_a_known_network_follows_its_shapes(real_weights):
    weights = real_weights("mobilenet_v2_1.0_224_no_top.h5")
    found = load_backbones("mobilenet_v2", weights=weights, features="rich")

    assert [one.spec.layer for one in found] == ["out_relu", "block_13_expand_relu"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": ["late", "late"]}, "give each layer once"),
        ({"layer": []}, "give each layer once, and at least one"),
        ({"image_size": [16, 16]}, "give each image size once"),
        ({"features": "best"}, "features must be one of last, rich; found 'best'"),
        ({"features": "rich", "layer": "late"}, "give one of them"),
        ({"layer": ["late", "nowhere"]}, "has no layer 'nowhere'"),
    ],
)
def test_what_cannot_be_is_refused(photos, model, tmp_path, options, message):
    with pytest.raises(BackboneError, match=message):
        extract(photos, tmp_path / "land.fstore", model, **options)


def test_scattering_has_no_further_layer(photos, tmp_path):
    with pytest.raises(BackboneError, match="scattering has no layer at twice the height and width"):
        featstore.extract(photos, tmp_path / "land.fstore", backbone="scattering", features="rich")


def tables(store, report):
    """The rows of each space by content."""
    found = {space: featstore.FeatureStore(store).table(space=space) for space in report.space.split("+")}
    return {
        space: dict(zip(map(bytes, one.content_hash_bytes), map(bytes, one.X), strict=True))
        for space, one in found.items()
    }


def test_shards_fill_all_spaces_and_are_collected_for_all(photos, model, joined, tmp_path):
    store = tmp_path / "land.fstore"
    for number in (1, 2):
        report = extract(photos, store, model, layer=LAYERS, shard=(number, 2))
        again = extract(photos, store, model, layer=LAYERS, shard=(number, 2))
        assert (report.read, again.read) == (report.images, 0)
    collected = featstore.collect(store, photos)
    assert (collected.reused, collected.lacking) == (30, {})
    assert tables(store, collected) == tables(*joined)
    assert not (store / "shards").exists()


def test_an_executor_fills_all_spaces_by_what_it_was_sent(photos, model, joined, tmp_path):
    class Sent:
        def size_of_shards(self, n_images, row_bytes):
            assert (n_images, row_bytes) == (30, 24)
            return 7

        def run(self, job, shards):
            self.joints = pickle.loads(pickle.dumps([one for one, _ in joint_backbones(job.networks)]))
            assert [len(one.parts) for one in self.joints] == [2]
            for shard in shards:
                yield shard, run_shard(job, shard.records, self.joints)

    store, executor = tmp_path / "land.fstore", Sent()
    networks = load_backbones(model, preprocessing="unit", image_size=16, layer=LAYERS)
    extract(photos, store, model, layer=LAYERS[0])
    report = run_extraction(photos, store, backbone=networks, executor=executor)
    assert (report.space, report.extracted) == (joined[1].space, 30)
    assert tables(store, report) == tables(*joined)
    assert executor.joints[0]._converted is not None


def test_loaded_backbones_fill_a_space_each(photos, model, tmp_path):
    loaded = [load_backbone(model, layer=layer, image_size=16, preprocessing="unit") for layer in LAYERS]
    report = featstore.extract(photos, tmp_path / "land.fstore", backbone=loaded)

    assert report.space.split("+") == [one.spec.name for one in loaded]


def test_layers_that_cannot_be_joined_are_computed_in_turn(photos, model, tmp_path, monkeypatch, caplog):
    def fail(*_args, **_options):
        raise BackboneError("no")

    monkeypatch.setattr(joint, "compile_engine", fail)
    extract(photos, tmp_path / "both.fstore", model, layer=LAYERS)
    extract(photos, tmp_path / "alone.fstore", model, layer="late")

    assert "early and late are computed in a pass each: no" in caplog.text
    (name,) = featstore.FeatureStore(tmp_path / "alone.fstore").space_names
    np.testing.assert_array_equal(rows(tmp_path / "both.fstore", name), rows(tmp_path / "alone.fstore", name))


def test_a_head_on_two_layers_predicts_by_one_pass(photos, joined, monkeypatch):
    store, report = joined
    table = featstore.FeatureStore(store).table(space=report.space.split("+"))
    head = featstore.fit(table, head="rbf", folds=3)
    monkeypatch.setattr(joint.Backbone, "run", None)
    paths = [str(path) for path in table.paths[:5]]
    found = [one.probability for one in featstore.predict(head, paths)]

    np.testing.assert_allclose(found, head.predict_proba(table.X[:5]).max(axis=1), atol=1e-6)


def test_a_head_on_two_layers_is_exported_with_one_network(joined, tmp_path):
    store, report = joined
    table = featstore.FeatureStore(store).table(space=report.space.split("+"))
    head = featstore.fit(table, head="rbf", folds=3)
    model = featstore.export_head(head, tmp_path / "out", format="keras", table=table)
    saved = keras.saving.load_model(tmp_path / "out" / "model.keras", compile=False)

    assert model.description.verification["largest_difference"] < 1e-5
    kernels = [weight for weight in saved.weights if tuple(weight.shape) == (3, 3, 3, 4)]
    assert len(kernels) == 1


def test_the_command_prints_how_to_join_the_spaces(photos, model, tmp_path):
    words = ["extract", str(photos), "--store", str(tmp_path / "land.fstore"), "--backbone", model]
    words += ["--preprocess", "unit", "--image-size", "16", "--layer", "early", "--layer", "late", "--quiet"]
    result = CliRunner().invoke(main, words)
    store = featstore.FeatureStore(tmp_path / "land.fstore")

    assert result.exit_code == 0, result.output
    line = next(line for line in result.stdout.splitlines() if line.startswith("join them: "))
    assert [f"--space {name}" in line for name in store.space_names] == [True, True]
    again = CliRunner().invoke(main, [*words, "--json"])
    assert sorted(json.loads(again.stdout)["space"].split("+")) == sorted(store.space_names)
