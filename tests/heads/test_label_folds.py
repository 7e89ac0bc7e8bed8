"""Heads for several labels: chosen in folds, with class weights, on several views."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_tables import CLASSES, label_arrays, label_table
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC

from featstore.errors import HeadError, NotInStoreError, SplitError
from featstore.heads import fit_labels, load_head
from featstore.heads.data.view_counts import Views
from featstore.heads.multilabel.choosing import choose_out_of_fold
from featstore.heads.multilabel.decisions import fit_sigmoids, sigmoid
from featstore.heads.multilabel.folds import label_divisions, label_folds
from featstore.heads.multilabel.images import LabelImages
from featstore.heads.multilabel.scores import precision_recall
from featstore.heads.multilabel.solving import label_recipe
from featstore.scoring import evaluate_labels
from featstore.splits import SplitRule

RULE = SplitRule(validation=0.25, test=0.25)
TIGHT = {"tol": 1e-8, "max_iter": 10**6}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return label_table(tmp_path_factory.mktemp("labels") / "a.fstore", *label_arrays())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.booleans())
def test_folds_keep_groups_together_and_spread_each_label(seed, folds, is_grouped):
    random = np.random.default_rng(seed)
    has = random.random((120, 4)) < [0.5, 0.2, 0.1, 0.04]
    keys = [f"{number // 2 if is_grouped else number}" for number in range(120)]
    found = label_folds(keys, has, folds=folds, salt="")

    assert len({(key, int(fold)) for key, fold in zip(keys, found, strict=True)}) == len(set(keys))
    for count in (
        np.bincount(found, minlength=folds),
        *(np.bincount(found[one], minlength=folds) for one in has.T),
    ):
        # A group has two images, and labels that come together cannot all be even.
        assert count.max() - count.min() <= (8 if is_grouped else 5)
    rare = np.bincount(found[has[:, 3]], minlength=folds)
    assert is_grouped or rare.max() - rare.min() <= 1
    assert (found == label_folds(keys, has, folds=folds, salt="")).all()


def test_images_of_a_label_in_one_group_are_in_every_training_part():
    has = np.random.default_rng(0).random((40, 3)) < 0.5
    has[:, 2] = np.arange(40) < 3
    keys = ["one" if number < 3 else str(number) for number in range(40)]
    divided = label_divisions(keys, has, folds=4, salt="")

    assert divided.unjudged.tolist() == [False, False, True]
    assert all({0, 1, 2} <= {*inside.tolist()} for inside, _ in divided.divisions)
    assert sorted(np.concatenate([outside for _, outside in divided.divisions]).tolist()) == [*range(3, 40)]
    with pytest.raises(SplitError, match="40 images or groups cannot be divided into 41 folds"):
        label_folds([str(number) for number in range(40)], has, folds=41, salt="")
    with pytest.raises(SplitError, match="folds must be an integer of at least 2; found 1"):
        label_folds(keys, has, folds=1, salt="")


@pytest.mark.parametrize(
    ("name", "params", "model"),
    [
        ("ridge", {"alpha": 10.0}, make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0))),
        (
            "logistic",
            {"C": 1.0, **TIGHT},
            make_pipeline(
                StandardScaler(), OneVsRestClassifier(LogisticRegression(C=1.0, tol=1e-8, max_iter=5000))
            ),
        ),
    ],
)
def test_choices_are_by_out_of_fold_scores_of_scikit_learn(name, params, model, table):
    head = fit_labels(table, head=name, params=params, rule=RULE, folds=3)
    inside = np.flatnonzero(table.splits(RULE) != "test")
    X, has = np.asarray(table.X)[inside], table.label_sets[inside]
    divided = label_divisions(table.content_hash[inside].tolist(), has, folds=3, salt="")
    scores = np.empty(has.shape)
    for train, held_out in divided.divisions:
        scores[held_out] = model.fit(X[train], has[train].astype(int)).decision_function(X[held_out])
    slope, offset = fit_sigmoids(scores, has) if name == "ridge" else (1, 0)
    probabilities = sigmoid(slope * scores + offset)

    assert head.validation["n"] == len(inside)
    assert head.validation["map"] == pytest.approx(average_precision_score(has, probabilities), abs=1e-4)
    given = probabilities >= head.thresholds
    assert head.validation["macro_f1"] == pytest.approx(f1_score(has, given, average="macro"), abs=0.01)
    for number, label in enumerate(has.T):
        precision, recall, _ = precision_recall_curve(label, probabilities[:, number])
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-9)).max()
        assert f1_score(label, given[:, number]) == pytest.approx(best, abs=0.01)
    assert head.fitted_on == ["train", "validation"]
    assert head.folds == 3
    assert head.seen.have_fitted(table.content_hash_bytes[inside]).all()


@pytest.mark.parametrize("name", ["logistic", "rbf", "ridge", "svm"])
def test_a_setting_chosen_in_folds_is_that_of_a_fit_with_it_fixed(name, table):
    chosen = fit_labels(table, head=name, rule=RULE, folds=3)
    fixed = fit_labels(table, head=name, params=chosen.params, rule=RULE, folds=3)

    assert len(chosen.sweep) > 1
    np.testing.assert_allclose(chosen.thresholds, fixed.thresholds, atol=1e-6)
    np.testing.assert_allclose(chosen.predict_proba(table.X), fixed.predict_proba(table.X), atol=1e-6)
    assert chosen.test["map"] > 0.9


def test_without_refit_folds_leave_validation_alone(table):
    head = fit_labels(table, head="ridge", rule=RULE, folds=3, refit=False)
    is_validation = table.splits(RULE) == "validation"
    assert head.fitted_on == ["train"]
    assert not head.seen.have_fitted(table.content_hash_bytes[is_validation]).any()
    assert evaluate_labels(head, table, split="validation").n == is_validation.sum()


def test_folds_of_a_kernel_without_refits_are_those_with(table, monkeypatch):
    has = np.asarray(table.label_sets)
    images = LabelImages.of(table, has, Views())
    recipe = label_recipe("rbf", {"gamma": 1.0, "alpha": 1e-3}, None, 0)
    divisions = label_divisions(table.content_hash.tolist(), has, folds=4, salt="").divisions
    at_once = choose_out_of_fold(recipe, images, divisions, None)
    monkeypatch.setattr("featstore.heads.multilabel.choosing._are_from_one_fit", lambda *_: False)
    one_by_one = choose_out_of_fold(recipe, images, divisions, None)
    # Columns are scaled on all images, or on those of the other folds.
    assert abs(at_once.probabilities - one_by_one.probabilities).mean() < 0.02


@pytest.mark.parametrize(
    ("name", "params", "classifier", "steps"),
    [
        (
            "logistic",
            {"C": 1.0},
            LogisticRegression(C=1.0, class_weight="balanced", **TIGHT),
            [StandardScaler()],
        ),
        ("ridge", {"alpha": 10.0}, RidgeClassifier(alpha=10.0, class_weight="balanced"), [StandardScaler()]),
        (
            "svm",
            {"C": 1.0},
            LinearSVC(C=1.0, class_weight="balanced", **TIGHT),
            [StandardScaler(), Normalizer()],
        ),
    ],
)
def test_balanced_labels_are_fitted_as_scikit_learn_does(name, params, classifier, steps, table):
    tight = {} if name == "ridge" else TIGHT
    head = fit_labels(
        table, head=name, params={**params, **tight}, class_weight="balanced", rule=RULE, refit=False
    )
    train = table.splits(RULE) == "train"
    model = make_pipeline(*steps, OneVsRestClassifier(classifier))
    wanted = model.fit(table.X[train], table.label_sets[train].astype(int)).decision_function(table.X)
    found = head.form.scores(table.X)

    assert head.params["class_weight"] == "balanced"
    for label in range(len(CLASSES)):
        slope, offset = np.polyfit(wanted[:, label], found[:, label], 1)
        assert slope > 0
        np.testing.assert_allclose(slope * wanted[:, label] + offset, found[:, label], atol=1e-2)
    probabilities = head.predict_proba(table.X[~train])
    assert abs(probabilities.mean(axis=0) - table.label_sets[~train].mean(axis=0)).max() < 0.1


def test_probabilities_are_averaged_over_views_and_each_view_is_a_row(tmp_path):
    X, has = label_arrays(300, spread=2.0)
    random = np.random.default_rng(3)
    more = [X + random.normal(size=X.shape).astype(np.float32) for _ in range(2)]
    table = label_table(tmp_path / "a.fstore", X, has, more_views=more)
    options = {"head": "ridge", "params": {"alpha": 10.0}, "rule": RULE, "refit": False}
    head = fit_labels(table, views={"train": 2, "test": 3}, **options)
    train = np.flatnonzero(table.splits(RULE) == "train")
    rows = np.stack([X[train], more[0][train]], axis=1).reshape(-1, X.shape[1])
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0))
    wanted = model.fit(rows, np.repeat(has[train], 2, axis=0).astype(int)).decision_function(X)
    found = head.form.scores(X)

    assert (head.train_views, head.test_views) == (2, 3)
    for label in range(len(CLASSES)):
        assert np.corrcoef(wanted[:, label], found[:, label])[0, 1] > 1 - 1e-8
    views = np.stack([X, *more], axis=1)
    mean = np.mean([head.predict_proba(one) for one in (X, *more)], axis=0)
    np.testing.assert_allclose(head.predict_proba(views), mean)
    is_test = table.splits(RULE) == "test"
    assert head.test["map"] == pytest.approx(average_precision_score(has[is_test], mean[is_test]))
    assert evaluate_labels(head, table).map == pytest.approx(head.test["map"])
    assert fit_labels(table, views={"test": 3}, folds=3, **options).validation["n"] == len(train)

    head.save(tmp_path / "a.head")
    loaded = load_head(tmp_path / "a.head")
    assert (loaded.train_views, loaded.test_views, loaded.folds) == (2, 3, None)
    with pytest.raises(NotInStoreError, match="4 views of each image are requested"):
        fit_labels(table, views={"test": 4}, **options)
    with pytest.raises(HeadError, match=r"takes features of shape \(n, 12\) or \(n, n_views, 12\)"):
        head.predict_proba(np.zeros((2, 3, 4)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_points_of_a_curve_are_those_of_scikit_learn(seed, has_ties):
    random = np.random.default_rng(seed)
    has, probabilities = random.random(500) < 0.4, random.random(500)
    if has_ties:
        probabilities = np.round(probabilities, 2)
    found = precision_recall(has, probabilities)
    precision, recall, thresholds = precision_recall_curve(has, probabilities)
    known = {float(at): pair for at, *pair in zip(thresholds, precision, recall, strict=False)}

    assert 1 < len(found["recall"]) <= 200
    assert found["recall"][-1] == 1
    for at, *pair in zip(found["probability"], found["precision"], found["recall"], strict=True):
        assert pair == pytest.approx(known[at])
    assert precision_recall(has & False, probabilities) == {"probability": [], "precision": [], "recall": []}
