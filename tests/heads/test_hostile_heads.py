"""Head files of strangers."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest

from featstore.errors import HeadError
from featstore.heads import Head, fit


@pytest.fixture
def members(table, tmp_path_factory):
    """The parts of a linear head."""
    path = tmp_path_factory.mktemp("heads") / "logistic.head"
    fit(table, params={"C": 0.1}).save(path)
    return parts(path.read_bytes())


@pytest.fixture
def load(tmp_path, members):
    """Load a head of these parts, some of them changed."""

    def load(**changes):
        path = tmp_path / "changed.head"
        path.write_bytes(
            zipped({**members, **{name.replace("_", "."): data for name, data in changes.items()}})
        )
        head = Head.load(path)
        return head, head.estimator

    return load


def parts(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def array(shape, descr="<f8", data=b""):
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def test_the_parts_as_they_are_are_read(load):
    head, estimator = load()
    assert head.classes.tolist() == estimator.classes_.tolist()


@pytest.mark.parametrize(
    ("coef", "message"),
    [
        (array((2**40, 2**20)), "not as large as it says"),
        (array((-1, 4)), "has the shape"),
        (array((3, 4), "|O", b"\x80\x04."), "type object"),
        (array((2**60,), "|V0"), "which is not read"),
        (array("no tuple"), "has the shape"),
        (b"\x80\x04N.", "cannot be read"),
    ],
    ids=["huge", "negative", "objects", "nothing", "no shape", "pickle"],
)
def test_absurd_arrays_are_refused(coef, message, load, members):
    with pytest.raises(HeadError, match=message):
        load(linear_npz=zipped({**parts(members["linear.npz"]), "coef.npy": coef}))
    estimator = parts(members["estimator.skops"])
    name = next(name for name in estimator if name.endswith(".npy"))
    with pytest.raises(HeadError, match=message):
        load(estimator_skops=zipped({**estimator, name: coef}))


def test_members_that_overlap_are_refused(tmp_path, members):
    data = bytearray(zipped(members))
    last = data.rindex(b"PK\x01\x02")
    # The last member's local header is said to be where the first one's is.
    data[last + 42 : last + 46] = bytes(4)
    (tmp_path / "overlapping.head").write_bytes(data)
    with pytest.raises(HeadError, match="its members overlap"):
        Head.load(tmp_path / "overlapping.head")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path, members):
    with zipfile.ZipFile(tmp_path / "twice.head", "w") as archive:
        for name in [*members, "manifest.json"]:
            archive.writestr(name, members[name])
    with pytest.raises(HeadError, match="two members of one name"):
        Head.load(tmp_path / "twice.head")


def test_a_member_that_leads_elsewhere_is_refused(tmp_path, members):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "slip.head").write_bytes(zipped({**members, "../canary": b"x"}))
    with pytest.raises(HeadError, match="and nothing else"):
        Head.load(tmp_path / "inner" / "slip.head")
    assert not (tmp_path / "canary").exists()


def test_a_schema_whose_lists_double_forty_times_is_refused_at_once(load, members):
    estimator = parts(members["estimator.skops"])
    node = {
        "__class__": "str",
        "__module__": "builtins",
        "__loader__": "JsonNode",
        "content": "1",
        "__id__": 1,
    }
    for number in range(2, 42):
        content = [node, {"__id__": number - 1}]
        node = {
            "__class__": "list",
            "__module__": "builtins",
            "__loader__": "ListNode",
            "content": content,
            "__id__": number,
        }
    schema = {**json.loads(estimator["schema.json"]), **node}
    with pytest.raises(HeadError, match="nested within each other too often"):
        load(estimator_skops=zipped({**estimator, "schema.json": json.dumps(schema).encode()}))


def test_a_deep_schema_and_a_deep_manifest_are_refused(load, members):
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(HeadError):
        load(estimator_skops=zipped({**parts(members["estimator.skops"]), "schema.json": deep}))
    with pytest.raises(HeadError):
        load(manifest_json=deep)


def test_labels_that_would_take_gigabytes_are_refused(load, members):
    manifest = json.loads(members["manifest.json"])
    manifest["classes"] = ["x" * 100_000, *map(str, range(1000))]
    with pytest.raises(HeadError, match="unfit classes"):
        load(manifest_json=json.dumps(manifest).encode())


def test_an_estimator_whose_parts_do_not_fit_is_refused_when_it_is_loaded(load, members):
    estimator = parts(members["estimator.skops"])
    name = max(estimator, key=lambda name: len(estimator[name]) if name.endswith(".npy") else 0)
    file = io.BytesIO()
    np.save(file, np.ones((3, 2)))
    with pytest.raises(HeadError, match="its estimator cannot be read"):
        load(estimator_skops=zipped({**estimator, name: file.getvalue()}))


@pytest.mark.parametrize("name", ["a.pkl", "a.joblib", "a.pickle"])
def test_a_pickle_is_refused_by_its_name_too(name, tmp_path):
    (tmp_path / name).write_bytes(b"BZh9 compressed by joblib")
    with pytest.raises(HeadError, match="is a pickle: opening one runs whatever code it holds"):
        Head.load(tmp_path / name)


def test_every_flipped_byte_of_a_head_is_found(table, tmp_path):
    path = tmp_path / "logistic.head"
    fit(table, params={"C": 0.1}).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for at, mask in zip(rng.integers(0, len(whole), 150), rng.integers(1, 256, 150), strict=True):
        changed = bytearray(whole)
        changed[at] ^= int(mask)
        path.write_bytes(changed)
        with pytest.raises(HeadError):
            Head.load(path)
