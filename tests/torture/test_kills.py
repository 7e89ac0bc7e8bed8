"""A sample of what `make torture` does."""

import random
from itertools import pairwise

import pytest

from torture.harness import Workshop, needs_proc, numbers_of
from torture.removals import Removals

pytestmark = needs_proc


@pytest.fixture(scope="module")
def removals(shop):
    return Removals(shop)


def test_an_extraction_killed_at_any_moment_loses_no_row(shop):
    chance = random.Random(0)
    for _ in range(6):
        step = chance.randint(1, len(shop.whole.steps))
        shop.kill(shop.place(), after=(step, chance.uniform(0, 2 * shop.step_s)))


def test_an_extraction_killed_at_any_step_loses_no_row(shop):
    for number in numbers_of(shop.whole.steps, at_most=10):
        shop.kill(shop.place(), at=number)


def test_an_extraction_of_views_killed_at_any_moment_loses_none(tmp_path):
    shop = Workshop(tmp_path, n_pictures=6, tiny=True, n_views=4)
    chance = random.Random(0)
    for _ in range(4):
        step = chance.randint(1, len(shop.whole.steps))
        shop.kill(shop.place(), after=(step, chance.uniform(0, 2 * shop.step_s)))
    for number in numbers_of(shop.whole.steps, where="segment", at_most=4):
        shop.kill(shop.place(), at=number)


@pytest.mark.parametrize("kind", ["segment", "a folder", "catalog"])
def test_a_power_cut_at_any_step_loses_no_row(shop, kind):
    for number in numbers_of(shop.whole.steps, where=kind, at_most=4):
        shop.kill(shop.place(), at=number, how="power cut")


def test_a_disk_that_is_full_at_any_step_loses_no_row(shop):
    for number in numbers_of(shop.whole.steps, where="before", at_most=6):
        shop.fill_disk(shop.place(), at=number)


@pytest.mark.parametrize("how", ["kill", "power cut"])
def test_a_fit_killed_as_it_saves_leaves_the_old_head_or_the_new_one(shop, how):
    steps = shop.run(["fit", shop.copy(), "--head", "centroid", "--quiet"]).steps
    for number in numbers_of(steps, where="rename"):
        shop.kill_fit(shop.place(), at=number, how=how)


def test_a_merge_killed_at_any_step_can_be_run_again(shop):
    steps = shop.run(["merge", shop.place(), shop.undisturbed]).steps
    for number in numbers_of(steps, at_most=4):
        shop.kill_merge(shop.place(), at=number, how="power cut")


@pytest.mark.parametrize("how", ["kill", "power cut", "full"])
@pytest.mark.parametrize("name", ["forget", "remove"])
def test_a_removal_cut_short_at_any_step_can_be_run_again(removals, name, how):
    where = {"full": "before", "power cut": "a folder"}.get(how, "")
    for number in numbers_of(removals.steps(name), where=where, at_most=3):
        removals.cut(removals.shop.place(), name=name, at=number, how=how)


def test_the_steps_are_those_of_sealing(shop):
    """Without them, the others would pass by testing nothing."""
    of_segments = [step for step in shop.whole.steps if step.endswith(" segment")]
    wanted = ["before flush file", "after flush file", "before rename", "after rename"]
    assert [step.split(",")[0] for step in of_segments if "flush" in step or "rename" in step][:4] == wanted
    assert {"before removal, folded segment", "after rename, folded segment"} <= {*shop.whole.steps}
    assert any(
        pair == ("after rename, segment", "before flush folder, a folder")
        for pair in pairwise(shop.whole.steps)
    )
