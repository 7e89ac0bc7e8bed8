"""Rules that go by folders, by a pattern in the path, and as TensorFlow's retrain.py went."""

import hashlib
import os
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.errors import SplitError
from featstore.splits import HashKFold, SplitRule, assign_splits, group_keys

LETTERS = {"train": ".", "validation": "v", "test": "T"}
N_IMAGES = 12
HASHES = np.frombuffer(
    b"".join(hashlib.sha256(b"image %d" % number).digest() for number in range(N_IMAGES)), np.uint8
).reshape(-1, 32)
PLANTS = [f"rose/plant{number // 2}_leaf{number}.jpg" for number in range(N_IMAGES)]


def drawn(rule, **columns):
    n_rows = len(next(iter(columns.values()), HASHES))
    splits = assign_splits(rule, content_hash=HASHES[:n_rows], **columns)
    return "".join(LETTERS[split] for split in splits)


def by_hash_of(*keys):
    """The splits of SplitRule(test=0.3, validation=0.3) by the formula, from keys."""
    draws = [int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64 for key in keys]
    return "".join("T" if draw < 0.3 else "v" if draw < 0.6 else "." for draw in draws)


def as_retrain_dealt(image_dir, path, testing_percentage, validation_percentage):
    """TensorFlow's rule in a script's terms, one file at a time."""
    hashed = int(
        hashlib.sha1(re.sub("_nohash_.*", "", os.path.join(image_dir, path)).encode()).hexdigest(), 16
    )
    percentage = (hashed % 134217728) * (100.0 / 134217727)
    if percentage < validation_percentage:
        return "v"
    return "T" if percentage < testing_percentage + validation_percentage else "."


