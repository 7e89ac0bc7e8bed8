"""Rows that were selected are in the splits and groups that they have in the whole table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.splits import SplitRule
from featstore.store import FeatureStore

N_IMAGES = 24
RULES = [
    SplitRule(),
    SplitRule(test=0.3, validation=0.3, salt="a"),
    SplitRule(test=0, salt="b"),
    SplitRule(by="group", test=0.4),
    SplitRule(by="folder", test=0.3),
    SplitRule(by="pattern", group_pattern="[0-9]$|[0-9]"),
    SplitRule(by="filename", test=0.4, validation_from_train=True),
    SplitRule(by="retrain", retrain_prefix="/photos", stratify=False),
]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Classes of one to nine images, some with groups and given splits, each image with two views."""
    from featstore.backbones.spec import BackboneSpec
    from featstore.images import ViewRecipe
    from featstore.store import Catalog

    store = FeatureStore(tmp_path_factory.mktemp("splits") / "a.fstore", create=True)
    spec = BackboneSpec(
        architecture="tiny",
        weights_digest="0" * 64,
        layer="top",
        size_px=(8, 8),
        preprocessing="unit",
        views=ViewRecipe(flip=True),
    )
    space = store.create_space(spec, feature_dim=3)
    hashes = np.random.default_rng(3).integers(0, 256, (N_IMAGES, 32), np.uint8)
    for view in range(2):
        space.append(np.ones((N_IMAGES, 3), np.float32), hashes, np.full(N_IMAGES, view, np.uint16))
    names = ["a"] * 9 + ["b"] * 6 + ["c"] * 4 + ["d"] * 2 + ["e"] + [None] * 2
    blank = [None] * N_IMAGES
    store.write_catalog(
        Catalog(
            name="photos",
            root="/photos",
            location="/photos",
            paths=[f"{number % 5}/{number}.jpg" for number in range(N_IMAGES)],
            labels=names,
            groups=["one", "one", "two", *blank[3:]],
            splits=[*blank[4:], "test", "train", "train", None],
            content_hash=hashes,
            sizes=np.arange(N_IMAGES),
            mtimes_ns=np.arange(N_IMAGES),
            reasons=blank,
        )
    )
    return store.table()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.by} {rule.salt}")
@settings(max_examples=25)
@given(data=st.data())
def test_selected_rows_stay_in_their_splits_and_groups(table, rule, data):
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=N_IMAGES, max_size=N_IMAGES)))
    some = table.select(mask)
    np.testing.assert_array_equal(some.splits(rule), table.splits(rule)[mask])
    np.testing.assert_array_equal(some.group_keys(rule), table.group_keys(rule)[mask])
    fewer = some.select(slice(None, None, -2))
    np.testing.assert_array_equal(fewer.splits(rule), table.splits(rule)[mask][::-2])
    views = fewer.with_views(2)
    expected = np.repeat(fewer.splits(rule), 2)
    np.testing.assert_array_equal(views.splits(rule), expected)
    np.testing.assert_array_equal(views.select(views.views == 1).splits(rule), fewer.splits(rule))
    for split in ("train", "validation", "test"):
        assert len(fewer.split(split, rule)) == np.count_nonzero(fewer.splits(rule) == split)


def test_a_class_that_is_left_with_few_rows_is_not_assigned_anew(table):
    rule = SplitRule(test=0.3, validation=0.3)
    for split in ("train", "validation", "test"):
        alone = table.split(split, rule)
        assert {*alone.splits(rule).tolist()} <= {split}


def test_rows_without_a_group_are_selected_from_a_table_with_groups(table):
    rule = SplitRule(by="group")
    ungrouped = table.select(table.groups == "")
    np.testing.assert_array_equal(ungrouped.splits(rule), table.splits(rule)[3:])
    np.testing.assert_array_equal(ungrouped.group_keys(rule), ungrouped.content_hash)


def test_given_splits_make_a_whole_table_of_their_own(table):
    rule = SplitRule(test=0.3, validation=0.3)
    some = table.select(table.y == "a").with_splits(["train"] * 8 + [""])
    assert some.splits(rule).tolist()[:8] == ["train"] * 8
    again = some.select([8, 0])
    np.testing.assert_array_equal(again.splits(rule), some.splits(rule)[[8, 0]])


def test_splits_that_a_caller_changes_do_not_change_the_table(table):
    splits = table.splits()
    before = splits.copy()
    splits[:] = "test"
    np.testing.assert_array_equal(table.splits(), before)
