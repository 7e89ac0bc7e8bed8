"""How valid files are changed: bit by bit, piece by piece, and value by value."""

import copy
import json
from functools import cache

from fuzz.target import Target
from hypothesis import strategies as st

_SIZES = (1, 2, 4, 8)
_ODD_NUMBERS = (0, 1, 2, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)
_ODD_VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "..",
    "../../canary",
    "/etc/passwd",
    "\0",
    "\ud800",
    "a" * 5000,
    [],
    [[]],
    {},
    {"": None},
)


@cache
def seeds_of(target: Target) -> tuple[bytes, ...]:
    return tuple(target.seeds())


@st.composite
def changed_files(draw: st.DrawFn, target: Target) -> bytes:
    """Draw a valid file of a target with a few changes."""
    seed = draw(st.sampled_from(seeds_of(target)))
    if target.change is not None:
        return target.change(draw, seed)
    if target.is_json and draw(st.booleans()):
        return draw(_changed_json(seed))
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 6))):
        _change(draw, data, seeds_of(target))
    changed = bytes(data)
    if target.mend is not None and len(changed) == len(seed) and draw(st.integers(0, 3)):
        return target.mend(changed, seed)
    return changed


def _change(draw: st.DrawFn, data: bytearray, seeds: tuple[bytes, ...]) -> None:
    at = draw(st.integers(0, max(0, len(data) - 1)))
    match draw(
        st.sampled_from(("flip", "flip", "set", "number", "number", "cut", "insert", "copy", "splice"))
    ):
        case "flip" if data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        case "set" if data:
            data[at] = draw(st.integers(0, 255))
        case "number":
            size = draw(st.sampled_from(_SIZES))
            number = draw(st.sampled_from(_ODD_NUMBERS)) % 2 ** (8 * size)
            if at + size <= len(data):
                data[at : at + size] = number.to_bytes(size, "little")
        case "cut":
            del data[at : at + draw(st.integers(1, 4096))]
        case "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=64))
        case "copy":
            source, size = draw(st.integers(0, max(0, len(data) - 1))), draw(st.integers(1, 512))
            piece = data[source : source + size]
            data[at : at + len(piece)] = piece
        case "splice":
            other = draw(st.sampled_from(seeds))
            data[at:] = other[draw(st.integers(0, len(other) - 1)) :]


@st.composite
def _changed_json(draw: st.DrawFn, seed: bytes) -> bytes:
    value = json.loads(seed)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            break
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.sampled_from(("set", "set", "remove", "move", "nest"))):
            case "set":
                # A copy: a later change may be within it.
                holder[key] = copy.deepcopy(draw(st.sampled_from(_ODD_VALUES)))
            case "remove":
                del holder[key]
            case "move":
                other, other_key = places[draw(st.integers(0, len(places) - 1))]
                holder[key] = json.loads(json.dumps(other[other_key]))
            case "nest":
                depth = draw(st.sampled_from((10, 1000, 200_000)))
                mark = "the place of what is nested"
                holder[key] = mark
                return json.dumps(value).replace(f'"{mark}"', "[" * depth + "]" * depth, 1).encode()
    return json.dumps(value).encode()


def _places(value: object):
    """Yield every (holder, key) in a JSON value."""
    if isinstance(value, dict | list):
        for key in list(value if isinstance(value, dict) else range(len(value))):
            yield value, key
            yield from _places(value[key])
