import copy
import hashlib
import os
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.errors import SplitError
from featstore.splits import SPLITS, HashHoldout, HashKFold, SplitRule, assign_splits

LETTERS = {"train": ".", "validation": "v", "test": "T"}
HASHES = [hashlib.sha256(b"image %d" % number).digest() for number in range(12)]


def as_array(hashes):
    return np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, 32)


def drawn(rule, hashes=HASHES, **columns):
    splits = assign_splits(rule, content_hash=as_array(hashes), **columns)
    return "".join(LETTERS[split] for split in splits)


def from_the_formula(rule, keys):
    """The rule as its docstring states it, one row at a time and in exact arithmetic."""
    letters = ""
    for key in keys:
        digest = hashlib.sha256(rule.salt.encode() + key).digest()
        u = int.from_bytes(digest[:8], "big")
        t = Fraction(rule.test) * 2**64 // 1
        v = t + Fraction(rule.validation) * 2**64 // 1
        letters += "T" if u < t else "v" if u < v else "."
    return letters


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (SplitRule(test=0.3, validation=0.3), "T.T...v.TTv."),
        (SplitRule(test=0.3, validation=0.3, salt="é"), "v.vvvv..vvTv"),
        (SplitRule(by="group", test=0.3, validation=0.3), "...v.T.TvT.T"),
        (SplitRule(by="filename", test=0.3, validation=0.3), ".v.TvvTT.Tvv"),
    ],
)
def test_splits_are_the_same_in_every_version(rule, expected):
    groups = [f"g{number}" for number in range(12)]
    paths = [f"a/{number}.jpg" for number in range(12)]
    keys = {
        "content": HASHES,
        "group": [b"group:" + group.encode() for group in groups],
        "filename": [f"filename:{number}.jpg".encode() for number in range(12)],
    }[rule.by]

    assert drawn(rule, groups=groups, paths=paths) == expected
    assert from_the_formula(rule, keys) == expected


@pytest.mark.parametrize(("salt", "expected"), [("", "212021101110"), ("é", "201101212210")])
def test_folds_are_the_same_in_every_version(salt, expected):
    folds = np.empty(12, dtype=int)
    for number, (_, test) in enumerate(HashKFold(3, salt=salt).split(HASHES, groups=as_array(HASHES))):
        folds[test] = number
    by_hand = [
        int.from_bytes(hashlib.sha256(salt.encode() + key).digest()[8:16], "big") % 3 for key in HASHES
    ]

    assert "".join(map(str, folds)) == expected
    assert folds.tolist() == by_hand


def test_a_row_without_a_group_falls_back_to_its_content():
    rule = SplitRule(by="group", test=0.3, validation=0.3)
    by_content = drawn(SplitRule(test=0.3, validation=0.3))

    assert drawn(rule, groups=[None, ""] * 5 + ["g10", "g11"]) == by_content[:10] + ".T"


def test_rows_of_one_group_share_a_split():
    groups = ["Anna", "Bela", "Carl"] * 4
    splits = drawn(SplitRule(by="group", test=0.3, validation=0.3), groups=groups)

    assert splits == splits[:3] * 4


def test_only_the_last_part_of_a_path_decides_a_split_by_file_name():
    rule = SplitRule(by="filename", test=0.3, validation=0.3)
    paths = [os.path.join("/photos", str(number), "rose.jpg") for number in range(12)]

    assert len(set(drawn(rule, paths=paths))) == 1


def test_a_given_split_wins_over_the_rule():
    given_splits = ["test", "train", "validation", None, ""] + [None] * 7

    assert drawn(SplitRule(test=0, validation=0), given=given_splits) == "T.v" + "." * 9


def test_names_that_are_not_utf8_are_assigned_by_their_own_bytes():
    names = [os.fsdecode(b"%d\xff.jpg" % number) for number in range(12)]
    rule = SplitRule(by="filename", test=0.3, validation=0.3)

    assert drawn(rule, paths=names) == from_the_formula(
        rule, [b"filename:%d\xff.jpg" % number for number in range(12)]
    )


def test_fractions_of_zero_leave_splits_empty():
    assert drawn(SplitRule(test=0, validation=0)) == "." * 12
    assert set(drawn(SplitRule(test=0, validation=0.9))) <= {"v", "."}


def test_no_rows_have_no_splits():
    assert assign_splits(SplitRule(), content_hash=np.empty((0, 32), dtype=np.uint8)).shape == (0,)


