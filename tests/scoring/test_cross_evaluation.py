"""All labelled images, each judged by a head that never saw it."""

import json

import numpy as np
import pytest

from fake_tables import blobs, table_of
from featstore import cross_evaluate, evaluate, fit
from featstore.errors import HeadError, SplitError
from featstore.scoring import cross_folds
from featstore.scoring.fold_groups import assign_folds
from featstore.splits import SplitRule


@pytest.fixture
def noisy():
    return table_of(*blobs(n=300, n_classes=3, spread=1.5))


def fits_of(monkeypatch):
    """Keep what each fold's head was fitted on, and what it was asked for."""
    seen = []
    of = cross_folds.fit

    def spied(table, **options):
        head = of(table, **options)
        seen.append((head, table.content_hash_bytes[np.asarray(table.given_splits) == "test"]))
        return head

    monkeypatch.setattr(cross_folds, "fit", spied)
    return seen


def test_every_labelled_image_is_scored_by_a_head_that_never_saw_it(noisy, monkeypatch):
    seen = fits_of(monkeypatch)
    y = np.where(np.arange(300) % 10 == 0, "", noisy.y)
    found = cross_evaluate(noisy.but(y=y), folds=4)
    assert found.n == (y != "").sum() == sum(one["n"] for one in found.classes)
    assert [fold["n"] for fold in found.folds] == pytest.approx([found.n / 4] * 4, abs=3)
    for head, held_out in seen:
        assert not head.seen.have_fitted(held_out).any()
        assert not head.seen.have_chosen(held_out).any()
    assert len({row.tobytes() for _, held_out in seen for row in held_out}) == found.n
    assert sum(map(sum, found.confusion)) == found.n
    assert len(found.misclassified) == round((1 - found.top1) * found.n)
    assert json.loads(json.dumps(found.to_dict()))["folds"][0].keys() == {
        *("n", "top1", "top1_ci", "n_fitted", "params")
    }


def test_the_interval_holds_the_accuracy_on_many_further_images():
    table = table_of(*blobs(n=3300, n_classes=3, spread=1.5))
    few, others = table.select(np.arange(300)), table.select(np.arange(300, 3300))
    low, high = cross_evaluate(few).top1_ci
    assert low < evaluate(fit(few, rule=SplitRule(test=0)), others, split="all").top1 < high


def test_a_class_of_three_images_is_scored_and_one_of_a_single_image_is_named(noisy):
    y = noisy.y.astype("<U8")
    y[:3], y[3] = "badger", "lynx"
    found = cross_evaluate(noisy.but(y=y))
    counts = {one["label"]: one["n"] for one in found.classes}
    assert (counts["badger"], counts["lynx"]) == (3, 0)
    assert found.unjudged == {"lynx": 1}
    assert found.n == 299


def test_groups_stay_together_without_being_asked_for(noisy, monkeypatch):
    seen = fits_of(monkeypatch)
    groups = np.array([f"plant {number // 5}" for number in range(300)])
    hashes = noisy.content_hash_bytes.copy()
    hashes[7] = hashes[290]
    table = noisy.but(groups=groups, content_hash_bytes=hashes)
    found = cross_evaluate(table)
    assert found.together["by"] == found.resampling["unit"] == "group"
    assert found.resampling["n"] == 59
    of = dict(zip((row.tobytes() for row in hashes), groups.tolist(), strict=True))
    held_out = [{of[row.tobytes()] for row in rows} for _, rows in seen]
    assert all(not (a & b) for number, a in enumerate(held_out) for b in held_out[:number])


def test_near_duplicates_stay_together(monkeypatch):
    X, y = blobs(n=120, n_classes=2, feature_dim=80, spread=3.0)
    X[1::2] = X[::2] + 0.01
    y = np.repeat(["a", "b"], 2)[np.arange(120) % 4]
    seen = fits_of(monkeypatch)
    table = table_of(X, y)
    found = cross_evaluate(table)
    place = {row.tobytes(): number for number, row in enumerate(table.content_hash_bytes)}
    for _, rows in seen:
        numbers = {place[row.tobytes()] for row in rows}
        assert {number ^ 1 for number in numbers} == numbers
    assert found.together == {"by": "image", "n_near": 120, "skipped": None}
    assert found.resampling["n"] == 60


def test_a_fitted_heads_kind_keeps_what_was_fixed_and_chooses_the_rest(noisy):
    head = fit(noisy, head="knn", params={"n_neighbors": 7})
    assert {fold["params"]["n_neighbors"] for fold in cross_evaluate(noisy, head=head).folds} == {7}
    chosen = fit(noisy, head="logistic", class_weight="balanced")
    params = [fold["params"] for fold in cross_evaluate(noisy, head=chosen, folds=3).folds]
    assert {one["class_weight"] for one in params} == {"balanced"}


def test_the_same_images_are_in_the_same_folds(noisy):
    assert cross_evaluate(noisy, folds=3) == cross_evaluate(noisy, folds=3)


def test_what_cannot_be_is_refused(noisy):
    with pytest.raises(SplitError, match="at least 2; found 1"):
        cross_evaluate(noisy, folds=1)
    with pytest.raises(HeadError, match="has 1 classes whose images can be held out"):
        cross_evaluate(noisy.but(y=np.full(300, "moss")))
    with pytest.raises(HeadError, match="has no labels"):
        cross_evaluate(noisy.but(y=np.full(300, "")))


def test_classes_are_assigned_evenly():
    y = np.repeat([0, 1, 2], [50, 12, 5])
    folds = assign_folds([f"{number:064x}" for number in range(67)], y, folds=5, salt="")
    counts = np.array([np.bincount(folds[y == code], minlength=5) for code in range(3)])
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()
    assert np.ptp(counts.sum(axis=0)) <= 1
