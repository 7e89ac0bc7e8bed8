"""The look-ahead over many items, in order and in bounded memory."""

import threading

import pytest

from featstore.images.reading import map_ahead


def numbered(item, part=0):
    return item, part


def three_parts(result):
    item, part = result
    return (lambda: numbered(item, part + 1)) if part < 2 else None


def test_results_come_in_the_items_order():
    fourth = threading.Event()

    def later_is_faster(item):
        if item == 3:
            fourth.set()
        assert fourth.wait(timeout=300)
        return item

    assert list(map_ahead(later_is_faster, range(10), workers=4, ahead=6)) == list(range(10))


def test_all_parts_of_an_item_come_before_the_next_item():
    parts = map_ahead(numbered, range(5), workers=3, ahead=4, more=three_parts)
    assert list(parts) == [(item, part) for item in range(5) for part in range(3)]


def test_few_items_are_drawn_while_the_first_ones_parts_come():
    drawn = []

    def items():
        for item in range(20):
            drawn.append(item)
            yield item

    parts = map_ahead(numbered, items(), workers=2, ahead=3, more=three_parts)
    assert [next(parts) for _ in range(3)] == [(0, 0), (0, 1), (0, 2)]
    assert drawn == [0, 1, 2]


def test_parts_are_made_on_threads():
    threads = set()

    def note(item, part=0):
        threads.add(threading.current_thread())
        return item, part

    def more(result):
        return (lambda: note(result[0], 1)) if result[1] == 0 else None

    assert len(list(map_ahead(note, range(4), workers=2, ahead=3, more=more))) == 8
    assert threading.main_thread() not in threads


def test_an_error_in_a_later_part_is_raised_in_its_turn():
    def fail():
        raise ValueError("the second part")

    parts = map_ahead(numbered, range(3), workers=2, ahead=3, more=lambda result: fail)
    assert next(parts) == (0, 0)
    with pytest.raises(ValueError, match="the second part"):
        next(parts)
