import io
import json
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from featstore.errors import FingerprintMismatchError
from featstore.heads import Head, fit
from featstore.scoring import leakage
from featstore.scoring.near_duplicates import cannot_compare

MODULE = sys.modules[leakage.__module__]


def refused(*_arguments, **_options):
    raise AssertionError("not to be called")


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
    found = leakage(head, planted)
    others = slice(520, 530)
    right = head.predict(planted.X[others]) == planted.y[others]
    assert (found["n_test"], found["n_without"], found["skipped"]) == (20, 10, None)
    assert found["top1_without"] == right.mean()
    low, high = found["top1_ci_without"]
    assert low < found["top1_without"] <= high
    assert head.test["n"] == 30
    assert head.test["top1"] < found["top1_without"]


def test_fit_does_not_look_for_them(planted, monkeypatch, caplog):
    monkeypatch.setattr(MODULE, "fit_likeness", refused)
    assert fit(planted, params={"C": 0.01}).near_duplicates == {}
    assert not caplog.records


def test_all_test_images_may_be_near_duplicates(planted):
    planted.X[520:] = planted.X[20:30]
    found = leakage(fit(planted, params={"C": 0.01}), planted)
    assert (found["n_test"], found["n_without"], found["top1_without"]) == (30, 0, None)


def test_without_leakage_nothing_is_reported(make_table, make_blobs, caplog):
    table = make_table(*make_blobs(feature_dim=128))
    assert leakage(fit(table, params={"C": 0.01}), table)["n_test"] == 0
    assert not caplog.records


def test_copies_to_the_byte_are_not_scored_at_all(planted):
    hashes = planted.content_hash_bytes.copy()
    hashes[520] = hashes[30]
    planted.X[520] = planted.X[30]
    table = planted.but(content_hash_bytes=hashes)
    head = fit(table, params={"C": 0.01})
    found = leakage(head, table)
    assert (found["n_test"], found["n_without"], head.leaks, head.test["n"]) == (20, 9, 1, 29)


def test_unlabelled_images_and_small_classes_are_left_out(planted):
    y = planted.y.astype("U20")
    y[500:503], y[503:507] = "", "rare"
    table = planted.but(y=y)
    found = leakage(fit(table, params={"C": 0.01}, min_images=10), table)
    assert (found["n_test"], found["n_without"]) == (13, 10)


def test_too_much_work_is_skipped_before_features_are_read(planted, monkeypatch):
    head = fit(planted, params={"C": 0.01})
    monkeypatch.setattr(MODULE, "_MAX_WORK", 1000)
    monkeypatch.setattr(MODULE, "fit_likeness", refused)
    found = leakage(head, planted)
    assert found["n_test"] is found["n_without"] is found["top1_without"] is None
    assert "comparing 30 with 500 images" in found["skipped"]


def test_few_features_are_not_looked_at(table):
    assert "too few" in leakage(fit(table), table)["skipped"]
    assert "63 features are too few" in cannot_compare(10, 10, 63)
    assert cannot_compare(10, 10, 64) is None


def test_a_head_that_was_fitted_on_other_images_leaks_nothing(planted):
    head = fit(planted.select(np.arange(500)), params={"C": 0.01})
    hashes = planted.content_hash_bytes.copy()
    hashes[:500, 0] ^= 255
    assert "fitted on none" in leakage(head, planted.but(content_hash_bytes=hashes))["skipped"]


def test_features_of_another_backbone_are_refused(planted):
    head = fit(planted, params={"C": 0.01})
    with pytest.raises(FingerprintMismatchError):
        leakage(replace(head, fingerprint="f" * 64), planted)


def test_it_is_kept_in_the_head_file(planted, tmp_path):
    head = fit(planted, params={"C": 0.01})
    head = replace(head, near_duplicates=leakage(head, planted))
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
