"""Files of every version so far are read to exactly the values that went into them."""

import hashlib
import json
import os
import pathlib
import shutil
import zipfile

import h5py
import numpy as np
import pytest

from featstore.backbones import load_backbone
from featstore.hashing import content_hash
from featstore.heads import Head, load_head
from featstore.images import ViewRecipe, decode_views
from featstore.splits import SplitRule
from featstore.store import FeatureStore
from featstore.store.catalogs.file import read_catalog

HERE = pathlib.Path(__file__).parent
VERSIONS = sorted(path.name for path in HERE.iterdir() if path.name[0].isdigit())
WITHOUT_VIEWS = ("0.1", "0.2", "0.3")
# Catalogs without inodes, and heads that know what they were fitted on by the name of its catalog.
BEFORE_CONTENT = (*WITHOUT_VIEWS, "0.4")
N_IMAGES = 24


@pytest.fixture(params=VERSIONS)
def golden(request, tmp_path):
    """A copy of the files of one version, which readers may do as they like with."""
    return pathlib.Path(shutil.copytree(HERE / request.param, tmp_path / request.param))


@pytest.fixture
def store(golden):
    return FeatureStore(golden / "golden.fstore", verify_reads=True)


def expected_features():
    return (
        np.eye(3, dtype=np.float32)[np.arange(N_IMAGES) % 3] * 4
        + (np.arange(N_IMAGES, dtype=np.float32) / 16)[:, None]
    )


def expected_hashes():
    return np.repeat(np.arange(1, N_IMAGES + 1, dtype=np.uint8)[:, None], 32, axis=1)


def test_there_is_a_golden_store_of_every_version():
    assert VERSIONS[:6] == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6"]


def test_a_golden_store_is_sound(golden, store):
    report = store.verify()
    assert report.ok
    n_segments, n_rows, n_heads = (5, 49, 1) if golden.name in WITHOUT_VIEWS else (7, 145, 2)
    assert (report.segments, report.rows, report.catalogs, report.heads) == (n_segments, n_rows, 1, n_heads)


@pytest.mark.parametrize(
    ("name", "dtype"), [("golden-73b8ba29ba91", "float32"), ("golden-75b0bfcb4a1e", "float16")]
)
def test_rows_are_those_that_were_written(name, dtype, store):
    space = store.space(name)
    rows = space.rows(space.lookup(expected_hashes()))
    assert rows.dtype == dtype
    np.testing.assert_array_equal(rows, expected_features())
    assert space.provenance == {"weights": "golden.h5"}
    assert space.spec.to_dict() == {
        "architecture": "golden",
        "weights_digest": "5" * 64,
        "layer": "top",
        "pooling": "avg",
        "size_px": [8, 6],
        "resize": "stretch",
        "preprocessing": "unit",
        "precision": "float32",
        "dtype": dtype,
    }


def test_views_are_distinguished(store):
    space = store.space("golden-75b0bfcb4a1e")
    [row] = space.rows(space.lookup(expected_hashes()[:1], view=1))
    np.testing.assert_array_equal(row, expected_features()[0] + 1)


