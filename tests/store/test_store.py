import json
import os
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from featstore.errors import DamagedError, FormatVersionError, NotInStoreError, StoreError, StoreNotFoundError
from featstore.heads import Head, fit
from featstore.splits import SplitRule, assign_splits
from featstore.store import FeatureStore


def test_a_new_store_is_opened_again(tmp_path):
    made = FeatureStore(tmp_path / "new" / "flowers.fstore", create=True)
    again = FeatureStore(made.path)
    assert (again.path, again.format_version) == (str(tmp_path / "new" / "flowers.fstore"), 1)
    assert (again.space_names, again.catalog_names, again.head_names) == ((), (), ())
    FeatureStore(made.path, create=True)


def test_an_empty_folder_becomes_a_store_only_when_asked(tmp_path):
    with pytest.raises(StoreNotFoundError, match="is empty and holds no store"):
        FeatureStore(tmp_path)
    assert FeatureStore(tmp_path, create=True).space_names == ()


def test_a_creation_that_was_cut_short_is_finished(tmp_path):
    (tmp_path / "spaces").mkdir()
    (tmp_path / ".tmp-12.json").touch()
    assert FeatureStore(tmp_path, create=True).space_names == ()


def test_what_is_no_store_is_one_clear_error(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(StoreNotFoundError, match=r"there is no store .*absent"):
        FeatureStore(tmp_path / "absent")
    with pytest.raises(StoreError, match=r"not a store; name a store$"):
        FeatureStore(tmp_path / "photos")
    FeatureStore(tmp_path / "photos.fstore", create=True)
    with pytest.raises(StoreError, match=r"name a store, such as .*photos\.fstore$"):
        FeatureStore(tmp_path / "photos")
    for create in (False, True):
        with pytest.raises(StoreError, match="is a file; a store is a folder"):
            FeatureStore(tmp_path / "file", create=create)
        with pytest.raises(StoreError, match=r"is a folder of other things \(a.jpg"):
            FeatureStore(tmp_path / "photos", create=create)
    with pytest.raises(StoreError, match=r"is a file|cannot make"):
        FeatureStore(tmp_path / "file" / "x", create=True)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            '{"format": "featstore-store", "format_version": 2}',
            FormatVersionError,
            "version 2.*up to 1; upgrade",
        ),
        ('{"format": "featstore-store", "format_version": "1"}', DamagedError, "'1' does not exist"),
        ('{"format": "featstore-store", "format_version": 0}', DamagedError, "0 does not exist"),
        ('{"format": "featstore-store"}', DamagedError, "None does not exist"),
        ('{"format": "other"}', DamagedError, "not a featstore-store"),
        ("[1]", DamagedError, "not a featstore-store"),
        ("{", DamagedError, "not JSON"),
        ("[" * 200_000, DamagedError, "not JSON"),
        ("\xff", DamagedError, "not a|not JSON"),
    ],
)
def test_a_description_that_cannot_be_read(text, error, message, store):
    with open(os.path.join(store.path, "featstore.json"), "w", encoding="latin-1") as file:
        file.write(text)
    with pytest.raises(error, match=message):
        FeatureStore(store.path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=r"cannot make the store .*permission denied"):
        FeatureStore(tmp_path / "x", create=True)


