"""Tuning on stored maps: what it starts from, what it leaves alone, what comes out."""

import json
from dataclasses import replace

import numpy as np
import pytest

import featstore
from featstore import FeatureStore, Head, SplitRule, ViewRecipe
from featstore.errors import (
    ExtractionError,
    FingerprintMismatchError,
    HeadError,
    OutputError,
    SplitError,
    TuningError,
    ViewError,
)


def same_weights(first, second, layer=None):
    return [
        np.array_equal(a.numpy(), b.numpy())
        for a, b in zip(first.weights, second.weights, strict=True)
        if layer is None or layer in a.path
    ]


def test_epoch_0_is_the_probe_itself(tune, probe, table):
    tuned = tune(maps_dtype="float32")
    rows = table.select(table.splits(probe.split_rule) == "validation")
    is_right = probe.predict(rows.X) == rows.y
    assert tuned.report["epochs"][0]["top1"] == pytest.approx(is_right.mean())
    assert tuned.report["epochs"][0]["n"] == len(rows)


def test_tuning_changes_what_is_above_the_cut_and_nothing_else(tune, prepared, keras):
    tuned = tune()
    before, after = (keras.models.load_model(path) for path in (prepared / "small.keras", tuned.weights))
    for layer in ("edges", "edges_bn", "inside", "depthwise"):
        assert all(same_weights(before.get_layer(layer), after.get_layer(layer)))
    for layer in ("parts", "wholes"):
        assert not any(same_weights(before.get_layer(layer), after.get_layer(layer), "kernel"))


def test_batch_statistics_stay_as_they_are_and_their_scale_is_trained(tune, prepared, keras):
    tuned = tune()
    before, after = (
        keras.models.load_model(path).get_layer("parts_bn")
        for path in (prepared / "small.keras", tuned.weights)
    )
    assert all(same_weights(before, after, "moving"))
    assert not any(same_weights(before, after, "gamma"))


def test_features_from_maps_are_those_of_the_files(tune, store, table, here):
    tuned = tune(maps_dtype="float32")
    assert len(store.space(tuned.report["space"]).content_hash) == len(table)
    found = store.table(space=tuned.report["space"]).X
    fresh = featstore.extract(
        table.paths.tolist(),
        here / "fresh.fstore",
        backbone=tuned.weights,
        preprocess="tf",
        engine="keras",
    )
    assert fresh.space == tuned.report["space"]
    np.testing.assert_allclose(found, FeatureStore(fresh.store).table().X, rtol=1e-4, atol=1e-5)


def test_maps_of_half_precision_are_right_to_three_digits(tune, store, table):
    spaces = [tune(output=name, epochs=1, maps_dtype=name).report for name in ("float16", "float32")]
    assert spaces[0]["maps"]["bytes_a_view"] * 2 == spaces[1]["maps"]["bytes_a_view"] == 4 * 16 * 16 * 8
    halves = store.space(spaces[0]["maps"]["space"])
    whole = store.space(spaces[1]["maps"]["space"])
    hashes = np.asarray(table.content_hash_bytes)
    np.testing.assert_allclose(
        halves.rows(halves.lookup(hashes)), whole.rows(whole.lookup(hashes)), rtol=1e-3, atol=1e-6
    )


def test_maps_are_computed_once(tune, store):
    first = tune(output="first").report["maps"]
    second = tune(output="second", epochs=1).report["maps"]
    assert (first["computed"], second["computed"]) == (90, 0)
    assert first["space"] == second["space"]


def test_more_views_compute_only_those_of_training_images(tune, store, table, probe):
    recipe = ViewRecipe(flip=True, random_crop=20)
    one = tune(output="one").report["maps"]
    more = tune(output="more", n_views=3, views=recipe).report
    n_train = more["images"]["train"]
    assert (one["copied"], more["maps"]["copied"]) == (0, 90)
    assert more["maps"]["computed"] == 2 * n_train
    space = store.space(more["maps"]["space"])
    train = table.splits(probe.split_rule) == "train"
    hashes = np.asarray(table.content_hash_bytes)
    assert (space.lookup(hashes[train], 2) >= 0).all()
    assert (space.lookup(hashes[~train], 1) < 0).all()


