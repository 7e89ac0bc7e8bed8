"""Scores of heads that predict a number."""

from dataclasses import replace

import numpy as np
import pytest
from number_tables import number_arrays, number_table

import featstore
from featstore.errors import HeadError, SplitError, TargetError
from featstore.heads import fit_regression
from featstore.scoring import compare_regression, cross_evaluate_regression, evaluate_regression
from featstore.splits import SplitRule
from featstore.store import FeatureStore
from featstore.store.tables.joining import store_folder

RULE = SplitRule(validation=0.25, test=0.25)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return number_table(tmp_path_factory.mktemp("numbers") / "a.fstore", *number_arrays())


@pytest.fixture(scope="module")
def head(table):
    return fit_regression(table, head="ridge", rule=RULE)


def test_the_scores_on_test_are_those_of_the_fit_with_intervals_around_them(table, head):
    result = evaluate_regression(head, table, coverage=0.9)
    is_test = table.splits(RULE) == "test"
    true, predicted = table.target[is_test], head.predict(table.X[is_test])

    assert {name: getattr(result, name) for name in ("n", "mae", "rmse", "r2")} == head.test
    for name in ("mae", "rmse", "r2"):
        low, high = getattr(result, f"{name}_ci")
        assert low < getattr(result, name) < high
    assert result.bias == pytest.approx((predicted - true).mean())
    assert result.baseline["rmse"] == pytest.approx(true.std())
    half = head.interval_half_width(0.9)
    assert result.intervals["half_width"] == half
    assert result.intervals["covered"] == (np.abs(predicted - true) <= half).mean()
    errors = [abs(one["predicted"] - one["true"]) for one in result.predictions]
    assert errors == sorted(errors, reverse=True)
    assert len(errors) == result.n
    assert result.to_dict()["resampling"]["unit"] == "image"


def test_intervals_cover_the_error_of_other_images():
    # The bootstrap's own: the mean absolute error over all images lies in 95% intervals of samples.
    from featstore.scoring.regression.evaluation import score_numbers

    covered = []
    for seed in range(120):
        random = np.random.default_rng(seed)
        true, errors = random.normal(size=(2, 80))
        result = score_numbers(
            true,
            true + errors,
            paths=np.full(80, "a"),
            units=np.arange(80),
            unit="image",
            intervals={},
            target="age",
            split="test",
            n_fitted=0,
        )
        covered.append(result.mae_ci[0] <= np.sqrt(2 / np.pi) <= result.mae_ci[1])
    assert 0.88 < np.mean(covered) <= 1


def test_groups_are_resampled_as_wholes(tmp_path):
    X, y = number_arrays()
    groups = [f"patient {number // 10}" for number in range(len(X))]
    table = number_table(tmp_path / "a.fstore", X, y, groups=groups)
    head = fit_regression(table, rule=SplitRule(by="group", validation=0.25, test=0.25))
    result = evaluate_regression(head, table)
    assert result.resampling["unit"] == "group"
    assert result.resampling["n"] == len(X) / 10 - sum(
        len({groups[at] for at in np.flatnonzero(table.splits(head.split_rule) == split)})
        for split in ("train", "validation")
    )


def test_folds_predict_every_image_and_keep_groups_together(tmp_path, table, head):
    result = cross_evaluate_regression(table, head=head, folds=4)
    assert (result.n, len(result.folds), result.split) == (len(table), 4, "cross-validation")
    assert sum(fold["n"] for fold in result.folds) == len(table)
    assert result.r2 > 0.8
    assert all(fold["n_fitted"] + fold["n"] == len(table) for fold in result.folds)
    X, y = number_arrays(120)
    # Copies of one image twice: kept in one fold, a copy could not help to predict it.
    y[60:] = y[:60]
    random = np.random.default_rng(3).normal(size=(60, X.shape[1])).astype(np.float32)
    X = np.concatenate([random, random])
    copies = [(60 + number, number) for number in range(60)]
    paired = number_table(tmp_path / "a.fstore", X, y, copies=copies)
    assert cross_evaluate_regression(paired, head="knn", folds=3).r2 < 0.3


def test_what_cannot_be_scored_is_refused(tmp_path, table, head):
    with pytest.raises(SplitError, match="split must be one of"):
        evaluate_regression(head, table, split="tests")
    other = number_table(tmp_path / "a.fstore", *number_arrays(60), name="size")
    with pytest.raises(TargetError, match="predicts age, and the catalog photos holds size"):
        evaluate_regression(head, other)
    with pytest.raises(SplitError, match="folds must be an integer of at least 2"):
        cross_evaluate_regression(table, folds=1)
    with pytest.raises(SplitError, match="cannot be divided into 500 folds"):
        cross_evaluate_regression(table, folds=500)
    seen = table.select(table.splits(RULE) == "train")
    with pytest.raises(SplitError, match="was fitted on all"):
        evaluate_regression(head, seen, split="all")


def test_a_plot_shows_true_and_predicted_numbers(table, head, tmp_path):
    pytest.importorskip("matplotlib")
    result = evaluate_regression(head, table, coverage=0.9)
    figure = featstore.plot(result)
    left, right = figure.axes
    assert (left.get_xlabel(), left.get_ylabel()) == ("true age", "predicted age")
    assert len(left.collections[-1].get_offsets()) == result.n
    assert right.get_xlabel() == "predicted - true"
    featstore.save_plot(result, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 1000


def test_heads_are_compared_on_the_images_that_none_has_seen(table, head):
    knn = fit_regression(table, head="knn", rule=RULE)
    again = fit_regression(table, head="ridge", rule=RULE)
    result = compare_regression([head, knn, again], table, names=["ridge", "knn", "again"])
    is_test = table.splits(RULE) == "test"
    errors = [np.abs(one.predict(table.X[is_test]) - table.target[is_test]) for one in (head, knn)]

    assert result.n == is_test.sum()
    assert [one["mae"] for one in result.heads[:2]] == pytest.approx([error.mean() for error in errors])
    worse, same, better = result.pairs
    assert worse["difference"] == pytest.approx(errors[1].mean() - errors[0].mean())
    assert worse["difference_ci"][0] < worse["difference"] < worse["difference_ci"][1]
    assert worse["n_closer_a"] == (errors[0] < errors[1]).sum()
    assert worse["verdict"].startswith("ridge is closer than knn by")
    assert better["verdict"].startswith("again is closer than knn by")
    assert "within chance (n = " in same["verdict"]
    with pytest.raises(HeadError, match="predict different numbers, age and size"):
        compare_regression([head, replace(head, target="size")], table)
    labels = replace(FeatureStore(store_folder(table)).catalog(), name="b", target_name="", targets=None)
    FeatureStore(store_folder(table)).write_catalog(labels)
    with pytest.raises(TargetError, match="have labels and no number"):
        compare_regression([head, knn], FeatureStore(store_folder(table)).table(catalog="b"))