def test_a_read_only_file_system_is_one_clear_error(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("os.makedirs", refuse)
    with pytest.raises(StoreError, match=r"cannot make the store .*: read-only file system"):
        FeatureStore(tmp_path / "x", create=True)


def test_the_folder_of_heads_is_made_with_the_first_head_and_not_by_its_name(
    store, make_table, make_blobs, tmp_path
):
    fit(make_table(*make_blobs()), head="ridge").save(store.head_path("ridge"))
    other = FeatureStore(tmp_path / "other.fstore", create=True)
    # As archives and git leave it.
    heads = os.path.join(other.path, "heads")
    os.rmdir(heads)
    path = other.head_path("ridge")
    assert not os.path.exists(heads)
    other.merge(store)
    assert Head.load(path).name == "ridge"
    shutil.rmtree(heads)
    Head.load(store.head_path("ridge")).save(path)
    assert other.head_names == ("ridge",)


def test_a_store_that_was_removed_does_not_come_back_with_a_head(store, make_table, make_blobs):
    head = fit(make_table(*make_blobs()), head="ridge")
    path = store.head_path("ridge")
    shutil.rmtree(store.path)
    with pytest.raises(StoreError):
        head.save(path)
    assert not os.path.exists(store.path)


def test_a_store_that_cannot_be_written_is_still_read(store, fill, make_catalog, monkeypatch, make_hashes):
    fill(store)
    store.write_catalog(make_catalog())

    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    for name in ("os.replace", "os.makedirs", "os.mkdir", "os.unlink"):
        monkeypatch.setattr(name, refuse)
    again = FeatureStore(store.path)
    assert len(again.table().X) == 10
    assert again.info()["spaces"][0]["rows"] == 10
    assert again.verify().ok
    assert again.head_path("svm").endswith("heads/svm.head")
    with pytest.raises(StoreError, match="read-only file system"):
        again.write_catalog(make_catalog())
    with pytest.raises(StoreError, match="read-only file system"):
        again.space().append(np.ones((1, 4), np.float32), make_hashes(1, 77))


def test_a_space_is_made_once(store, make_spec):
    space = store.create_space(make_spec(), feature_dim=4, provenance={"engine": "first"})
    again = store.create_space(make_spec(), feature_dim=4, provenance={"engine": "second"})
    assert store.space_names == (make_spec().name,)
    assert (space.spec, space.feature_dim, again.provenance) == (make_spec(), 4, {"engine": "first"})
    with open(os.path.join(space.path, "space.json")) as file:
        told = json.load(file)
    assert len(told.pop("checksum")) == 8
    assert told == {
        "format": "featstore-space",
        "format_version": 1,
        "fingerprint": make_spec().fingerprint,
        "feature_dim": 4,
        "spec": make_spec().to_dict(),
        "provenance": {"engine": "first"},
    }
    with pytest.raises(StoreError, match=r"has rows of 4 features.* came with 5"):
        store.create_space(make_spec(), feature_dim=5)


@pytest.mark.parametrize("architecture", ["../../up", ".hidden", "a/b", "x" * 300, "a\nb", "a\0b"])
def test_an_architecture_that_no_folder_should_be_named_after(architecture, store, make_spec):
    with pytest.raises(StoreError, match="cannot be the name of a space"):
        store.create_space(make_spec(architecture=architecture), feature_dim=1)
    assert store.space_names == ()


def test_an_architecture_with_an_odd_name(store, make_spec, make_hashes):
    spec = make_spec(architecture="my net (é) " + os.fsdecode(b"\xff"))
    space = store.create_space(spec, feature_dim=1)
    space.append(np.ones((1, 1), np.float32), make_hashes(1))
    again = FeatureStore(store.path)
    assert again.space("my net").spec == spec
    assert again.verify().ok


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"format_version": 3}, FormatVersionError, "upgrade"),
        ({"feature_dim": "4"}, DamagedError, "feature_dim must be"),
        ({"feature_dim": True}, DamagedError, "feature_dim must be"),
        ({"spec": []}, DamagedError, "objects"),
        ({"fingerprint": "0" * 64}, DamagedError, "does not have the fingerprint"),
        ({"spec": {"architecture": "tiny", "rotations": 3}}, StoreError, "newer version of featstore"),
    ],
)
def test_a_space_description_that_cannot_be_used(change, error, message, store, make_spec):
    space = store.create_space(make_spec(), feature_dim=4)
    path = os.path.join(space.path, "space.json")
    with open(path) as file:
        about = json.load(file)
    del about["checksum"]
    with open(path, "w") as file:
        json.dump({**about, **change}, file)
    with pytest.raises(error, match=message):
        FeatureStore(store.path).space()


