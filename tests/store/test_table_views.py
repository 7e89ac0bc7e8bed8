import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.errors import NotInStoreError, StoreError
from featstore.images.views import ViewRecipe
from featstore.splits import HashKFold, SplitRule

N_IMAGES, N_VIEWS = 30, 3
RECIPE = ViewRecipe(flip=True, random_crop=10)


def add_views(space, hashes, views):
    """Append one row for each image and view, told apart by both."""
    for view in views:
        rows = hashes[:, : space.feature_dim].astype(np.float32) + 1000 * view
        space.append(rows, hashes, np.full(len(hashes), view, np.uint16))


@pytest.fixture
def space(store, make_spec, make_hashes, make_catalog):
    space = store.create_space(make_spec(views=RECIPE), feature_dim=4)
    # Not in the order of the images, and one view further than all of them have.
    add_views(space, make_hashes(N_IMAGES)[::-1], (1, 0, 2))
    add_views(space, make_hashes(5), (3,))
    store.write_catalog(make_catalog(N_IMAGES, groups=[f"g{number // 3}" for number in range(N_IMAGES)]))
    return space


@pytest.fixture
def table(store, space):
    return store.table()


def test_a_table_is_of_the_images_themselves(table, make_hashes):
    assert len(table) == N_IMAGES
    assert table.views.tolist() == [0] * N_IMAGES
    np.testing.assert_array_equal(table.X, make_hashes(N_IMAGES)[:, :4])


def test_so_many_views_as_every_image_has(table):
    assert table.n_views == N_VIEWS
    assert table.select(slice(0, 5)).n_views == N_VIEWS + 1


def test_a_space_without_views_has_one(store, fill, make_catalog):
    fill(store, n=3)
    store.write_catalog(make_catalog(3))
    table = store.table()
    assert table.n_views == 1
    assert table.with_views(1) is table


def test_views_follow_each_other_image_by_image(table, make_hashes):
    views = table.with_views(N_VIEWS)
    assert len(views) == N_IMAGES * N_VIEWS
    assert views.views.dtype == np.uint16
    assert views.views.tolist() == [0, 1, 2] * N_IMAGES
    expected = make_hashes(N_IMAGES)[:, None, :4] + 1000.0 * np.arange(N_VIEWS)[None, :, None]
    np.testing.assert_array_equal(views.X.reshape(N_IMAGES, N_VIEWS, 4), expected)


@pytest.mark.parametrize("name", ["y", "paths", "groups", "given_splits", "content_hash"])
def test_views_have_what_their_image_has(name, table):
    views = table.with_views(2)
    np.testing.assert_array_equal(getattr(views, name), np.repeat(getattr(table, name), 2, axis=0))


def test_selected_views_are_those_rows(table):
    views = table.with_views(2)
    chosen = views.select([7, 0, 6])
    np.testing.assert_array_equal(chosen.X, views.X[[7, 0, 6]])
    assert chosen.views.tolist() == [1, 0, 0]


@given(
    salt=st.text(max_size=8),
    by=st.sampled_from(["content", "group"]),
    n_views=st.integers(2, N_VIEWS),
    folds=st.integers(2, 4),
)
def test_no_split_and_no_fold_tears_the_views_of_an_image_apart(views_table, salt, by, n_views, folds):
    table = views_table.with_views(n_views)
    rule = SplitRule(by=by, test=0.3, validation=0.3, salt=salt)
    splits = table.splits(rule).reshape(-1, n_views)
    assert (splits == splits[:, :1]).all()
    try:
        divisions = list(HashKFold(folds, salt=salt).split(table.y, groups=table.group_keys(rule)))
    except ValueError:
        return  # a fold is empty
    images = np.repeat(np.arange(len(views_table)), n_views)
    for inside, outside in divisions:
        assert not set(images[inside]) & set(images[outside])


@pytest.fixture(scope="module")
def views_table(tmp_path_factory):
    from featstore.backbones.spec import BackboneSpec
    from featstore.store import Catalog, FeatureStore

    store = FeatureStore(tmp_path_factory.mktemp("views") / "some.fstore", create=True)
    hashes = np.random.default_rng(0).integers(0, 256, (N_IMAGES, 32), np.uint8)
    spec = BackboneSpec(
        architecture="tiny",
        weights_digest="0" * 64,
        layer="top",
        size_px=(8, 8),
        preprocessing="unit",
        views=RECIPE,
    )
    add_views(store.create_space(spec, feature_dim=4), hashes, range(N_VIEWS))
    nothing = [None] * N_IMAGES
    store.write_catalog(
        Catalog(
            name="photos",
            root="/data",
            location="/data",
            paths=[f"{number}.jpg" for number in range(N_IMAGES)],
            labels=nothing,
            groups=[f"g{number // 3}" for number in range(N_IMAGES)],
            splits=nothing,
            content_hash=hashes,
            sizes=np.zeros(N_IMAGES, np.int64),
            mtimes_ns=np.zeros(N_IMAGES, np.int64),
            reasons=nothing,
        )
    )
    return store.table()


def test_missing_views_are_counted_and_the_command_told(table):
    message = (
        r"25 of 30 images lack some of their views 0 to 3 in the space tiny-\w+: 25 views in all; "
        r"run the featstore extract that made it with --views 4 --flip --random-crop 10, which adds"
    )
    with pytest.raises(NotInStoreError, match=message):
        table.with_views(4)


def test_views_of_a_space_without_any_name_the_command(store, fill, make_catalog):
    fill(store, n=3)
    store.write_catalog(make_catalog(3))
    with pytest.raises(NotInStoreError, match=r"has only the images themselves.*extract.*--views 8.*--flip"):
        store.table().with_views(8)


def test_more_views_than_there_are_different_ones_is_said(store, make_spec, make_hashes, make_catalog):
    space = store.create_space(make_spec(views=ViewRecipe(flip=True)), feature_dim=4)
    add_views(space, make_hashes(3), (0, 1))
    store.write_catalog(make_catalog(3))
    assert store.table().with_views(2).n_views == 2
    with pytest.raises(NotInStoreError, match="have 2: the image and its mirror image"):
        store.table().with_views(3)


@pytest.mark.parametrize("n_views", [0, -1, 1.5, True, "8"])
def test_a_number_of_views_that_cannot_be_is_refused(n_views, table):
    with pytest.raises(StoreError, match="an integer of at least 1"):
        table.with_views(n_views)


def test_views_are_taken_of_images_only(table):
    with pytest.raises(StoreError, match="has views already"):
        table.with_views(2).with_views(2)


def test_repr_tells_views_from_images(table):
    assert "30 images x 4 float32" in repr(table)
    assert "60 views of images x 4 float32" in repr(table.with_views(2))


def test_a_frame_of_views_says_which(table):
    pytest.importorskip("pandas")
    assert table.with_views(2).to_frame()["view"].tolist() == [0, 1] * N_IMAGES
    assert "view" not in table.to_frame().columns