@pytest.mark.parametrize("version", [version for version in VERSIONS if version not in WITHOUT_VIEWS])
class TestViews:
    """What versions that know views have written."""

    def test_a_space_with_views_has_those_of_every_image(self, version):
        [space] = [
            space
            for space in map(FeatureStore(HERE / version / "golden.fstore").space, self.names(version))
            if space.spec.views is not None
        ]
        assert space.name == "golden-3f13d8fb9c96"
        assert space.spec.views == ViewRecipe(
            flip=True, random_crop=10, random_scale=10, random_brightness=10
        )
        for view in range(4):
            rows = space.rows(space.lookup(expected_hashes(), view))
            np.testing.assert_array_equal(rows, expected_features() + view)
        assert (space.lookup(expected_hashes(), 4) == -1).all()

    def test_draws_are_those_of_then(self, version):
        told, recipe = self.told(version)
        for view, expected in enumerate(told["draws"]):
            drawn = recipe.draw(bytes.fromhex(told["content_hash"]), view)
            assert list(drawn.__dict__.values()) == pytest.approx(expected, rel=1e-12)

    def test_the_same_bytes_give_the_same_pictures(self, version):
        told, recipe = self.told(version)
        pixels = self.pixels(version, told, recipe)
        assert [hashlib.sha256(seen.tobytes()).hexdigest() for seen in pixels] == told["pixels"]

    def test_the_same_bytes_give_the_same_rows(self, version):
        told, recipe = self.told(version)
        backbone = load_backbone("scattering", image_size=32, views=recipe)
        assert backbone.spec.fingerprint == told["fingerprint"]
        rows = backbone.forward(np.stack(self.pixels(version, told, recipe)))
        np.testing.assert_allclose(rows[:, ::200], told["rows"], rtol=1e-4, atol=1e-5)

    @staticmethod
    def names(version):
        return FeatureStore(HERE / version / "golden.fstore").space_names

    @staticmethod
    def told(version):
        told = json.loads((HERE / version / "views.json").read_text())
        return told, ViewRecipe.from_dict(told["recipe"])

    @staticmethod
    def pixels(version, told, recipe):
        data = (HERE / version / "photo.png").read_bytes()
        digest = content_hash(data)
        assert digest.hex() == told["content_hash"]
        n_views = len(told["pixels"])
        return decode_views(data, size_px=(32, 32), recipe=recipe, content_hash=digest, views=range(n_views))


def test_the_catalog_says_what_was_said(store):
    catalog = store.catalog("photos")
    labels = ["daisy", "rose", "tulip"] * 8
    assert catalog.paths == (*(f"{label}/{n}.jpg" for n, label in enumerate(labels)), "broken\udcff.jpg")
    assert catalog.labels == (*labels, None)
    assert catalog.groups == ("one", "one", *[None] * 23)
    assert catalog.splits[:12] == ("train",) * 6 + ("validation",) * 3 + ("test",) * 3
    assert catalog.reasons == (*[None] * N_IMAGES, "it is no image")
    np.testing.assert_array_equal(catalog.content_hash[:-1], expected_hashes())
    assert catalog.sizes.tolist() == [*range(100, 124), -1]
    assert catalog.mtimes_ns.tolist() == [*(n * 10**9 for n in range(N_IMAGES)), -1]
    assert (catalog.root, catalog.location) == ("/data/photos", "/data/photos")


def test_a_catalog_has_what_later_versions_ask_of_files_if_it_was_written(golden, store):
    catalog = store.catalog("photos")
    if golden.name in BEFORE_CONTENT:
        assert set(catalog.ctimes_ns.tolist()) == set(catalog.inodes.tolist()) == {-1}
        assert catalog.moved_from == ""
    else:
        assert catalog.ctimes_ns.tolist() == [*(n * 10**9 + 1 for n in range(N_IMAGES)), -1]
        assert catalog.inodes.tolist() == [*range(1000, 1000 + N_IMAGES), -1]
        assert catalog.moved_from == "/data/pictures"


def test_the_head_is_used_as_when_it_was_saved(golden, store):
    path = store.head_path("logistic")
    with zipfile.ZipFile(path) as archive:
        version = json.loads(archive.read("manifest.json"))["format_version"]
    assert version == {"0.1": 1, "0.2": 2, "0.3": 2, "0.4": 3}.get(golden.name, 4)
    head = Head.load(path)
    assert head.classes.tolist() == ["daisy", "rose", "tulip"]
    assert head.split_rule == SplitRule(stratify=golden.name not in BEFORE_CONTENT)
    assert {split: sum(counts.values()) for split, counts in head.counts.items()} == {
        "train": 12,
        "validation": 6,
        "test": 6,
    }
    assert head.predict(expected_features()).tolist() == ["daisy", "rose", "tulip"] * 8
    known = json.loads((HERE / "probabilities.json").read_text())[golden.name]
    found = head.predict_proba(expected_features()[:6]) if head.linear else known
    np.testing.assert_allclose(found, known, rtol=1e-9)


def test_a_head_knows_its_images_as_it_did_when_it_was_saved(golden, store):
    head = Head.load(store.head_path("logistic"))
    table = store.table("golden-73b8ba29ba91")
    assert head.seen_by == ("catalog" if golden.name in BEFORE_CONTENT else "content")
    fitted = ["train"] if golden.name in BEFORE_CONTENT else ["train", "validation"]
    expected = np.isin(splits_as_written(), fitted)
    np.testing.assert_array_equal(head.was_fitted_on(table), expected)