def test_a_million_rows_come_near_the_fractions():
    hashes = np.random.default_rng(0).integers(0, 256, (1_000_000, 32), dtype=np.uint8)
    splits = assign_splits(SplitRule(test=0.2, validation=0.05), content_hash=hashes)

    assert (splits == "test").mean() == pytest.approx(0.2, abs=0.002)
    assert (splits == "validation").mean() == pytest.approx(0.05, abs=0.001)


hash_lists = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40)
rules = st.builds(
    SplitRule,
    test=st.floats(0, 0.49),
    validation=st.floats(0, 0.49),
    salt=st.text(st.characters(codec="utf-8"), max_size=8),
)


@given(rules, hash_lists, hash_lists)
def test_adding_images_moves_none(rule, hashes, more):
    assert drawn(rule, hashes + more)[: len(hashes)] == drawn(rule, hashes)


@given(rules, hash_lists, st.randoms())
def test_copies_share_a_split_in_any_order(rule, hashes, random):
    rows = hashes + hashes
    random.shuffle(rows)
    splits = dict(zip(hashes, drawn(rule, hashes), strict=True))

    assert drawn(rule, rows) == "".join(splits[row] for row in rows)


@given(rules, hash_lists)
def test_every_row_follows_the_formula(rule, hashes):
    assert drawn(rule, hashes) == from_the_formula(rule, hashes)


@given(rules, hash_lists, st.data())
def test_given_splits_win_and_leave_the_others_alone(rule, hashes, data):
    fixed = data.draw(
        st.lists(st.sampled_from([None, "", *SPLITS]), min_size=len(hashes), max_size=len(hashes))
    )
    free = drawn(rule, hashes)
    expected = "".join(LETTERS[split] if split else letter for split, letter in zip(fixed, free, strict=True))

    assert drawn(rule, hashes, given=fixed) == expected


@given(st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=50)
def test_any_text_can_be_a_group(first, second):
    splits = drawn(SplitRule(by="group", test=0.5), HASHES[:4], groups=[first, second, first, "other"])

    assert first == "" or splits[0] == splits[2]


@given(rules)
def test_a_rule_survives_its_dict(rule):
    assert SplitRule.from_dict(rule.to_dict()) == rule


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"by": "colour"}, "content, group, folder, pattern, filename, retrain; found 'colour'"),
        ({"test": 1.0}, "test must be a fraction"),
        ({"test": -0.1}, "test must be a fraction"),
        ({"test": float("nan")}, "test must be a fraction"),
        ({"validation": "0.1"}, "validation must be a fraction"),
        ({"test": True}, "test must be a fraction"),
        ({"test": 0.7, "validation": 0.3}, "leave images for train"),
        ({"salt": 3}, "a salt must be a str"),
        ({"salt": "\udc00"}, "UTF-8"),
        ({"fraction": 0.1}, "found fraction"),
    ],
)
def test_an_unfit_rule_is_refused(fields, message):
    with pytest.raises(SplitError, match=message):
        SplitRule.from_dict(fields)


@pytest.mark.parametrize(
    ("rule", "columns", "message"),
    [
        (SplitRule(by="group"), {}, "needs groups"),
        (SplitRule(by="filename"), {}, "needs paths"),
        (SplitRule(by="group"), {"groups": ["a"]}, "each of the 12 rows; found 1"),
        (SplitRule(), {"given": ["holdout"] * 12}, "found 'holdout'"),
    ],
)
def test_unfit_columns_are_refused(rule, columns, message):
    with pytest.raises(SplitError, match=message):
        drawn(rule, **columns)


def test_hashes_of_another_shape_are_refused():
    with pytest.raises(SplitError, match=r"shape \(n, 32\); found float64 of shape \(3, 32\)"):
        assign_splits(SplitRule(), content_hash=np.zeros((3, 32)))


def test_a_split_by_group_without_any_group_is_refused():
    with pytest.raises(SplitError, match="no image has one"):
        drawn(SplitRule(by="group"), groups=[None] * 12)


def random_hashes(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32), dtype=np.uint8)


def in_hexadecimal(hashes):
    return np.array([row.tobytes().hex() for row in hashes])


def test_folds_hold_every_row_once_and_are_even():
    folds = list(HashKFold(5).split(range(5000), groups=random_hashes(5000)))
    tests = [test for _, test in folds]

    assert sorted(np.concatenate(tests).tolist()) == list(range(5000))
    assert all(len(np.intersect1d(train, test)) == 0 for train, test in folds)
    assert all(900 < len(test) < 1100 for test in tests)


