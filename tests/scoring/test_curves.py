import json
import logging

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from featstore.errors import HeadError, SplitError
from featstore.heads import fit
from featstore.scoring import learning_curve
from featstore.scoring.curve_points import Shots, forecast_of, training_sets, verdict_on
from featstore.splits import SplitRule
from featstore.stats.power_law import fit_power_law

QUICK = {"params": {"C": 0.1}, "fractions": (0.125, 0.25, 0.5), "repeats": 3}


@pytest.fixture
def noisy(make_table, make_blobs):
    return make_table(*make_blobs(n=900, n_classes=3, spread=2.0))


def sets_of(table, *, rule=None, fractions=(0.1, 0.4, 1.0), repeats=2):
    rule = rule or SplitRule()
    train = np.flatnonzero((table.y != "") & (table.splits(rule) == "train"))
    return training_sets(table, train, lambda _: set(), rule, fractions, repeats)[0]


def test_smaller_sets_lie_within_larger_ones_and_all_within_train(noisy):
    sets = sets_of(noisy)

    assert [len(drawn) for drawn in sets.values()] == [2, 2, 1]
    for small, large in zip(sets[0.1], sets[0.4], strict=True):
        assert set(small) < set(large) < set(sets[1.0][0])
    assert (noisy.splits()[sets[1.0][0]] == "train").all()
    assert set(sets[0.4][0]) != set(sets[0.4][1])
    assert len(sets[0.4][0]) == pytest.approx(0.4 * len(sets[1.0][0]), rel=0.15)


def test_sets_stay_when_images_are_added(noisy):
    fewer, more = sets_of(noisy.select(slice(0, 500))), sets_of(noisy)
    for fraction, drawn in fewer.items():
        for before, after in zip(drawn, more[fraction], strict=True):
            assert before.tolist() == after[after < 500].tolist()


def test_the_sets_are_those_of_the_formula(noisy):
    import hashlib

    sets = sets_of(noisy, rule=SplitRule(salt="salt"))
    for repeat in range(2):
        expected = [
            row
            for row in sets[1.0][0]
            if int.from_bytes(
                hashlib.sha256(b"salt#%d" % repeat + noisy.content_hash_bytes[row].tobytes()).digest()[16:24],
                "big",
            )
            < 0.4 * 2**64
        ]
        assert sets[0.4][repeat].tolist() == expected


def test_images_of_a_group_are_drawn_together(noisy):
    groups = np.array([f"patient {number % 90}" for number in range(len(noisy.y))])
    grouped = noisy.but(groups=groups)
    rule = SplitRule(by="group")
    (small, _), train = sets_of(grouped, rule=rule)[0.4], sets_of(grouped, rule=rule)[1.0][0]

    assert not set(groups[small]) & set(groups[np.setdiff1d(train, small)])


def test_the_last_point_is_the_head_that_fit_makes(noisy):
    curve = learning_curve(noisy, **QUICK)
    head = fit(noisy, params={"C": 0.1})

    assert [point["fraction"] for point in curve.points] == [0.125, 0.25, 0.5, 1]
    assert [len(point["fits"]) for point in curve.points] == [3, 3, 3, 1]
    assert curve.points[-1]["top1"] == head.test["top1"]
    assert curve.points[-1]["n_train"] == sum(head.counts["train"].values())
    assert curve.n == head.test["n"]
    for point in curve.points:
        assert point["top1_ci"][0] < point["top1"] < point["top1_ci"][1]


def test_validation_images_can_be_scored_instead(noisy):
    curve = learning_curve(noisy, **QUICK, split="validation")
    assert curve.points[-1]["top1"] == fit(noisy, params={"C": 0.1}).validation["top1"]


def test_a_curve_is_the_same_every_time_and_json(noisy):
    first, second = (learning_curve(noisy, **QUICK).to_dict() for _ in range(2))

    assert json.loads(json.dumps(first)) == json.loads(json.dumps(second))
    assert list(first) == [
        *("head", "space", "catalog", "split", "n", "points", "left_out", "law", "forecast"),
        *("helps", "verdict", "resampling"),
    ]
    assert list(first["forecast"]) == ["n_train", "top1", "top1_ci", "gain", "gain_ci"]


def test_progress_counts_every_fit(noisy):
    seen = []
    learning_curve(noisy, **QUICK, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 10) for done in range(1, 11)]


def test_sizes_without_a_class_are_left_out_and_named(noisy):
    rare = np.flatnonzero((noisy.y == "class 2") & (noisy.splits() == "train"))[3:]
    curve = learning_curve(noisy.select(np.setdiff1d(np.arange(900), rare)), **QUICK)

    assert {"fraction": 0.125, "classes": ["class 2"]} in curve.left_out
    assert len(curve.points) + len(curve.left_out) == 4
    assert (curve.forecast, curve.helps) == (None, None)
    assert curve.verdict.endswith("cannot be determined from fewer than 4 sizes")


