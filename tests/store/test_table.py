import sys

import numpy as np
import pytest

from featstore.errors import MissingExtraError, NotInStoreError, SplitError, StoreError
from featstore.splits import SplitRule


@pytest.fixture
def table(store, fill, make_catalog):
    fill(store, n=20)
    store.write_catalog(make_catalog(20))
    return store.table()


def test_rows_are_the_catalogs_images_in_its_order(store, fill, make_catalog, make_hashes, make_features):
    fill(store, n=10, n_segments=2)
    order = np.random.default_rng(0).permutation(20)
    catalog = make_catalog(20, content_hash=make_hashes(20)[order])
    store.write_catalog(catalog)
    table = store.table()
    assert len(table) == 20
    np.testing.assert_array_equal(table.X, make_features(make_hashes(20))[order])
    assert table.paths.tolist() == catalog.absolute_paths()
    assert table.relative_paths == list(catalog.paths)
    assert table.y.tolist() == list(catalog.labels)
    assert table.content_hash.tolist() == [row.tobytes().hex() for row in catalog.content_hash]
    np.testing.assert_array_equal(table.content_hash_bytes, catalog.content_hash)


def test_types_are_as_promised(table, make_spec):
    assert (table.X.dtype, table.X.shape, table.feature_dim) == (np.float32, (20, 4), 4)
    assert {column.dtype.kind for column in (table.y, table.paths, table.groups, table.given_splits)} == {"U"}
    assert table.content_hash.dtype == "<U64"
    assert table.spec == make_spec()
    assert table.fingerprint == make_spec().fingerprint
    assert (table.space_name, table.catalog_name) == (make_spec().name, "photos")
    assert table.classes.tolist() == ["a", "b"]


def test_features_in_one_run_are_a_memory_map_and_gathered_once(table):
    assert isinstance(table.X, np.memmap)
    some = table.select([3, 1])
    assert not isinstance(some.X, np.memmap)
    assert some.X is some.X


def test_nothing_that_is_handed_out_can_be_written(table):
    for rows in (table, table.select([5, 2, 7])):
        columns = (rows.X, rows.y, rows.paths, rows.content_hash, rows.content_hash_bytes, rows.groups)
        for column in (*columns, rows.given_splits, rows.classes):
            with pytest.raises(ValueError, match="read-only"):
                column[0] = column[0]


def test_images_without_features_are_counted_and_left_out(store, fill, make_catalog):
    fill(store, n=6)
    store.write_catalog(make_catalog(10, reasons=["broken", *[None] * 9]))
    table = store.table()
    assert (len(table), table.n_missing, table.n_failed) == (5, 4, 1)
    assert table.relative_paths[0] == "b/1.jpg"


def test_only_the_image_itself_counts_not_its_views(store, make_spec, make_hashes, make_catalog):
    space = store.create_space(make_spec(), feature_dim=1)
    space.append(np.ones((2, 1), np.float32), make_hashes(2), np.array([1, 0], np.uint16))
    store.write_catalog(make_catalog(2))
    assert store.table().relative_paths == ["b/1.jpg"]


def test_no_features_at_all_says_what_to_run(store, fill, make_catalog, make_hashes):
    fill(store, n=3)
    store.write_catalog(
        make_catalog(4, content_hash=make_hashes(4, first=50), reasons=["x", None, None, None])
    )
    with pytest.raises(NotInStoreError, match=r"3 are missing, 1 could not.*extract .*--backbone tiny"):
        store.table()


def test_copies_of_one_file_are_rows_of_their_own(store, fill, make_catalog, make_hashes):
    fill(store, n=2)
    store.write_catalog(make_catalog(3, content_hash=make_hashes(2)[[0, 0, 1]]))
    table = store.table()
    np.testing.assert_array_equal(table.X[0], table.X[1])
    assert len(table) == 3


def test_missing_texts_are_empty(store, fill, make_catalog):
    fill(store, n=2)
    store.write_catalog(make_catalog(2, labels=["a", None], groups=[None, "g"], splits=[None, "test"]))
    table = store.table()
    assert table.y.tolist() == ["a", ""]
    assert table.groups.tolist() == ["", "g"]
    assert table.given_splits.tolist() == ["", "test"]
    assert (table.classes.tolist(), table.has_labels) == (["a"], False)
    assert table.select([0]).has_labels
    assert not table.select([]).has_labels


