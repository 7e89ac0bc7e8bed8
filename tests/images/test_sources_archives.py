"""Tar and zip archives: which images they hold, under which names and labels, and that damage is listed."""

import io
import os
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from archives import WRITERS, write_tar, write_zip
from featstore.errors import ImageError, SourceError
from featstore.images import find_images
from featstore.images.reading import read_image
from featstore.images.sources.containers import tar
from featstore.images.sources.containers import zip as zips
from featstore.images.sources.opening import open_source
from featstore.io.archives import inflating
from featstore.io.stamps import is_there

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
both = pytest.mark.parametrize("kind", WRITERS)


def labels(source):
    return {record.path: record.label for record in source.records}


def contents(source):
    return {record.path: read_image(os.path.join(source.root, record.path)) for record in source.records}


@both
def test_images_in_class_folders_are_named_labelled_and_read(tmp_path, kind):
    files = {"cat/1.jpg": b"one" * 100, "dog/deep/2.JPG": b"two", "3.png": b""}
    source = open_source(WRITERS[kind](tmp_path / f"my pets.{kind}", files))
    assert labels(source) == {
        f"my pets.{kind}::cat/1.jpg": "cat",
        f"my pets.{kind}::dog/deep/2.JPG": "dog",
        f"my pets.{kind}::3.png": None,
    }
    assert list(contents(source).values()) == list(files.values())
    assert (source.name, source.root, source.location) == (
        "my-pets",
        str(tmp_path),
        str(tmp_path / f"my pets.{kind}"),
    )
    assert (source.failures, source.ignored) == ([], 0)


@both
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["data/cat/1.jpg", "data/dog/2.jpg"], ["cat", "dog"]),
        (["a/b/cat/1.jpg", "a/b/dog/x/2.jpg"], ["cat", "dog"]),
        (["cat/1.jpg", "cat/2.jpg"], ["cat", "cat"]),
        (["data/cat/1.jpg", "data/cat/2.jpg"], ["cat", "cat"]),
        (["data/1.jpg", "data/cat/2.jpg"], [None, "cat"]),
        (["cat-a/1.jpg", "cat-b/1.jpg"], ["cat-a", "cat-b"]),
        (["./cat/1.jpg", "/dog/2.jpg", "cat//3.jpg"], ["cat", "dog", "cat"]),
    ],
)
def test_folders_above_the_classes_are_no_classes(tmp_path, kind, names, expected):
    source = open_source(WRITERS[kind](tmp_path / f"a.{kind}", dict.fromkeys(names, b"")))
    assert list(labels(source).values()) == expected


@both
def test_folders_of_splits_are_splits(tmp_path, kind):
    names = ["flowers/train/rose/1.jpg", "flowers/valid/rose/2.jpg", "flowers/test/3.jpg"]
    source = open_source(WRITERS[kind](tmp_path / f"a.{kind}", dict.fromkeys(names, b"")))
    assert [(record.label, record.split) for record in source.records] == [
        ("rose", "train"),
        ("rose", "validation"),
        (None, "test"),
    ]


@both
def test_a_folder_of_archives_a_pattern_and_a_list_are_sources(tmp_path, kind):
    for name in ("train-000", "train-001", "val-000"):
        WRITERS[kind](tmp_path / "pets" / f"{name}.{kind}", {"cat/1.jpg": name.encode(), "dog/2.jpg": b""})
    source = open_source(tmp_path / "pets")
    assert [(record.path, record.split) for record in source.records][3:] == [
        (f"train-001.{kind}::dog/2.jpg", "train"),
        (f"val-000.{kind}::cat/1.jpg", "validation"),
        (f"val-000.{kind}::dog/2.jpg", "validation"),
    ]
    assert (source.name, source.root) == ("pets", str(tmp_path / "pets"))
    train = open_source(tmp_path / "pets" / "train-*")
    assert (train.name, len(train.records), {record.split for record in train.records}) == (
        "train",
        4,
        {None},
    )
    assert open_source([*(tmp_path / "pets").glob("train-*")]) == train


