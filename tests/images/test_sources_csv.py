"""CSV lists of images: what they may say, and what is said of those that may not."""

import os
import sys

import pytest

from featstore.errors import SourceError
from featstore.images.sources.lists import csv_list
from featstore.images.sources.opening import open_source
from featstore.store.catalogs import columns as catalog_columns
from featstore.store.catalogs.catalog import MAX_TEXT_BYTES

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


@pytest.fixture
def photos(tmp_path):
    for name in ("a.jpg", "b.jpg", "sub/c.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked at")
    return tmp_path / "photos"


def listed(folder, content, name="list.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_source(path)


def rows(source):
    return [(record.path, record.label, record.group, record.split) for record in source.records]


def test_a_list_with_all_columns(photos):
    source = listed(photos, "path,label,group,split\nb.jpg,roses,plant 1,train\na.jpg,tulips,plant 2,test\n")
    assert rows(source) == [("b.jpg", "roses", "plant 1", "train"), ("a.jpg", "tulips", "plant 2", "test")]
    assert source.root == str(photos)
    assert source.location == str(photos / "list.csv")
    assert source.name == "list"
    assert source.ignored == 0
    assert source.failures == []
    assert [record.stamp.size for record in source.records] == [13, 13]
    assert source.records[0].stamp.mtime_ns == os.stat(photos / "b.jpg").st_mtime_ns


def test_a_list_may_have_paths_alone(photos):
    assert rows(listed(photos, "path\na.jpg\n")) == [("a.jpg", None, None, None)]


def test_columns_in_another_order_and_others_between(photos):
    source = listed(photos, "id,Label, PATH ,photographer\n7,roses,a.jpg,Ann\n")
    assert rows(source) == [("a.jpg", "roses", None, None)]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_and_byte_order_marks(photos, ending, mark, last):
    text = (
        mark + ending.join(["path,label", "a.jpg,roses", "", "sub/c.png,tulips"]) + (ending if last else "")
    )
    assert rows(listed(photos, text)) == [("a.jpg", "roses", None, None), ("sub/c.png", "tulips", None, None)]


def test_quoted_fields_may_hold_commas_quotes_and_line_breaks(photos):
    (photos / 'odd, "name"\n.jpg').write_bytes(b"")
    source = listed(photos, 'path,label\n"odd, ""name""\n.jpg","red, yellow"\na.jpg,"x"\n')
    assert rows(source) == [('odd, "name"\n.jpg', "red, yellow", None, None), ("a.jpg", "x", None, None)]


def test_a_tsv_is_separated_by_tabs(photos):
    source = listed(photos, "path\tlabel\na.jpg\tred, yellow\n", name="LIST.TSV")
    assert rows(source) == [("a.jpg", "red, yellow", None, None)]
    assert source.name == "LIST"


def test_white_space_around_labels_is_dropped_and_empty_means_none(photos):
    source = listed(photos, "path,label,group,split\na.jpg, roses ,,  \nb.jpg,  ,g,\n")
    assert rows(source) == [("a.jpg", "roses", None, None), ("b.jpg", None, "g", None)]


@pytest.mark.parametrize(
    ("word", "split"),
    [
        *((word, "train") for word in ("train", "Training", " TRAIN ")),
        *((word, "validation") for word in ("validation", "valid", "val", "Dev")),
        *((word, "test") for word in ("test", "Testing")),
        ("", None),
    ],
)
def test_splits_have_several_spellings(photos, word, split):
    assert rows(listed(photos, f"path,split\na.jpg,{word}\n")) == [("a.jpg", None, None, split)]


def test_paths_are_normalised_and_may_leave_the_folder(photos):
    (photos.parent / "outside.jpg").write_bytes(b"")
    source = listed(photos, "path\n./a.jpg\nsub//../b.jpg\nsub/./c.png\n../outside.jpg\n../photos/a.jpg\n")
    assert [row[0] for row in rows(source)] == [
        "a.jpg",
        "b.jpg",
        "sub/c.png",
        "../outside.jpg",
        "../photos/a.jpg",
    ]


@posix
def test_links_are_followed_and_are_paths_of_their_own(photos):
    os.symlink("a.jpg", photos / "link.jpg")
    os.symlink("sub", photos / "folder")
    source = listed(photos, "path,label\na.jpg,x\nlink.jpg,y\nfolder/c.png,z\n")
    assert [row[:2] for row in rows(source)] == [("a.jpg", "x"), ("link.jpg", "y"), ("folder/c.png", "z")]


@posix
def test_absolute_paths_stay_absolute(photos):
    absolute = str(photos / "a.jpg")
    source = listed(photos, f"path\n{absolute}\n/{photos}/sub/../b.jpg\n")
    assert [row[0] for row in rows(source)] == [absolute, str(photos / "b.jpg")]


def test_a_tilde_is_a_name_like_others(photos):
    (photos / "~").mkdir()
    (photos / "~/a.jpg").write_bytes(b"")
    assert rows(listed(photos, "path\n~/a.jpg\n")) == [("~/a.jpg", None, None, None)]


@posix
def test_names_that_are_not_utf8_and_names_that_are_odd(photos):
    raw = b"latin \xe9\xff.jpg"
    for name in (os.fsdecode(raw), "🌹.jpg", " spaced .jpg", "back\\slash.jpg"):
        (photos / name).write_bytes(b"")
    source = listed(photos, b"path\n" + raw + "\n🌹.jpg\n spaced .jpg\nback\\slash.jpg\n".encode())
    assert [row[0] for row in rows(source)] == [os.fsdecode(raw), "🌹.jpg", " spaced .jpg", "back\\slash.jpg"]


def test_a_row_that_repeats_another_is_kept_once(photos):
    source = listed(photos, "path,label\na.jpg,roses\nb.jpg,roses\n./a.jpg,roses\ngone.jpg,x\ngone.jpg,x\n")
    assert [row[0] for row in rows(source)] == ["a.jpg", "b.jpg"]
    assert source.failures == [("gone.jpg", "no such file")]


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [("label", "roses", "tulips"), ("label", "roses", ""), ("group", "1", "2"), ("split", "train", "test")],
)
def test_rows_that_contradict_each_other_are_refused(photos, column, first, second):
    text = f"path,{column}\na.jpg,{first}\nb.jpg,{first}\n./a.jpg,{second}\n"
    with pytest.raises(
        SourceError, match=f"line 4: 'a.jpg' has {column} '{second or 'none'}' here and '{first}' on line 2"
    ):
        listed(photos, text)


