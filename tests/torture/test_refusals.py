"""A sample of what `make torture` does with system calls that fail."""

import pytest

from torture.harness import Workshop, needs_proc
from torture.refusals import Refusals, failing_calls

pytestmark = needs_proc


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refusals")
    preload, reason = failing_calls(str(folder))
    if preload is None:
        pytest.skip(reason)
    shop = Workshop(folder, n_pictures=24, tiny=True, preload=preload)
    return Refusals(shop)


@pytest.mark.parametrize("how", ["EIO", "ENOSPC", "EDQUOT"])
def test_a_write_that_fails_while_a_catalog_is_rewritten_leaves_the_old_one(refusals, how):
    for case in refusals.cases("extract again", "write", how, at_most=4):
        assert refusals.refuse(**case).status == 1


@pytest.mark.parametrize("calls", ["write", "fsync", "rename", "close"])
@pytest.mark.parametrize("name", ["extract", "extract again", "merge", "fit", "compact", "forget"])
def test_what_fails_once_loses_nothing_and_is_reported(refusals, name, calls):
    for case in refusals.cases(name, calls, "EIO", at_most=1):
        refusals.refuse(**case)


@pytest.mark.parametrize("how", ["short", "EINTR"])
@pytest.mark.parametrize(
    ("name", "calls"), [("extract", "write"), ("extract again", "write"), ("fit", "read")]
)
def test_what_does_half_or_is_interrupted_is_gone_on_with(refusals, name, calls, how):
    for case in refusals.cases(name, calls, how, at_most=2):
        refusals.refuse(**case)


@pytest.mark.parametrize("how", ["EIO", "ESTALE"])
def test_a_read_that_fails_during_a_repair_sets_nothing_aside(refusals, how):
    for case in refusals.cases("repair", "read", how, at_most=6):
        assert refusals.refuse(**case).status == 1


@pytest.mark.parametrize(("name", "calls"), [("forget", "read"), ("forget", "unlink"), ("remove", "unlink")])
def test_a_removal_that_fails_once_can_be_run_again(refusals, name, calls):
    for case in refusals.cases(name, calls, "EIO", at_most=2):
        refusals.refuse(**case)