def test_archives_below_a_folder_are_found_and_give_their_paths(tmp_path):
    for path in ("data/train/a.tar", "data/test/a.tar", "data/.cache/a.tar", "@eaDir/a.tar"):
        write_tar(tmp_path / path, {"1.jpg": b"", "1.cls": b"0"})
    assert [(record.path, record.split) for record in open_source(tmp_path).records] == [
        ("data/test/a.tar::1.jpg", "test"),
        ("data/train/a.tar::1.jpg", "train"),
    ]


def test_archives_of_two_kinds_are_refused(tmp_path):
    write_tar(tmp_path / "a.tar", {"1.jpg": b""})
    write_zip(tmp_path / "a.zip", {"1.jpg": b""})
    with pytest.raises(SourceError, match=r"holds 1 tar archives and 1 zip archives; give those of one kind"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ({"a.cls": b"3\n"}, "3"),
        ({"a.cls": b"rose"}, "rose"),
        ({"a.txt": "Märzrose\n".encode()}, "Märzrose"),
        ({"a.txt": b"two\nlines"}, None),
        ({"a.txt": b"\xff\xfe"}, None),
        ({"a.json": b'{"label": 3, "class_name": "rose"}'}, "rose"),
        ({"a.json": b'{"Category": "rose", "width": 3}'}, "rose"),
        ({"a.json": b'{"cls": 7}'}, "7"),
        ({"a.json": b"12"}, "12"),
        ({"a.json": b'{"label": [1, 2]}'}, None),
        ({"a.json": b'{"label": true}'}, None),
        ({"a.json": b"[" * 60_000}, None),
        ({"a.json": b"{broken"}, None),
        ({"a.json": b'{"width": 3}', "a.txt": b"rose"}, "rose"),
        ({"a.txt": b"a caption", "a.cls": b"rose", "a.json": b'{"label": "x"}'}, "rose"),
        ({"b.cls": b"3"}, None),
    ],
)
def test_files_beside_an_image_give_its_class(tmp_path, beside, expected):
    files = {"a.jpg": b"", **beside}
    for at, name in enumerate(("a.jpg", "a.front.jpg")):
        source = open_source(write_tar(tmp_path / f"{at}.tar", {**dict.fromkeys([name], b""), **beside}))
        assert list(labels(source).values()) == [expected], files
        assert source.ignored == ("b.cls" in beside)


def test_class_numbers_get_the_names_of_a_file_beside_the_archives(tmp_path):
    write_tar(tmp_path / "a.tar", {"n1/x.jpg": b"", "n1/x.cls": b"1", "y.jpg": b"", "y.cls": b"7"})
    (tmp_path / "classnames.txt").write_text("daisy\nrose\n")
    assert list(labels(open_source(tmp_path)).values()) == ["rose", "7"]


def test_text_files_in_a_zip_are_no_labels(tmp_path):
    source = open_source(write_zip(tmp_path / "a.zip", {"cat/1.jpg": b"", "cat/1.txt": b"0 0.5 0.5 1 1"}))
    assert (list(labels(source).values()), source.ignored_endings) == (["cat"], {".txt": 1})