def test_two_runs_give_the_same_bits(tune):
    one, two = (tune(output=name, dropout=0.5) for name in ("one", "two"))
    assert np.array_equal(one.head.linear.coef, two.head.linear.coef)
    assert one.report["chosen"] == two.report["chosen"] == 2
    digests = {tuned.head.spec.weights_digest for tuned in (one, two)}
    assert len(digests) == 1


def test_another_seed_trains_otherwise(tune):
    first, second = (tune(output=f"seed{seed}", seed=seed, epochs=1).report["epochs"][1] for seed in (0, 1))
    assert first["loss"] != second["loss"]


def test_the_tuned_head_predicts_and_knows_what_it_saw(tune, store, table, probe):
    tuned = tune()
    head = Head.load(store.head_path("tuned"))
    assert np.array_equal(head.linear.coef, tuned.head.linear.coef)
    rows = store.table(space=head.space)
    split = np.asarray(table.splits(probe.split_rule))
    assert np.array_equal(head.was_fitted_on(rows), split == "train")
    assert np.array_equal(head.was_chosen_on(rows), split == "validation")
    evaluation = featstore.evaluate(head, rows)
    assert evaluation.top1 == pytest.approx(tuned.report["comparison"]["heads"][1]["top1"])
    (prediction,) = featstore.predict(head, table.paths[:1].tolist(), engine="keras")
    assert prediction.label == head.predict(rows.X[:1])[0]


def test_a_head_that_saw_validation_is_fitted_again_without_it(tune, table, probe):
    both = featstore.fit(table, params={"C": 1.0}, rule=probe.split_rule)
    tuned = tune(both)
    assert tuned.report["fitted_again"]
    assert tuned.report["epochs"][0] == tune(probe, output="other").report["epochs"][0]


@pytest.mark.parametrize("stratify", [False, True])
def test_a_class_with_too_few_images_for_the_head_stays_out(tune, store, table, probe, stratify):
    rare = np.flatnonzero(table.y == "stripes")
    few = table.select(np.setdiff1d(np.arange(len(table)), rare[4:]))
    rule = replace(probe.split_rule, stratify=stratify)
    head = featstore.fit(few, params={"C": 1.0}, rule=rule, min_images=5)
    assert head.classes.tolist() == ["blobs", "rings"]
    tuned = tune(head, few)
    assert tuned.report["fitted_again"]
    alone = few.select(few.y != "stripes")
    again = featstore.fit(alone, params={"C": 1.0}, rule=rule, refit=False)
    same = tune(again, alone, output="other")
    for key in ("loss", "top1", "cross_entropy"):
        assert [one.get(key) for one in tuned.report["epochs"]] == [
            one.get(key) for one in same.report["epochs"]
        ]
    assert tuned.head.counts == same.head.counts
    rows = store.table(space=tuned.head.space)
    assert featstore.evaluate(tuned.head, rows).n == sum(tuned.head.counts["test"].values())


def test_where_no_epoch_is_better_the_head_is_kept(tune, probe, store, prepared, keras):
    tuned = tune(chooses=True, learning_rate=100.0, clip_norm=None, dropout=0.9)
    assert tuned.report["chosen"] == 0
    assert tuned.report["comparison"] is None
    assert tuned.report["space"] == tuned.head.space == probe.space
    # The one space of features, beside that of the maps.
    assert store.space().name == probe.space
    assert np.array_equal(Head.load(store.head_path("tuned")).linear.coef, probe.linear.coef)
    before, after = (keras.models.load_model(path) for path in (prepared / "small.keras", tuned.weights))
    assert all(same_weights(before, after))


@pytest.mark.parametrize(
    ("top1", "cross_entropy", "is_better"), [(0.79, 0.4, True), (0.99, 0.6, False), (0.99, 0.5, False)]
)
def test_an_epoch_is_better_by_cross_entropy(top1, cross_entropy, is_better):
    from featstore.tuning.training import _is_better

    best = {"top1": 0.95, "cross_entropy": 0.5}
    assert _is_better({"top1": top1, "cross_entropy": cross_entropy}, best) == is_better


