"""A part of `make torture`; every different step is one of these."""

import random
from itertools import pairwise

import pytest

from torture.harness import Workshop, needs_proc

pytestmark = needs_proc


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = Workshop(tmp_path_factory.mktemp("shop"), n_pictures=24, tiny=True)
    yield made
    made.close()


def numbers_of(steps, *, where=""):
    """Number each different step by where it comes first."""
    return [steps.index(step) + 1 for step in dict.fromkeys(steps) if where in step]


def test_an_extraction_killed_at_any_moment_loses_no_row(shop):
    chance = random.Random(0)
    for _ in range(10):
        step = chance.randint(1, len(shop.whole.steps))
        shop.kill(shop.place(), after=(step, chance.uniform(0, 2 * shop.step_s)))


def test_an_extraction_killed_at_any_step_loses_no_row(shop):
    for number in numbers_of(shop.whole.steps):
        shop.kill(shop.place(), at=number)


@pytest.mark.parametrize("kind", ["segment", "a folder", "catalog", "removal"])
def test_a_power_cut_at_any_step_loses_no_row(shop, kind):
    for number in numbers_of(shop.whole.steps, where=kind):
        shop.kill(shop.place(), at=number, how="power cut")


def test_a_disk_that_is_full_at_any_step_loses_no_row(shop):
    for number in numbers_of(shop.whole.steps, where="before"):
        shop.fill_disk(shop.place(), at=number)


@pytest.mark.parametrize("how", ["kill", "power cut"])
def test_a_fit_killed_as_it_saves_leaves_the_old_head_or_the_new_one(shop, how):
    fit = ["fit", shop.undisturbed, "--head", "centroid", "--quiet"]
    n_steps = len(shop.run(fit).steps)
    assert n_steps
    for number in range(1, n_steps + 1):
        shop.kill_fit(shop.place(), at=number, how=how)


def test_a_merge_killed_at_any_step_can_be_run_again(shop):
    steps = shop.run(["merge", shop.place(), shop.undisturbed]).steps
    for number in numbers_of(steps):
        shop.kill_merge(shop.place(), at=number, how="power cut")


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