@both
def test_what_is_left_out_is_counted(tmp_path, kind):
    files = {
        **dict.fromkeys(["cat/1.jpg", "cat/notes.md", "cat/a.npy", "cat/b.npy", "cat/.hidden.jpg"], b""),
        **dict.fromkeys(["__MACOSX/cat/._1.jpg", ".git/x.jpg", "cat/._1.jpg", ".DS_Store"], b""),
        "cat/IMG_0001": PNG,
        "cat/IMG_0002": b"no image",
    }
    source = open_source(WRITERS[kind](tmp_path / f"a.{kind}", files))
    assert [path.partition("::")[2] for path in labels(source)] == ["cat/1.jpg", "cat/IMG_0001"]
    assert source.ignored_endings == {".npy": 2, ".md": 1, "": 1}
    assert source.skipped == {"__MACOSX": 1, ".git": 1, "._*": 1, "hidden images": 1}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_hostile_and_doubled_names_become_numbers(tmp_path, kind, recwarn):
    path = tmp_path / f"a.{kind}"
    names = [
        "cat/1.jpg",
        "../up.jpg",
        "cat/../2.jpg",
        "cat/x\ty.jpg",
        "cat/1.jpg",
        "/etc/ü.jpg",
        "000001",
        f"{'x' * 2000}.jpg",
    ]
    if kind == "tar":
        with tarfile.open(path, "w") as file:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(PNG)
                file.addfile(member, io.BytesIO(PNG))
    else:
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.writestr(name, PNG)
    source = open_source(path)
    assert [path.partition("::")[2] for path in labels(source)] == [
        "000000",
        "000001_",
        "000002",
        "000003",
        "000004",
        "etc/ü.jpg",
        "000001",
        "000007",
    ]
    assert set(contents(source).values()) == {PNG}
    assert os.listdir(tmp_path) == [f"a.{kind}"]


@both
def test_a_member_without_a_name_is_a_failure(tmp_path, kind):
    path = WRITERS[kind](tmp_path / f"a.{kind}", {"": b"x", "1.jpg": b""})
    assert open_source(path).failures == [(f"a.{kind}::", "a member without a name")]
    with pytest.raises(ImageError, match="a member without a name"):
        read_image(f"{path}::")
    path = WRITERS[kind](tmp_path / f"b.{kind}", {"": b"x", "./": b"", ".//.": b"", "1.jpg": b""})
    assert open_source(path).failures[0][1].endswith("without a name")


def test_names_in_a_zip_of_windows_and_of_macos(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"cat\\1.jpg": b"", "Märzrose/2.jpg": b""})
    data = path.read_bytes()
    # macOS does not say that it writes UTF-8.
    path.write_bytes(data.replace(struct.pack("<HH", 0x800, 8), struct.pack("<HH", 0, 8)))
    assert labels(open_source(path)) == {"a.zip::cat/1.jpg": "cat", "a.zip::Märzrose/2.jpg": "Märzrose"}


