import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.hashing import canonical_json, content_hash, fingerprint

values = st.recursive(
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.text(), values, max_size=5)


def test_content_hash_is_sha256():
    # FIPS 180-4, the published example for "abc".
    assert content_hash(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_fingerprint_has_not_changed():
    told = {"architecture": "a", "size_px": [224, 224], "alpha": 0.25}
    assert fingerprint(told) == "5d103c732d5e824897a17458ef3f3b33a56c215de276afa5ba34335b836f8bb7"


@given(mappings)
def test_the_order_of_the_keys_does_not_count(mapping):
    assert fingerprint(dict(reversed(mapping.items()))) == fingerprint(mapping)


@given(mappings)
def test_canonical_json_says_all(mapping):
    text = canonical_json(mapping)
    assert text.isascii()
    assert json.loads(text) == mapping


@given(mappings, st.text())
def test_none_is_as_good_as_absent(mapping, name):
    mapping.pop(name, None)
    assert fingerprint({**mapping, name: None}) == fingerprint(mapping)


@given(mappings, mappings)
def test_different_mappings_have_different_fingerprints(left, right):
    assert (fingerprint(left) == fingerprint(right)) == (canonical_json(left) == canonical_json(right))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_write_is_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": value})
