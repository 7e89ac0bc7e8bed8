"""Reading ahead of images on other machines."""

import threading

import pytest

from featstore.errors import ImageError, SourceUnavailableError
from featstore.flow import fetching
from featstore.flow.fetching import fetch_ahead
from featstore.io.remote.failures import DeniedError


class Far:
    """An image whose reading is noted."""

    def __init__(self, number, noted, *, size=0, error=None):
        self.path, self.size, self.error = f"s3://bucket/{number}", size, error
        self._noted = noted

    def read(self):
        self._noted.append(self.path)
        if self.error is not None:
            raise self.error
        return self.path.encode()


class Near(Far):
    def __init__(self, number, noted):
        super().__init__(number, noted)
        self.path = f"/photos/{number}"


def read(pair):
    return pair[1]()


def test_images_come_in_order_wherever_they_are():
    noted = []
    items = [(Far if number % 3 else Near)(number, noted) for number in range(200)]
    pairs = fetch_ahead(items)
    assert [read(pair) for pair in pairs] == [item.path.encode() for item in items]


def test_files_are_left_to_the_reader():
    noted = []
    (pair,) = fetch_ahead([Near(0, noted)])
    assert noted == []
    assert read(pair) == b"/photos/0"


def test_images_are_requested_as_far_ahead_as_is_said_and_no_further():
    taken = []

    def items():
        for number in range(500):
            taken.append(number)
            yield Far(number, [])

    pairs = fetch_ahead(items())
    for _ in range(10):
        next(pairs)
    assert len(taken) == fetching._AHEAD + 9
    pairs.close()


def test_large_images_are_fewer_ahead():
    taken = []

    def items():
        for number in range(50):
            taken.append(number)
            yield Far(number, [], size=fetching._AHEAD_BYTES // 4)

    pairs = fetch_ahead(items())
    next(pairs)
    # Four on their way, and the one that waits for room.
    assert len(taken) == 5
    for _ in range(10):
        next(pairs)
    assert len(taken) == 15
    assert len(list(pairs)) == 39


def test_one_image_above_all_bounds_is_read_alone():
    items = [Far(number, [], size=2 * fetching._AHEAD_BYTES) for number in range(3)]
    assert [read(pair) for pair in fetch_ahead(items)] == [item.path.encode() for item in items]


def test_an_outage_is_raised_in_its_turn_and_ends_the_reading():
    outage = SourceUnavailableError("away")
    items = [Far(number, [], error=outage if number >= 20 else None) for number in range(500)]
    pairs = list(fetch_ahead(items))
    assert [read(pair) for pair in pairs[:-1]] == [item.path.encode() for item in items[:20]]
    with pytest.raises(SourceUnavailableError, match="away"):
        read(pairs[-1])


@pytest.mark.parametrize("first", [None, ImageError("no such object")])
def test_the_first_32_images_may_not_all_be_denied(first):
    denied = [Far(number, [], error=DeniedError("access denied")) for number in range(100)]
    items = [Far("first", [], error=first), *denied]
    if first is None:
        assert len(list(fetch_ahead(items))) == 101
    else:
        with pytest.raises(SourceUnavailableError, match="access denied to each of the first 32 images"):
            list(fetch_ahead(items))


def test_nobody_waits_for_a_pause_once_the_reader_is_gone(monkeypatch):
    from featstore.io.remote import failures

    monkeypatch.setattr(failures, "_SHORTEST_S", 1000)
    monkeypatch.setattr(failures, "_LONGEST_S", 1000)
    monkeypatch.setattr(failures, "RETRY_SECONDS", 5000)
    tried = threading.Event()

    class Waiting(Far):
        def read(self):
            def attempt():
                tried.set()
                raise failures.PassingError("busy")

            return failures.patiently(attempt, "s3://bucket")

    pairs = fetch_ahead([Far(0, []), *(Waiting(number, []) for number in range(1, 100))])
    next(pairs)
    assert tried.wait(60)
    pairs.close()
