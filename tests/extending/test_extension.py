"""One head over old classes and new ones."""

from dataclasses import replace

import numpy as np
import pytest

import featstore
from featstore.errors import FingerprintMismatchError, HeadError
from featstore.extending import METHODS
from featstore.extending.columns import _synthetic
from featstore.heads.forms.linear import LinearForm

from .gaussians import NEW, OLD, further_old, new_photos, old_head, photos


@pytest.fixture(scope="module")
def old():
    return old_head(params={"C": 0.1})


@pytest.fixture(scope="module")
def extended(old):
    return {
        method: featstore.extend(old, new_photos(), method=method, old_table=further_old())
        for method in METHODS
    }


@pytest.mark.parametrize("method", METHODS)
def test_the_head_knows_old_classes_and_new_ones(extended, method):
    head = extended[method]
    assert head.classes.tolist() == sorted(OLD + NEW)
    for table in (photos(NEW, 10, seed=8), photos(OLD, 10, seed=9)):
        assert (head.predict(table.X) == table.y).mean() > {"gate": 0.9, "columns": 0.65, "imprinting": 0.5}[
            method
        ]


@pytest.mark.parametrize("method", METHODS)
def test_probabilities_sum_to_one(extended, method):
    probabilities = extended[method].predict_proba(photos(OLD + NEW, 5, seed=8).X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_head_is_the_same(extended, method, tmp_path):
    head = extended[method]
    head.save(tmp_path / "a.head")
    read = featstore.Head.load(tmp_path / "a.head")
    X = photos(OLD + NEW, 5, seed=8).X
    np.testing.assert_array_equal(read.predict_proba(X), head.predict_proba(X))
    assert read.estimator.predict(X).tolist() == head.predict(X).tolist()
    assert read.extension == head.extension


@pytest.mark.parametrize("method", METHODS)
def test_it_says_what_was_gained_and_lost(extended, method):
    told = extended[method].extension
    scores = told["scores"]
    assert told["new"] == list(NEW)
    assert told["chosen"]["by"] == "max_loss"
    assert scores["old"]["n"] == 120
    assert scores["old"]["lost"] == scores["old"]["n_lost"] / 120
    assert scores["old"]["lost_ci"][0] <= scores["old"]["lost"] <= scores["old"]["lost_ci"][1]
    assert extended[method].test == scores["new"]
    assert sum(extended[method].counts["test"].values()) == scores["new"]["n"]
    offsets = [point["offset"] for point in told["curve"]]
    assert told["chosen"]["offset"] in offsets
    assert [point["lost"] for point in told["curve"]] == sorted(point["lost"] for point in told["curve"])


def test_it_depends_on_the_catalogs_of_old_and_new_classes(old):
    table = new_photos().but(catalog_digests={"new": "2"})

    def digests_of(head):
        return featstore.extend(head, table, method="columns").catalog_digests

    assert digests_of(replace(old, catalog_digests={"old": "1"})) == {"old": "1", "new": "2"}
    assert digests_of(old) == {}
    assert digests_of(replace(old, catalog="")) == {"new": "2"}


def test_linear_methods_give_linear_heads(extended):
    assert extended["gate"].gated is not None
    assert extended["gate"].linear is None
    for method in ("columns", "imprinting"):
        assert extended[method].linear is not None
        assert extended[method].gated is None


def test_old_columns_stay_as_they_are(old, extended):
    X = photos(OLD, 5, seed=9).X
    at = np.isin(extended["columns"].classes, OLD)
    calibrated = old.scores(X) / (old.temperature or 1.0)
    np.testing.assert_allclose(extended["columns"].scores(X)[:, at], calibrated)
    np.testing.assert_allclose(extended["gate"].scores(X)[:, at], calibrated)


def test_without_old_photos_it_keeps_nearly_all_new_ones(old):
    head = featstore.extend(old, new_photos())
    told = head.extension
    assert (told["chosen"]["by"], told["scores"]["old"], told["curve"]) == ("kept", None, [])
    assert (head.predict(photos(OLD, 20, seed=9).X) == photos(OLD, 20, seed=9).y).mean() > 0.8
    assert (head.predict(photos(NEW, 20, seed=8).X) == photos(NEW, 20, seed=8).y).mean() > 0.8


def test_made_up_features_keep_old_classes_where_there_are_no_photos(old):
    head = featstore.extend(old, new_photos(), method="columns")
    table = photos(OLD, 20, seed=9)
    assert (head.predict(table.X) == table.y).mean() > 0.8


def test_made_up_features_lie_where_the_columns_say():
    rows = np.array([[3.0, 0.0], [1.0, 2.0], [-1.0, -4.0], [1.0, 6.0]])
    form = LinearForm(coef=np.array([[2.0, 0.0], [0.0, 0.0], [-2.0, 3.0]]), intercept=np.zeros(3))
    made, labels = _synthetic(form, rows, np.array([0, 0, 1, 1]), seed=0)
    # Half covariance, half its diagonal, of the residuals (1, -1), (-1, 1), (-1, -5), (1, 5).
    spread = np.array([[1.0, 1.0], [1.0, 13.0]])
    centres = np.array([1.0, 1.0]) + np.array([[2.0, -1.0], [0.0, -1.0], [-2.0, 2.0]]) @ spread
    residuals = {(1.0, -1.0), (-1.0, 1.0), (-1.0, -5.0), (1.0, 5.0)}
    assert {tuple(row) for row in made - centres[labels]} == residuals


def test_the_more_may_be_lost_the_more_is_gained(old):
    near = photos(NEW, 60, seed=3, spread=2.0)
    few, many = (
        featstore.extend(old, near, old_table=photos(OLD, 30, seed=2, spread=2.0), max_loss=limit).extension
        for limit in (0.01, 0.3)
    )
    assert few["scores"]["held_out"]["top1"] < many["scores"]["held_out"]["top1"]
    assert few["scores"]["old"]["lost"] < many["scores"]["old"]["lost"]
    assert few["scores"]["old"]["lost"] <= 0.03


@pytest.mark.parametrize("method", METHODS)
def test_one_new_class_is_enough(old, method):
    head = featstore.extend(old, new_photos(NEW[:1]), method=method, old_table=further_old())
    assert len(head.classes) == 7
    assert (head.predict(photos(NEW[:1], 20, seed=8).X) == NEW[0]).mean() > 0.8


@pytest.mark.parametrize("method", METHODS)
def test_a_label_that_is_an_old_class_joins_it(old, method):
    table = photos(("old 0", *NEW), 30, seed=3, catalog="new")
    head = featstore.extend(old, table, method=method, same={"old 0": "old 0"}, old_table=further_old())
    assert head.classes.tolist() == sorted(OLD + NEW)
    assert head.extension["same"] == {"old 0": "old 0"}
    assert head.extension["new"] == list(NEW)
    assert head.extension["confused"] == []


@pytest.mark.parametrize("method", METHODS)
def test_all_labels_may_be_old_classes(old, method):
    table = photos(("old 0+", "old 1+"), 30, seed=3, catalog="new")
    same = {"old 0+": "old 0", "old 1+": "old 1"}
    head = featstore.extend(old, table, method=method, same=same, old_table=further_old())
    assert head.classes.tolist() == list(OLD)
    assert head.extension["new"] == []
    evaluation = featstore.evaluate(head, photos(OLD[:2], 30, seed=9), split="all")
    assert evaluation.n == 60
    assert evaluation.top1 > 0.8 or method == "imprinting"


@pytest.mark.parametrize("method", METHODS)
def test_two_labels_may_join_one_old_class(old, method):
    table = photos(("old 0", "new 1", "new 2"), 30, seed=3, catalog="new")
    head = featstore.extend(old, table, method=method, same={"old 0": "old 0", "new 1": "old 0"})
    assert head.classes.tolist() == sorted((*OLD, "new 2"))


def test_equal_names_stay_apart_and_are_counted(old):
    table = photos(("old 0", *NEW), 30, seed=3, catalog="new")
    head = featstore.extend(old, table, old_table=further_old())
    assert "old 0 (new)" in head.classes
    (confused,) = head.extension["confused"]
    assert (confused["new"], confused["old"], confused["n_old"]) == ("old 0 (new)", "old 0", 20)
    in_test = table.splits(head.split_rule) == "test"
    assert confused["n_new"] == (table.y[in_test] == "old 0").sum()
    assert confused["n_new_as_old"] <= confused["n_new"]
    assert head.labels_of(table)[0] == "old 0 (new)"
    assert featstore.evaluate(head, table, split="test").top1 == head.test["top1"]


def test_extended_twice_it_keeps_all_classes(extended, old, tmp_path):
    more = photos(("newer 0", "newer 1"), 30, seed=5, catalog="more")
    again = featstore.extend(extended["gate"], more, old_table=[further_old(), new_photos()])
    assert again.classes.tolist() == sorted((*OLD, *NEW, "newer 0", "newer 1"))
    for labels in (OLD, NEW, ("newer 0", "newer 1")):
        table = photos(labels, 20, seed=9)
        assert (again.predict(table.X) == table.y).mean() > 0.85
    again.save(tmp_path / "again.head")
    X = photos(OLD, 3, seed=9).X
    np.testing.assert_array_equal(featstore.Head.load(tmp_path / "again.head").scores(X), again.scores(X))


def test_a_head_on_features_of_unit_length_is_extended():
    old = old_head("svm", params={"C": 1.0})
    for method in METHODS:
        head = featstore.extend(old, new_photos(), method=method, old_table=further_old())
        table = photos(OLD, 20, seed=9)
        assert (head.predict(table.X) == table.y).mean() > 0.85


def test_old_photos_that_the_old_head_was_fitted_on_are_not_measured_on(old):
    fitted_on = photos(OLD, 30, seed=1, catalog="old")
    head = featstore.extend(old, new_photos(), old_table=fitted_on)
    splits = fitted_on.splits(old.split_rule)
    assert head.extension["scores"]["old"]["n"] == (splits != "train").sum()


def test_they_are_known_again_in_a_catalog_of_any_name(old):
    fitted_on = photos(OLD, 30, seed=1, catalog="old")
    copy = fitted_on.but(catalog_name="a copy")
    told, again = (
        featstore.extend(old, new_photos(), old_table=table).extension["scores"]["old"]
        for table in (fitted_on, copy)
    )
    assert (again["n"], again["top1_before"]) == (told["n"], told["top1_before"])


@pytest.mark.parametrize("method", METHODS)
def test_an_extended_head_knows_the_old_images_and_the_new_ones_that_it_has_seen(extended, old, method):
    head, new, further = extended[method], new_photos(), further_old()
    splits = new.splits(head.split_rule)
    before = photos(OLD, 30, seed=1, catalog="old")
    assert head.seen_by == "content"
    np.testing.assert_array_equal(head.was_fitted_on(new), splits != "test")
    np.testing.assert_array_equal(head.was_fitted_on(before), old.was_fitted_on(before))
    is_seen = head.was_chosen_on(further) if method == "imprinting" else head.was_fitted_on(further)
    assert is_seen.all()


def test_of_an_old_head_that_does_not_know_what_it_was_fitted_on_a_part_is_known(old):
    head = featstore.extend(replace(old, seen=None), new_photos(), method="columns")
    assert head.seen_by == "part"
    assert head.was_fitted_on(new_photos()).any()


def test_old_photos_among_the_new_ones_are_passed_over(old, caplog):
    both = photos(OLD[:1], 30, seed=3, catalog="new")
    head = featstore.extend(old, new_photos(), old_table=[further_old(), both])
    assert head.extension["scores"]["old"]["n"] == 120
    assert "30 old images are among the new ones" in caplog.text


def test_an_extended_head_looks_at_the_image_itself(old, caplog):
    head = featstore.extend(replace(old, test_views=4), new_photos())
    assert head.test_views == 1
    assert "averages over 4 views" in caplog.text


def test_the_same_seed_gives_the_same_head(old):
    X = photos(OLD + NEW, 3, seed=8).X
    one, other = (featstore.extend(old, new_photos(), method="columns", seed=4) for _ in range(2))
    np.testing.assert_array_equal(one.scores(X), other.scores(X))


def test_features_of_another_backbone_are_refused(old):
    table = new_photos()
    other = table.but(spec=replace(table.spec, pooling="max"))
    with pytest.raises(FingerprintMismatchError, match="pooling"):
        featstore.extend(old, other)
    with pytest.raises(FingerprintMismatchError, match="pooling"):
        featstore.extend(old, table, old_table=other)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"method": "magic"}, "gate, columns, imprinting; found 'magic'"),
        ({"max_loss": 1.0}, "max_loss must be a share"),
        (
            {"same": {"new 9": "old 0"}},
            "no new image has the label 'new 9'; the labels are new 0, new 1, new 2",
        ),
        ({"same": {"new 0": "OLD"}}, "has no class 'OLD'; it has old 0, old 1"),
    ],
)
def test_what_cannot_be_is_refused(old, options, reason):
    with pytest.raises(HeadError, match=reason):
        featstore.extend(old, new_photos(), **options)