def test_a_contradiction_over_a_missing_file_is_refused(photos):
    with pytest.raises(SourceError, match="line 4"):
        listed(photos, "path,label\na.jpg,x\ngone.jpg,roses\ngone.jpg,tulips\n")


@posix
def test_what_is_no_regular_file_is_a_failure_and_is_not_opened(photos):
    os.mkfifo(photos / "pipe.jpg")
    os.symlink("loop.jpg", photos / "loop.jpg")
    os.symlink("gone.jpg", photos / "dangling.jpg")
    source = listed(
        photos, "path\ngone.jpg\na.jpg\npipe.jpg\nsub\n/dev/zero\nloop.jpg\ndangling.jpg\na.jpg/b.jpg\n.\n"
    )
    assert [row[0] for row in rows(source)] == ["a.jpg"]
    assert [path for path, _ in source.failures] == [
        *("gone.jpg", "pipe.jpg", "sub", "/dev/zero", "loop.jpg", "dangling.jpg", "a.jpg/b.jpg", "."),
    ]
    reasons = dict(source.failures)
    assert reasons["gone.jpg"] == reasons["a.jpg/b.jpg"] == "no such file"
    assert "named pipe" in reasons["pipe.jpg"]
    assert "a folder" in reasons["sub"]
    assert "device" in reasons["/dev/zero"]
    assert "symbolic links" in reasons["loop.jpg"]


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("🌹 rosa x alba", "🌹 rosa x alba"),
        (' "red ""and"" white" ', 'red "and" white'),
        ('"  of two\nlines\t"', "of two\nlines"),
        ("\x1b[31mred", "\x1b[31mred"),
        ("\u00a0\u3000", None),
        ("x" * 2000, "x" * 2000),
        ("nan", "nan"),
    ],
)
def test_labels_are_kept_as_written(photos, written, label):
    assert rows(listed(photos, f"path,label\na.jpg,{written.strip(' ')}\n"))[0][1] == label


