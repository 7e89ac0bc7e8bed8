import json

import numpy as np
import pytest
from label_tables import label_arrays, label_table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featstore.errors import PlotError, SplitError
from featstore.heads import fit_labels
from featstore.heads.multilabel.folds import label_divisions
from featstore.scoring import cross_evaluate_labels, evaluate_labels, plot
from featstore.splits import SplitRule


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return label_table(tmp_path_factory.mktemp("labels") / "a.fstore", *label_arrays(240, spread=2.0))


def test_scores_are_those_of_scikit_learn_in_the_same_folds(table):
    options = {"C": 1.0, "tol": 1e-8, "max_iter": 5000}
    result = cross_evaluate_labels(table, params=options, folds=4)
    X, has = np.asarray(table.X), table.label_sets
    probabilities = np.empty(has.shape)
    for inside, outside in label_divisions(table.content_hash.tolist(), has, folds=4, salt="").divisions:
        model = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(**options)))
        probabilities[outside] = model.fit(X[inside], has[inside].astype(int)).predict_proba(X[outside])

    assert (result.split, result.n, len(result.folds)) == ("cross-validation", 240, 4)
    assert result.map == pytest.approx(average_precision_score(has, probabilities), abs=2e-3)
    each = [one["average_precision"] for one in result.classes]
    assert each == pytest.approx(average_precision_score(has, probabilities, average=None), abs=5e-3)
    assert all(0.2 < one["threshold"] < 0.8 for one in result.classes)
    assert sum(one["n"] for one in result.folds) == 240
    assert {one["params"]["C"] for one in result.folds} == {1.0}
    assert json.loads(json.dumps(result.to_dict()))["together"]["by"] == "image"


def test_labels_at_random_score_as_random_ones_do(tmp_path):
    X, has = label_arrays(300)
    shuffled = has[np.random.default_rng(5).permutation(300)]
    result = cross_evaluate_labels(label_table(tmp_path / "a.fstore", X, shuffled), head="ridge", folds=5)
    assert abs(result.map - shuffled.mean()) < 0.08


def test_groups_are_in_one_fold_and_resampled_together(tmp_path):
    X, has = label_arrays(120)
    # Three images of a group are nearly the same, and have the same labels: outside of their groups, none.
    random = np.random.default_rng(7)
    X, has = np.repeat(X, 3, axis=0), np.repeat(random.random((120, 4)) < 0.5, 3, axis=0)
    X += 0.3 * random.normal(size=X.shape).astype(np.float32)
    groups = [f"g{number // 3}" for number in range(360)]
    apart, torn = (
        cross_evaluate_labels(label_table(tmp_path / name, X, has, groups=of), head="rbf", folds=3)
        for name, of in (("a.fstore", groups), ("b.fstore", None))
    )
    assert apart.resampling == {"unit": "group", "n": 120, "replicates": 1000, "seed": 0}
    assert apart.map < 0.62 < torn.map - 0.1


def test_a_fitted_head_is_fitted_again_as_it_was(table):
    head = fit_labels(table, head="ridge", class_weight="balanced", folds=3)
    result = cross_evaluate_labels(table, head=head, folds=3)
    same = cross_evaluate_labels(table, head="ridge", class_weight="balanced", folds=3, inner_folds=3)

    assert result.to_dict() == same.to_dict()
    assert {one["params"]["class_weight"] for one in result.folds} == {"balanced"}


def test_a_label_that_no_fold_can_hold_out_is_named(tmp_path):
    X, has = label_arrays(120)
    has[:, 3] = np.arange(120) < 4
    groups = ["one" if number < 4 else None for number in range(120)]
    table = label_table(tmp_path / "a.fstore", X, has, groups=groups)
    result = cross_evaluate_labels(table, head="ridge", folds=3)

    assert result.unjudged == {"tree": 4}
    assert result.n == 116
    assert result.classes[3]["average_precision"] is None
    with pytest.raises(SplitError, match="folds must be an integer of at least 2; found 1"):
        cross_evaluate_labels(table, folds=1)
    with pytest.raises(SplitError, match="no validation fraction"):
        cross_evaluate_labels(table, rule=SplitRule(validation=0))


def test_curves_are_plotted_for_each_label_that_images_have(table):
    evaluation = evaluate_labels(fit_labels(table, head="ridge"), table)
    figure = plot(evaluation)
    titles = [axes.get_title() for axes in figure.axes]

    assert [title.splitlines()[0].split(" (")[0] for title in titles] == ["bird", "boat", "sea", "tree"]
    assert f"AP {evaluation.classes[0]['average_precision']:.1%}" in titles[0]
    with pytest.raises(PlotError, match=r"a LabelEvaluation, .* to plot; found int"):
        plot(3)