def test_several_catalogs_are_joined_and_the_same_file_taken_once(store, fill, make_catalog, make_hashes):
    fill(store, n=10)
    store.write_catalog(make_catalog(3))
    store.write_catalog(
        make_catalog(
            4,
            name="list",
            root="/data/lists",
            paths=["../photos/a/0.jpg", "/data/photos/b/1.jpg", "../photos/a/2.jpg", "new.jpg"],
            labels=["a", "z", "a", "c"],
            content_hash=make_hashes(10)[[0, 1, 7, 3]],
        )
    )
    table = store.table(catalog=["photos", "list"])
    assert table.catalog_name == "photos+list"
    # The first is a repetition; the second has another label, and the third another content.
    assert table.relative_paths == [
        "a/0.jpg",
        "b/1.jpg",
        "a/2.jpg",
        "/data/photos/b/1.jpg",
        "../photos/a/2.jpg",
        "new.jpg",
    ]
    assert table.paths[5] == "/data/lists/new.jpg"
    assert store.table(catalog="list").relative_paths[3] == "new.jpg"


@pytest.mark.parametrize(
    "index", [[4, 2, 2], slice(3, 9), np.arange(20) % 3 == 0, [-1], [], np.array([], int)]
)
def test_selected_rows_are_those_of_the_columns(index, table):
    chosen = table.select(index)
    rows = np.arange(20)[index if not isinstance(index, list) else np.array(index, int)]
    assert len(chosen) == len(rows)
    np.testing.assert_array_equal(chosen.X, table.X[rows])
    np.testing.assert_array_equal(chosen.paths, table.paths[rows])
    np.testing.assert_array_equal(chosen.y, table.y[rows])
    np.testing.assert_array_equal(chosen.splits(), table.splits()[rows])


@pytest.mark.parametrize("index", [[20], [True, False], [[1, 2]], [0.5], "a"])
def test_a_selection_that_cannot_be_is_refused(index, table):
    with pytest.raises((NotInStoreError, StoreError)):
        table.select(index)


def test_selecting_reads_no_features(table, monkeypatch):
    monkeypatch.setattr("featstore.store.space.Space.rows", None)
    assert len(table.split("train").select([0]).paths) == 1


def test_splits_partition_the_table_and_given_ones_win(store, fill, make_catalog):
    fill(store, n=60)
    given = ["validation", *[None] * 59]
    store.write_catalog(make_catalog(60, splits=given))
    table = store.table()
    rule = SplitRule(stratify=False)
    parts = [table.split(name, rule) for name in ("train", "validation", "test")]
    assert sum(map(len, parts)) == 60
    assert len(np.unique(np.concatenate([part.paths for part in parts]))) == 60
    assert table.paths[0] in parts[1].paths
    assert set(parts[0].splits(rule).tolist()) == {"train"}
    assert len(table.split("test", SplitRule(test=0.6, stratify=False))) > len(parts[2])


def test_splits_by_group_and_by_file_name(store, fill, make_catalog):
    fill(store, n=40)
    store.write_catalog(make_catalog(40, groups=["g" + str(number // 20) for number in range(40)]))
    splits = store.table().splits(SplitRule(by="group", test=0.4, validation=0.3))
    assert len(set(splits[:20].tolist())) == 1
    assert len(set(store.table().splits(SplitRule(by="filename")).tolist())) > 1


def test_an_unknown_split_is_refused(table):
    with pytest.raises(SplitError, match="one of train, validation, test; found 'dev'"):
        table.split("dev")


def test_repr_says_what_it_is(table):
    assert repr(table) == (
        f"<FeatureTable photos in {table.space_name}: 20 images x 4 float32 features, 2 classes>"
    )


def test_to_frame(table):
    pytest.importorskip("pandas")
    frame = table.to_frame(features=True)
    assert frame.columns.tolist()[:6] == ["path", "label", "group", "split", "content_hash", "feature_0"]
    assert frame["path"].tolist() == table.paths.tolist()
    np.testing.assert_array_equal(frame.iloc[:, 5:].to_numpy(), table.X)
    assert table.to_frame().shape == (20, 5)


def test_to_frame_without_pandas_says_what_to_install(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"featstore\[notebook\]"):
        table.to_frame()