def test_the_longest_texts_fit_into_a_catalog_of_any_number_of_rows():
    # A catalog's file has at least the 32 bytes of content hash of each row, which do not compress.
    assert 4 * csv_list._MAX_CHARACTERS <= 32 * catalog_columns._MAX_EXPANSION
    assert 4 * csv_list._MAX_CHARACTERS < MAX_TEXT_BYTES


@posix
def test_a_name_too_long_for_the_system_is_a_failure(photos):
    source = listed(photos, f"path\na.jpg\n{'x' * 300}.jpg\n")
    assert "too long" in source.failures[0][1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\n\n", "is empty"),
        (b"\n\na,b\n", "line 3: the first line has to name the columns"),
        (b"a.jpg,roses\nb.jpg,roses\n", "first line has to name the columns.*found 'a.jpg', 'roses'"),
        (
            b"a.jpg,roses\n",
            "looks like an image's row: put a line above it with the names, such as path,label",
        ),
        (b"where,label\na.jpg,roses\n", "has to name the columns"),
        (b"path:label\na.jpg:roses\n", "has to name the columns"),
        (b"file,image,label\na.jpg,a.jpg,x\n", "'file' and 'image' may each be the column 'path'"),
        (b"path,class,category\na.jpg,x,y\n", "'class' and 'category' may each be the column 'label'"),
        (b"path,label,path\na.jpg,roses,b.jpg\n", "'path' is named more than once"),
        (b"path,label\n", "header but no rows"),
        (b"path,label\n\n\n", "header but no rows"),
        (b"path,label\na.jpg,roses\nb.jpg\n", "line 3: expected 2 columns, as in the header, found 1"),
        (b"path,label\na.jpg,roses,red\n", "line 2: expected 2 columns.*found 3"),
        (b'path,label\n"a\n.jpg",x\nb.jpg\n', "line 4: expected 2"),
        (b"path,label\n,roses\n", "line 2: the path is empty"),
        (b"path,split\na.jpg,train\nb.jpg,holdout\n", "line 3: split is .*found 'holdout'"),
        (b"path,label\na\0.jpg,roses\n", "line 2: .*NUL"),
        (b"path,label\na.jpg,ro\0ses\n", "line 2: .*NUL"),
        (b"path,label\na.jpg,ros\xe9\n", "line 2: the label is not UTF-8"),
        (b'path,label\na.jpg,roses\n"b.jpg,roses\n', "line 3: .*quote left open"),
        (b'path,label\n"a.jpg"x,roses\n', "line 2: "),
        (b"path,label\na.jpg," + b"x" * 200_000 + b"\n", "line 2: .*field larger than field limit"),
        (
            b"path,label\na.jpg," + b"x" * 2001 + b"\n",
            "line 2: the label has 2,001 characters, and may have 2,000",
        ),
        (b"path,group\na.jpg,x\nb.jpg," + b"x" * 9999 + b"\n", "line 3: the group has 9,999 characters"),
        (b"path\na.jpg\n" + b"x" * 70_000 + b"\n", "line 3: the path has 70,000 characters"),
        ("path,label\na.jpg,roses\n".encode("utf-16")[:-1], "broken UTF-16"),
        ("ф,label\na.jpg,roses\n".encode("utf-16-le"), "is not UTF-8 text; save it as CSV in UTF-8"),
        (b"path,label\na.jpg,x\n1,b.jpg,y\n", "line 3: expected 2 .*found 3.*name the column of row numbers"),
        (b"path,label\n\n\n\nb.jpg\n", "line 5: expected 2"),
        (b'sep="\npath"label\n', "line 1: the first line has to name the columns"),
        (b"sep= \npath label\n", "line 1: the first line has to name the columns"),
        (b"sep=;\npath;label\na.jpg;x;y\n", "line 3: expected 2"),
        (b"path,label,\na.jpg\n", "line 2: expected 3 columns, as in the header, found 1"),
        (b"path,label\n" + bytes(5000), "line 2: expected 2 columns"),
        (
            b"path\nfile://x/a.jpg\n",
            r"the only file in .* cannot be used: 'file://x/a.jpg': the address .*; give its path here$",
        ),
        (
            b"path\ngone.jpg\nlost.jpg\n",
            r"none of the 2 files .*'gone\.jpg': no such file.*Relative paths start from",
        ),
    ],
)
def test_a_malformed_list_is_refused_by_its_line(photos, content, reason):
    with pytest.raises(SourceError, match=reason) as caught:
        listed(photos, content)
    assert "\n" not in str(caught.value)


