"""What parameters are chosen on, what the head is then fitted on, and that jobs change nothing."""

import json

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fake_tables import SHORT_TRAINING
from featstore.errors import HeadError, SplitError
from featstore.heads import find_head, fit, known_heads
from featstore.heads.calibration import class_scores, fit_temperature
from featstore.heads.fitting.sweep_scores import chosen
from featstore.splits import HashKFold, SplitRule, fold_numbers
from featstore.stats.metrics import log_loss

NAMES = [info.name for info in known_heads()]


@pytest.fixture
def hard(make_table, make_blobs):
    return make_table(*make_blobs(n=600, n_classes=4, feature_dim=16, spread=2.0))


def bits(head):
    """All of a head but when it was made."""
    classifier = head.estimator[-1]
    learnt = [
        np.asarray(getattr(classifier, name)).tobytes()
        for name in ("coef_", "intercept_", "centroids_", "_fit_X")
        if hasattr(classifier, name)
    ]
    told = {name: value for name, value in head.to_dict().items() if name != "created"}
    linear = head.linear.arrays() if head.linear else {}
    return learnt, json.dumps(told), {name: array.tobytes() for name, array in linear.items()}


@pytest.mark.parametrize("folds", [None, 3])
@pytest.mark.parametrize("name", NAMES)
def test_fitting_again_or_with_more_jobs_gives_the_same_bits(hard, name, folds):
    options = {"head": name, "params": SHORT_TRAINING.get(name), "folds": folds, "seed": 3, "reject": 0.5}
    first = bits(fit(hard, **options))

    assert bits(fit(hard, **options)) == first
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert bits(fit(hard, **options)) == first


@pytest.mark.parametrize(("name", "folds"), [("svm", None), ("logistic", 2), ("ridge", 2)])
def test_other_processes_give_the_same_bits(hard, name, folds):
    with joblib.parallel_config(backend="loky", n_jobs=2):
        found = bits(fit(hard, head=name, folds=folds))

    assert found == bits(fit(hard, head=name, folds=folds))


def test_warnings_of_a_task_in_a_thread_name_its_own_setting(hard, caplog):
    head = fit(hard, params={"max_iter": 2}, folds=3, jobs=2)

    assert len(caplog.records) == 1
    assert f"logistic with {head.params}: lbfgs failed to converge" in caplog.text


@pytest.mark.parametrize("jobs", [0, "many"])
def test_unfit_jobs_are_refused(hard, jobs):
    with pytest.raises(HeadError, match="jobs must be a number of parallel fits"):
        fit(hard, folds=2, jobs=jobs)


@pytest.mark.parametrize("name", ["logistic", "svm", "ridge", "lda", "centroid"])
def test_a_chosen_setting_is_fitted_as_if_it_had_been_fixed(hard, name):
    chosen = fit(hard, head=name)
    fixed = fit(hard, head=name, params=chosen.params)

    np.testing.assert_array_equal(chosen.linear.coef, fixed.linear.coef)
    assert chosen.temperature == fixed.temperature


def test_a_warm_sweep_gets_right_what_a_cold_one_does(hard):
    splits = hard.splits(SplitRule())
    train, validation = splits == "train", splits == "validation"
    scaler = StandardScaler().fit(hard.X[train])
    cold = [
        LogisticRegression(C=C, max_iter=2000, tol=1e-6).fit(scaler.transform(hard.X[train]), hard.y[train])
        for C in find_head("logistic").grid["C"]
    ]
    right = [(one.predict(scaler.transform(hard.X[validation])) == hard.y[validation]).mean() for one in cold]

    # One image more or less, where it lies on the border: in single precision both come as near as that.
    found = [step["top1"] for step in fit(hard).sweep]
    np.testing.assert_allclose(found, right, atol=1.01 / validation.sum())


def test_folds_are_those_of_the_hash_over_train_and_validation(hard):
    head = fit(hard, folds=4, params={"C": 0.1})
    used = hard.splits(SplitRule()) != "test"
    X, y = hard.X[used], hard.y[used]
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, tol=1e-6))
    predicted = cross_val_predict(plain, X, y, groups=hard.content_hash[used], cv=HashKFold(4))

    assert head.validation["n"] == used.sum()
    assert head.validation["top1"] == (predicted == y).mean()
    np.testing.assert_array_equal(head.estimator[-1].coef_, plain.fit(X, y)[-1].coef_)
    assert head.choice == {
        "by": None,
        "folds": 4,
        "n": int(used.sum()),
        "top1": head.validation["top1"],
        "fitted_on": ["train", "validation"],
    }


