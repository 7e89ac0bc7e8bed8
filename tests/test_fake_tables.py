"""The stand-in for a table does what the real one does, as far as it goes."""

from dataclasses import replace

import numpy as np
import pytest

from fake_tables import viewed_table
from featstore.images import ViewRecipe
from featstore.splits import SplitRule
from featstore.store import Catalog, FeatureStore

N, N_VIEWS = 60, 3
RULES = [
    SplitRule(),
    SplitRule(by="group", salt="other"),
    SplitRule(test=0.3, stratify=True),
    SplitRule(validation=0, validation_from_train=False),
]


def fake_table():
    table = viewed_table(N, N_VIEWS)
    groups = np.array([f"g{number // 2}" if number < 20 else "" for number in range(N)])
    given = np.array(["train", "test", *[""] * (N - 2)], "<U10")
    y = np.where(np.arange(N) % 7 == 0, "", table.y)
    views = ViewRecipe(flip=True, random_crop=10)
    return table.but(groups=groups, given_splits=given, y=y, spec=replace(table.spec, views=views))


def real_table(folder):
    """The same images in a store."""
    fake = fake_table()
    store = FeatureStore(folder / "photos.fstore", create=True)
    space = store.create_space(
        fake.spec, feature_dim=fake.feature_dim, provenance={"weights": fake.weights, "engine": "fake"}
    )
    for view in range(N_VIEWS):
        space.append(fake.bank[:, view], fake.content_hash_bytes, np.full(N, view, np.uint16))
    store.write_catalog(
        Catalog(
            name=fake.catalog_name,
            root="/photos",
            location="/photos",
            paths=[path.removeprefix("/photos/") for path in fake.paths.tolist()],
            labels=[label or None for label in fake.y.tolist()],
            groups=[group or None for group in fake.groups.tolist()],
            splits=[split or None for split in fake.given_splits.tolist()],
            content_hash=fake.content_hash_bytes,
            sizes=np.zeros(N),
            mtimes_ns=np.zeros(N),
            reasons=[None] * N,
        )
    )
    return store.table()


@pytest.fixture(params=["fake", "real"])
def table(request, tmp_path):
    return fake_table() if request.param == "fake" else real_table(tmp_path)


def assert_same(one, other):
    assert len(one) == len(other)
    for name in (
        "feature_dim",
        "dtype",
        "n_views",
        "spec",
        "fingerprint",
        "space_name",
        "catalog_name",
        "weights",
    ):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("X", "y", "groups", "given_splits", "paths", "content_hash", "content_hash_bytes", "views"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for rule in RULES:
        np.testing.assert_array_equal(one.splits(rule), other.splits(rule))
        np.testing.assert_array_equal(one.group_keys(rule), other.group_keys(rule))


def test_it_hands_out_what_a_store_does(tmp_path):
    fake, real = fake_table(), real_table(tmp_path)
    assert_same(fake, real)
    assert_same(fake.with_views(2), real.with_views(2))
    for index in (slice(5, 50), np.arange(N)[::-2], fake.y == "class 1"):
        assert_same(fake.select(index), real.select(index))
        assert_same(fake.select(index).select([3, 1]), real.select(index).select([3, 1]))
    splits = np.where(np.arange(N) % 2, "train", "")
    assert_same(fake.with_splits(splits), real.with_splits(splits))
    assert_same(
        fake.select(slice(9, 40)).with_splits(splits[9:40]),
        real.select(slice(9, 40)).with_splits(splits[9:40]),
    )


def test_it_has_no_names_of_its_own_but_those_that_tests_make_tables_with(tmp_path):
    names = {name for name in dir(fake_table()) if not name.startswith("_")}
    assert names - {*dir(real_table(tmp_path))} == {"bank", "but", "dims"}


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_selected_rows_stay_in_their_splits(table, rule):
    np.testing.assert_array_equal(table.select(slice(7, 30)).splits(rule), table.splits(rule)[7:30])


def test_given_splits_win(table):
    splits = np.where(np.arange(N) < 30, "test", "train")
    np.testing.assert_array_equal(table.with_splits(splits).splits(), splits)


def test_views_of_an_image_follow_each_other(table):
    viewed = table.with_views(N_VIEWS)
    assert viewed.views.tolist() == [*range(N_VIEWS)] * N
    np.testing.assert_array_equal(viewed.X[::N_VIEWS], table.X)
    np.testing.assert_array_equal(viewed.content_hash, np.repeat(table.content_hash, N_VIEWS))
    assert table.with_views(1) is table
