"""What a head remembers of the images that it was fitted and chosen on."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from featstore import Head, fit
from featstore.errors import HeadError
from featstore.heads.seen import SeenImages
from featstore.io.archives.safe_zip import ARCHIVE_COMMENT, seal_archive
from featstore.splits import SplitRule

hashes = st.integers(0, 20).flatmap(lambda n: arrays(np.uint8, (n, 32)))


@given(hashes, hashes, hashes)
def test_what_was_seen_is_known_again_and_nothing_else(fitted, chosen, others):
    seen = SeenImages.from_arrays(SeenImages.of(fitted, chosen).arrays())
    known = {row[:8].tobytes() for row in fitted}
    assert seen.have_fitted(fitted).all()
    assert (seen.have_chosen(chosen) | seen.have_fitted(chosen)).all()
    assert seen.have_fitted(others).tolist() == [row[:8].tobytes() in known for row in others]


@pytest.mark.parametrize(
    ("options", "fitted", "chosen"),
    [
        ({"refit": False}, ["train"], ["validation"]),
        ({"refit": True}, ["train", "validation"], []),
        ({"params": {"C": 1.0}, "refit": False}, ["train"], []),
        ({"folds": 3}, ["train", "validation"], []),
        ({"folds": 3, "refit": False}, ["train"], []),
        ({"head": "sgd", "refit": False}, ["train"], ["validation"]),
        ({"head": "knn", "refit": False}, ["train"], ["validation"]),
    ],
)
def test_a_head_knows_by_content_what_it_was_fitted_and_chosen_on(table, tmp_path, options, fitted, chosen):
    fit(table, **options).save(tmp_path / "a.head")
    head = Head.load(tmp_path / "a.head")
    splits = table.splits(SplitRule())
    elsewhere = table.but(catalog_name="another")
    assert head.seen_by == "content"
    np.testing.assert_array_equal(head.was_fitted_on(elsewhere), np.isin(splits, fitted))
    np.testing.assert_array_equal(head.was_chosen_on(elsewhere), np.isin(splits, chosen))
    assert head.to_dict()["seen"] == {
        "by": "content",
        "n_fitted": int(np.isin(splits, fitted).sum()),
        "n_chosen": int(np.isin(splits, chosen).sum()),
    }


def test_eight_bytes_an_image_are_kept(table, tmp_path):
    fit(table, params={"C": 1.0}, refit=False).save(tmp_path / "a.head")
    with zipfile.ZipFile(tmp_path / "a.head") as archive:
        size = archive.getinfo("seen.npz").file_size
    assert size < 8 * len(table) + 1000


def test_a_head_of_an_earlier_format_goes_by_the_catalogs_name(table, tmp_path):
    path = tmp_path / "a.head"
    head = fit(table, refit=False)
    head.save(path)
    _rewrite(path, seen=None, format_version=3, choice={**head.choice, "by": "validation"})
    head = Head.load(path)
    splits = table.splits(SplitRule())
    assert (head.seen, head.seen_by) == (None, "catalog")
    np.testing.assert_array_equal(head.was_fitted_on(table), splits == "train")
    np.testing.assert_array_equal(head.was_chosen_on(table), splits == "validation")
    assert not head.was_fitted_on(table.but(catalog_name="another")).any()


@pytest.mark.parametrize(
    "changes",
    [
        {"fitted": np.array([3, 2], "<u8")},
        {"fitted": np.array([2, 2], "<u8")},
        {"chosen": np.array([[1]], "<u8")},
        {"chosen": np.array([1], "<i8")},
        {"complete": np.array([True])},
        {"complete": np.array(1)},
        {"more": np.array(1)},
    ],
)
def test_an_unfit_memory_is_refused(table, tmp_path, changes):
    path = tmp_path / "a.head"
    head = fit(table, params={"C": 1.0})
    head.save(path)
    buffer = io.BytesIO()
    np.savez(buffer, **(head.seen.arrays() | changes))
    _rewrite(path, seen=buffer.getvalue())
    with pytest.raises(HeadError, match="is damaged"):
        Head.load(path)


def test_a_copy_of_a_training_image_in_test_is_not_scored(make_table, make_blobs, caplog):
    X, y = make_blobs(spread=3.0)
    splits = np.array(["train", "train", "validation", "test"])[np.arange(len(y)) // 3 % 4]
    table = make_table(X, y, given=splits)
    hashes = table.content_hash_bytes.copy()
    train, test = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "test")
    hashes[test[:7]] = hashes[train[:7]]
    head = fit(table.but(content_hash_bytes=hashes))
    assert head.leaks == 7
    assert head.test["n"] == sum(head.counts["test"].values()) == len(test) - 7
    assert "7 images have identical copies in more than one split" in caplog.text


def _rewrite(path, *, seen, **manifest):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    del members["seen.npz"]
    members["manifest.json"] = json.dumps(json.loads(members["manifest.json"]) | manifest)
    if seen is not None:
        members["seen.npz"] = seen
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = ARCHIVE_COMMENT
        for name, data in members.items():
            archive.writestr(name, data)
    seal_archive(str(path))
