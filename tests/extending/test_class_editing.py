"""Heads with fewer classes, or with other names for them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegressionCV, RidgeClassifierCV, SGDClassifier
from sklearn.naive_bayes import GaussianNB

from fake_tables import blobs, table_of
from featstore import Head, edit_classes, evaluate, fit
from featstore.errors import HeadError
from featstore.extending.training_images import gather_old

LINEAR = ("centroid", "lda", "logistic", "ridge", "sgd", "svm")

TABLE = table_of(*blobs(n=300, n_classes=4, spread=2.0))
FITTED = {}


def head_of(name, table=TABLE, **options):
    if table is not TABLE or options:
        return fit(table, head=name, **options)
    if name not in FITTED:
        FITTED[name] = fit(table, head=name, folds=3)
    return FITTED[name]


def renormalised(head, classes, X=TABLE.X):
    old = head.predict_proba(X)[:, [head.classes.tolist().index(name) for name in classes]]
    return old / old.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("removed", [["class 1"], ["class 0", "class 2"]], ids=["four to three", "to two"])
def test_probabilities_of_the_classes_left_are_the_old_ones_renormalised(name, removed, tmp_path):
    head = head_of(name)
    edit_classes(head, remove=removed).save(tmp_path / "few.head")
    few = Head.load(tmp_path / "few.head")
    assert few.classes.tolist() == [name for name in head.classes.tolist() if name not in removed]
    wanted = renormalised(head, few.classes.tolist())
    np.testing.assert_allclose(few.predict_proba(TABLE.X), wanted, atol=1e-12)
    by_estimator = replace(few, linear=None)
    np.testing.assert_allclose(by_estimator.predict_proba(TABLE.X), wanted, atol=1e-5)
    assert by_estimator.predict(TABLE.X).tolist() == few.predict(TABLE.X).tolist()


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_renamed_class_has_the_old_ones_probability(name, n_classes, tmp_path):
    table = table_of(*blobs(n=200, n_classes=n_classes, spread=2.0))
    head = head_of(name, table, folds=3)
    edit_classes(head, rename={"class 0": "zebra"}).save(tmp_path / "new.head")
    new = Head.load(tmp_path / "new.head")
    assert new.classes.tolist() == [*(f"class {number}" for number in range(1, n_classes)), "zebra"]
    old = head.predict_proba(table.X)[:, [*range(1, n_classes), 0]]
    np.testing.assert_allclose(new.predict_proba(table.X), old, atol=1e-12)
    np.testing.assert_allclose(replace(new, linear=None).predict_proba(table.X), old, atol=1e-5)


@settings(max_examples=40)
@given(data=st.data())
def test_any_removal_and_exchange_of_names_keeps_the_probabilities(data):
    head = head_of("svm")
    old = head.classes.tolist()
    kept = data.draw(st.lists(st.sampled_from(old), min_size=2, unique=True))
    names = data.draw(st.lists(st.text(min_size=1), min_size=len(kept), max_size=len(kept), unique=True))
    names = [name.replace("\0", "-") for name in names]
    if len(set(names)) < len(names) or not all(map(str.strip, names)):
        return
    edited = edit_classes(head, remove={*old} - {*kept}, rename=dict(zip(kept, names, strict=True)))
    assert edited.classes.tolist() == sorted(names)
    columns = [edited.classes.tolist().index(name) for name in names]
    np.testing.assert_allclose(
        edited.predict_proba(TABLE.X)[:, columns], renormalised(head, kept), atol=1e-12
    )


@pytest.mark.parametrize(
    "estimator", [RidgeClassifierCV(), LogisticRegressionCV(use_legacy_attributes=False)]
)
def test_linear_classifiers_of_ones_own_are_edited_too(estimator):
    head = fit(TABLE, head=estimator)
    few = edit_classes(head, remove=["class 3"], rename={"class 1": "a"})
    wanted = renormalised(head, ["class 1", "class 0", "class 2"])
    np.testing.assert_allclose(few.predict_proba(TABLE.X), wanted, atol=1e-12)
    np.testing.assert_allclose(replace(few, linear=None).predict_proba(TABLE.X), wanted, atol=1e-5)


def test_a_head_that_is_kept_as_an_estimator_alone_is_edited_too():
    head = replace(head_of("logistic"), linear=None)
    few = edit_classes(head, remove=["class 1"])
    assert few.linear is None
    wanted = renormalised(head, few.classes.tolist())
    np.testing.assert_allclose(few.predict_proba(TABLE.X), wanted, atol=1e-5)


def test_probabilities_that_are_no_softmax_are_refused():
    head = fit(TABLE, head=SGDClassifier(loss="log_loss", random_state=0))
    with pytest.raises(HeadError, match="its probabilities are not the softmax of one score"):
        edit_classes(head, remove=["class 0", "class 1"])


def test_the_old_head_stays_as_it_is():
    head = head_of("logistic")
    before = head.predict_proba(TABLE.X), head.estimator.predict_proba(TABLE.X)
    edit_classes(head, remove=["class 0"])
    after = head.predict_proba(TABLE.X), head.estimator.predict_proba(TABLE.X)
    np.testing.assert_array_equal(before, after)


def test_after_removing_nothing_that_was_measured_is_kept():
    head = fit(TABLE, head="sgd", reject=0.5)
    assert head.sweep
    assert head.steps
    few = edit_classes(head, remove=["class 2"])
    assert (few.sweep, few.steps, few.near_duplicates) == ([], [], {})
    assert few.validation == few.test == {"n": 0, "top1": None, "top1_ci": None}
    assert (few.choice["n"], few.choice["top1"]) == (0, None)
    assert few.rejects_below == 0.5
    assert few.reject["test"] == {"n": 0, "n_answered": 0, "coverage": None, "top1": None, "top1_ci": None}
    assert "class 2" not in few.counts["train"]
    assert (few.temperature, few.params, few.choice["fitted_on"]) == (
        head.temperature,
        head.params,
        head.choice["fitted_on"],
    )


def test_after_renaming_all_that_was_measured_is_kept():
    head = fit(TABLE, head="logistic", reject=0.5)
    new = edit_classes(head, rename={"class 3": "a"})
    told, was = new.to_dict(), head.to_dict()
    assert {key for key in told if told[key] != was[key]} == {"classes", "counts", "renamed"}
    assert new.counts["train"]["a"] == head.counts["train"]["class 3"]


def test_a_name_that_is_removed_may_be_given_anew():
    head = head_of("logistic")
    few = edit_classes(head, remove=["class 0"], rename={"class 1": "class 0"})
    np.testing.assert_allclose(
        few.predict_proba(TABLE.X), renormalised(head, ["class 1", "class 2", "class 3"]), atol=1e-12
    )


def test_without_a_change_the_head_is_the_same():
    head = head_of("logistic")
    assert edit_classes(head, rename={"class 0": "class 0"}) is head


@pytest.mark.parametrize(
    ("remove", "rename", "says"),
    [
        (["Class1"], {}, "no class 'Class1'; did you mean class 1"),
        ([], {"tulip": "rose"}, "no class 'tulip'; `featstore head classes` lists its 4"),
        (
            ["class 0", "class 1", "class 2"],
            {},
            "at least 2 classes; of the 4 of logistic, 1 would be",
        ),
        ([], {"class 0": "a", "class 1": "a"}, "class 0 and class 1 would both be named 'a'"),
        ([], {"class 0": "class 1"}, "would both be named 'class 1': classes cannot be merged by renaming"),
        (["class 0"], {"class 0": "a"}, "'class 0' is both removed and renamed"),
        ([], {"class 0": ""}, "'class 0' needs a name"),
        ([], {"class 0": " \t"}, "'class 0' needs a name"),
    ],
)
def test_what_cannot_be_done_is_said(remove, rename, says):
    with pytest.raises(HeadError, match=says):
        edit_classes(head_of("logistic"), remove=remove, rename=rename)


@pytest.mark.parametrize("estimator", ["knn", GaussianNB()])
def test_heads_that_are_not_linear_are_refused(estimator):
    head = fit(TABLE, head=estimator)
    for change in ({"remove": ["class 0"]}, {"rename": {"class 0": "a"}}):
        with pytest.raises(HeadError, match="cannot be edited: it is not linear"):
            edit_classes(head, **change)


def labels_of(head, table=TABLE):
    return dict(zip(table.y.tolist(), head.labels_of(table).tolist(), strict=True))


def test_a_head_with_a_renamed_class_is_evaluated_on_its_own_catalog_and_on_others(tmp_path):
    head = fit(TABLE, params={"C": 1.0})
    edit_classes(head, rename={"class 0": "zero"}).save(tmp_path / "new.head")
    new = Head.load(tmp_path / "new.head")
    relabelled = np.where(TABLE.y == "class 0", "zero", TABLE.y)
    wanted = evaluate(head, TABLE).top1
    for changes in ({}, {"catalog_name": "another"}, {"y": relabelled}):
        assert evaluate(new, TABLE.but(**changes)).top1 == wanted


def test_exchanged_names_are_those_of_the_labels_in_the_heads_own_catalog():
    head = edit_classes(fit(TABLE, params={"C": 1.0}), rename={"class 0": "class 1", "class 1": "class 0"})
    was = fit(TABLE, params={"C": 1.0})
    np.testing.assert_allclose(head.predict_proba(TABLE.X)[:, 0], was.predict_proba(TABLE.X)[:, 1])
    assert labels_of(head)["class 0"] == "class 1"
    assert evaluate(head, TABLE).top1 == evaluate(was, TABLE).top1
    assert labels_of(head, TABLE.but(catalog_name="another"))["class 0"] == "class 0"


def test_a_label_whose_class_was_removed_is_not_the_class_that_has_its_name_now():
    head = edit_classes(fit(TABLE, params={"C": 1.0}), remove=["class 0"], rename={"class 1": "class 0"})
    assert labels_of(head)["class 0"] == "class 0 (removed)"
    assert labels_of(head)["class 1"] == "class 0"
    assert edit_classes(head, rename={"class 0": "last"}).renamed == {"class 0": "", "class 1": "last"}


@pytest.mark.parametrize("rename", [{}, {"class 1": "class 0"}], ids=["gone", "its name taken"])
def test_a_head_with_a_removed_class_is_evaluated_on_the_images_of_the_others(rename, caplog):
    head = edit_classes(fit(TABLE, params={"C": 1.0}), remove=["class 0"], rename=rename)
    others = TABLE.select(np.flatnonzero(TABLE.y != "class 0"))
    found, wanted = evaluate(head, TABLE), evaluate(head, others)
    assert (found.n, found.top1) == (wanted.n, wanted.top1)
    assert "or that were removed from it: class 0" in caplog.text


@pytest.mark.parametrize("rename", [{}, {"class 1": "class 0"}], ids=["gone", "its name taken"])
def test_a_head_with_a_removed_class_is_extended_with_the_old_images_of_the_others(rename):
    head = edit_classes(fit(TABLE, params={"C": 1.0}), remove=["class 0"], rename=rename)
    others = TABLE.select(np.flatnonzero(TABLE.y != "class 0"))
    new = table_of(*blobs(n=40, n_classes=1, seed=7))
    found, wanted = (gather_old(head, [table], but=new) for table in (TABLE, others))
    np.testing.assert_array_equal(found.samples.X, wanted.samples.X)
    np.testing.assert_array_equal(found.samples.y, wanted.samples.y)


def test_classes_renamed_twice_and_back_are_known_by_their_labels():
    once = edit_classes(fit(TABLE, params={"C": 1.0}), rename={"class 0": "zero"})
    assert labels_of(edit_classes(once, rename={"zero": "nil"}))["class 0"] == "nil"
    back = edit_classes(once, rename={"zero": "class 0"})
    assert labels_of(back)["class 0"] == "class 0"
