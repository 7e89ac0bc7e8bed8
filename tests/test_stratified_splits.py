"""What small classes get of each part, and how much that moves."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.errors import SplitError
from featstore.splits import HashKFold, SplitRule, assign_splits, fold_numbers

RULE = SplitRule()
ALONE = SplitRule(stratify=False)


def hashes_of(names):
    digests = [hashlib.sha256(str(name).encode()).digest() for name in names]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


def dealt(names, labels, rule=RULE, **more):
    return assign_splits(rule, content_hash=hashes_of(names), labels=labels, **more)


@pytest.mark.parametrize(
    ("n", "parts"),
    [(1, ["train"]), (2, ["test", "train"]), (3, ["test", "train", "validation"])],
)
def test_a_small_class_is_assigned_to_train_then_test_then_validation(n, parts):
    for salt in map(str, range(50)):
        splits = dealt(range(n), ["rare"] * n, SplitRule(salt=salt))
        assert sorted(splits.tolist()) == parts


def test_parts_that_get_no_share_stay_empty():
    assert set(dealt(range(5), ["rare"] * 5, SplitRule(test=0, validation=0))) == {"train"}
    assert "test" not in dealt(range(5), ["rare"] * 5, SplitRule(test=0))


def test_images_with_a_given_split_stay_there():
    for salt in map(str, range(20)):
        splits = dealt(range(4), ["rare"] * 4, SplitRule(salt=salt), given=["test", "test", "train", ""])
        assert splits.tolist() == ["test", "test", "train", "validation"]


def test_validation_out_of_what_is_given_to_train_is_filled_too():
    rule = SplitRule(validation_from_train=True)
    splits = dealt(range(6), ["a"] * 3 + ["b"] * 3, rule, given=["train"] * 6)
    assert sorted(splits[:3]) == sorted(splits[3:]) == ["train", "train", "validation"]


def test_an_image_of_two_classes_leaves_neither_without_train():
    # The same bytes under two labels: one unit, beside one image more of each.
    for salt in map(str, range(50)):
        splits = dealt([0, 0, 1, 2], ["a", "b", "a", "b"], SplitRule(salt=salt))
        assert splits[0] == splits[1]
        for rows in ([0, 2], [1, 3]):
            assert "train" in splits[rows]


labelled = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(["", "a", "b", "c", "d"])), min_size=1, max_size=60
)
salts = st.text(alphabet="abc", max_size=3)


def own_label(images):
    """One label for each name, so that no unit is of two classes."""
    return list({name: (name, label) for name, label in images}.values())


@given(labelled, salts, st.randoms())
def test_the_order_of_images_and_copies_of_them_change_nothing(images, salt, random):
    rule = SplitRule(salt=salt)
    names, labels = zip(*images, strict=True)
    first = dealt(names, labels, rule)
    order = [*range(len(images)), *random.choices(range(len(images)), k=5)]
    random.shuffle(order)
    again = dealt([names[at] for at in order], [labels[at] for at in order], rule)

    assert again.tolist() == first[order].tolist()
    assert len({(name, split) for name, split in zip(names, first, strict=True)}) == len(set(names))


@given(labelled, salts)
def test_at_most_two_images_of_a_class_that_lacks_a_part_are_moved(images, salt):
    names, labels = map(np.array, zip(*own_label(images), strict=True))
    alone = dealt(names, labels, SplitRule(salt=salt, stratify=False))
    splits = dealt(names, labels, SplitRule(salt=salt))
    moved = splits != alone

    assert not moved[labels == ""].any()
    for label in {*labels} - {""}:
        of_class = labels == label
        wanted = {1: {"train"}, 2: {"train", "test"}}.get(of_class.sum(), {"train", "test", "validation"})
        assert {*splits[of_class]} >= wanted
        if len({*alone[of_class]}) == 3:
            assert not moved[of_class].any()
        assert moved[of_class].sum() <= 2


@given(labelled, labelled, salts)
def test_images_that_are_added_move_at_most_four_of_a_class_that_lacks_a_part(before, added, salt):
    both = own_label(before + added)
    known = {name for name, _ in before}
    before = [one for one in both if one[0] in known]
    rule = SplitRule(salt=salt)
    first = dict(zip(before, dealt(*zip(*before, strict=True), rule), strict=True))
    after = dict(zip(both, dealt(*zip(*both, strict=True), rule), strict=True))
    alone = dict(
        zip(before, dealt(*zip(*before, strict=True), SplitRule(salt=salt, stratify=False)), strict=True)
    )
    grown = {label for name, label in both if name not in known}
    for label in {label for _, label in before}:
        mine = [one for one in before if one[1] == label]
        moved = sum(first[one] != after[one] for one in mine)
        if label not in grown or not label or len({alone[one] for one in mine}) == 3:
            assert moved == 0
        assert moved <= 4


@given(labelled, salts, st.integers(2, 5))
def test_outside_each_fold_is_an_image_of_every_class_that_can_be_divided(images, salt, n_folds):
    names, labels = map(np.array, zip(*own_label(images), strict=True))
    groups = hashes_of(names)
    alone = fold_numbers(HashKFold(n_folds, salt=salt), names, None, groups)
    folds = fold_numbers(HashKFold(n_folds, salt=salt, stratify=True), names, labels, groups)
    for label in {*labels}:
        of_class = labels == label
        n_moved = (folds[of_class] != alone[of_class]).sum()
        if not label or of_class.sum() == 1 or len({*alone[of_class]}) > 1:
            assert n_moved == 0
        else:
            assert (n_moved, len({*folds[of_class]})) == (1, 2)


def test_a_cross_validator_stratifies_by_y():
    names = np.array(
        [name for name in range(40) if fold_numbers(HashKFold(2), [0], None, hashes_of([name]))[0]]
    )
    groups = np.concatenate([hashes_of(names[:3]), hashes_of(range(100, 120))])
    y = ["few"] * 3 + ["many"] * 20
    for train, _ in HashKFold(2, stratify=True).split(y, y, groups):
        assert "few" in np.array(y)[train]
    with pytest.raises(SplitError, match="need y, a label for each of the 23 rows"):
        HashKFold(2, stratify=True).split(y, None, groups)