def test_a_warning_is_given_once_and_not_with_every_fit(noisy, caplog):
    hashes = noisy.content_hash_bytes.copy()
    splits = noisy.splits()
    pair = [np.flatnonzero(splits == split)[0] for split in ("validation", "test")]
    given = np.full(900, "", "<U10")
    given[pair] = "validation", "test"
    hashes[pair[0]] = hashes[pair[1]]
    with caplog.at_level(logging.WARNING):
        learning_curve(noisy.but(content_hash_bytes=hashes, given_splits=given), **QUICK)
    assert [record.getMessage().count("more than one split") for record in caplog.records].count(1) == 1


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"fractions": (0.0, 0.5)}, HeadError, "above 0 and at most 1; found 0, 0.5, 1"),
        ({"fractions": (0.5, 1.5)}, HeadError, "above 0 and at most 1"),
        ({"fractions": (float("nan"),)}, HeadError, "above 0 and at most 1"),
        ({"repeats": 0}, HeadError, "at least 1; found 0"),
        ({"split": "train"}, SplitError, "validation or test; found 'train'"),
        ({"rule": SplitRule(test=0)}, SplitError, "no labelled image in test; make --test larger than 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(noisy, options, error, says):
    with pytest.raises(error, match=says):
        learning_curve(noisy, **(QUICK | options))


@settings(max_examples=30)
@given(st.floats(0, 0.3), st.floats(0.01, 0.3), st.floats(0.1, 1.5))
def test_an_exact_power_law_is_found(floor, slope, exponent):
    sizes = np.array([1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])
    assume(floor + slope * 16**exponent <= 1)
    found_floor, found_slope, found_exponent = fit_power_law(sizes, floor + slope * sizes[None] ** -exponent)
    gain, found_gain = slope * (1 - 2**-exponent), found_slope[0] * (1 - 2 ** -found_exponent[0])

    assert found_gain == pytest.approx(gain, abs=0.01)
    assert found_floor[0] + found_slope[0] == pytest.approx(floor + slope, abs=0.01)
    assert found_floor[0] >= 0
    assert found_slope[0] >= 0


def test_a_curve_that_falls_is_fitted_by_a_level_line():
    floor, slope, _ = fit_power_law(np.array([0.25, 0.5, 1.0]), np.array([[0.1, 0.2, 0.3]]))
    assert (floor[0], slope[0]) == (pytest.approx(0.2), 0)


@pytest.mark.parametrize(("floor", "slope", "n_test"), [(0.0, 0.1, 400), (0.08, 0.05, 150)])
def test_the_interval_of_the_gain_holds_the_true_one_about_as_often_as_is_claimed(floor, slope, n_test):
    """The documented 87 to 97 of 100, less what chance does to 100 curves; a nominal 95 is not reached."""
    random = np.random.default_rng(1)
    sizes = np.array([1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])
    error = floor + slope * sizes**-0.5
    gain, held, n_curves = slope * (1 - 2**-0.5), 0, 100
    for _ in range(n_curves):
        # Each image is mistaken up to a size of its own: the sizes are measured on the same images.
        wrong = random.random((n_test, 1)) < error
        points = [
            {"n_train": 1000 * size, "top1": 1 - part}
            for size, part in zip(sizes, wrong.mean(axis=0), strict=True)
        ]
        rows = random.integers(0, n_test, size=(300, n_test))
        low, high = forecast_of(points, 1 - wrong[rows].mean(axis=1), "top1")[1]["gain_ci"]
        held += low <= gain <= high
    assert held >= 80


@pytest.mark.parametrize(
    ("interval", "n_wrong", "helps", "says"),
    [
        ((0.01, 0.03), 50, True, "would help: by about 2.0 points"),
        ((0.0, 0.006), 50, False, "would hardly help"),
        ((0.0, 0.03), 50, None, "cannot be determined from 500 test images: by about 2.0 points"),
        ((0.0, 0.001), 2, None, "only 2 of 500 test images are misclassified now"),
    ],
)
def test_the_verdict_follows_the_interval(interval, n_wrong, helps, says):
    forecast = {"gain": 0.02, "gain_ci": list(interval)}
    found = verdict_on(forecast, n_wrong, 500, "test")
    assert found[0] is helps
    assert says in found[1]


def test_sets_of_some_images_a_class_are_nested_and_in_the_curve(noisy):
    curve = learning_curve(noisy, head="ridge", params={"alpha": 1.0}, shots=(1, 2, 4), repeats=3)
    assert [point.get("shots") for point in curve.points] == [1, 2, 4, None]
    assert [point["n_train"] for point in curve.points[:-1]] == [3, 6, 12]
    assert [len(point["fits"]) for point in curve.points] == [3, 3, 3, 1]
    assert curve.points[0]["fraction"] == 3 / curve.points[-1]["n_train"]
    sets = sets_of(noisy, fractions=[Shots(1), Shots(4), 1.0])
    for few, more in zip(sets[Shots(1)], sets[Shots(4)], strict=True):
        assert np.isin(few, more).all()
        assert np.unique(noisy.y[few], return_counts=True)[1].tolist() == [1, 1, 1]
    with pytest.raises(HeadError, match="shots are numbers of images, at least 1; found 0"):
        learning_curve(noisy, shots=[0])
