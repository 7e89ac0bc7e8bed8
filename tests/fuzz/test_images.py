"""A few thousand runs of the fuzz targets for pictures and lists, the same ones each time."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets_images import SEEDS, TARGETS

MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert", "double"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    ),
    max_size=6,
)


def mutated(data, mutations):
    for kind, place, body in mutations:
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


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_dealt_with(name):
    @settings(max_examples=700, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(st.sampled_from(SEEDS[name]), MUTATIONS, st.binary(max_size=40))
    def run(seed, mutations, tail):
        TARGETS[name](mutated(seed, mutations) + tail)

    run()