def test_a_malformed_tsv_is_refused_in_one_printable_line(photos):
    with pytest.raises(SourceError, match="line 2: ") as caught:
        listed(photos, b'path\tlabel\n"a.jpg"x\tb\n', name="list.tsv")
    assert str(caught.value).isprintable()


ROWS = [("a.jpg", "roses"), ("sub/c.png", "red, yellow")]


def table(separator=",", end="\n", header=("path", "label"), quote=False, padding=""):
    def row(cells):
        written = [f'"{cell}"' if quote or separator in cell else cell for cell in cells]
        return f"{separator}{padding}".join(written) + end

    return "".join(map(row, (header, *ROWS)))


@pytest.mark.parametrize("name", ["list.csv", "list.tsv"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("quote", [True, False])
def test_tables_as_programs_write_them(photos, name, end, separator, encoding, quote):
    source = listed(photos, table(separator, end, quote=quote).encode(encoding), name)
    assert [row[:2] for row in rows(source)] == ROWS
    assert source.failures == []
    assert source.unused_columns == []


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", ":"])
@pytest.mark.parametrize("hint", ["sep={}", '"sep={}"', "SEP={}", "sep={};;"])
def test_the_separator_that_the_first_line_states_is_taken(photos, separator, hint):
    text = hint.format(separator) + "\r\n" + table(separator, "\r\n")
    assert [row[:2] for row in rows(listed(photos, text))] == ROWS


@pytest.mark.parametrize(
    "text",
    [
        table(padding=" "),
        table(padding="  ", quote=True),
        table(";", padding=" ", quote=True),
        '"path" ; "label" \n"a.jpg" ; "roses" \n"sub/c.png" ; "red, yellow" \n',
        'path,label\n  a.jpg , roses \n\u00a0sub/c.png,  "red, yellow"\n'.replace('  "', '"'),
        ' label ,\tpath\nroses,\ta.jpg\n"red, yellow",\tsub/c.png\n',
        'path,label\na.jpg, "roses"\nsub/c.png, "red, yellow"\n',
        'path,label\n"a.jpg" ,roses\n"sub/c.png" , "red, yellow" \n',
    ],
)
def test_blanks_around_cells_do_not_count(photos, text):
    assert [row[:2] for row in rows(listed(photos, text))] == ROWS


@pytest.mark.parametrize("text", [table().replace("\n", ",,\n"), table() + ",\n,\n , \n", table() + ",,,\n"])
@pytest.mark.parametrize("after", ["", "\n\n", "  \n\t\n", "\x1a", ",\n\n;\n".replace(";", " ")])
@pytest.mark.parametrize("before", ["", "\n", " \n\n"])
def test_empty_rows_and_columns_are_passed_over(photos, text, after, before):
    source = listed(photos, before + text + after)
    assert [row[:2] for row in rows(source)] == ROWS
    assert source.unused_columns == []


def test_a_short_row_lacks_only_what_has_no_name(photos):
    assert len(rows(listed(photos, "path,label,,\na.jpg,roses\nb.jpg,roses,\n"))) == 2


@pytest.mark.parametrize(
    "header",
    ["filename,class", "image,label", "File_Name,Category", "image_path,class_name", '"filepath","label"'],
)
def test_columns_by_the_names_that_other_tools_give_them(photos, header):
    assert [row[:2] for row in rows(listed(photos, table().replace("path,label", header, 1)))] == ROWS


def test_our_own_names_go_before_those_of_others_and_what_is_unused_is_reported(photos):
    source = listed(photos, "weight,path,class,label,file,Unnamed: 0,\n1,a.jpg,x,roses,b.jpg,0,\n")
    assert rows(source) == [("a.jpg", "roses", None, None)]
    assert source.unused_columns == ["weight", "class", "file"]
    (told,) = source.doubts()
    assert "columns that are not used: 'weight', 'class', 'file'" in told


@posix
@pytest.mark.parametrize(
    "written",
    [
        *("sub\\c.png", ".\\sub\\c.png", "sub\\.\\c.png", "sub/c", " sub\\c.png ", "file://{root}/sub/c.png"),
        *("file://localhost{root}/sub/c%2Epng", "sub\\c", "FILE://{root}/sub/../sub/c.png"),
    ],
)
def test_a_path_that_fits_one_file_alone_means_it(photos, written):
    source = listed(photos, f"path,label\n{written.format(root=photos)},x\n")
    assert [os.path.join(photos, row[0]) for row in rows(source)] == [str(photos / "sub/c.png")]


@posix
def test_a_path_that_fits_two_files_is_a_failure(photos):
    (photos / "sub/c.jpg").write_bytes(b"")
    source = listed(photos, "path\na.jpg\nsub/c\n")
    assert source.failures == [("sub/c", "fits 2 files, 'sub/c.jpg' and 'sub/c.png'")]


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        pytest.param("C:\\data\\z.jpg", "a path of Windows", marks=posix),
        pytest.param("\\\\server\\share\\z.jpg", "a path of Windows", marks=posix),
        ("file://example.com/a.jpg", "the address of a file on another machine"),
        ("file:///nowhere/z.jpg", "no such file"),
    ],
)
def test_what_can_be_no_file_here_is_shown_as_it_stands_with_the_reason(photos, written, reason):
    source = listed(photos, f"path\na.jpg\n {written}\n")
    ((path, told),) = source.failures
    assert path == written
    assert reason in told


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may read everything")
def test_a_list_that_may_not_be_read_is_refused(photos):
    path = photos / "list.csv"
    path.write_text("path\na.jpg\n")
    path.chmod(0)
    with pytest.raises(SourceError, match="permission denied"):
        open_source(path)


