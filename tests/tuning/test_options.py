"""Options of a training, and the learning rate that follows from them."""

import pytest

from featstore.errors import TuningError
from featstore.tuning import RECIPES, TuningOptions


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1"),
        ({"epochs": 1.5}, "epochs must be an integer"),
        ({"batch_size": True}, "batch_size must be an integer"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0"),
        ({"momentum": 1}, "momentum must be a number of at least 0 and below 1"),
        ({"dropout": -0.1}, "dropout must be"),
        ({"clip_norm": 0}, "clip_norm must be a number above 0"),
        ({"ema": 1.0}, "ema must be a number above 0 and below 1"),
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adam, adamw, rmsprop"),
        ({"schedule": "steps"}, "schedule must be one of cosine"),
        ({"warmup": 4}, "the warm-up of 4 epochs is longer than the 3 epochs"),
        ({"seed": 2**32}, "seed must be an integer"),
    ],
)
def test_a_value_out_of_range_is_refused(options, said):
    with pytest.raises(TuningError, match=said):
        TuningOptions(**options)


def test_each_optimizer_has_a_learning_rate_of_its_own():
    rates = {name: TuningOptions(optimizer=name).rate for name in ("sgd", "adam", "adamw", "rmsprop")}
    assert rates == {"sgd": 1e-2, "adam": 1e-4, "adamw": 1e-4, "rmsprop": 1e-3}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1, 1, 1]),
        ("cosine", [1, 0.5, 0]),
        ("polynomial", [1, 0.5, 0]),
        ("exponential", [1, 0.5, 0.25]),
    ],
)
def test_the_learning_rate_falls_by_the_schedule(schedule, expected):
    options = TuningOptions(epochs=4, learning_rate=1.0, schedule=schedule, decay=0.5, decay_epochs=2)
    assert [options.rate_at(epoch) for epoch in (0, 2, 4)] == pytest.approx(expected)


def test_the_learning_rate_rises_in_the_warm_up():
    options = TuningOptions(learning_rate=1.0, schedule="constant", warmup=1)
    assert [options.rate_at(epoch) for epoch in (0, 0.5, 1, 2)] == [0, 0.5, 1, 1]


def test_the_published_recipes_are_options():
    inception, food101 = (TuningOptions(**RECIPES[name]) for name in ("inception", "food101"))
    assert (inception.optimizer, inception.epsilon, inception.ema) == ("rmsprop", 1.0, 0.9999)
    assert inception.rate_at(0) == inception.rate_at(18.9) == 1e-3
    assert (food101.optimizer, food101.batch_size, food101.schedule) == ("sgd", 64, "polynomial")