def test_the_report_is_written_as_json_and_as_text(tune, here):
    tuned = tune()
    assert json.loads((here / "tuned.report.json").read_text()) == tuned.report
    text = (here / "tuned.report.txt").read_text()
    assert "block" in text
    assert "chosen" in text
    assert not (here / "tuned.tuning").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam", "learning_rate": 1e-3},
        {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1},
        {"optimizer": "rmsprop", "learning_rate": 1e-3, "epsilon": 1.0, "schedule": "exponential"},
        {"ema": 0.9, "warmup": 0.5, "label_smoothing": 0.1, "schedule": "polynomial"},
        {"layer_decay": 0.5, "head_rate": 2.0, "clip_norm": None, "class_weight": "balanced"},
    ],
)
def test_every_way_to_train_trains(tune, options):
    epochs = tune(epochs=1, **options).report["epochs"]
    assert len(epochs) == 2
    assert all(np.isfinite(entry["loss"]) for entry in epochs[1:])


def test_the_loss_of_an_epoch_is_the_mean_over_its_images(tune):
    """With weights that hardly move, that does not depend on how many images a step takes."""
    options = {"epochs": 1, "learning_rate": 1e-12, "dropout": 0.0}
    half, quarter = (
        tune(output=f"by{size}", batch_size=size, **options).report["epochs"][1]["loss"] for size in (26, 13)
    )
    assert half == pytest.approx(quarter, rel=1e-4)


def test_the_head_alone_is_left_as_it_is_at_rate_0(tune, probe):
    tuned = tune(head_rate=0.0)
    temperature = probe.temperature or 1.0
    np.testing.assert_allclose(tuned.head.linear.coef, probe.linear.coef / temperature, rtol=1e-6)


def test_from_pixels_the_same_part_is_trained_as_on_maps(tune, prepared, keras, monkeypatch):
    """With all below the cut frozen, tuning the whole network is tuning the part above."""
    from featstore.backbones.keras.tunable import TunableNetwork

    plain = TunableNetwork.from_pixels

    def frozen_below(self):
        model = plain(self)
        for name in ("edges", "edges_bn", "inside", "depthwise"):
            self.cut.whole.get_layer(name).trainable = False
        return model

    monkeypatch.setattr(TunableNetwork, "from_pixels", frozen_below)
    options = {"epochs": 2, "dropout": 0.0, "momentum": 0.0}
    above = tune(output="above", maps_dtype="float32", **options).report["epochs"]
    whole = tune(output="whole", from_layer="all", **options).report["epochs"]
    for part, all_of_it in zip(above, whole, strict=True):
        assert part["cross_entropy"] == pytest.approx(all_of_it["cross_entropy"], rel=1e-3)


def test_the_whole_network_is_tuned_from_pixels(tune, store, prepared, keras):
    recipe = ViewRecipe(flip=True)
    tuned = tune(from_layer="all", n_views=2, views=recipe, epochs=1, learning_rate=0.005)
    assert tuned.report["maps"] is None
    before, after = (keras.models.load_model(path) for path in (prepared / "small.keras", tuned.weights))
    assert not any(same_weights(before.get_layer("edges"), after.get_layer("edges"), "kernel"))
    assert len(store.space(tuned.report["space"]).content_hash) == 90


def test_curves_are_written_for_tensorboard(tune, here):
    pytest.importorskip("tensorboard")
    tune(tensorboard=here / "runs")
    assert [path.name.split(".")[2] for path in (here / "runs" / "tuned").iterdir()] == ["tfevents"]


def test_photos_are_not_opened_where_maps_are_there(tune, table, monkeypatch):
    tune(output="first")

    def refuse(image):
        raise AssertionError(image)

    monkeypatch.setattr("featstore.flow.loading.content_of", refuse)
    assert tune(output="second").report["maps"]["computed"] == 0


