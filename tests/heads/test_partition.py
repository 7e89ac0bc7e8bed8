"""What is said of given splits that are incomplete, or that tear apart what belongs together."""

from dataclasses import replace

import numpy as np
import pytest

from featstore.errors import SplitError
from featstore.heads import fit
from featstore.heads.head import Head
from featstore.scoring import evaluate
from featstore.splits import SplitRule


@pytest.fixture
def listed(make_table, make_blobs):
    """240 images of which the first 200 are given to train and the others to test."""
    return make_table(*make_blobs(), given=["train"] * 200 + ["test"] * 40)


def test_without_given_validation_its_share_comes_out_of_train(listed, caplog, tmp_path):
    head = fit(listed)
    n_taken = head.validation["n"]
    assert 10 < n_taken < 40
    assert sum(head.counts["train"].values()) == 200 - n_taken
    assert head.test["n"] == 40
    assert f"{n_taken} of the 200 images given to train" in caplog.text
    head.save(tmp_path / "a.head")
    loaded = Head.load(tmp_path / "a.head")
    assert loaded.split_rule == replace(SplitRule(), validation_from_train=True)
    assert evaluate(loaded, listed, split="validation").n == n_taken


def test_with_nothing_to_choose_all_that_is_given_to_train_is_used(listed):
    head = fit(listed, params={"C": 0.1})
    assert sum(head.counts["train"].values()) == 200
    assert not head.split_rule.validation_from_train


def test_given_validation_leaves_train_as_it_is_given(make_table, make_blobs, caplog):
    table = make_table(*make_blobs(), given=["train"] * 180 + ["validation"] * 30 + ["test"] * 30)
    head = fit(table)
    assert sum(head.counts["train"].values()) == 180
    assert caplog.text == ""


def test_without_a_share_for_validation_nothing_is_taken(listed):
    with pytest.raises(SplitError, match="make --validation larger than 0,"):
        fit(listed, rule=SplitRule(validation=0))


def test_what_the_rule_adds_to_a_given_test_split_is_reported(make_table, make_blobs, caplog):
    table = make_table(*make_blobs(), given=[""] * 200 + ["test"] * 40)
    n_test = fit(table).test["n"]
    assert f"{n_test - 40} of the {n_test} images in test have no given split" in caplog.text
    caplog.clear()
    assert fit(table, rule=SplitRule(test=0)).test["n"] == 40
    assert caplog.text == ""


def groups_of(*sizes):
    return np.array([f"plant {number}" for number, size in enumerate(sizes) for _ in range(size)])


def test_groups_that_given_splits_tear_apart_are_refused_by_name(listed):
    groups = groups_of(*[10] * 19, 15, *[5] * 7)
    with pytest.raises(
        SplitError,
        match=r"1 of 27 groups by group have .*: 'plant 19' \(10 in train, 5 in test\); .*--split-by content",
    ):
        fit(listed.but(groups=groups), rule=SplitRule(by="group"))


def test_only_the_first_groups_are_named(listed):
    groups = np.array([f"plant {number % 10}" for number in range(240)])
    with pytest.raises(
        SplitError, match=r"10 of 10 groups .*'plant 2' \(20 in train, 4 in test\) and 7 more;"
    ):
        fit(listed.but(groups=groups), rule=SplitRule(by="group"), params={"C": 1})


def test_given_splits_can_tear_apart_what_a_pattern_finds(listed):
    # Paths are /photos/0000.jpg to /photos/0239.jpg.
    rule = SplitRule(by="pattern", group_pattern="[0-9](?=[.])")
    with pytest.raises(
        SplitError, match=r"10 of 10 groups by pattern .*: '0' \(20 in train, 4 in test\), '1'"
    ):
        fit(listed, rule=rule, params={"C": 1})


def test_one_image_given_and_its_group_assigned_elsewhere_is_refused(make_table, make_blobs):
    groups = groups_of(*[6] * 40)
    table = make_table(*make_blobs(), given=["test"] + [""] * 239).but(groups=groups)
    with pytest.raises(SplitError, match=r"1 of 40 groups .*'plant 0' \(5 in validation, 1 in test\);"):
        fit(table, rule=SplitRule(by="group", salt="b"))


def test_groups_within_given_splits_are_fine(listed, caplog):
    table = listed.but(groups=groups_of(*[10] * 24))
    head = fit(table, rule=SplitRule(by="group", validation=0.3))
    assert head.test["n"] == 40
    assert head.validation["n"] % 10 == 0
    assert "split by content" not in caplog.text


def test_images_without_labels_tear_no_group_apart(listed):
    y = listed.y.copy()
    groups = groups_of(*[10] * 19, 15, *[5] * 7)
    y[200:205] = ""
    assert fit(listed.but(groups=groups, y=y), rule=SplitRule(by="group", validation=0.3)).test["n"] == 35


def test_labelled_images_without_a_group_are_reported(make_table, make_blobs, caplog):
    X, y = make_blobs()
    y[:50] = ""
    groups = np.array([f"plant {number // 4}" if number < 200 else "" for number in range(240)])
    fit(make_table(X, y).but(groups=groups), rule=SplitRule(by="group"))
    assert "40 of 190 images have no group: they are split by content" in caplog.text


def test_groups_that_a_rule_ignores_are_reported(make_table, make_blobs, caplog):
    groups = np.array([f"plant {number // 4}" for number in range(240)])
    fit(make_table(*make_blobs()).but(groups=groups))
    assert (
        "of the catalog's 60 groups have images in more than one split; use --split-by group" in caplog.text
    )


def test_a_class_that_is_given_to_test_only_is_named(make_table, make_blobs):
    X, y = make_blobs()
    table = make_table(X, y, given=np.where(y == "class 1", "test", "train"))
    with pytest.raises(
        SplitError, match=r"no image is in train for class 1 \(80 in all\); the catalog gives all"
    ):
        fit(table, params={"C": 1})


def test_a_class_whose_folder_is_not_in_train_is_explained(make_table, make_blobs):
    X, y = make_blobs()
    table = make_table(X, y).but(groups=y)
    with pytest.raises(SplitError, match="the split is by group, which may keep a whole class together"):
        fit(table, rule=SplitRule(by="group", test=0.6, stratify=False), params={"C": 1})


def test_a_class_that_is_one_group_is_in_train(make_table, make_blobs, caplog):
    X, y = make_blobs()
    head = fit(make_table(X, y).but(groups=y), rule=SplitRule(by="group", test=0.6), params={"C": 1})
    assert sum(head.counts["train"].values()) == len(y)
    assert "no labelled image is in validation; no labelled image is in test" in caplog.text


def test_a_class_with_one_image_in_train_is_fitted(make_table, make_blobs, caplog):
    X, y = make_blobs()
    y = y.astype("<U9")
    y[7] = "rare"
    head = fit(make_table(X, y, given=["train"] * 8 + [""] * 232))
    assert "rare" in head.classes.tolist()
    assert head.counts["train"]["rare"] == 1
    assert "no image is in test for rare" in caplog.text


def test_a_search_gets_what_the_rule_keeps_together_as_groups(make_table, make_blobs):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    import featstore

    seen = []

    class Watching(featstore.HashKFold):
        def split(self, X, y=None, groups=None):
            seen.append(groups)
            return super().split(X, y, groups)

    groups = np.array([f"plant {number // 4}" for number in range(240)])
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=Watching(3))
    fit(make_table(*make_blobs()).but(groups=groups), head=search, rule=SplitRule(by="group"))
    assert set(seen[0]) <= set(groups)
