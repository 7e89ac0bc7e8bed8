import numpy as np
import pytest

from featstore.backbones.spec import JoinedSpec
from featstore.errors import BackboneError, NotInStoreError
from featstore.images.views import ViewRecipe

N = 12


@pytest.fixture
def spaces(store, make_spec, make_hashes, make_catalog):
    """Three spaces with the same images in different orders: of 4, 3 and 5 features."""
    hashes, made = make_hashes(N), []
    for number, (architecture, dim, dtype) in enumerate(
        (("fern", 4, "float32"), ("moss", 3, "float16"), ("fungus", 5, "float16"))
    ):
        spec = make_spec(architecture=architecture, dtype=dtype, views=ViewRecipe(flip=True))
        provenance = {"engine": "fake", "weights": f"/weights/{architecture}.h5"}
        space = store.create_space(spec, feature_dim=dim, provenance=provenance)
        order = np.random.default_rng(number).permutation(N)
        for view in (0, 1):
            rows = hashes[order, :dim].astype(np.float32) + 100 * number + 1000 * view
            space.append(rows, hashes[order], np.full(N, view, np.uint16))
        made.append(space)
    store.write_catalog(make_catalog(N))
    return made


def features(store, name):
    return store.table(name).X


def test_features_stand_side_by_side_in_the_order_asked_for(store, spaces):
    for names in (["fern", "moss"], ["moss", "fern"], ["fungus", "fern", "moss"]):
        table = store.table(names)
        np.testing.assert_array_equal(table.X, np.hstack([features(store, name) for name in names]))
        assert table.space_name == "+".join(store.space(name).name for name in names)
        assert table.spec == JoinedSpec(tuple(store.space(name).spec for name in names))
        assert table.fingerprint == table.spec.fingerprint
    assert store.table(["fern", "moss"]).fingerprint != store.table(["moss", "fern"]).fingerprint


def test_types_sizes_and_where_they_came_from(store, spaces):
    table = store.table(["fern", "moss"])
    assert (table.feature_dim, table.dtype, table.X.dtype) == (7, np.float32, np.float32)
    assert store.table(["moss", "fungus"]).X.dtype == np.float16
    assert table.weights == ("/weights/fern.h5", "/weights/moss.h5")
    assert {name: told["weights"] for name, told in table.provenance.items()} == {
        spaces[0].name: "/weights/fern.h5",
        spaces[1].name: "/weights/moss.h5",
    }
    assert "12 images x 7 float32 features" in repr(table)
    with pytest.raises(ValueError, match="read-only"):
        table.X[0, 0] = 1


def test_one_name_in_a_list_is_that_space(store, spaces):
    assert store.table([spaces[0].name]).spec == spaces[0].spec
    assert store.table(["fern"]).weights == "/weights/fern.h5"


def test_selected_rows_are_those_of_the_joined_features(store, spaces):
    table = store.table(["moss", "fern"])
    np.testing.assert_array_equal(table.select([5, 0, 5]).X, table.X[[5, 0, 5]])


def test_blocks_smaller_than_the_table_give_the_same(store, spaces, monkeypatch):
    whole = store.table(["moss", "fern"]).X
    monkeypatch.setattr("featstore.store.tables.gathering._GATHER_BYTES", 64)
    np.testing.assert_array_equal(store.table(["moss", "fern"]).X, whole)


def test_views_are_joined_view_by_view(store, spaces):
    joined = store.table(["fern", "moss"]).with_views(2)
    parts = [store.table(name).with_views(2) for name in ("fern", "moss")]
    np.testing.assert_array_equal(joined.X, np.hstack([part.X for part in parts]))
    np.testing.assert_array_equal(joined.views, parts[0].views)


def test_only_views_that_all_spaces_have_count(store, spaces, make_hashes):
    spaces[0].append(np.ones((N, 4), np.float32), make_hashes(N), np.full(N, 2, np.uint16))
    assert store.table("fern").n_views == 3
    assert store.table(["fern", "moss"]).n_views == 2


def test_images_that_one_space_lacks_are_named(store, spaces, make_spec, make_hashes, make_catalog):
    some = store.create_space(make_spec(architecture="lichen", size_px=(8, 9)), feature_dim=1)
    some.append(np.ones((N - 5, 1), np.float32), make_hashes(N)[5:])
    message = (
        rf"5 of 12 images of the catalog photos have features in another of the spaces to join and none in "
        rf"{some.name}: /data/photos/a/0.jpg, /data/photos/b/1.jpg, /data/photos/a/2.jpg and 2 more; "
        r"run featstore extract on its images with --backbone lichen --image-size 8x9"
    )
    for names in (["fern", "lichen"], ["lichen", "fern"]):
        with pytest.raises(NotInStoreError, match=message):
            store.table(names)


def test_images_that_no_space_has_are_counted_only(store, spaces, make_catalog):
    store.write_catalog(make_catalog(N + 3, name="more"))
    table = store.table(["fern", "moss"], "more")
    assert (len(table), table.n_missing) == (N, 3)


def test_the_same_space_twice_is_refused(store, spaces):
    with pytest.raises(BackboneError, match="different backbones"):
        store.table(["fern", "fern"])


def test_an_unknown_space_among_several_is_refused(store, spaces):
    with pytest.raises(NotInStoreError):
        store.table(["fern", "oak"])