class TestRefusals:
    """Each is one line, and leaves nothing behind."""

    @pytest.fixture(autouse=True)
    def nothing_half_written(self, here):
        yield
        assert sorted(path.name for path in here.iterdir()) == ["photos.fstore"]

    def test_a_head_that_is_not_linear(self, tune, table, probe):
        knn = featstore.fit(table, head="knn", params={"n_neighbors": 3}, rule=probe.split_rule)
        with pytest.raises(TuningError, match="not linear"):
            tune(knn)

    def test_features_of_another_space(self, tune, probe):
        other = replace(probe, fingerprint="0" * 64, spec=replace(probe.spec, resize="crop"))
        with pytest.raises(FingerprintMismatchError, match="resize"):
            tune(other)

    def test_classes_that_the_head_does_not_know(self, tune, table, probe):
        two = featstore.fit(table.select(table.y != "rings"), params={"C": 1.0}, rule=probe.split_rule)
        with pytest.raises(HeadError, match="does not know the classes rings"):
            tune(two)

    def test_classes_without_images(self, tune, table):
        with pytest.raises(HeadError, match="no training image has the labels rings"):
            tune(on=table.select(table.y != "rings"))

    def test_no_validation_images(self, tune, table):
        rule = SplitRule(validation=0, test=0.2, stratify=False)
        with pytest.raises(SplitError, match="no labelled image is in validation"):
            tune(featstore.fit(table, params={"C": 1.0}, rule=rule))

    def test_an_unknown_layer(self, tune):
        with pytest.raises(featstore.FeatstoreError, match="no layer 'blockk'; did you mean"):
            tune(from_layer="blockk")

    def test_a_layer_inside_a_block(self, tune):
        with pytest.raises(featstore.FeatstoreError, match="inside a block"):
            tune(from_layer="depthwise")

    def test_views_without_a_recipe(self, tune):
        with pytest.raises(ViewError, match="need a recipe"):
            tune(n_views=4)

    def test_an_option_out_of_range(self, tune):
        with pytest.raises(TuningError, match="dropout must be"):
            tune(dropout=1.5)

    def test_an_option_that_there_is_not(self, tune):
        with pytest.raises(TypeError, match="gradient_accumulation"):
            tune(gradient_accumulation=2)

    def test_an_output_inside_the_store(self, tune, here):
        with pytest.raises(OutputError, match="lies in the store"):
            tune(output=here / "photos.fstore" / "tuned")

    def test_weights_of_another_network(self, tune, keras, tmp_path_factory):
        from tuning_material import small_network

        keras.utils.set_random_seed(8)
        path = tmp_path_factory.mktemp("other") / "small.keras"
        small_network(keras, seed=9).save(path)
        with pytest.raises(FingerprintMismatchError, match="not those of"):
            tune(weights=path)


@pytest.mark.parametrize("from_layer", ["block", "all"])
def test_missing_photos_are_listed(tune, table, here, monkeypatch, from_layer):
    gone = table.paths[3]
    monkeypatch.setattr("featstore.flow.filling.is_there", lambda path: path != gone)
    with pytest.raises(ExtractionError, match="1 of .* images are not where .*" + gone.rsplit("/", 1)[1]):
        tune(from_layer=from_layer)
    assert not (here / "tuned.keras").exists()


def test_an_existing_file_is_kept(tune, here):
    (here / "tuned.keras").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        tune()
    assert (here / "tuned.keras").read_text() == "mine"
    tune(overwrite=True)
    assert (here / "tuned.keras").read_bytes()[:2] == b"PK"


def with_weights(store, space, of_labels):
    """Give the images of a store's catalog weights by their labels; return the table."""
    catalog = store.catalog()
    weights = [of_labels.get(label, np.nan) for label in catalog.labels]
    store.write_catalog(replace(catalog, weights=np.array(weights)))
    return FeatureStore(store.path).table(space)


def test_images_count_in_training_as_the_catalog_says(tune, store, table, here, caplog):
    of_classes = {"blobs": 4.0, "rings": 0.25}
    by_class = tune(on=table, output=here / "classes", class_weight=of_classes)
    weighted = with_weights(store, table.space_name, of_classes)
    by_image = tune(on=weighted, output=here / "images")
    plain = tune(on=weighted.without_weights(), output=here / "plain")
    assert "counts all images alike" not in caplog.text
    assert by_image.head.spec.weights_digest == by_class.head.spec.weights_digest
    assert plain.head.spec.weights_digest != by_image.head.spec.weights_digest
    # Scores, and so the choice, count all alike.
    assert by_image.report["epochs"][0]["cross_entropy"] == plain.report["epochs"][0]["cross_entropy"]
    assert (by_image.head.weighted, by_image.report["weighted"], plain.head.weighted) == (True, True, False)


def test_a_run_of_other_weights_is_not_gone_on_with(tune, store, table, monkeypatch):
    weighted = with_weights(store, table.space_name, {"blobs": 4.0})

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("featstore.tuning.training._epoch", stop)
        patch.setattr("featstore.tuning.finetuning.finish", stop)
        with pytest.raises(KeyboardInterrupt):
            tune(on=weighted)
    with pytest.raises(TuningError, match=r"tuned\.tuning"):
        tune(on=weighted.without_weights())
