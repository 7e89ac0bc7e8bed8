"""The reader of tar archives agrees with Python's writer, and finds what is broken."""

import io
import tarfile

import pytest

from featstore.io.archives.tar import TarError, TarMember, iter_members

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def archive(names, form=tarfile.PAX_FORMAT, **attributes):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = number
            for key, value in attributes.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(bytes([65 + number]) * number))
    return file.getvalue()


def members(data):
    return list(iter_members(memoryview(data)))


@pytest.mark.parametrize("form", FORMATS)
def test_names_and_data_are_those_that_python_writes(form):
    names = ["a.jpg", "cat/b.jpg", f"{'x' * 90}/{'y' * 90}.jpg", "Märzveilchen/ü.jpg", ""]
    names += [] if form == "ustar" else [f"{'long' * 100}/c.jpg"]
    data = archive(names, FORMATS[form])
    found = members(data)
    assert [member.name for member in found] == names
    assert {member.kind for member in found} == {"file"}
    for number, member in enumerate(found):
        assert data[member.begin : member.begin + member.size] == bytes([65 + number]) * number


@pytest.mark.parametrize(
    ("letter", "kind"),
    [(b"1", "hard link"), (b"2", "link"), (b"3", "device"), (b"5", "folder"), (b"6", "pipe"), (b"7", "file")],
)
def test_members_have_their_kind_and_target(letter, kind):
    data = archive(["a", "b"], type=letter, linkname="at/it", size=0)
    assert [(member.kind, member.target) for member in members(data)] == [(kind, "at/it")] * 2


def test_a_large_size_is_read_in_both_forms():
    member = tarfile.TarInfo("a.jpg")
    member.size = 9 * 2**30
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        header = member.tobuf(form)
        assert members(header) == [TarMember("a.jpg", "cut", len(header), 9 * 2**30, "")]


def test_a_sparse_member_of_gnu_tar_is_known_and_what_comes_after_it_is_found():
    sparse = bytearray(tarfile.TarInfo("holes").tobuf(tarfile.GNU_FORMAT))
    sparse[156:157], sparse[482] = b"S", 1
    sparse[148:156] = b"%06o\0 " % (sum(sparse) - sum(sparse[148:156]) + 256)
    data = bytes(sparse) + bytes(512) + archive(["a.jpg"])
    assert [(member.name, member.kind) for member in members(data)] == [
        ("holes", "sparse"),
        ("a.jpg", "file"),
    ]


def is_cut(data):
    try:
        return members(data)[-1].kind == "cut"
    except TarError as error:
        return "cut short" in str(error)


def test_an_archive_that_is_cut_short_is_known_wherever_it_is_cut():
    data = archive(["a.jpg", "b.jpg", f"{'long' * 50}.jpg"])
    end = data.rindex(b"C") + 1
    for length in range(1, len(data), 64):
        if length <= end:
            assert is_cut(data[:length])
        elif length >= -(-end // 512) * 512 + 512:
            assert len(members(data[:length])) == 3


def changed(data, at, value):
    header = bytearray(data[:512])
    header[at : at + len(value)] = value
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 256)
    return bytes(header) + data[512:]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no archive" * 100, "no number|checksum"),
        (b"\xff" + archive(["a.jpg"])[1:], "does not agree with its checksum"),
        (changed(archive(["a.jpg"]), 124, b"-0000000001"), "no number where one belongs"),
        (changed(archive(["a.jpg"]), 124, b"99999999999"), "no number where one belongs"),
        (changed(archive(["a.jpg"]), 156, b"x") + bytes(512), ""),
    ],
)
def test_broken_archives_are_refused(data, message):
    if message:
        with pytest.raises(TarError, match=message):
            members(data)
    else:
        assert members(data) == []


@pytest.mark.parametrize(
    "record",
    [
        b"11 path=abc",
        b"99 path=abc\n",
        b"x path=abc\n",
        b"12 path:abc\n",
        b"13 size=none\n",
        b"15 size=1" + b"0" * 30 + b"\n",
    ],
)
def test_a_damaged_extended_header_is_refused(record):
    member = tarfile.TarInfo("a")
    member.type, member.size = b"x", len(record)
    data = member.tobuf() + record.ljust(512, b"\0") + archive(["a.jpg"])
    with pytest.raises(TarError, match="extended header"):
        members(data)


def test_an_extended_header_has_a_limit():
    member = tarfile.TarInfo("a")
    member.type, member.size = b"L", 2**30
    with pytest.raises(TarError, match="1,073,741,824 bytes, where 1,048,576 are read"):
        members(member.tobuf() + bytes(1024))
