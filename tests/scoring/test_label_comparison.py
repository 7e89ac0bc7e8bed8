"""Comparisons, suspects and learning curves of heads that give several labels."""

import json

import numpy as np
import pytest
from label_tables import CLASSES, label_arrays, label_table
from sklearn.metrics import average_precision_score, f1_score

from featstore.errors import HeadError, SplitError
from featstore.heads import fit_labels
from featstore.heads.multilabel.folds import label_divisions
from featstore.scoring import (
    compare_labels,
    evaluate_labels,
    find_label_suspects,
    learning_curve_of_labels,
    plot,
)
from featstore.splits import SplitRule

RULE = SplitRule(validation=0.2, test=0.3)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return label_table(tmp_path_factory.mktemp("labels") / "a.fstore", *label_arrays(400, spread=2.0))


@pytest.fixture(scope="module")
def heads(table):
    strong = fit_labels(table, head="ridge", params={"alpha": 10.0}, rule=RULE)
    weak = fit_labels(table, head="ridge", params={"alpha": 1e6}, rule=RULE)
    return [weak, strong]


def test_differences_are_those_of_scikit_learn_on_the_same_images(table, heads):
    result = compare_labels(heads, table, names=["weak", "strong"])
    rows = np.flatnonzero(table.splits(RULE) == "test")
    X, has = np.asarray(table.X)[rows], table.label_sets[rows]
    probabilities = [head.predict_proba(X) for head in heads]
    given = [one >= head.thresholds for one, head in zip(probabilities, heads, strict=True)]
    [pair] = result.pairs

    assert result.n == len(rows)
    for one, likely, decided in zip(result.heads, probabilities, given, strict=True):
        assert one["map"] == pytest.approx(average_precision_score(has, likely))
        assert one["micro_f1"] == pytest.approx(f1_score(has, decided, average="micro"))
        assert one["map_ci"][0] < one["map"] < one["map_ci"][1]
    assert pair["map"] == pytest.approx(result.heads[1]["map"] - result.heads[0]["map"])
    assert pair["map_ci"][0] < pair["map"] < pair["map_ci"][1]
    right = [decided == has for decided in given]
    assert [one["gained"] for one in pair["labels"]] == (right[1] & ~right[0]).sum(axis=0).tolist()
    assert [one["lost"] for one in pair["labels"]] == (right[0] & ~right[1]).sum(axis=0).tolist()
    exact = [one.all(axis=1) for one in right]
    assert (pair["only_a"], pair["only_b"]) == ((exact[0] & ~exact[1]).sum(), (exact[1] & ~exact[0]).sum())
    assert json.loads(json.dumps(result.to_dict()))["pairs"][0]["labels"] == pair["labels"]


def test_a_pair_is_resampled_together(table, heads):
    [pair] = compare_labels([heads[1], heads[1]], table, names=["one", "same"]).pairs
    assert (pair["map"], pair["map_ci"], pair["p"]) == (0, [0, 0], 1)
    assert pair["verdict"].startswith("the difference in mAP between one and same is within chance")


def test_a_better_head_is_said_to_be(tmp_path):
    X, has = label_arrays(400)
    table = label_table(tmp_path / "a.fstore", X, has)
    good = fit_labels(table, head="ridge", params={"alpha": 10.0}, rule=RULE)
    bad = fit_labels(
        label_table(tmp_path / "b.fstore", X, has[np.random.default_rng(3).permutation(400)]),
        head="ridge",
        params={"alpha": 10.0},
        rule=RULE,
    )
    result = compare_labels([bad, good], [table, table], names=["bad", "good"])
    assert result.pairs[0]["verdict"].startswith("good is better than bad by")
    with pytest.raises(HeadError, match="at least two heads"):
        compare_labels([good], table)


def test_heads_of_other_labels_are_refused(tmp_path, table, heads):
    X, has = label_arrays(100)
    has[:, 3] = False
    fewer = fit_labels(label_table(tmp_path / "a.fstore", X, has), head="ridge")
    with pytest.raises(HeadError, match="know different labels: only one of them has tree"):
        compare_labels([heads[0], fewer], table)


def test_planted_errors_are_suspected_first(tmp_path):
    X, has = label_arrays(300, spread=0.6)
    random = np.random.default_rng(4)
    planted = {(int(row), int(random.integers(4))) for row in random.choice(300, 24, replace=False)}
    wrong = has.copy()
    for row, label in planted:
        wrong[row, label] ^= True
    table = label_table(tmp_path / "a.fstore", X, wrong)
    found = find_label_suspects(table, head="ridge", folds=5)
    places = [(one.row, CLASSES.tolist().index(one.label)) for one in found.suspects]

    assert len({*places[:20]} & planted) >= 18
    for one in found.suspects:
        assert (one.kind == "wrong") == (one.label in one.labels) == (one.probability < 0.5)
    assert found.n_images == 300
    assert sum(one["missing"] + one["wrong"] for one in found.classes) == len(found.suspects)
    assert json.loads(json.dumps(found.to_dict()))["suspects"][0]["kind"] in ("missing", "wrong")


def test_suspects_are_by_out_of_fold_probabilities(table):
    params = {"C": 0.3, "tol": 1e-8, "max_iter": 5000}
    found = find_label_suspects(table, params=params, folds=4)
    X, has = np.asarray(table.X), table.label_sets
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probabilities = np.empty(has.shape)
    for inside, outside in label_divisions(table.content_hash.tolist(), has, folds=4, salt="").divisions:
        model = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(**params)))
        probabilities[outside] = model.fit(X[inside], has[inside].astype(int)).predict_proba(X[outside])

    assert found.map == pytest.approx(average_precision_score(has, probabilities), abs=2e-3)
    for one in found.suspects[:20]:
        number = CLASSES.tolist().index(one.label)
        assert one.probability == pytest.approx(probabilities[one.row, number], abs=2e-3)


def test_a_learning_curve_ends_at_the_fit_on_all_of_train(table):
    options = {"head": "ridge", "rule": RULE}
    curve = learning_curve_of_labels(table, **options, fractions=[0.1, 0.25, 0.5], repeats=2)
    head = fit_labels(table, **options, refit=False)
    result = evaluate_labels(head, table)
    last = curve.points[-1]

    assert [len(one["fits"]) for one in curve.points] == [2, 2, 2, 1]
    assert last["map"] == pytest.approx(result.map)
    assert last["micro_f1"] == pytest.approx(result.micro_f1)
    assert last["fits"][0]["params"] == head.params
    assert last["map_ci"] == pytest.approx(result.map_ci)
    assert curve.points[0]["map"] < last["map"] + 0.02
    assert curve.forecast["n_train"] == 2 * head.n_images["train"]
    assert 0 < curve.forecast["map"] <= 1
    assert "test mAP" in plot(curve).axes[0].get_ylabel()


def test_sizes_that_lack_a_label_and_splits_without_images_are_said(table):
    curve = learning_curve_of_labels(table, head="ridge", fractions=[0.005], repeats=2, rule=RULE)
    assert [one["fraction"] for one in curve.left_out] == [0.005]
    assert set(curve.left_out[0]["classes"]) <= {*CLASSES.tolist()}
    with pytest.raises(SplitError, match="no labelled image in validation; make --validation larger than 0"):
        learning_curve_of_labels(table, rule=SplitRule(validation=0))
    with pytest.raises(HeadError, match="repeats must be at least 1"):
        learning_curve_of_labels(table, repeats=0)