def test_a_split_by_folder_goes_by_the_folder_of_the_file():
    paths = [f"rose/plant{number // 3}/{number}.jpg" for number in range(N_IMAGES)]
    expected = by_hash_of(*(b"folder:rose/plant%d" % (number // 3) for number in range(N_IMAGES)))
    assert drawn(SplitRule(by="folder", test=0.3, validation=0.3), paths=paths) == expected == "...vvv......"


def test_an_image_in_no_folder_is_assigned_by_content():
    paths = ["a.jpg"] * (N_IMAGES - 1) + ["x/b.jpg"]
    expected = by_hash_of(*map(bytes, HASHES[:-1]), b"folder:x")
    assert drawn(SplitRule(by="folder", test=0.3, validation=0.3), paths=paths) == expected


@pytest.mark.parametrize(
    "pattern", ["plant[0-9]+", "(plant[0-9]+)_", "rose/(?:x|(plant.))(_leaf)", "/([^_]*)_"]
)
def test_a_split_by_pattern_goes_by_the_first_group_or_the_match(pattern):
    rule = SplitRule(by="pattern", group_pattern=pattern, test=0.3, validation=0.3)
    expected = by_hash_of(*(b"pattern:plant%d" % (number // 2) for number in range(N_IMAGES)))
    assert drawn(rule, paths=PLANTS) == expected == "TTTTvvvvvvvv"


@pytest.mark.parametrize("pattern", ["plant[1-9]", "plant0|(plant[1-9])", "plant([1-9]*)"])
def test_an_image_in_which_the_pattern_finds_nothing_is_assigned_by_content(pattern):
    rule = SplitRule(by="pattern", group_pattern=pattern, test=0.3, validation=0.3)
    assert drawn(rule, paths=PLANTS)[:2] == by_hash_of(bytes(HASHES[0]), bytes(HASHES[1]))


def test_a_pattern_sees_names_that_are_not_utf8():
    paths = [os.fsdecode(b"\xff%d_%d.jpg" % (number % 2, number)) for number in range(N_IMAGES)]
    rule = SplitRule(by="pattern", group_pattern="^[^_]+", test=0.3, validation=0.3)
    expected = by_hash_of(*(b"pattern:\xff%d" % (number % 2) for number in range(N_IMAGES)))
    assert drawn(rule, paths=paths) == expected


# The last seven digits of what sha1sum says of the text before _nohash_, modulo 2**27 by the shell.
@pytest.mark.parametrize(
    ("prefix", "path", "number"),
    [
        ("flower_photos", "roses/102501987_3cdb8e5394_n.jpg", 115044186),
        ("/home/ann/flower_photos", "roses/102501987_3cdb8e5394_n.jpg", 126633854),
        ("flower_photos/", "daisy/leaf7_nohash_3.jpg", 1130202),
        (None, "daisy/leaf7_nohash_3.jpg", 17343741),
    ],
)
def test_retrain_hashes_what_retrain_py_hashed(prefix, path, number):
    share = number / 134217727
    for below, expected in ((share - 1e-6, "."), (share + 1e-6, "v")):
        rule = SplitRule(by="retrain", retrain_prefix=prefix, test=0, validation=below)
        assert drawn(rule, paths=[path]) == expected


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0\n"), min_size=1, max_size=12)
paths = st.builds(
    lambda folder, *parts: f"{folder}/{''.join(parts)}.jpg",
    names,
    names,
    st.sampled_from(["", "_nohash_"]),
    names,
)


@given(
    st.sampled_from(["flowers", "flowers/", "./flowers", "/home/ann/flowers", "../a_nohash_b", ""]),
    st.lists(paths, min_size=1, max_size=N_IMAGES),
    st.integers(0, 49),
    st.integers(0, 49),
)
@settings(max_examples=300)
def test_retrain_deals_as_retrain_py_does(image_dir, listed, test, validation):
    rule = SplitRule(by="retrain", retrain_prefix=image_dir, test=test / 100, validation=validation / 100)
    expected = "".join(as_retrain_dealt(image_dir, path, test, validation) for path in listed)
    assert drawn(rule, paths=listed) == expected


def test_retrain_keeps_what_comes_before_nohash_together():
    listed = [f"daisy/leaf{number // 4}_nohash_{number}.jpg" for number in range(N_IMAGES)]
    splits = drawn(SplitRule(by="retrain", test=0.3, validation=0.3), paths=listed)
    assert splits == splits[0] * 4 + splits[4] * 4 + splits[8] * 4


def test_validation_from_train_takes_the_rules_share_of_what_is_given_to_train():
    rule = SplitRule(test=0.3, validation=0.3)
    free = drawn(rule)
    taken = drawn(SplitRule(test=0.3, validation=0.3, validation_from_train=True), given=["train"] * N_IMAGES)
    assert drawn(rule, given=["train"] * N_IMAGES) == "." * N_IMAGES
    assert taken == free.replace("T", ".")
    assert "v" in taken


def test_validation_from_train_leaves_other_given_splits_alone():
    rule = SplitRule(test=0.3, validation=0.3, validation_from_train=True)
    assert drawn(rule, given=["test"] * 6 + ["validation"] * 6) == "TTTTTTvvvvvv"
    assert drawn(rule, given=[None] * N_IMAGES) == drawn(SplitRule(test=0.3, validation=0.3))


@pytest.mark.parametrize(
    ("rule", "columns", "expected"),
    [
        (SplitRule(), {}, [row.tobytes().hex() for row in HASHES[:3]]),
        (
            SplitRule(by="group"),
            {"groups": ["Ann", "", None]},
            ["Ann", *(row.tobytes().hex() for row in HASHES[1:3])],
        ),
        (SplitRule(by="folder"), {"paths": ["a/b/1.jpg", "a/2.jpg", "a/b/3.jpg"]}, ["a/b", "a", "a/b"]),
        (SplitRule(by="filename"), {"paths": ["a/b/1.jpg", "a/2.jpg", "3.jpg"]}, ["1.jpg", "2.jpg", "3.jpg"]),
        (SplitRule(by="pattern", group_pattern="[0-9]"), {"paths": ["a/1.jpg", "2", "1"]}, ["1", "2", "1"]),
        (
            SplitRule(by="retrain", retrain_prefix="x"),
            {"paths": ["a/1_nohash_2_nohash_3.jpg", "b_nohash.jpg", "/c"]},
            ["x/a/1", "x/b_nohash.jpg", "/c"],
        ),
    ],
)
def test_group_keys_are_what_a_rule_keeps_together(rule, columns, expected):
    assert group_keys(rule, content_hash=HASHES[:3], **columns).tolist() == expected


def test_group_keys_are_groups_for_folds():
    keys = group_keys(SplitRule(by="pattern", group_pattern="plant[0-9]+"), content_hash=HASHES, paths=PLANTS)
    for train, test in HashKFold(2).split(PLANTS, groups=keys):
        assert not {keys[at] for at in train} & {keys[at] for at in test}


def test_what_a_rule_has_no_use_for_is_left_out_of_its_dict():
    assert SplitRule(by="group", salt="a").to_dict() == {
        "by": "group",
        "test": 0.1,
        "validation": 0.1,
        "salt": "a",
        "stratify": True,
    }


def test_a_rule_of_an_earlier_version_goes_by_the_hash_alone():
    rule = SplitRule.from_dict({"by": "content", "test": 0.3, "validation": 0.3, "salt": ""})
    assert not rule.stratify
    assert drawn(rule, labels=["a"] * 11 + ["b"]) == drawn(rule)
    assert rule.to_dict() == {"by": "content", "test": 0.3, "validation": 0.3, "salt": ""}


def test_retrain_does_not_stratify():
    assert not SplitRule(by="retrain").stratify
    with pytest.raises(SplitError, match="does not stratify"):
        SplitRule(by="retrain", stratify=True)


@pytest.mark.parametrize(
    "rule",
    [
        SplitRule(by="folder"),
        SplitRule(by="pattern", group_pattern="(a)b"),
        SplitRule(by="retrain"),
        SplitRule(by="retrain", retrain_prefix=""),
        SplitRule(by="retrain", retrain_prefix="/photos"),
        SplitRule(validation_from_train=True),
        SplitRule(stratify=False),
    ],
)
def test_a_later_rule_survives_its_dict(rule):
    assert SplitRule.from_dict(rule.to_dict()) == rule


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"by": "pattern"}, "needs a regular expression"),
        ({"by": "pattern", "group_pattern": ""}, "needs a regular expression"),
        (
            {"by": "pattern", "group_pattern": "["},
            r"the group pattern '\[' is not a valid regular expression: unterminated",
        ),
        ({"by": "pattern", "group_pattern": "a{99999999999}"}, "is not a valid regular expression"),
        ({"by": "pattern", "group_pattern": "a" * 1001}, "at most 1000 characters; found 1001"),
        ({"by": "pattern", "group_pattern": 7}, "found 7"),
        ({"group_pattern": "a"}, "by splits by pattern; found 'a' with a split by content"),
        ({"retrain_prefix": "a"}, "by splits by retrain; found 'a' with a split by content"),
        ({"by": "retrain", "retrain_prefix": 7}, "must be a str; found 7"),
        ({"by": "retrain", "salt": "a"}, "has no salt; found 'a'"),
        ({"validation_from_train": 1}, "True or False; found 1"),
        ({"stratify": 1}, "True or False; found 1"),
    ],
)
def test_an_unfit_rule_is_refused(fields, message):
    with pytest.raises(SplitError, match=message):
        SplitRule.from_dict(fields)


@pytest.mark.parametrize(
    ("rule", "columns", "message"),
    [
        (SplitRule(by="folder"), {}, "by folder needs paths"),
        (SplitRule(by="retrain"), {}, "by retrain needs paths"),
        (SplitRule(by="folder"), {"paths": ["a.jpg"]}, "no image is in one"),
        (
            SplitRule(by="pattern", group_pattern="x"),
            {"paths": ["a.jpg", "b.jpg"]},
            "matches none of the 2 paths, such as 'a.jpg'",
        ),
    ],
)
def test_paths_without_what_the_rule_goes_by_are_refused(rule, columns, message):
    with pytest.raises(SplitError, match=message):
        drawn(rule, **columns)