def test_a_space_in_a_folder_of_another_name_is_refused(store, make_spec):
    space = store.create_space(make_spec(), feature_dim=4)
    os.rename(space.path, space.path[:-1] + "x")
    with pytest.raises(DamagedError, match="it describes tiny-"):
        FeatureStore(store.path).space()


def test_a_space_elsewhere_is_not_followed(store, make_spec, tmp_path):
    space = store.create_space(make_spec(), feature_dim=4)
    os.rename(space.path, tmp_path / space.name)
    os.symlink(tmp_path / space.name, space.path)
    assert FeatureStore(store.path).space_names == ()


def test_spaces_are_found_by_name_and_by_its_beginning(store, make_spec):
    names = [
        store.create_space(make_spec(architecture=name), feature_dim=1).name
        for name in ("resnet", "resnet_v2", "vgg")
    ]
    assert store.space(names[0]).name == names[0]
    assert store.space("resnet_").name == names[1]
    assert store.space("vgg").name == names[2]
    with pytest.raises(
        NotInStoreError, match=f"several spaces begin with 'resnet'; .* has: {', '.join(names)}"
    ):
        store.space("resnet")
    with pytest.raises(NotInStoreError, match=r"there is no space 'alexnet'; .* has: resnet-"):
        store.space("alexnet")
    with pytest.raises(NotInStoreError, match=r"which space\? name one with --space; .* has: resnet-"):
        store.space()


def test_catalogs_are_found_by_name_only(store, make_catalog):
    with pytest.raises(NotInStoreError, match=r"there is no catalog; .* has none; run featstore extract"):
        store.catalog()
    store.write_catalog(make_catalog())
    assert store.catalog().equals(store.catalog("photos"))
    for name in ("photo", "../catalogs/photos"):
        with pytest.raises(NotInStoreError, match="there is no catalog"):
            store.catalog(name)
    with pytest.raises(NotInStoreError, match="no catalog was named"):
        store.table(catalog=[])


def test_a_space_is_opened_anew_only_when_its_folder_has_changed(store, fill):
    fill(store)
    reader = FeatureStore(store.path)
    first = reader.space()
    assert first.n_rows == 10
    assert reader.space() is first
    fill(store, first=10)
    assert first.n_rows == 10
    assert reader.space().n_rows == 20


def test_info_is_json_and_complete(store, fill, make_catalog, make_hashes, make_spec):
    fill(store, n=10, n_segments=2)
    hashes = make_hashes(30)
    hashes[5], hashes[6], hashes[8] = hashes[1], hashes[2], hashes[2]
    labels = ["ab"[number % 2] for number in range(30)]
    labels[8], labels[9] = "b", None
    reasons = [None] * 29 + ["not an image"]
    splits = ["test", *[None] * 29]
    store.write_catalog(make_catalog(30, content_hash=hashes, labels=labels, reasons=reasons, splits=splits))
    with open(store.head_path("svm"), "w") as file:
        file.write("12345")
    info = json.loads(json.dumps(store.info()))
    assert (info["path"], info["format_version"]) == (store.path, 1)
    [space] = info["spaces"]
    assert space == {
        "name": make_spec().name,
        "architecture": "tiny",
        "feature_dim": 4,
        "dtype": "float32",
        "rows": 20,
        "images": 20,
        "views": 1,
        "segments": 2,
        "bytes": 20 * (16 + 38),
        "fingerprint": make_spec().fingerprint,
        "spec": make_spec().to_dict(),
        "provenance": {"engine": "fake"},
    }
    [catalog] = info["catalogs"]
    counts = [catalog[key] for key in ("name", "location", "images", "failed", "labeled")]
    assert counts == ["photos", "/data/photos", 30, 1, 28]
    expected = assign_splits(SplitRule(), content_hash=hashes[:29], given=splits[:29]).tolist()
    assert catalog["splits"] == {name: expected.count(name) for name in ("train", "validation", "test")}
    assert [(entry["label"], entry["images"]) for entry in catalog["classes"]] == [("a", 14), ("b", 14)]
    told = list(zip(labels, expected, strict=False))
    for entry in catalog["classes"]:
        for split in ("train", "validation", "test"):
            assert entry[split] == told.count((entry["label"], split))
    assert catalog["duplicates"] == [
        {"content_hash": hashes[1].tobytes().hex(), "paths": ["b/1.jpg", "b/5.jpg"]},
        {"content_hash": hashes[2].tobytes().hex(), "paths": ["a/2.jpg", "a/6.jpg", "a/8.jpg"]},
    ]
    assert catalog["label_conflicts"] == [
        {"content_hash": hashes[2].tobytes().hex(), "labels": {"a": ["a/2.jpg", "a/6.jpg"], "b": ["a/8.jpg"]}}
    ]
    assert catalog["spaces"] == catalog["complete"] == {make_spec().name: 20}
    told = {"catalogs": {}, "up_to_date": None}
    assert info["heads"] == [{"name": "svm", "path": store.head_path("svm"), "bytes": 5, **told}]