def test_no_labels_are_refused(old):
    table = new_photos()
    with pytest.raises(HeadError, match="has no labels"):
        featstore.extend(old, table.but(y=np.full(len(table), "", "<U5")))


def test_old_photos_with_labels_that_the_old_head_does_not_know_are_refused(old):
    with pytest.raises(HeadError, match="further has labels that the old head logistic does not know: new 0"):
        featstore.extend(old, new_photos(), old_table=further_old(labels=("old 0", "new 0")))


def test_a_head_without_a_form_is_refused():
    with pytest.raises(HeadError, match="the head knn cannot be extended: it is neither linear"):
        featstore.extend(old_head("knn"), new_photos())


def test_columns_of_a_gated_head_are_refused(extended):
    with pytest.raises(HeadError, match="use the method gate"):
        featstore.extend(extended["gate"], photos(("a", "b"), 9, seed=4), method="columns")


def test_photos_of_one_content_each_cannot_be_held_out(old):
    table = new_photos(NEW[:1])
    one = np.repeat(table.content_hash_bytes[:1], len(table), axis=0)
    with pytest.raises(HeadError, match="none can be held out"):
        featstore.extend(
            old, table.but(content_hash_bytes=one), rule=featstore.SplitRule(test=0, validation=0)
        )


@pytest.mark.parametrize("method", METHODS)
def test_a_handful_of_photos_is_enough(old, method):
    few = photos(NEW, 3, seed=3, catalog="new")
    rule = featstore.SplitRule(test=0, validation=0)
    head = featstore.extend(old, few, method=method, old_table=further_old(), rule=rule)
    assert head.classes.tolist() == sorted(OLD + NEW)
    assert head.test == {"n": 0, "top1": None, "top1_ci": None}


