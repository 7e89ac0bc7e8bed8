"""Images that are forgotten."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import featstore
from featstore.errors import DamagedError, NotInStoreError, StoreError
from featstore.io.storage.folders import Folders
from featstore.store import FeatureStore
from featstore.store.corrections.corrections import DUPLICATE
from featstore.store.head_images import read_head_images, remove_from_head
from featstore.store.shard_reports import read_report, write_report
from stored_tables import stored_table

HEADS = ("knn", "rbf", "ridge", "centroid")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with heads of all kinds, two views, groups, duplicates, a report, and a file set aside."""
    store, table = stored_table(tmp_path_factory.mktemp("made") / "s.fstore", n=90)
    space = store.space()
    space.append(table.X + 1, table.content_hash_bytes, np.ones(len(table), np.uint16))
    rows = np.flatnonzero(table.splits() == "train")
    forgotten, other = (table.content_hash[row] for row in rows[:2])
    store.write_near_groups([[forgotten, other]])
    catalog = store.catalog()
    at = [one.tobytes().hex() for one in catalog.content_hash].index(other)
    reasons = [f"{DUPLICATE} {forgotten}" if row == at else None for row in range(len(catalog))]
    near = [f"near-{forgotten[:16]}" if name else None for name in catalog.near_groups]
    store.write_catalog(replace(catalog, reasons=reasons, near_groups=near))
    write_report(store, store.space_names[0], replace(catalog, near_groups=near), "1-of-2")
    table = store.table()
    for name in HEADS:
        featstore.fit(table, head=name, seed=0).save(store.head_path(name))
    return store, forgotten


@pytest.fixture
def store(made, tmp_path):
    return FeatureStore(shutil.copytree(made[0].path, tmp_path / "s.fstore"))


@pytest.fixture
def content(made):
    return made[1]


def files_of(store):
    return {
        path: Path(path).read_bytes()
        for home, _, names in os.walk(store.path)
        for path in (os.path.join(home, name) for name in names)
    }


def state_of(store):
    """Return all that a store holds, whatever its files are called."""
    rows = {
        name: {
            (hash_.tobytes(), int(view)): row.tobytes()
            for hash_, view, row in zip(
                space.content_hash, space.view, space.rows(np.arange(space.n_rows)), strict=True
            )
        }
        for name in store.space_names
        for space in [FeatureStore(store.path).space(name)]
    }
    heads = {name: Path(store.head_path(name)).read_bytes() for name in store.head_names}
    catalogs = {name: vars(store.catalog(name)) for name in store.catalog_names}
    return rows, heads, {name: repr(sorted(fields.items())) for name, fields in catalogs.items()}


def test_a_dry_run_changes_nothing_and_names_all(store, content):
    before = files_of(store)
    report = store.forget(content, dry_run=True)
    assert files_of(store) == before
    assert report.spaces == {store.space_names[0]: 2}
    assert (report.catalogs, report.reports, report.removed) == ({"photos": 1}, 1, False)
    assert report.heads == ("knn", "rbf")
    assert report.changed_heads == ("centroid", "ridge")
    assert len(report.consequences) == len(HEADS) + 1
    assert "may change splits" in report.consequences[-1]


def test_no_byte_tells_of_a_forgotten_image(store, content):
    assert len(store.find_traces(content).traces) >= 2 + 1 + 1 + len(HEADS) - 1
    report = store.forget([content.upper()])
    assert report.removed
    assert store.find_traces(content).traces == ()
    beginning = bytes.fromhex(content)[:8]
    for data in files_of(store).values():
        assert beginning not in data
        assert beginning[::-1] not in data
        assert content[:16].encode() not in data
    assert store.verify().ok
    assert store.space().n_rows == 2 * 90 - 2
    assert len(store.catalog()) == 89
    assert len(read_report(store, store.space_names[0], "photos", "1-of-2")) == 89
    assert store.head_names == ("centroid", "ridge")


