import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_tables import CLASSES, label_arrays, label_table
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import average_precision_score, f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC

from featstore.errors import FormatVersionError, HeadError, SeveralLabelsError, SplitError
from featstore.heads import Head, MultiLabelHead, fit, fit_labels, load_head
from featstore.heads.files import head_file
from featstore.heads.multilabel.decisions import best_thresholds, fit_sigmoids, sigmoid
from featstore.heads.multilabel.scores import average_precisions, drawn_scores, score_values
from featstore.scoring import evaluate_labels
from featstore.splits import SplitRule

RULE = SplitRule(validation=0.25, test=0.25)
PARAMS = {
    "logistic": {"C": 1.0},
    "rbf": {"gamma": 1.0, "alpha": 1e-4},
    "ridge": {"alpha": 10.0},
    "svm": {"C": 1.0},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return label_table(tmp_path_factory.mktemp("labels") / "a.fstore", *label_arrays())


@pytest.fixture(scope="module")
def head(table):
    return fit_labels(table, head="ridge", rule=RULE)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_scores_are_those_of_scikit_learn(seed, has_ties):
    random = np.random.default_rng(seed)
    has = random.random((30, 3)) < 0.4
    has[0], has[1] = True, False
    probabilities = random.random((30, 3))
    if has_ties:
        probabilities = np.round(probabilities, 1)
    is_given = probabilities >= 0.5
    scores = score_values(has, is_given, probabilities)

    assert scores["map"] == pytest.approx(average_precision_score(has, probabilities))
    assert scores["micro_f1"] == pytest.approx(f1_score(has, is_given, average="micro", zero_division=0))
    assert scores["macro_f1"] == pytest.approx(f1_score(has, is_given, average="macro", zero_division=0))
    assert scores["subset_accuracy"] == (has == is_given).all(axis=1).mean()


def test_images_that_are_drawn_twice_count_twice():
    random = np.random.default_rng(0)
    has, probabilities = random.random((20, 3)) < 0.4, np.round(random.random((20, 3)), 1)
    counts = random.integers(0, 3, 20)
    rows = np.repeat(np.arange(20), counts)
    found = drawn_scores(has, probabilities > 0.5, probabilities, counts[None].astype(float))[0]

    assert found == pytest.approx(
        [*score_values(has[rows], probabilities[rows] > 0.5, probabilities[rows]).values()][1:]
    )
    own = average_precisions(has, probabilities, counts[None].astype(float))
    assert own[0] == pytest.approx(average_precision_score(has[rows], probabilities[rows], average=None))


@pytest.mark.parametrize(
    ("name", "classifier", "steps"),
    [
        (
            "logistic",
            OneVsRestClassifier(LogisticRegression(C=1.0, tol=1e-8, max_iter=5000)),
            [StandardScaler()],
        ),
        ("ridge", RidgeClassifier(alpha=10.0), [StandardScaler()]),
        (
            "svm",
            OneVsRestClassifier(LinearSVC(C=1.0, tol=1e-8, max_iter=10**6)),
            [StandardScaler(), Normalizer()],
        ),
    ],
)
def test_each_label_is_fitted_as_scikit_learn_does(name, classifier, steps, table):
    tight = {} if name == "ridge" else {"tol": 1e-8, "max_iter": 10**6}
    head = fit_labels(table, head=name, params={**PARAMS[name], **tight}, rule=RULE, refit=False)
    train = table.splits(RULE) == "train"
    pipeline = make_pipeline(*steps, classifier).fit(table.X[train], table.label_sets[train].astype(int))
    wanted, found = pipeline.decision_function(table.X), head.form.scores(table.X)

    for label in range(len(CLASSES)):
        slope, offset = np.polyfit(wanted[:, label], found[:, label], 1)
        assert slope > 0
        np.testing.assert_allclose(slope * wanted[:, label] + offset, found[:, label], atol=1e-2)
    if name == "logistic":
        np.testing.assert_allclose(head.predict_proba(table.X), pipeline.predict_proba(table.X), atol=1e-3)


@pytest.mark.parametrize("name", PARAMS)
def test_a_head_is_chosen_calibrated_and_scored_on_images_that_it_has_not_seen(name, table):
    head = fit_labels(table, head=name, rule=RULE)
    is_test = table.splits(RULE) == "test"
    probabilities = head.predict_proba(table.X[is_test])
    has = table.label_sets[is_test]

    assert head.test == score_values(has, head.predict(table.X[is_test]), probabilities)
    assert head.test["map"] > 0.9 > 0.75 < head.test["micro_f1"]
    assert abs(probabilities.mean(axis=0) - has.mean(axis=0)).max() < 0.12
    assert {step["params"].__len__() for step in head.sweep} == {len(PARAMS[name])}
    assert head.n_images["test"] == is_test.sum()
    assert head.counts["test"] == dict(zip(CLASSES.tolist(), has.sum(axis=0).tolist(), strict=True))
    assert not head.seen.have_fitted(table.content_hash_bytes[is_test]).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_thresholds_have_the_best_f1(seed, has_ties):
    random = np.random.default_rng(seed)
    has, probabilities = random.random((25, 2)) < 0.3, random.random((25, 2))
    if has_ties:
        probabilities = np.round(probabilities, 1)
    thresholds = best_thresholds(probabilities, has)
    for label in range(2):
        if not has[:, label].any():
            assert thresholds[label] == 0.5
            continue
        each = [_f1(has[:, label], probabilities[:, label] >= at) for at in probabilities[:, label]]
        assert _f1(has[:, label], probabilities[:, label] >= thresholds[label]) == max(each)


def _f1(has, given):
    return 2 * (has & given).sum() / (has.sum() + given.sum())


def test_sigmoids_give_as_many_labels_as_there_are_and_rare_ones_share():
    random = np.random.default_rng(0)
    scores = random.normal(size=(200, 3))
    has = random.random((200, 3)) < sigmoid(3 * scores - 1)
    has[:, 2] = np.arange(200) < 3
    slope, offset = fit_sigmoids(scores, has)

    assert slope[:2] == pytest.approx(3, rel=0.5)
    expected = sigmoid(slope * scores + offset).mean(axis=0)
    assert expected[:2] == pytest.approx(has[:, :2].mean(axis=0), abs=0.01)
    shared = fit_sigmoids(scores.reshape(-1, 1), has.reshape(-1, 1))
    assert (slope[2], offset[2]) == pytest.approx((shared[0][0], shared[1][0]))


def test_weights_count(tmp_path, table):
    X, has = label_arrays()
    weights = np.where(np.arange(len(X)) % 3 == 0, 1e-4, 1.0)
    wrong = np.where(weights[:, None] < 1, ~has, has)
    options = {"head": "ridge", "params": {"alpha": 10.0}, "rule": RULE}
    weighted, plain = (
        fit_labels(label_table(tmp_path / f"{number}.fstore", X, wrong, weights=own), **options)
        for number, own in enumerate((weights, None))
    )

    assert (weighted.weighted, plain.weighted) == (True, False)
    maps = [average_precision_score(has, one.predict_proba(X)) for one in (weighted, plain)]
    assert maps[0] > 0.95 > maps[1] + 0.02


def test_images_of_unknown_labels_are_left_out_and_of_none_are_not(tmp_path):
    X, has = label_arrays()
    known = np.arange(len(X)) >= 20
    table = label_table(tmp_path / "a.fstore", X, has, known=known)
    head = fit_labels(table, head="ridge", rule=RULE)

    assert head.unlabelled == 20
    assert sum(head.n_images.values()) == len(X) - 20
    assert (~has[known].any(axis=1)).any()
    assert (table.label_sets == has & known[:, None]).all()


def test_a_file_is_read_back_and_refused_by_what_reads_one_label(head, table, tmp_path, monkeypatch):
    path = tmp_path / "a.head"
    head.save(path)
    loaded = load_head(path)

    assert isinstance(loaded, MultiLabelHead)
    assert loaded.to_dict() == head.to_dict()
    assert (loaded.predict_proba(table.X) == head.predict_proba(table.X)).all()
    with pytest.raises(SeveralLabelsError, match="gives several labels, and this takes heads with one"):
        Head.load(path)
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["format_version"] == 8
    monkeypatch.setitem(head_file.QUESTIONS, "labels", replace(head_file.QUESTIONS["labels"], version=7))
    with pytest.raises(FormatVersionError, match="upgrade featstore"):
        load_head(path)


def test_rbf_and_heads_of_one_label_are_read_back_too(table, tmp_path):
    rbf = fit_labels(table, head="rbf", params=PARAMS["rbf"], rule=RULE)
    rbf.save(tmp_path / "rbf.head")
    assert (load_head(tmp_path / "rbf.head").predict_proba(table.X) == rbf.predict_proba(table.X)).all()
    with pytest.raises(HeadError, match="there is no head file"):
        load_head(tmp_path / "none.head")


@pytest.mark.parametrize("name", ["thresholds", "classes", "test", "fingerprint", "feature_dim"])
def test_a_damaged_file_is_refused(name, head, tmp_path):
    values = {"thresholds": [2.0] * 4, "classes": ["b", "a", "c", "d"], "test": {}, "fingerprint": "0" * 64}
    broken = head.to_dict() | {name: values.get(name, 3)}
    described = {"format": "featstore head", "format_version": 8, "question": "labels", **broken}
    parts = {"linear.npz": head.form, "seen.npz": head.seen}
    head_file.write_archive(str(tmp_path / "a.head"), described, parts, None, lambda path: None)
    with pytest.raises(HeadError, match="is damaged: "):
        load_head(tmp_path / "a.head")


def test_heads_and_tables_of_the_other_kind_are_refused_by_name(table, make_table, make_blobs):
    with pytest.raises(
        HeadError, match="knn does not learn several labels of an image; heads that do are logistic"
    ):
        fit_labels(table, head="knn")
    with pytest.raises(HeadError, match=r"ridge cannot be fitted: .*alpha.*'x'"):
        fit_labels(table, head="ridge", params={"alpha": "x"})
    with pytest.raises(HeadError, match="rbf solves all labels together"):
        fit_labels(table, head="rbf", class_weight="balanced")
    with pytest.raises(HeadError, match='are "balanced" or left out'):
        fit_labels(table, head="ridge", class_weight={"sea": 2.0})
    with pytest.raises(SeveralLabelsError, match="images of the catalog photos may have several labels"):
        fit(table)


def test_a_label_that_train_lacks_is_named(tmp_path):
    X, has = label_arrays(60)
    has[:, 2] = False
    has[0, 2] = True
    rule = next(
        rule
        for rule in (SplitRule(salt=str(number), test=0.3) for number in range(50))
        if label_table(tmp_path / f"{rule.salt}.fstore", X, has).splits(rule)[0] == "test"
    )
    with pytest.raises(SplitError, match="no image in train has sea"):
        fit_labels(label_table(tmp_path / "b.fstore", X, has), rule=rule)


def test_evaluation_leaves_fitted_images_out_and_has_intervals(head, table):
    result = evaluate_labels(head, table)
    everything = evaluate_labels(head, table, split="all")

    assert result.map == pytest.approx(head.test["map"])
    assert (result.n, everything.n) == (head.n_images["test"], head.n_images["test"])
    assert everything.n_fitted == head.n_images["train"] + head.n_images["validation"]
    for name in ("map", "micro_f1", "macro_f1", "subset_accuracy"):
        low, high = getattr(result, f"{name}_ci")
        assert 0 <= low < getattr(result, name) <= high <= 1
    assert len(result.mistakes) == round((1 - result.subset_accuracy) * result.n)
    one = result.classes[0]
    assert one["average_precision_ci"][0] <= one["average_precision"] <= one["average_precision_ci"][1]
    assert one["n"] == head.counts["test"]["bird"]
    assert json.loads(json.dumps(result.to_dict()))["classes"][0] == one


def test_a_head_keeps_the_digest_of_its_catalog(head, table, tmp_path):
    head.save(tmp_path / "one.head")
    assert MultiLabelHead.load(tmp_path / "one.head").catalog_digests == table.catalog_digests
    assert [*table.catalog_digests] == [table.catalog_name]