def test_a_list_that_is_a_folder_by_its_nature_is_a_folder(photos):
    os.rename(photos, photos.parent / "photos.csv")
    assert len(open_source(photos.parent / "photos.csv").records) == 3


def test_a_large_file_of_one_line_is_not_read_to_its_end(photos):
    with open(photos / "list.csv", "wb") as file:
        file.write(b'[{"path": "a.jpg"}')
        file.truncate(2**34)
    with pytest.raises(SourceError, match="line 1"):
        open_source(photos / "list.csv")


def test_the_number_of_open_files_does_not_grow_with_errors(photos):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(SourceError):
            listed(photos, "path,split\na.jpg,never\n")
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_twenty_thousand_missing_files_are_listed_as_failures(photos):
    lines = "".join(f"../photos/{'./' * (number % 3)}a.jpg,roses,{number}\n" for number in range(3))
    with pytest.raises(SourceError, match="group"):
        listed(photos, "path,label,group\n" + lines)
    many = "".join(f"{number}.jpg,roses,{number}\n" for number in range(20_000))
    source = listed(photos, "path,label,group\na.jpg,roses,x\n" + many)
    assert len(source.failures) == 20_000
    assert sys.getsizeof(source.records) < 1000


def test_a_list_whose_labels_are_in_a_column_of_another_name_is_told(tmp_path):
    (tmp_path / "list.csv").write_text("path,species\na.jpg,daisy\n", encoding="utf-8")
    (tmp_path / "a.jpg").touch()
    unused, unlabelled = open_source(tmp_path / "list.csv").doubts()
    assert unused == "columns that are not used: 'species'; path, label, group and split are"
    assert (
        unlabelled
        == "no image has a label: label_column (--label-column) names the column that labels are in"
    )
    assert not open_source(tmp_path / "list.csv", label_column="species").doubts()