def test_what_is_left_is_as_it_was(store, content):
    rows, _, _ = state_of(store)
    head = featstore.Head.load(store.head_path("ridge"))
    X = store.table().X
    store.forget(content)
    left, _, _ = state_of(store)
    [(name, kept)] = left.items()
    assert kept == {key: row for key, row in rows[name].items() if key[0].hex() != content}
    after = featstore.Head.load(store.head_path("ridge"))
    assert np.array_equal(after.predict_proba(X), head.predict_proba(X))
    assert (after.seen_by, len(after.seen.fitted)) == ("part", len(head.seen.fitted) - 1)
    assert featstore.evaluate(after, store.table()).top1 > 0
    [reason] = [one for one in store.catalog().reasons if one]
    assert reason == f"{DUPLICATE} an image that was forgotten"


def test_forgetting_again_finds_nothing(store, content):
    store.forget(content)
    before = files_of(store)
    report = store.forget(content)
    assert (report.is_empty, report.consequences) == (True, ())
    assert files_of(store) == before


def test_an_image_is_named_by_its_path_in_a_catalog_or_its_file(store, content, tmp_path):
    catalog = store.catalog()
    row = [one.tobytes().hex() for one in catalog.content_hash].index(content)
    report = store.forget([catalog.absolute_paths()[row]], dry_run=True)
    assert report.content_hashes == (content,)
    (tmp_path / "new.jpg").write_bytes(b"new")
    report = store.forget(tmp_path / "new.jpg", dry_run=True)
    assert report.is_empty
    report = store.forget([content, "nowhere.jpg"], dry_run=True)
    assert (report.catalogs, report.unknown) == ({"photos": 1}, (os.path.abspath("nowhere.jpg"),))
    for use in (store.forget, lambda images: store.find_traces([content, *images])):
        with pytest.raises(NotInStoreError, match=r"nowhere\.jpg cannot be read"):
            use(["nowhere.jpg"])


def test_what_is_set_aside_or_left_over_goes_too(store, content):
    [space] = store.space_names
    aside = os.path.join(store.path, "damaged", "spaces", space, "0.h5")
    os.makedirs(os.path.dirname(aside))
    left = os.path.join(store.path, "spaces", space, ".tmp-0123.h5")
    for path in (aside, left):
        with open(path, "wb") as file:
            file.write(b"x" * 13 + bytes.fromhex(content))
    assert {trace.path for trace in store.find_traces(content).traces} >= {aside, left}
    report = store.forget("0" * 64, dry_run=True)
    assert (report.spaces, report.files, report.is_empty) == ({}, (aside, left), False)
    report = store.forget(content)
    assert report.files == (aside, left)
    assert store.find_traces(content).traces == ()
    assert not os.path.exists(os.path.join(store.path, "damaged"))


def test_heads_that_do_not_know_their_images_are_no_proof(store, content):
    shutil.copyfile(store.head_path("knn"), store.head_path("old"))
    _drop_member(store.head_path("old"), "seen.npz")
    store.forget(store.table().content_hash[-1])
    assert "old" not in store.head_names
    shutil.copyfile(store.head_path("ridge"), store.head_path("older"))
    _drop_member(store.head_path("older"), "seen.npz")
    report = store.forget(content)
    assert "older" in store.head_names
    assert any("older (ridge) does not know which" in one for one in report.consequences)
    assert store.find_traces(content).traces == ()


@pytest.mark.parametrize("kind", ["logistic", "mlp", "rbf", "knn", "lda"])
def test_of_each_kind_of_head_it_is_known_whether_it_keeps_features(store, kind):
    params = {"mlp": {"alpha": 0.0, "epochs": 1}}.get(kind)
    featstore.fit(store.table(), head=kind, params=params).save(store.head_path("a"))
    assert read_head_images(store.head_path("a")).has_rows == (kind in ("rbf", "knn"))


