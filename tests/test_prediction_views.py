"""Heads that look at several views of an image, and heads on several spaces."""

import os
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from PIL import Image

import featstore
from fakes import CountingBackbone
from featstore.errors import BackboneError, FingerprintMismatchError, ViewError
from featstore.flow import loading

CROPS = featstore.ViewRecipe(flip=True, random_crop=30, random_brightness=20)
N_VIEWS = 3


@pytest.fixture
def photos(tmp_path):
    """Thirty dark and thirty bright pictures."""
    generator = np.random.default_rng(0)
    for label, low in (("bright", 110), ("dark", 0)):
        os.makedirs(tmp_path / "photos" / label)
        for number in range(30):
            pixels = generator.integers(low, low + 140, (12, 14, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number:02d}.png")
    return tmp_path / "photos"


def paths_of(photos):
    return [str(path) for path in sorted(photos.glob("*/*.png"))]


def viewing(**options):
    return CountingBackbone(views=CROPS, **options)


def other(**options):
    """A network with other weights, that sees images in another size."""
    return CountingBackbone(**{"seed": 1, "feature_dim": 4, "size_px": (6, 9), "dtype": "float16"} | options)


@pytest.fixture
def store(photos, tmp_path):
    """A store with views in one space, and a space without in another."""
    featstore.extract(photos, tmp_path / "photos.fstore", backbone=viewing(), n_views=N_VIEWS)
    featstore.extract(photos, tmp_path / "photos.fstore", backbone=other())
    return featstore.FeatureStore(tmp_path / "photos.fstore")


@pytest.fixture
def views_head(store):
    fitted = featstore.fit(store.table(space=viewing().spec.name), params={"C": 1.0})
    return replace(fitted, test_views=N_VIEWS)


@pytest.fixture
def joined_head(store):
    return featstore.fit(store.table(space=[other().spec.name, viewing().spec.name]), params={"C": 1.0})


@pytest.fixture
def decoded(monkeypatch):
    """Count what is read and decoded."""
    counts = {"read": 0, "decoded": 0, "views": 0}

    def reading(image, read=loading.content_of):
        counts["read"] += 1
        return read(image)

    def decoding(content, *, views, decode=loading.iter_views, **options):
        counts["decoded"] += 1
        counts["views"] += len(views)
        return decode(content, views=views, **options)

    monkeypatch.setattr(loading, "content_of", reading)
    monkeypatch.setattr(loading, "iter_views", decoding)
    return counts


def probabilities(told, head):
    return np.array([[dict(one.top)[label] for label in head.classes.tolist()] for one in told])


def test_probabilities_are_the_mean_over_the_views_as_they_are_stored(photos, store, views_head):
    table = store.table(space=viewing().spec.name)
    rows = table.with_views(N_VIEWS).X
    each = views_head.predict_proba(rows).reshape(len(table), N_VIEWS, -1)
    told = list(featstore.predict(views_head, table.paths.tolist(), backbone=viewing(), top=2))
    np.testing.assert_allclose(probabilities(told, views_head), each.mean(axis=1), atol=1e-12)
    assert np.abs(each - each[:, :1]).max() > 0.01


def test_a_head_of_one_view_looks_at_the_image_itself(store, views_head):
    table = store.table(space=viewing().spec.name)
    backbone = viewing()
    plain = replace(views_head, test_views=1)
    told = list(featstore.predict(plain, table.paths.tolist(), backbone=backbone, top=2))
    np.testing.assert_allclose(probabilities(told, plain), plain.predict_proba(table.X), atol=1e-12)
    assert backbone.images == len(table)


def test_joined_features_are_computed_in_the_order_of_the_spaces(store, joined_head):
    table = store.table(space=[other().spec.name, viewing().spec.name])
    told = list(featstore.predict(joined_head, table.paths.tolist(), backbone=[viewing(), other()], top=2))
    wanted = joined_head.predict_proba(table.X)
    np.testing.assert_allclose(probabilities(told, joined_head), wanted, atol=1e-12)


def test_an_extended_head_on_joined_spaces_is_saved_and_labels_images(store, joined_head, tmp_path):
    table = store.table(space=[other().spec.name, viewing().spec.name])
    same = {label: label for label in table.classes.tolist()}
    rule = featstore.SplitRule(test=0, validation=0)
    featstore.extend(joined_head, table, same=same, rule=rule).save(tmp_path / "more.head")
    head = featstore.Head.load(tmp_path / "more.head")
    assert head.weights == joined_head.weights == table.weights
    assert len(head.weights) == 2
    told = list(featstore.predict(head, table.paths.tolist(), backbone=[viewing(), other()], top=2))
    np.testing.assert_allclose(probabilities(told, head), head.predict_proba(table.X), atol=1e-6)


def test_several_views_of_joined_spaces_are_averaged(photos, store):
    smaller = other(views=CROPS)
    featstore.extract(photos, store, backbone=smaller, n_views=2)
    table = store.table(space=[viewing().spec.name, smaller.spec.name])
    head = replace(featstore.fit(table, params={"C": 1.0}), test_views=2)
    told = list(featstore.predict(head, table.paths.tolist(), backbone=[viewing(), smaller], top=2))
    wanted = head.predict_proba(table.with_views(2).X.reshape(len(table), 2, -1))
    np.testing.assert_allclose(probabilities(told, head), wanted, atol=1e-12)


def test_an_image_is_read_and_decoded_once_for_all_its_views(photos, views_head, decoded):
    list(featstore.predict(views_head, paths_of(photos)[:7], backbone=viewing()))
    assert decoded == {"read": 7, "decoded": 7, "views": 7 * N_VIEWS}


def test_an_image_is_decoded_once_for_networks_that_see_the_same_of_it(photos, store, decoded):
    same, smaller = CountingBackbone(seed=2), CountingBackbone(seed=3, size_px=(6, 9))
    for backbone in (same, smaller):
        featstore.extract(photos, store, backbone=backbone)
    alike = [other(dtype="float32"), same, smaller]
    featstore.extract(photos, store, backbone=alike[0])
    head = featstore.fit(store.table(space=[one.spec.name for one in alike]), params={"C": 1.0})
    decoded.update(decoded=0, views=0)
    list(featstore.predict(head, paths_of(photos)[:7], backbone=alike))
    assert decoded == {"read": 7, "decoded": 14, "views": 14}


def test_what_is_stored_with_all_its_views_is_neither_decoded_nor_computed(store, views_head, decoded):
    table = store.table(space=viewing().spec.name)
    paths = table.paths.tolist()
    expected = list(featstore.predict(views_head, paths, backbone=viewing(), top=2))
    decoded.update(dict.fromkeys(decoded, 0))
    backbone = viewing()
    found = list(featstore.predict(views_head, paths, backbone=backbone, store=store, top=2))
    assert [one.to_dict() for one in found] == [one.to_dict() for one in expected]
    assert all(one.is_reused for one in found)
    assert backbone.images == decoded["decoded"] == 0
    assert decoded["read"] == len(paths)


def test_an_image_that_lacks_a_view_is_computed(photos, store, views_head):
    more = replace(views_head, test_views=N_VIEWS + 1)
    backbone = viewing()
    found = list(featstore.predict(more, paths_of(photos), backbone=backbone, store=store, top=2))
    assert backbone.images == 60 * (N_VIEWS + 1)
    assert not any(one.is_reused for one in found)
    again = list(featstore.predict(more, paths_of(photos), backbone=viewing(), top=2))
    assert [one.to_dict() for one in found] == [one.to_dict() for one in again]


def test_of_joined_spaces_only_what_lacks_is_computed(photos, tmp_path, store, joined_head):
    paths = [*paths_of(photos)[:9], str(tmp_path / "new.png"), "missing.png", *paths_of(photos)[9:]]
    Image.fromarray(np.full((9, 9, 3), 40, np.uint8)).save(tmp_path / "new.png")
    expected = list(featstore.predict(joined_head, paths, backbone=[other(), viewing()], top=2))
    half = featstore.FeatureStore(tmp_path / "half.fstore", create=True)
    featstore.extract(photos, half, backbone=viewing(), n_views=2)

    for home, computed in ((store, (1, 1)), (half, (61, 1))):
        backbones = [other(), viewing()]
        found = list(featstore.predict(joined_head, paths, backbone=backbones, store=home, top=2))
        assert [one.to_dict() for one in found] == [one.to_dict() for one in expected]
        assert tuple(one.images for one in backbones) == computed
        assert sum(one.is_reused for one in found) == (60 if home is store else 0)


@pytest.mark.parametrize("kind", ["views", "joined"])
def test_probabilities_do_not_depend_on_the_other_images(photos, views_head, joined_head, kind):
    head, backbones = {
        "views": (views_head, [viewing(batch_size=32)]),
        "joined": (joined_head, [other(batch_size=32), viewing(batch_size=32)]),
    }[kind]
    predictor = featstore.Predictor(head, backbone=backbones)
    paths = paths_of(photos)
    together = list(predictor.stream(paths, top=2))
    assert together == [predictor.predict(path, top=2) for path in paths]
    assert list(predictor.stream(paths[5:42], top=2)) == together[5:42]


@pytest.mark.parametrize("bad", [[0], [3], [4], [0, 1, 2, 3], [9], [8, 9], list(range(10))])
@pytest.mark.parametrize("kind", ["views", "joined"])
def test_broken_images_keep_their_place(photos, views_head, joined_head, kind, bad):
    head, backbones = {
        "views": (views_head, [viewing()]),
        "joined": (joined_head, [other(), viewing()]),
    }[kind]
    images = [b"nothing" if number in bad else path for number, path in enumerate(paths_of(photos)[:10])]
    told = list(featstore.predict(head, images, backbone=backbones, top=2))
    assert [number for number, one in enumerate(told) if one.reason] == bad
    assert {one.label for number, one in enumerate(told) if number not in bad} <= {"bright"}


@pytest.mark.parametrize("kind", ["new", "broken", "known"])
def test_results_come_while_images_are_still_being_given(photos, store, joined_head, kind):
    drawn = []

    def endless():
        while True:
            drawn.append(len(drawn))
            yield b"nothing" if kind == "broken" else paths_of(photos)[len(drawn) % 60]

    backbones = [other(), viewing()]
    options = {"backbone": backbones, "workers": 2, "store": store if kind == "known" else None}
    told = list(islice(featstore.predict(joined_head, endless(), **options), 300))
    assert {one.is_reused for one in told} == {kind == "known"}
    assert len(drawn) < 800


def test_few_pictures_are_decoded_ahead_however_many_views_there_are(photos, views_head, decoded):
    many = replace(views_head, test_views=40)
    images = iter(paths_of(photos))
    next(featstore.predict(many, images, backbone=viewing(), workers=2))
    assert decoded["views"] <= 40 * 8


def test_a_saved_head_remembers_its_views(photos, views_head, tmp_path):
    views_head.save(tmp_path / "a.head")
    backbone = viewing()
    (told,) = featstore.predict(tmp_path / "a.head", paths_of(photos)[:1], backbone=backbone)
    assert told.label == "bright"
    assert backbone.images == N_VIEWS


def test_a_network_that_was_loaded_without_the_views_serves(photos, views_head):
    (told,) = featstore.predict(views_head, paths_of(photos)[:1], backbone=CountingBackbone(), top=2)
    (wanted,) = featstore.predict(views_head, paths_of(photos)[:1], backbone=viewing(), top=2)
    assert told == wanted


def test_every_backbone_of_a_joined_head_has_to_be_given(joined_head):
    with pytest.raises(
        FingerprintMismatchError, match=r"features of fake0-\w+ are needed, and the backbone is fake1-"
    ):
        featstore.Predictor(joined_head, backbone=other())


def test_views_of_a_space_without_a_recipe_cannot_be_looked_at(photos, store):
    head = featstore.fit(store.table(space=other().spec.name), params={"C": 1.0})
    with pytest.raises(ViewError, match="without a recipe"):
        list(featstore.predict(replace(head, test_views=2), paths_of(photos), backbone=other()))


def test_weights_files_are_as_many_as_backbones(joined_head):
    with pytest.raises(BackboneError, match=r"3 weights files are given, for 2 backbones: fake1-\w+, fake0-"):
        featstore.Predictor(joined_head, weights=["a.h5", "b.h5", "c.h5"])


def test_what_lacks_its_weights_is_named(joined_head):
    with pytest.raises(BackboneError, match=r"'fake1'.*It is about fake1-\w+, one of 2 backbones"):
        featstore.Predictor(joined_head)
