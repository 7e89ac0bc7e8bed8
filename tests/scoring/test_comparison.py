import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from featstore.errors import FingerprintMismatchError, HeadError, SplitError
from featstore.extending import edit_classes
from featstore.heads import fit
from featstore.scoring import compare
from featstore.scoring.comparison import holm_adjusted, mcnemar_exact, sign_flip_test
from featstore.splits import SplitRule


@pytest.fixture
def noisy(make_table, make_blobs):
    return make_table(*make_blobs(n=800, n_classes=4, spread=1.5))


@pytest.fixture
def blurred(noisy, make_spec):
    """The same images seen by a worse backbone."""
    noise = 2 * np.random.default_rng(5).normal(size=noisy.X.shape)
    return noisy.but(X=(noisy.X + noise).astype(np.float32), spec=make_spec("blurred"))


def fixed(table, **options):
    return fit(table, params={"C": 0.1}, **options)


def test_counts_and_accuracies_are_those_of_the_test_images(noisy, blurred):
    good, bad = fixed(noisy), fixed(blurred)
    found = compare([good, bad], [noisy, blurred], names=["good", "bad"])
    test = noisy.splits() == "test"
    right = [head.predict(table.X[test]) == noisy.y[test] for head, table in ((good, noisy), (bad, blurred))]
    (pair,) = found.pairs

    assert found.n == test.sum()
    assert [one["top1"] for one in found.heads] == [part.mean() for part in right]
    assert pair["both_right"] == (right[0] & right[1]).sum()
    assert pair["only_a"] == (right[0] & ~right[1]).sum()
    assert pair["only_b"] == (~right[0] & right[1]).sum()
    assert pair["both_wrong"] == (~right[0] & ~right[1]).sum()
    assert pair["difference"] == pytest.approx(right[1].mean() - right[0].mean())
    assert pair["p"] == binomtest(pair["only_a"], pair["only_a"] + pair["only_b"]).pvalue
    assert (found.test, found.rules_differ) == ("mcnemar", False)


def test_a_difference_beyond_chance_is_called_so(noisy, blurred):
    (pair,) = compare([fixed(blurred), fixed(noisy)], [blurred, noisy], names=["bad", "good"]).pairs

    assert pair["p"] < 0.05
    assert 0 < pair["difference_ci"][0] < pair["difference"] < pair["difference_ci"][1]
    assert pair["verdict"].startswith(f"good is better than bad by {100 * pair['difference']:.1f} points (p ")


def test_a_head_is_as_good_as_itself(noisy):
    head = fixed(noisy)
    (pair,) = compare([head, head], noisy).pairs

    assert (pair["difference"], pair["difference_ci"], pair["p"]) == (0, [0, 0], 1)
    assert "within chance (p = 1, n = " in pair["verdict"]
    assert {pair["a"], pair["b"]} == {
        f"logistic on {noisy.space_name} (1)",
        f"logistic on {noisy.space_name} (2)",
    }


def test_three_heads_are_compared_in_all_pairs_with_holms_correction(noisy, blurred):
    heads = [fixed(noisy), fixed(blurred), fit(noisy, params={"C": 0.0001})]
    found = compare(heads, [noisy, blurred, noisy], names=["a", "b", "c"])

    assert [(pair["a"], pair["b"]) for pair in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair["p_adjusted"] for pair in found.pairs] == holm_adjusted([pair["p"] for pair in found.pairs])
    assert all("by Holm" in pair["verdict"] for pair in found.pairs)


def test_images_that_either_head_was_trained_on_are_left_out(noisy, blurred):
    rules = [SplitRule(test=0.4), SplitRule(test=0.4, salt="other")]
    heads = [fixed(noisy, rule=rules[0]), fixed(blurred, rule=rules[1])]
    found = compare(heads, [noisy, blurred])
    of_each = [noisy.splits(rule) == "test" for rule in rules]

    assert found.n == (of_each[0] & of_each[1]).sum()
    assert found.left_out["seen"] == (of_each[0] ^ of_each[1]).sum()
    assert found.rules_differ


def test_a_copy_in_train_leaves_the_image_out(noisy):
    """The same bytes under another name, which a rule by file name puts into train."""
    head = fixed(noisy, rule=SplitRule(by="filename", test=0.3))
    splits = noisy.splits(head.split_rule)
    in_test, in_train = np.flatnonzero(splits == "test")[0], np.flatnonzero(splits == "train")[0]
    hashes = noisy.content_hash_bytes.copy()
    hashes[in_train] = hashes[in_test]
    copied = noisy.but(content_hash_bytes=hashes)

    assert compare([head, head], noisy).n - compare([head, head], copied).n == 1
    assert compare([head, head], copied).left_out["seen"] == 1


def test_images_of_a_group_that_another_head_was_trained_on_are_left_out(noisy):
    grouped = noisy.but(groups=np.array([f"patient {number // 8}" for number in range(len(noisy.y))]))
    by_group = fixed(grouped, rule=SplitRule(by="group", test=0.5))
    by_content = fixed(grouped)
    with pytest.raises(
        SplitError, match=r"no image is in test for all of .* fit the heads with one split rule"
    ):
        compare([by_group, by_content], grouped)

    both = compare([by_group, by_group], grouped)
    assert both.n == (grouped.splits(by_group.split_rule) == "test").sum()
    assert (both.test, both.resampling["unit"]) == ("sign flips", "group")
    assert both.resampling["n"] == both.n // 8