def test_without_refit_the_folds_and_the_fit_are_in_train_alone(hard):
    head = fit(hard, folds=4, refit=False, params={"C": 0.1})
    splits = hard.splits(SplitRule())

    assert head.choice["n"] == (splits == "train").sum()
    assert head.choice["fitted_on"] == ["train"]
    plain = fit(hard, params={"C": 0.1}, refit=False)
    np.testing.assert_array_equal(head.linear.coef, plain.linear.coef)
    assert head.validation == plain.validation


def test_the_best_setting_of_the_folds_is_kept(hard):
    head = fit(hard, head="ridge", folds=3)
    best = chosen([step["cross_entropy"] for step in head.sweep])

    assert head.params == head.sweep[best]["params"]
    assert head.choice["by"] == "cross_entropy"
    assert len(head.sweep) == len(find_head("ridge").grid["alpha"])


def test_folds_calibrate_by_what_each_image_got_from_the_fit_without_it(hard):
    head = fit(hard, head="svm", folds=3, params={"C": 1.0})
    used = hard.splits(SplitRule()) != "test"
    X, y = hard.X[used], hard.y[used]
    scores = np.empty((len(y), 4))
    for inside, outside in HashKFold(3).split(X, groups=hard.content_hash[used]):
        plain = find_head("svm").make()
        plain[-1].set_params(C=1.0, random_state=0)
        scores[outside] = class_scores(plain.fit(X[inside], y[inside]), X[outside])

    assert head.temperature == pytest.approx(fit_temperature(scores, y, head.classes), rel=1e-4)


def test_a_refit_keeps_the_temperature_found_before(hard):
    first, again = (fit(hard, head="svm", params={"tol": 1e-9}, refit=refit) for refit in (False, True))
    used = hard.splits(SplitRule()) != "test"
    plain = find_head("svm").make()
    plain[-1].set_params(**again.params, random_state=0)

    assert again.temperature == first.temperature
    assert again.validation == first.validation
    assert again.choice == first.choice | {"fitted_on": ["train", "validation"]}
    plain.fit(hard.X[used], hard.y[used])
    np.testing.assert_allclose(again.estimator[-1].coef_, plain[-1].coef_, rtol=0, atol=1e-6)


def test_groups_stay_in_one_fold(hard):
    groups = np.array([f"site {number % 40}" for number in range(len(hard.y))])
    rule = SplitRule(by="group", test=0.2, validation=0)
    head = fit(hard.but(groups=groups), folds=3, rule=rule, params={"C": 0.1})
    train = hard.but(groups=groups).splits(rule) == "train"
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, tol=1e-6))
    predicted = cross_val_predict(plain, hard.X[train], hard.y[train], groups=groups[train], cv=HashKFold(3))

    assert head.validation["top1"] == (predicted == hard.y[train]).mean()


def test_folds_need_no_validation_split(hard):
    head = fit(hard, folds=3, rule=SplitRule(validation=0))

    assert head.choice["fitted_on"] == ["train"]
    assert head.validation["n"] == head.choice["n"] == sum(head.counts["train"].values())


def test_a_class_of_one_image_is_in_every_fit_and_scored_by_no_fold(hard, caplog):
    y = hard.y.copy()
    y[0] = "lonely"
    head = fit(hard.but(y=y), folds=2, params={"C": 0.1})

    n_used = sum(head.counts["train"].values()) + sum(head.counts["validation"].values())
    assert (head.choice["n"], head.counts["train"]["lonely"]) == (n_used - 1, 1)
    assert "no fold holds out lonely (1), whose images all stay together" in caplog.text


def test_a_class_in_one_fold_has_an_image_moved_to_the_next(hard, caplog):
    folds = fold_numbers(HashKFold(2), hard.y, hard.y, hard.content_hash)
    splits = hard.splits(SplitRule())
    y = hard.y.copy()
    y[np.flatnonzero((folds == 0) & (splits == "train"))[:3]] = "few"
    head = fit(hard.but(y=y), folds=2, rule=SplitRule(test=0, validation=0), params={"C": 0.1})

    assert head.choice["n"] == len(y)
    assert "no fold holds out" not in caplog.text


def test_folds_without_an_image_are_left_out(make_table, make_blobs, caplog):
    head = fit(make_table(*make_blobs(n=12)), folds=12)

    assert head.choice["n"] > 6
    assert "of 12 folds have images" in caplog.text


