"""Names of classes that look the same: what is one class, and what is only warned of."""

import os
import unicodedata

import pytest

from featstore.class_names import look_alike_warning, look_alikes, matching_name, normalised_name
from featstore.errors import SourceError
from featstore.images.sources.opening import open_source

NFC, NFD = (unicodedata.normalize(form, "gänseblümchen") for form in ("NFC", "NFD"))


def write(root, *names):
    for name in names:
        path = os.path.join(os.fspath(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"not looked at")


@pytest.fixture
def two_forms(tmp_path):
    try:
        write(tmp_path, f"{NFC}/1.jpg", f"{NFD}/2.jpg", "roses/3.jpg")
    except OSError:
        pytest.skip("needs a file system that takes any name")
    if len(os.listdir(tmp_path)) < 3:
        pytest.skip("needs a file system that keeps names as they are")
    return tmp_path


def test_folders_in_two_unicode_forms_are_one_class_and_their_paths_stay(two_forms):
    source = open_source(two_forms)
    assert {(record.path, record.label) for record in source.records} == {
        (f"{NFC}/1.jpg", NFC),
        (f"{NFD}/2.jpg", NFC),
        ("roses/3.jpg", "roses"),
    }
    assert all(os.path.exists(two_forms / record.path) for record in source.records)
    assert source.doubts() == [f"2 folders are the class '{NFC}': their names differ only in Unicode form"]


def test_a_class_is_one_over_splits_without_a_word(tmp_path):
    write(tmp_path, f"train/{NFC}/1.jpg", f"test/{NFD}/2.jpg")
    source = open_source(tmp_path)
    assert {record.label for record in source.records} == {NFC}
    assert source.doubts() == []


def test_classes_that_differ_by_case_or_blanks_stay_apart_and_are_named(tmp_path):
    write(
        tmp_path,
        *(f"{name}/1.jpg" for name in ("Roses", "roses", "daisy ", "daisy", "lead", "red rose", "red  rose")),
    )
    source = open_source(tmp_path)
    assert len({record.label for record in source.records}) == 7
    (told,) = source.doubts()
    assert "'Roses' and 'roses'; 'daisy' and 'daisy '; 'red  rose' and 'red rose';" in told


def test_a_list_gives_labels_and_groups_in_one_form(tmp_path):
    write(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "list.csv").write_text(f"path,label,group\n1.jpg,{NFC},{NFD}\n2.jpg,{NFD},{NFC}\n", "utf-8")
    source = open_source(tmp_path / "list.csv")
    assert [(record.label, record.group) for record in source.records] == [(NFC, NFC)] * 2


def test_a_label_that_grows_in_the_one_form_is_still_short_enough_for_a_catalog(tmp_path):
    write(tmp_path, "1.jpg")
    (tmp_path / "list.csv").write_text("path,label\n1.jpg," + "\U0001d160" * 1999 + "\n", "utf-8")
    with pytest.raises(SourceError, match="line 2: the label has 5,997 characters"):
        open_source(tmp_path / "list.csv")


@pytest.mark.parametrize("listed", [NFC, NFD])
@pytest.mark.parametrize("stored", [NFC, NFD])
@pytest.mark.parametrize("name", ["{}/a/{}1.jpg", "x/{}.jpg", "{}/1.jpg"])
def test_lists_fit_files_whatever_their_unicode_form(tmp_path, listed, stored, name):
    there, meant = (name.replace("{}", one) for one in (stored, listed))
    write(tmp_path, there, "other/2.jpg")
    (tmp_path / "list.csv").write_text(f"path,label\n{meant},x\n./{meant},x\n", "utf-8")
    source = open_source(tmp_path / "list.csv")
    assert [record.path for record in source.records] == [there]
    assert source.failures == []
    for line in (meant, meant.removesuffix(".jpg")):
        (tmp_path / "test.txt").write_text(f"{line}\n", "utf-8")
        split = open_source(tmp_path, test_list=tmp_path / "test.txt")
        assert {record.path: record.split for record in split.records} == {there: "test", "other/2.jpg": None}


def test_a_file_in_the_very_form_of_the_list_is_the_one_that_is_meant(two_forms):
    write(two_forms, f"x/{NFC}.jpg", f"x/{NFD}.jpg")
    for form in (NFC, NFD):
        (two_forms / "list.csv").write_text(f"path\nx/{form}.jpg\n", "utf-8")
        assert [record.path for record in open_source(two_forms / "list.csv").records] == [f"x/{form}.jpg"]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["a", "b"], []),
        (["a", "A", " a", "a\u00a0", "\u200ba"], 1),
        (["stra\u00dfe", "STRASSE"], 1),
        (["\uff21", "a"], 1),
        ([" ", "\t"], 0),
        ([NFC, NFD], 1),
        (["1 1", "2 2"], 0),
    ],
)
def test_names_that_look_alike_are_grouped(names, groups):
    assert len(look_alikes(names)) == (groups or 0)
    assert (look_alike_warning(names) is None) == (not groups)


def test_many_that_look_alike_are_cut_short():
    told = look_alike_warning(f"{letter}{number}" for number in range(30) for letter in "aA")
    assert told.count(" and ") == 6
    assert "and 25 more" in told


def test_a_name_means_itself_before_its_other_form():
    assert matching_name(NFD, [NFC, NFD]) == NFD
    assert matching_name(NFD, {NFC: 1}) == NFC
    assert matching_name(NFC, iter([NFD])) == NFD
    assert matching_name("x", [NFC]) == "x"
    assert normalised_name("\udcff" + NFD) == "\udcff" + NFC