def test_of_heads_of_other_questions_too(several_table, numbers_table, tmp_path):
    for table, fit, kinds in (
        (several_table, featstore.fit_labels, ("ridge", "rbf")),
        (numbers_table, featstore.fit_regression, ("ridge", "rbf", "knn")),
    ):
        content = table.content_hash_bytes[0].tobytes()
        for kind in kinds:
            path = str(tmp_path / f"{kind}.head")
            fit(table, head=kind, rule=featstore.SplitRule(validation=0.2, test=0)).save(path, overwrite=True)
            images = read_head_images(path)
            assert images.has_rows == (kind != "ridge")
            assert images.is_known
            if images.has("fitted", [content]):
                remove_from_head(path, [content])
                assert not read_head_images(path).has("fitted", [content])
                assert featstore.load_head(path).predict(table.X[:2]) is not None


def test_a_class_of_one_image_is_that_image(store, content):
    catalog = store.catalog()
    labels = [
        "one" if one.tobytes().hex() == content else label
        for one, label in zip(catalog.content_hash, catalog.labels, strict=True)
    ]
    store.write_catalog(replace(catalog, labels=labels))
    table = FeatureStore(store.path).table()
    featstore.fit(table, head="centroid").save(store.head_path("centroid"))
    assert "centroid" in store.forget(content, dry_run=True).heads


def test_a_classifier_of_ones_own_may_keep_anything(store, content):
    from sklearn.svm import SVC

    featstore.fit(store.table(), head=SVC(kernel="linear")).save(store.head_path("own"))
    assert "own" in store.forget(content, dry_run=True).heads


def _drop_member(path, name):
    import zipfile

    from featstore.io.archives.safe_zip import ARCHIVE_COMMENT, member_info, seal_archive

    with zipfile.ZipFile(path) as archive:
        members = {one: archive.read(one) for one in archive.namelist() if one != name}
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = ARCHIVE_COMMENT
        for one, data in members.items():
            archive.writestr(member_info(one), data)
    seal_archive(path)


def test_a_damaged_store_is_to_be_repaired_first(store, content):
    before = files_of(store)
    with open(store.head_path("ridge"), "r+b") as file:
        file.truncate(100)
    with pytest.raises(DamagedError, match="featstore verify"):
        store.forget(content)
    assert set(files_of(store)) == set(before)


def test_while_others_write_nothing_is_forgotten(store, content, monkeypatch):
    left = os.path.join(store.path, "spaces", store.space_names[0], ".tmp-0123.h5")
    open(left, "wb").close()
    monkeypatch.setattr(Folders, "clean", lambda *_, **__: 0)
    before = files_of(store)
    with pytest.raises(StoreError, match="another process is writing"):
        store.forget(content)
    assert files_of(store) == before


def test_killed_at_any_change_of_a_file_the_same_call_ends_as_if_undisturbed(
    store, content, monkeypatch, tmp_path
):
    path = store.catalog().absolute_paths()[
        [one.tobytes().hex() for one in store.catalog().content_hash].index(content)
    ]
    whole = FeatureStore(shutil.copytree(store.path, tmp_path / "whole.fstore"))
    whole.forget(path)
    wanted = state_of(whole)
    calls = {"replace": os.replace, "unlink": os.unlink}
    for n_before in range(100):
        cut = FeatureStore(shutil.copytree(store.path, tmp_path / f"{n_before}.fstore"))
        done = []

        def stop(name, *args, done=done, n_before=n_before, **options):
            if len(done) == n_before:
                raise KeyboardInterrupt
            done.append(name)
            return calls[name](*args, **options)

        with monkeypatch.context() as patch:
            for name in calls:
                patch.setattr(os, name, lambda *args, name=name, **options: stop(name, *args, **options))
            try:
                cut.forget(path)
                break
            except KeyboardInterrupt:
                pass
        again = FeatureStore(cut.path)
        assert again.verify().ok
        try:
            again.forget(path)
        except NotInStoreError:
            assert again.find_traces(content).traces == ()
        assert state_of(FeatureStore(cut.path)) == wanted
        assert again.find_traces(content).traces == ()
    assert n_before > 8
