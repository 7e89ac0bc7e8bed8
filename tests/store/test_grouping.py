import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.errors import NotInStoreError, StoreError
from featstore.splits import SplitRule
from featstore.store.tables.grouping import join_groups

COLUMN = st.none() | st.sampled_from("abcd")


@given(rows=st.lists(st.tuples(COLUMN, COLUMN.map(lambda name: name and f"near-{name}")), max_size=12))
def test_images_that_share_either_group_share_the_joined_one(rows):
    groups, near_groups = [row[0] for row in rows], [row[1] for row in rows]
    joined = join_groups(groups, near_groups)
    for own, near, told in zip(groups, near_groups, joined, strict=True):
        assert bool(own or near) == bool(told)
        for other_own, other_near, other in zip(groups, near_groups, joined, strict=True):
            if (own and own == other_own) or (near and near == other_near):
                assert told == other


def test_the_users_name_wins_and_untouched_groups_keep_theirs():
    joined = join_groups(["plant 2", "plant 1", None, "plant 3", None], ["x", "x", "x", None, "y"])
    assert joined == ["plant 1", "plant 1", "plant 1", "plant 3", "y"]


@pytest.fixture
def filled(store, fill, make_catalog):
    fill(store, n=10)
    store.write_catalog(make_catalog(groups=["plant", "plant", *[None] * 8]))
    return store


def hexes(table, *rows):
    return [table.content_hash[row] for row in rows]


def test_near_groups_join_the_users_own_and_leave_them_in_the_catalog(filled):
    table = filled.table()
    assert filled.write_near_groups([hexes(table, 1, 2), hexes(table, 4, 5)]) == 4
    again = filled.table().groups.tolist()
    assert again[:3] == ["plant"] * 3
    assert again[4] == again[5] != ""
    assert [again[row] for row in (3, 6, 7, 8, 9)] == [""] * 5
    assert filled.catalog().groups[:3] == ("plant", "plant", None)


def test_a_split_by_group_keeps_near_groups_together(filled):
    table = filled.table()
    filled.write_near_groups([hexes(table, 2, 3, 4, 5, 6, 7, 8, 9)])
    for salt in "abcdefgh":
        splits = filled.table().splits(SplitRule(by="group", test=0.4, validation=0.3, salt=salt))
        assert len(set(splits[2:].tolist())) == 1


def test_a_group_that_grows_keeps_its_name(filled):
    table = filled.table()
    filled.write_near_groups([hexes(table, 4, 5)])
    before = filled.table().groups[4]
    filled.write_near_groups([hexes(table, 9, 8, 7, 6, 5, 4)])
    assert set(filled.table().groups[4:].tolist()) == {before}


def test_of_a_group_that_falls_apart_the_larger_part_keeps_the_name(filled):
    table = filled.table()
    filled.write_near_groups([hexes(table, 4, 5, 6, 7, 8)])
    before = filled.table().groups[4]
    filled.write_near_groups([hexes(table, 4, 5), hexes(table, 6, 7, 8)])
    again = filled.table().groups
    assert again[6] == again[7] == again[8] == before
    assert again[4] == again[5] not in ("", before)


def test_no_groups_take_away_what_was_noted(filled):
    table = filled.table()
    filled.write_near_groups([hexes(table, 4, 5)])
    assert filled.write_near_groups([]) == 0
    assert filled.table().groups.tolist() == ["plant", "plant", *[""] * 8]
    with h5py.File(filled.catalog_path("photos")) as file:
        assert "near_group" not in file


def test_groups_reach_over_several_catalogs(store, fill, make_catalog, make_hashes):
    fill(store, n=10)
    hashes = make_hashes(10)
    for name, part in (("a", slice(0, 5)), ("b", slice(5, 10))):
        store.write_catalog(
            make_catalog(5, name=name, location=f"/{name}", root=f"/{name}", content_hash=hashes[part])
        )
    table = store.table(catalog=["a", "b"])
    assert store.write_near_groups([hexes(table, 0, 9)], catalog=["a", "b"]) == 2
    groups = store.table(catalog=["a", "b"]).groups
    assert groups[0] == groups[9] != ""


@pytest.mark.parametrize("group", [["ab"], ["zz" * 32], [], [7]])
def test_what_is_no_content_hash_is_refused(filled, group):
    with pytest.raises(StoreError, match="64 hexadecimal digits"):
        filled.write_near_groups([group])


def test_a_content_in_two_groups_is_refused_and_nothing_written(filled):
    table = filled.table()
    with pytest.raises(StoreError, match="two groups"):
        filled.write_near_groups([hexes(table, 1, 2), hexes(table, 2, 3)])
    assert not any(filled.catalog().near_groups)


def test_a_catalog_that_is_not_there_is_named(filled):
    with pytest.raises(NotInStoreError, match="birds"):
        filled.write_near_groups([], catalog="birds")


def test_near_groups_are_written_and_read_back(store, make_catalog):
    names = ["near-1", None, "near-é", *[None] * 7]
    catalog = make_catalog(near_groups=names)
    store.write_catalog(catalog)
    assert store.catalog().near_groups == tuple(names)
    assert store.catalog().equals(catalog)
    assert not store.catalog().equals(make_catalog())


def test_near_groups_of_another_length_are_refused(make_catalog):
    with pytest.raises(StoreError, match="near_groups"):
        make_catalog(near_groups=["near-1"])


def test_a_merge_brings_them_along(filled, tmp_path):
    from featstore.store import FeatureStore

    filled.write_near_groups([hexes(filled.table(), 4, 5)])
    other = FeatureStore(tmp_path / "other.fstore", create=True)
    other.merge(filled)
    np.testing.assert_array_equal(other.table().groups, filled.table().groups)