def test_info_of_an_empty_store(store, make_catalog):
    assert store.info() == {
        "path": store.path,
        "format_version": 1,
        "spaces": [],
        "catalogs": [],
        "heads": [],
    }
    store.write_catalog(make_catalog(0))
    assert store.info()["catalogs"][0]["splits"] == {"train": 0, "validation": 0, "test": 0}


def test_opening_a_store_imports_no_network_and_no_scikit_learn(store, fill, make_catalog):
    fill(store)
    store.write_catalog(make_catalog())
    script = (
        "import sys, featstore\n"
        f"store = featstore.FeatureStore({store.path!r})\n"
        "assert len(store.table().X) == 10\n"
        "store.info(); store.verify()\n"
        "heavy = {'tensorflow', 'keras', 'openvino', 'sklearn', 'pandas', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


def test_a_summary_of_many_images_takes_little_memory(store, fill, make_catalog):
    space = fill(store, n=1)
    n = 40_000
    hashes = np.random.default_rng(0).integers(0, 256, (n, 32), np.uint8)
    space.append(np.ones((n, 4), np.float32), hashes)
    hashes[-1] = hashes[0]
    store.write_catalog(make_catalog(n, content_hash=hashes))
    again = FeatureStore(store.path)
    tracemalloc.start()
    try:
        [catalog] = again.info()["catalogs"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # With all texts in memory it was over 600 bytes an image.
    assert peak < 320 * n
    assert catalog["duplicates"] == [
        {"content_hash": hashes[0].tobytes().hex(), "paths": ["a/0.jpg", f"b/{n - 1}.jpg"]}
    ]
    assert [conflict["labels"] for conflict in catalog["label_conflicts"]] == [
        {"a": ["a/0.jpg"], "b": [f"b/{n - 1}.jpg"]}
    ]


def test_a_summary_counts_labels_of_both_forms_of_unicode_as_one_class(store, fill, make_catalog):
    fill(store, n=4)
    labels = ["caf\u00e9", "cafe\u0301", None, "b"]
    store.write_catalog(make_catalog(4, labels=labels, splits=["train", "test", None, None]))
    [catalog] = store.info()["catalogs"]
    assert [(one["label"], one["images"]) for one in catalog["classes"]] == [("b", 1), ("caf\u00e9", 2)]
    assert catalog["given_splits"] == {"train": 1, "validation": 0, "test": 1, "rule": 2}
    table = store.table()
    assert catalog["splits"] == {
        split: int((table.splits() == split).sum()) for split in ("train", "validation", "test")
    }
