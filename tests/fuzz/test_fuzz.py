"""A short part of what `make fuzz` does, the same every time."""

import contextlib

import pytest
from fuzz.hdf5_checksums import lookup3
from fuzz.mutations import changed_files, seeds_of
from fuzz.target import all_targets
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from featstore.errors import FeatstoreError

TARGETS = all_targets()


@pytest.mark.parametrize("name", TARGETS)
def test_valid_files_are_read(name):
    for seed in seeds_of(TARGETS[name]):
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    # Making a finding smaller takes minutes; the input is printed as it is.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_changed_files_are_refused_or_read_rightly(name, data):
    changed = data.draw(changed_files(TARGETS[name]))
    with contextlib.suppress(FeatstoreError):
        TARGETS[name].run(changed)


def test_the_checksum_of_headers_is_that_of_its_author():
    # The example at the end of Jenkins' lookup3.c.
    assert lookup3(b"Four score and seven years ago") == 0x17770551