@pytest.mark.parametrize("folds", [1, 2.5, True])
def test_unfit_folds_are_refused(hard, folds):
    with pytest.raises(SplitError, match="n_splits must be an integer"):
        fit(hard, folds=folds)


def test_progress_counts_every_fit_of_every_fold(hard):
    for jobs in (1, 2):
        seen = []

        def progress(*step, seen=seen):
            seen.append(step)

        fit(hard, head="ridge", folds=3, jobs=jobs, progress=progress)
        settings = len(find_head("ridge").grid["alpha"])
        assert [(done, total) for done, total, _ in seen] == [
            (n, 3 * settings) for n in range(1, 3 * settings + 1)
        ]


def test_a_classifier_of_ones_own_is_scored_and_calibrated_by_folds(hard):
    head = fit(hard, head=GaussianNB(), folds=3)
    used = hard.splits(SplitRule()) != "test"
    predicted = cross_val_predict(
        GaussianNB(), hard.X[used], hard.y[used], groups=hard.content_hash[used], cv=HashKFold(3)
    )

    assert head.validation["top1"] == (predicted == hard.y[used]).mean()


def test_a_search_of_ones_own_keeps_groups_together_inside_folds(hard):
    search = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}, cv=HashKFold(2, salt="inner"))
    head = fit(hard, head=search, folds=2)

    assert head.params["C"] in (0.01, 1.0)
    assert head.choice["folds"] == 2


def test_threads_do_not_draw_from_one_anothers_random_numbers(make_table, make_blobs):
    # Fewer images than features: liblinear goes through them in a random order.
    table = make_table(*make_blobs(n=300, n_classes=4, feature_dim=400, spread=4.0))
    with joblib.parallel_config(backend="threading", n_jobs=2):
        found = bits(fit(table, head="svm"))

    assert found == bits(fit(table, head="svm"))


def test_the_setting_is_chosen_by_cross_entropy_and_not_by_accuracy(hard):
    head = fit(hard)
    least = min(head.sweep, key=lambda step: step["cross_entropy"])
    most = max(head.sweep, key=lambda step: step["top1"])

    assert least["params"] != most["params"]
    assert head.params == least["params"]


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([0.5, 0.4, 0.3, 0.4], 2),
        ([0.5, 0.4, 0.3963], 1),  # 0.9% less
        ([0.5, 0.4, 0.3957], 2),  # 1.1% less
        ([0.5, 0.4, 0.3963, 0.392], 3),  # 2% less than what was chosen before
        ([0.0, 0.0], 0),
        ([np.inf, np.inf, 0.7], 2),
        ([np.inf, np.inf], 0),
    ],
)
def test_weaker_regularisation_must_take_a_hundredth_of_the_cross_entropy_away(losses, best):
    assert chosen(losses) == best


@pytest.mark.parametrize(("name", "salt"), [("logistic", "a"), ("svm", "b")])
def test_the_sweep_and_the_saved_head_tell_one_accuracy(make_table, make_blobs, name, salt):
    # More features than images: a fit that stops early depends on where it started.
    table = make_table(*make_blobs(n=170, n_classes=4, feature_dim=300, spread=4.0))
    rule = SplitRule(salt=salt)
    head = fit(table, head=name, rule=rule)
    [told] = [step for step in head.sweep if step["params"] == head.params]

    assert told["top1"] == head.validation["top1"] == head.choice["top1"]
    for step in head.sweep:
        assert fit(table, head=name, rule=rule, params=step["params"]).validation["top1"] == step["top1"]


def test_a_head_is_fitted_on_validation_too_once_it_is_chosen(hard):
    head, without = fit(hard), fit(hard, refit=False)
    again = fit(hard, params=head.params, refit=True)

    assert head.choice["fitted_on"] == ["train", "validation"]
    assert without.choice["fitted_on"] == ["train"]
    assert (head.params, head.temperature) == (without.params, without.temperature)
    np.testing.assert_array_equal(head.linear.coef, again.linear.coef)


def test_probabilities_of_logistic_are_divided_where_that_makes_them_better(hard):
    # Barely regularised, it is too sure.
    rule = SplitRule(test=0.3, validation=0.4)
    sure = fit(hard, params={"C": 1000.0}, rule=rule, refit=False)
    test = hard.splits(rule) == "test"
    own = sure.estimator.predict_proba(hard.X[test])

    assert sure.temperature > 1
    y = np.searchsorted(sure.classes, hard.y[test])
    assert log_loss(sure.predict_proba(hard.X[test]), y) < log_loss(own, y)