def test_hexadecimal_hashes_and_their_bytes_give_the_same_folds():
    hashes = random_hashes(100)
    as_text = [test.tolist() for _, test in HashKFold(4).split(hashes, groups=in_hexadecimal(hashes))]

    assert as_text == [test.tolist() for _, test in HashKFold(4).split(hashes, groups=hashes)]


@given(st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), min_size=1, max_size=60), st.text(max_size=3))
def test_identical_groups_never_straddle_folds(names, salt):
    alphabet = [*"abcdefghijklmnopqrstuvwxyz", *names]
    salt = salt.encode("utf-8", "ignore").decode()
    for train, test in HashKFold(2, salt=salt).split(alphabet, groups=alphabet):
        assert not {alphabet[at] for at in train} & {alphabet[at] for at in test}


def test_folds_inside_a_training_split_are_even():
    hashes = random_hashes(20_000)
    rule = SplitRule(test=0.5, validation=0)
    inside = hashes[assign_splits(rule, content_hash=hashes) == "train"]
    sizes = [len(test) for _, test in HashKFold(4).split(inside, groups=inside)]
    [(_, held_out)] = HashHoldout(test=0.25).split(inside, groups=inside)

    assert all(abs(size / len(inside) - 0.25) < 0.015 for size in sizes)
    assert len(held_out) / len(inside) == pytest.approx(0.25, abs=0.015)


def test_a_hold_out_grows_without_moving_a_row():
    hashes = random_hashes(500)
    [(_, few)] = HashHoldout(test=0.3).split(hashes[:200], groups=hashes[:200])
    [(_, many)] = HashHoldout(test=0.3).split(hashes, groups=hashes)

    assert many[many < 200].tolist() == few.tolist()


def test_whole_numbers_can_be_groups():
    patients = np.arange(60) // 3
    for train, test in HashKFold(3).split(patients, groups=patients):
        assert not np.intersect1d(patients[train], patients[test]).size


@pytest.mark.parametrize(
    ("splitter", "groups", "message"),
    [
        (HashKFold(3), None, "pass groups=table.content_hash"),
        (HashHoldout(), None, "pass groups=table.content_hash"),
        (HashKFold(3), ["a"], "each of the 4 rows"),
        (HashKFold(3), ["a", "", "b", "c"], "1 of 4 rows have no group"),
        (HashKFold(3), ["a", "a", "a", "a"], "2 of 3 folds would be empty"),
        (HashHoldout(test=0.5), ["a", "a", "a", "a"], "would be empty"),
        (HashKFold(3), np.zeros((4, 2)), "content hashes must be uint8"),
    ],
)
def test_unfit_groups_are_refused(splitter, groups, message):
    with pytest.raises(SplitError, match=message):
        splitter.split(range(4), groups=groups)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HashKFold(1),
        lambda: HashKFold(2.5),
        lambda: HashHoldout(test=0),
        lambda: HashHoldout(test=1.5),
    ],
)
def test_unfit_cross_validators_are_refused(make):
    with pytest.raises(SplitError):
        make()


def test_cross_validators_say_how_to_make_them_again():
    assert repr(HashKFold(7, salt="a")) == "HashKFold(n_splits=7, salt='a', stratify=False)"
    assert eval(repr(HashHoldout(test=0.3))) == HashHoldout(test=0.3)
    assert copy.deepcopy(HashKFold(7)) == HashKFold(7)


def test_scikit_learn_takes_the_cross_validators():
    from sklearn.base import clone
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    X, y = load_digits(return_X_y=True)
    X, y = X[:600], y[:600]
    groups = in_hexadecimal([np.frombuffer(hashlib.sha256(row).digest(), dtype=np.uint8) for row in X])
    scores = cross_val_score(KNeighborsClassifier(), X, y, cv=HashKFold(4), groups=groups)
    once = cross_val_score(KNeighborsClassifier(), X, y, cv=HashHoldout(), groups=groups)
    search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 5]}, cv=HashKFold(3, salt="inner"))
    clone(search).fit(X, y, groups=groups)
    search.fit(X, y, groups=groups)

    assert len(scores) == 4
    assert len(once) == 1
    assert min(*scores, *once, search.best_score_) > 0.9