def test_links_in_a_tar_are_failures(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as file:
        member = tarfile.TarInfo("cat/1.jpg")
        member.size = 3
        file.addfile(member, io.BytesIO(b"cat"))
        for name, kind, target in (
            ("cat/2.jpg", tarfile.LNKTYPE, "cat/1.jpg"),
            ("cat/3.jpg", tarfile.LNKTYPE, "gone.jpg"),
            ("cat/4.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("cat/5.jpg", tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            file.addfile(member)
    source = open_source(path)
    assert contents(source) == {"a.tar::cat/1.jpg": b"cat", "a.tar::cat/2.jpg": b"cat"}
    assert source.failures == [
        ("a.tar::cat/3.jpg", "a link to what is not in the archive before it"),
        ("a.tar::cat/4.jpg", "a link, not a regular file"),
        ("a.tar::cat/5.jpg", "a pipe, not a regular file"),
    ]


def test_a_tar_that_is_cut_short_lists_what_is_lost(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"1.jpg": b"1" * 600, "2.jpg": b"2" * 600})
    os.truncate(path, 2560)
    source = open_source(path)
    assert contents(source) == {"a.tar::1.jpg": b"1" * 600}
    assert source.failures == [("a.tar::2.jpg", "truncated: the archive ends before the member does")]
    os.truncate(path, 1700)
    assert open_source(path).failures == [
        ("a.tar", "cut short within a header; the 1 members before are used")
    ]
    os.truncate(path, 100)
    with pytest.raises(SourceError, match=r"no tar archive: cut short within a header"):
        open_source(path)


@pytest.mark.parametrize("ending", ["tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_compressed_tars_are_read_in_any_order(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(inflating, "_KEPT_BYTES", 40_000)
    monkeypatch.setattr(inflating, "_CHUNK_BYTES", 10_000)
    chance = np.random.default_rng(0)
    files = {f"cat/{number:02d}.jpg": chance.bytes(7000) for number in range(30)}
    source = open_source(write_tar(tmp_path / f"pets.{ending}", files | {"cat/IMG": PNG, "dog/1.jpg": b"d"}))
    assert source.name == "pets"
    assert list(labels(source)) == [f"pets.{ending}::{name}" for name in [*files, "cat/IMG", "dog/1.jpg"]]
    for number in (0, 1, 0, 29, 12, 11, 13):
        name = f"cat/{number:02d}.jpg"
        assert read_image(str(tmp_path / f"pets.{ending}::{name}")) == files[name]


def test_a_compressed_tar_may_have_the_name_of_another(tmp_path):
    write_tar(tmp_path / "a.tgz", {"cat/1.jpg": b"1"}).rename(tmp_path / "a.tar")
    assert labels(open_source(tmp_path / "a.tar")) == {"a.tar::cat/1.jpg": "cat"}


def test_a_compressed_tar_that_is_cut_short_or_damaged_is_a_failure(tmp_path):
    chance = np.random.default_rng(0)
    path = write_tar(tmp_path / "a.tar.gz", {f"{n}.jpg": chance.bytes(10**6) for n in range(4)})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    source = open_source(path)
    assert source.failures == [
        ("a.tar.gz", "the bytes compressed by gzip are damaged or cut short; the 2 members before are used")
    ]
    assert read_image(str(path) + "::0.jpg") == np.random.default_rng(0).bytes(10**6)
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_image(str(path) + "::1.jpg")
    path.write_bytes(whole[:2_500_000] + bytes(100_000) + whole[2_600_000:])
    [(name, reason)] = open_source(path).failures
    assert name == "a.tar.gz"
    assert reason.startswith("the bytes compressed by gzip are damaged or cut short; the ")


def test_tars_compressed_otherwise_are_refused(tmp_path):
    (tmp_path / "a.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(600))
    with pytest.raises(
        SourceError, match="compressed by zstd, which is not read; decompress it, or use gzip"
    ):
        open_source(tmp_path / "a.tar.zst")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a-{000..002}.tar", [0, 1, 2]),
        ("a-{001..001}.tar", [1]),
        ("a-00{1,2}.tar", [1, 2]),
        ("a-00{0..2}.tar", [0, 1, 2]),
        ("{a,b}-*.tar", [0, 1, 2, 7]),
        ("a-*.tar", [0, 1, 2]),
    ],
)
def test_braces_and_stars_name_shards(tmp_path, pattern, found):
    for name in ("a-000", "a-001", "a-002", "b-007"):
        write_tar(tmp_path / f"{name}.tar", {f"{name[-1]}.jpg": b""})
    source = open_source(str(tmp_path / pattern))
    assert [int(path.rpartition("::")[2][0]) for path in labels(source)] == found


def test_shards_that_braces_name_and_are_not_there_are_told(tmp_path):
    write_tar(tmp_path / "a-000.tar", {"0.jpg": b""})
    with pytest.raises(SourceError, match=r"2 of the 3 files that .*a-\{000..002\}.tar' names are not there"):
        open_source(str(tmp_path / "a-{000..002}.tar"))
    with pytest.raises(SourceError, match="there is nothing at"):
        open_source(str(tmp_path / "b-{000..002}.tar"))


def test_sparse_and_huge_members_of_a_tar_are_failures(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", {"1.jpg": b"1" * 100, "2.jpg": b"2"})
    data = bytearray(path.read_bytes())
    data[1024 + 156 : 1024 + 157] = b"S"
    data[1024 + 148 : 1024 + 156] = b"%06o\0 " % (sum(data[1024:1536]) - sum(data[1172:1180]) + 256)
    (tmp_path / "b.tar").write_bytes(bytes(data))
    monkeypatch.setattr(tar, "MAX_IMAGE_BYTES", 99)
    with pytest.raises(SourceError, match=r"the member has 100 bytes; an image may have 99"):
        open_source(tmp_path / "b.tar")
    monkeypatch.setattr(tar, "MAX_IMAGE_BYTES", 100)
    tar.list_tar.cache_clear()
    assert open_source(tmp_path / "b.tar").failures == [("b.tar::2.jpg", "a sparse file, which is not read")]


def entry_of(data, name, field, form, value):
    """Return a zip with a number of a member's entry in the directory changed."""
    at = data.rindex(name.encode()) - 46 + field
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


@pytest.mark.parametrize(
    ("field", "form", "value", "reason"),
    [
        (8, "<H", 1, "encrypted; unpack the archive with its password"),
        (10, "<H", 12, "compressed by zip's method 12; stored members and deflated ones are read"),
        (24, "<I", 2**31, "the member has 2,147,483,648 bytes; an image may have 1,073,741,824"),
        (20, "<I", 5000, "its bytes overlap with what comes after it: damaged, or a zip bomb"),
        (
            4,
            "<HHHHHHIIIHHHHHI",
            (20, 20, 0, 8, 0, 33, 0, 0, 0, 5, 0, 0, 0, 0, 0o120777 << 16),
            "a link, not a regular file",
        ),
    ],
)
def test_members_of_a_zip_that_cannot_be_read(tmp_path, field, form, value, reason):
    data = write_zip(tmp_path / "a.zip", {"1.jpg": b"1" * 100, "2.jpg": b"2"}).read_bytes()
    if isinstance(value, tuple):
        at = data.rindex(b"1.jpg") - 46
        data = (
            data[: at + 4]
            + b"\x14\x03"
            + data[at + 6 : at + 38]
            + struct.pack("<I", value[-1])
            + data[at + 42 :]
        )
    else:
        data = entry_of(data, "1.jpg", field, form, value)
    (tmp_path / "a.zip").write_bytes(data)
    source = open_source(tmp_path / "a.zip")
    assert source.failures == [("a.zip::1.jpg", reason)]
    assert contents(source) == {"a.zip::2.jpg": b"2"}
    with pytest.raises(ImageError, match=reason[:20]):
        read_image(str(tmp_path / "a.zip::1.jpg"))


@pytest.mark.parametrize(
    ("field", "form", "value"), [(16, "<I", 7), (24, "<I", 99), (24, "<I", 101), (20, "<I", 3)]
)
def test_a_member_of_a_zip_is_checked_when_it_is_read(tmp_path, field, form, value):
    path = write_zip(tmp_path / "a.zip", {"1.jpg": b"1" * 100})
    path.write_bytes(entry_of(path.read_bytes(), "1.jpg", field, form, value))
    with pytest.raises(ImageError, match=r"does not agree with its size or checksum"):
        contents(open_source(path))


def test_what_a_zips_member_unpacks_to_is_bounded_by_what_the_directory_says(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "a.zip", {"1.jpg": bytes(10**7)})
    path.write_bytes(entry_of(path.read_bytes(), "1.jpg", 24, "<I", 1000))
    asked = []
    real = zips._unpacked
    monkeypatch.setattr(zips, "_unpacked", lambda *args: (asked.append(len(real(*args))), real(*args))[1])
    with pytest.raises(ImageError, match="does not agree"):
        contents(open_source(path))
    assert asked == [1001]


def test_damaged_data_in_a_zip_is_found(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"1.jpg": bytes(range(256)) * 40})
    data = path.read_bytes()
    path.write_bytes(data[:35] + b"\xff" * 60 + data[95:])
    with pytest.raises(ImageError, match="compressed bytes are damaged"):
        contents(open_source(path))
    path.write_bytes(b"XX" + data[2:])
    with pytest.raises(ImageError, match="not where the archive's directory says"):
        contents(open_source(path))


def test_a_zip_without_its_directory_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"1.jpg": b"1" * 100})
    os.truncate(path, 60)
    with pytest.raises(
        SourceError, match=r"no image in the zip archive .*no whole zip archive: File is not a zip"
    ):
        open_source(path)


@both
def test_one_broken_archive_of_several_is_a_failure(tmp_path, kind):
    WRITERS[kind](tmp_path / f"a.{kind}", {"1.jpg": b""})
    (tmp_path / f"b.{kind}").write_bytes(b"x" * 1000)
    (tmp_path / f"c.{kind}").mkdir()
    (tmp_path / f"d.{kind}").write_bytes(b"")
    source = open_source(tmp_path)
    assert [path for path, _ in source.failures] == [f"b.{kind}", f"d.{kind}"]
    assert source.failures[0][1].startswith(f"no {'whole zip' if kind == 'zip' else 'tar'} archive: ")


@both
def test_an_archive_without_an_image_says_what_it_holds(tmp_path, kind):
    path = WRITERS[kind](tmp_path / f"a.{kind}", {"a.npy": b"", "b.npy": b"", "c.csv": b""})
    with pytest.raises(SourceError, match=r"they hold 3 other files \(\.npy, \.csv\)\. Expected image files"):
        open_source(path)


@both
def test_an_archive_without_members_says_so(tmp_path, kind):
    with pytest.raises(SourceError, match=r"they are empty"):
        open_source(WRITERS[kind](tmp_path / f"a.{kind}", {}))


@both
def test_what_is_gone_is_said(tmp_path, kind):
    path = WRITERS[kind](tmp_path / f"a.{kind}", {"cat/1.jpg": b""})
    assert is_there(f"{path}::cat/1.jpg")
    with pytest.raises(ImageError, match=rf"no image 'cat/2\.jpg' is in 'a\.{kind}'"):
        read_image(f"{path}::cat/2.jpg")
    path.unlink()
    assert not is_there(f"{path}::cat/1.jpg")
    with pytest.raises(ImageError, match="no such file"):
        read_image(f"{path}::cat/1.jpg")
    (tmp_path / "b.rar").write_bytes(b"")
    with pytest.raises(ImageError, match=r"'b\.rar' is no container of images by its name"):
        read_image(f"{tmp_path}/b.rar::1.jpg")


@both
def test_an_archive_stands_for_its_images_where_images_are_asked_for(tmp_path, kind):
    path = str(WRITERS[kind](tmp_path / f"a.{kind}", {"cat/1.jpg": b"", "x.md": b""}))
    assert find_images(path).paths == [f"{path}::cat/1.jpg"]
    assert find_images(path).ignored_endings == {".md": 1}
    assert find_images(f"{tmp_path}/*").paths == [f"{path}::cat/1.jpg"]
    assert find_images(f"{path}::cat/1.jpg").paths == [f"{path}::cat/1.jpg"]


@both
def test_lists_may_name_images_in_archives(tmp_path, kind, monkeypatch):
    path = WRITERS[kind](tmp_path / f"a.{kind}", {"cat/1.jpg": b"one", "x.md": b""})
    (tmp_path / "list.csv").write_text(f"path,label\na.{kind}::cat/1.jpg,tom\na.{kind}::cat/2.jpg,tom\n")
    source = open_source(tmp_path / "list.csv")
    assert labels(source) == {f"a.{kind}::cat/1.jpg": "tom"}
    assert source.failures == [(f"a.{kind}::cat/2.jpg", f"no image 'cat/2.jpg' is in 'a.{kind}'")]
    monkeypatch.chdir(tmp_path)
    in_memory = open_source([f"a.{kind}::cat/1.jpg"])
    assert contents(in_memory) == {f"a.{kind}::cat/1.jpg": b"one"}
    assert in_memory.records[0].stamp.size == path.stat().st_size


def test_an_archive_is_listed_once_while_it_is_unchanged(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", {f"{number}.jpg": b"" for number in range(20)})
    tar.list_tar.cache_clear()
    contents(open_source(path))
    assert tar.list_tar.cache_info().misses == 1
    write_tar(path, {f"{number}.jpg": b"new" for number in range(20)})
    assert set(contents(open_source(path)).values()) == {b"new"}