def test_only_images_that_both_tables_have_are_compared(noisy, blurred):
    heads = [fixed(noisy), fixed(blurred)]
    found = compare(heads, [noisy, blurred.select(slice(0, 500))])

    assert found.n == (noisy.splits()[:500] == "test").sum()
    assert found.left_out["absent"] == (noisy.splits()[500:] == "test").sum()


def test_images_with_several_labels_are_left_out(noisy, blurred):
    heads = [fixed(noisy), fixed(blurred)]
    row = np.flatnonzero(noisy.splits() == "test")[0]
    labels = noisy.y.copy()
    labels[row] = "class 0" if labels[row] != "class 0" else "class 1"

    assert compare(heads, [noisy, blurred.but(y=labels)]).left_out["conflicting"] == 1


def test_labels_that_a_head_does_not_know_are_named(noisy):
    few = noisy.select(noisy.y != "class 3")
    with pytest.raises(HeadError, match="does not know: class 3"):
        compare([fixed(noisy), fixed(few)], noisy)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"heads": 1}, HeadError, "at least two heads; found 1"),
        ({"tables": 1}, HeadError, "a table for each of the 2 heads; found 1"),
        ({"names": ["a", "a"]}, HeadError, "different names; found a, a"),
        ({"split": "train"}, SplitError, "validation or test; found 'train'"),
    ],
)
def test_what_cannot_be_compared_is_refused(noisy, wrong, error, says):
    head = fixed(noisy)
    options = {name: value for name, value in wrong.items() if name in ("names", "split")}
    with pytest.raises(error, match=says):
        compare([head] * wrong.get("heads", 2), [noisy] * wrong.get("tables", 2), **options)


def test_features_of_another_backbone_are_refused(noisy, blurred):
    with pytest.raises(FingerprintMismatchError):
        compare([fixed(noisy), fixed(blurred)], noisy)


def test_a_comparison_is_json_with_stable_keys(noisy):
    head = fixed(noisy)
    told = json.loads(json.dumps(compare([head, head], noisy).to_dict()))

    assert list(told) == [*("split", "n", "heads", "pairs", "test", "rules_differ", "left_out", "resampling")]
    assert list(told["heads"][0]) == [
        "name",
        "head",
        "space",
        "catalog",
        "test_views",
        "n",
        "top1",
        "top1_ci",
    ]
    assert list(told["pairs"][0]) == [
        *("a", "b", "both_right", "only_a", "only_b", "both_wrong"),
        *("difference", "difference_ci", "p", "p_adjusted", "verdict"),
    ]


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemars_test_is_the_binomial_one(only_a, only_b):
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1
    assert mcnemar_exact(only_a, only_b) == pytest.approx(expected)


def test_sign_flips_of_single_images_come_to_mcnemars_test():
    differences = np.repeat([1, -1, 0], [14, 5, 100])
    assert sign_flip_test(differences) == pytest.approx(mcnemar_exact(14, 5), abs=0.012)


def test_flipping_whole_groups_is_less_sure_than_flipping_images():
    assert sign_flip_test(np.array([7, 7])) == pytest.approx(0.5, abs=0.02)
    assert mcnemar_exact(14, 0) < 0.001


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_correction_keeps_the_order_and_makes_nothing_smaller(p_values):
    adjusted = holm_adjusted(p_values)

    assert all(p <= higher <= 1 for p, higher in zip(p_values, adjusted, strict=True))
    assert adjusted[int(np.argmin(p_values))] == min(1, len(p_values) * min(p_values))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_what_a_head_was_fitted_on_is_left_out_whatever_the_catalog_is_called(noisy):
    one, other = fixed(noisy), fixed(noisy, rule=SplitRule(salt="other"))
    copy = noisy.but(catalog_name="a copy", given_splits=np.full(len(noisy), "test"))
    found = compare([one, other], copy, names=["one", "other"])
    unseen = ~one.was_fitted_on(noisy) & ~other.was_fitted_on(noisy)
    assert found.n == unseen.sum()
    assert found.left_out["seen"] == (~unseen).sum()


def test_images_of_a_class_that_was_removed_from_one_head_are_left_out_for_both(noisy):
    whole = fixed(noisy)
    few = edit_classes(whole, remove=["class 3"], rename={"class 0": "first"})
    is_test = noisy.splits() == "test"
    n_removed = int((is_test & (noisy.y == "class 3")).sum())
    for heads in ([whole, few], [few, whole]):
        found = compare(heads, noisy, names=["a", "b"])
        assert found.n == is_test.sum() - n_removed
        assert found.left_out == {"removed": n_removed, "seen": 0, "absent": 0, "conflicting": 0}
    rows = np.flatnonzero(is_test & (noisy.y != "class 3"))
    assert compare([whole, few], noisy, names=["a", "b"]).heads[0]["top1"] == pytest.approx(
        (whole.predict(noisy.X[rows]) == noisy.y[rows]).mean()
    )


def test_heads_that_have_no_class_in_common_with_the_images_say_what_was_removed(noisy):
    few = edit_classes(fixed(noisy), remove=["class 2", "class 3"])
    others = noisy.select(np.isin(noisy.y, ["class 2", "class 3"]))
    with pytest.raises(SplitError, match=r"[1-9]\d* are of classes that a head was fitted without"):
        compare([few, few], others, names=["a", "b"])


def test_a_label_that_no_head_ever_had_is_still_refused(noisy):
    few = edit_classes(fixed(noisy), remove=["class 3"])
    strange = noisy.but(y=np.where(noisy.y == "class 1", "moss", noisy.y))
    with pytest.raises(HeadError, match="does not know: moss"):
        compare([few, few], strange, names=["a", "b"])