def test_classes_of_a_gated_head_are_removed_and_renamed(extended, tmp_path):
    head = extended["gate"]
    fewer = featstore.edit_classes(head, remove=["old 1", "new 0"], rename={"new 1": "a first one"})
    assert fewer.classes.tolist() == ["a first one", "new 2", "old 0", "old 2", "old 3", "old 4", "old 5"]
    X = photos(OLD + NEW, 4, seed=8).X
    old_names = ["new 1", *fewer.classes[1:]]
    at = np.searchsorted(head.classes, old_names)
    np.testing.assert_allclose(fewer.scores(X), head.scores(X)[:, at])
    assert fewer.labels_of(new_photos())[-1] == "new 2"
    assert fewer.labels_of(new_photos())[40] == "a first one"
    fewer.save(tmp_path / "fewer.head")
    read = featstore.Head.load(tmp_path / "fewer.head")
    np.testing.assert_array_equal(read.predict_proba(X), fewer.predict_proba(X))
    assert read.extension["scores"] == {}


def test_on_joined_spaces_it_remembers_the_weights_of_each(old, tmp_path):
    new = new_photos().but(weights=("one.h5", "two.h5"))
    featstore.extend(old, new).save(tmp_path / "a.head")
    assert featstore.Head.load(tmp_path / "a.head").weights == ("one.h5", "two.h5")
