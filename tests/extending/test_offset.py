"""The offset between old and new classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.extending.offset import OffsetScores, choose_offset, trade_off


def seen(margins, *, n_right=None, is_new):
    n = len(margins)
    right = np.zeros(n, np.intp)
    y = np.where(np.arange(n) < (n if n_right is None else n_right), 0, 9)
    return OffsetScores(
        margin=np.array(margins, float), as_old=right + is_new, as_new=right + (not is_new), y=y
    )


margins = st.lists(st.floats(-50, 50), min_size=1, max_size=60)


@settings(max_examples=60)
@given(margins, margins, st.floats(0, 0.99))
def test_no_more_is_lost_than_may_be(new, old, limit):
    of_new, of_old = seen(new, is_new=True), seen(old, is_new=False)
    offset = choose_offset(of_new, of_old, max_loss=limit)
    n_lost = len(old) - of_old.is_right(offset).sum()
    assert n_lost == 0 or (n_lost + 1) / (len(old) + 1) <= limit + 1e-9


@settings(max_examples=60)
@given(margins, margins)
def test_what_is_lost_and_gained_rises_together(new, old):
    of_new, of_old = seen(new, is_new=True), seen(old, is_new=False)
    points = trade_off(of_new, of_new, of_old, offset=choose_offset(of_new, of_old, max_loss=0.1))
    for name in ("offset", "lost", "new_top1"):
        values = [point[name] for point in points]
        assert values == sorted(values)
    assert len(points) <= 51


def test_the_best_is_taken_in_the_middle_of_the_room_there_is():
    of_new, of_old = seen([0, 1, 2], is_new=True), seen([10, 20], is_new=False)
    assert choose_offset(of_new, of_old, max_loss=0.0) == pytest.approx(6.0)


def test_old_photos_that_were_wrong_before_are_not_lost():
    of_new = seen([0, 5], is_new=True)
    of_old = seen([10, 1], n_right=1, is_new=False)
    assert choose_offset(of_new, of_old, max_loss=0.0) > 5


def test_without_old_photos_nearly_all_new_ones_are_recognised_as_new():
    of_new = seen(np.arange(100), is_new=True)
    assert of_new.is_right(choose_offset(of_new, None, max_loss=0.02)).sum() == 95


def test_of_offsets_that_gain_the_same_those_that_lose_fewest_are_taken():
    of_new, of_old = seen([0], is_new=True), seen([1, 5], is_new=False)
    assert choose_offset(of_new, of_old, max_loss=0.9) == pytest.approx(0.5)


def test_of_offsets_that_gain_and_lose_the_same_the_middle_of_the_longest_interval_is_taken():
    # The new photos at 1 and 5 are wrong on both sides: nothing is gained there.
    of_new, of_old = seen([0, 1, 5], n_right=1, is_new=True), seen([6], is_new=False)
    assert choose_offset(of_new, of_old, max_loss=0.0) == pytest.approx(3.0)