def splits_as_written():
    return [("train", "train", "validation", "test")[number // 3 % 4] for number in range(N_IMAGES)]


@pytest.mark.parametrize("version", [version for version in VERSIONS if version not in WITHOUT_VIEWS])
def test_the_gate_is_where_it_was_when_it_was_saved(version):
    head = Head.load(HERE / version / "golden.fstore" / "heads" / "gated.head")
    assert head.classes.tolist() == ["daisy", "moss", "rose", "tulip"]
    known = json.loads((HERE / "probabilities.json").read_text())[f"{version} gated"]
    np.testing.assert_allclose(head.predict_proba(expected_features()[:6]), known, rtol=1e-6)


def test_a_kernel_head_gives_what_it_gave_when_it_was_saved():
    # By make.py too; version 5 of the format of heads.
    head = Head.load(HERE / "kernel.head")
    known = json.loads((HERE / "probabilities.json").read_text())["kernel"]
    np.testing.assert_allclose(head.predict_proba(expected_features()[:6]), known, rtol=1e-9)


def test_a_network_head_gives_what_it_gave_when_it_was_saved():
    # By make.py too; version 6 of the format of heads.
    head = Head.load(HERE / "network.head")
    known = json.loads((HERE / "probabilities.json").read_text())["network"]
    np.testing.assert_allclose(head.predict_proba(expected_features()[:6]), known, rtol=1e-9)


def test_a_head_that_gives_several_labels_gives_what_it_gave_when_it_was_saved():
    # By make.py too; version 8 of the format of heads.
    head = load_head(HERE / "several.head")
    known = json.loads((HERE / "probabilities.json").read_text())["several"]
    np.testing.assert_allclose(head.predict_proba(expected_features()[:6]), known, rtol=1e-9)
    assert head.classes.tolist() == ["daisy", "rose", "seen", "tulip"]


def test_a_catalog_of_several_labels_and_weights_is_read():
    # By make.py too; version 2 of the format of catalogs.
    catalog = read_catalog(str(HERE / "several.h5"))
    assert catalog.label_separator == "|"
    assert catalog.labels[:4] == ("daisy", "rose|seen", "tulip", "daisy|seen")
    np.testing.assert_array_equal(
        catalog.weights, [*(1.0 + number % 3 for number in range(N_IMAGES)), np.nan]
    )


def test_heads_that_predict_a_number_give_what_they_gave_when_they_were_saved():
    # By make.py too; version 9 of the format of heads.
    known = json.loads((HERE / "probabilities.json").read_text())
    for name in ("number", "neighbors"):
        head = load_head(HERE / f"{name}.head")
        np.testing.assert_allclose(head.predict(expected_features()[:6]), known[name], rtol=1e-6)
        assert head.target == "age"


def test_a_catalog_of_numbers_is_read():
    # By make.py too; version 3 of the format of catalogs.
    catalog = read_catalog(str(HERE / "numbers.h5"))
    assert catalog.target_name == "age"
    wanted = [*(10.0 * (number % 3) + number / 8 for number in range(N_IMAGES)), np.nan]
    np.testing.assert_array_equal(catalog.targets, wanted)


def test_a_pack_is_plain_hdf5(golden):
    with h5py.File(golden / "golden.h5") as file:
        assert file.attrs["format"] == "featstore-pack"
        assert file.attrs["format_version"] == 1
        np.testing.assert_array_equal(file["features"][...], expected_features())
        np.testing.assert_array_equal(file["content_hash"][...], expected_hashes())
        assert file["label"].asstr()[...].tolist() == ["daisy", "rose", "tulip"] * 8
        assert file["path"].asstr()[:2].tolist() == ["daisy/0.jpg", "rose/1.jpg"]


def test_what_a_golden_store_lacks_is_not_missed(golden, store):
    """Stores of older versions go on to be written by this one."""
    store.space("golden-75b0bfcb4a1e").append(np.ones((1, 3), np.float32), np.full((1, 32), 99, np.uint8))
    store.compact()
    assert FeatureStore(store.path).verify().ok
    assert os.path.isdir(golden)
