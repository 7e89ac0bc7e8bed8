"""Some hundred runs of the readers of pictures and lists on changed files, the same ones each time."""

import contextlib

import pytest
from fuzz.targets_images import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featstore.errors import FeatstoreError

CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert", "double"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    ),
    max_size=6,
)


def changed(data, changes):
    for kind, place, body in changes:
        # Half of them in the header, where they do the most.
        at = int(len(data) * place * 2) if place < 0.5 else int(100 * (place - 0.5))
        if kind == "set":
            data = data[:at] + body + data[at + len(body) :]
        elif kind == "cut":
            data = data[:at] + data[at + len(body) :]
        elif kind == "insert":
            data = data[:at] + body + data[at:]
        else:
            data = data[:at] + data[at : at + 50] + data[at:]
    return data


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_valid_files_are_read(target):
    for seed in target.seeds():
        target.run(seed)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_changed_files_are_refused_or_read(target):
    @settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(target.seeds()), CHANGES, st.binary(max_size=40))
    def run(seed, changes, tail):
        with contextlib.suppress(FeatstoreError):
            target.run(changed(seed, changes) + tail)

    run()
