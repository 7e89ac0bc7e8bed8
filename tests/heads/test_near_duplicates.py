import io
import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from featstore.heads import Head, fit, near_duplicates


@pytest.fixture
def planted(make_table, make_blobs):
    """500 images, and 30 in test of which 20 are nearly the same as one in train, with another label for five."""
    X, y = make_blobs(530, feature_dim=128, spread=1.0)
    random = np.random.default_rng(3)
    given = np.array(["train"] * 450 + ["validation"] * 50 + ["test"] * 30)
    X[500:520] = X[:20] + 0.2 * random.normal(size=(20, 128))
    y[500:520] = y[:20]
    y[500:505] = np.where(y[500:505] == "class 0", "class 1", "class 0")
    return make_table(X, y, given=given)


def test_the_score_without_near_duplicates_is_that_of_the_others(planted):
    head = fit(planted, params={"C": 0.01})
    told = head.near_duplicates
    others = slice(520, 530)
    right = head.predict(planted.X[others]) == planted.y[others]
    assert (told["n_test"], told["n_without"], told["skipped"]) == (20, 10, None)
    assert told["top1_without"] == right.mean()
    low, high = told["top1_ci_without"]
    assert low < told["top1_without"] <= high
    assert head.test["n"] == 30
    assert head.test["top1"] < told["top1_without"]


def test_it_is_warned_about_with_numbers(planted, caplog):
    fit(planted, params={"C": 0.01})
    assert any("20 of 30 test images have near-duplicates in train" in one.message for one in caplog.records)


def test_all_test_images_may_be_near_duplicates(planted, caplog):
    planted.X[520:] = planted.X[20:30]
    told = fit(planted, params={"C": 0.01}).near_duplicates
    assert (told["n_test"], told["n_without"], told["top1_without"]) == (30, 0, None)
    assert "unknown without" in caplog.text


def test_none_is_none(make_table, make_blobs, caplog):
    told = fit(make_table(*make_blobs(feature_dim=128)), params={"C": 0.01}).near_duplicates
    assert told["n_test"] == 0
    assert not caplog.records


def test_copies_to_the_byte_are_not_scored_at_all(planted):
    hashes = planted.content_hash_bytes.copy()
    hashes[520] = hashes[30]
    planted.X[520] = planted.X[30]
    head = fit(planted.but(content_hash_bytes=hashes), params={"C": 0.01})
    assert (head.near_duplicates["n_test"], head.leaks, head.test["n"]) == (20, 1, 29)


def test_too_much_work_is_skipped_and_said(planted, monkeypatch, caplog):
    monkeypatch.setattr(near_duplicates, "_MAX_WORK", 1000)
    told = fit(planted, params={"C": 0.01}).near_duplicates
    assert told["n_test"] is told["n_without"] is told["top1_without"] is None
    assert "comparing 30 with 450 images" in told["skipped"]
    assert "not looked for near-duplicates" in caplog.text


def test_too_much_work_asks_for_no_features(monkeypatch):
    monkeypatch.setattr(near_duplicates, "_MAX_WORK", 1000)
    without_features = SimpleNamespace(feature_dim=128)
    told = near_duplicates.score_without_duplicates(
        without_features, train=np.arange(10), test=np.arange(10), is_right=np.ones(10, np.bool_)
    )
    assert "would take too long" in told["skipped"]


def test_few_features_are_not_looked_at(table):
    assert "too few" in fit(table).near_duplicates["skipped"]


def test_it_is_kept_in_the_head_file(planted, tmp_path):
    head = fit(planted, params={"C": 0.01})
    head.save(tmp_path / "a.head")
    assert Head.load(tmp_path / "a.head").near_duplicates == head.near_duplicates
    assert head.to_dict()["near_duplicates"] == head.near_duplicates


def test_a_head_of_the_first_version_lacks_it_and_is_read(table, tmp_path):
    fit(table).save(tmp_path / "a.head")
    with zipfile.ZipFile(tmp_path / "a.head") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    for name in ("near_duplicates", "choice", "seed", "reject"):
        del manifest[name]
    manifest["format_version"] = 1
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("estimator.skops", members["estimator.skops"])
    (tmp_path / "a.head").write_bytes(data.getvalue())
    assert Head.load(tmp_path / "a.head").near_duplicates == {}
