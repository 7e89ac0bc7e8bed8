"""What an extraction says and does where its source lost images, or is somewhere else."""

import os
import shutil
from dataclasses import replace

import pytest

import featstore
from fakes import CountingBackbone
from featstore.errors import NotInStoreError, SourceError
from featstore.flow.extraction import ExtractionInterrupted
from pictures import write_picture


@pytest.fixture
def photos(tmp_path):
    for number in range(12):
        write_picture(tmp_path / "photos" / ("cat" if number % 2 else "dog") / f"{number:02d}.png", number)
    return tmp_path / "photos"


@pytest.fixture
def store(tmp_path):
    return featstore.FeatureStore(tmp_path / "photos.fstore", create=True)


def extracted(source, store, **options):
    return featstore.extract(source, store, **{"backbone": CountingBackbone(), **options})


def test_deleted_images_and_emptied_classes_are_reported_once(photos, store):
    extracted(photos, store)
    shutil.rmtree(photos / "cat")
    (photos / "dog" / "00.png").unlink()
    report = extracted(photos, store)
    assert report.gone == (
        "cat/01.png",
        "cat/03.png",
        "cat/05.png",
        "cat/07.png",
        "cat/09.png",
        "cat/11.png",
        "dog/00.png",
    )
    assert report.emptied_classes == {"cat": 6}
    told = report.to_dict()
    assert (len(told["gone"]), told["emptied_classes"], told["moved_from"]) == (7, {"cat": 6}, None)
    again = extracted(photos, store)
    assert (again.gone, again.emptied_classes) == ((), {})


def test_a_class_folder_that_stands_empty_is_an_emptied_class(photos, store):
    extracted(photos, store)
    for path in (photos / "cat").iterdir():
        path.unlink()
    assert extracted(photos, store).emptied_classes == {"cat": 6}


def test_renamed_and_copied_images_are_not_gone(photos, store):
    shutil.copy(photos / "dog" / "02.png", photos / "dog" / "copy.png")
    extracted(photos, store)
    (photos / "cat").rename(photos / "kitten")
    (photos / "dog" / "02.png").unlink()
    report = extracted(photos, store)
    assert (report.gone, report.emptied_classes) == ((), {"cat": 6})


def test_an_interrupted_run_reports_nothing_gone(photos, store):
    extracted(photos, store)
    shutil.rmtree(photos / "cat")

    def interrupt(number):
        raise KeyboardInterrupt

    other = CountingBackbone(seed=1, batch_size=1, before_batch=interrupt)
    with pytest.raises(ExtractionInterrupted) as interruption:
        extracted(photos, store, backbone=other)
    assert interruption.value.report.gone == ()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_images_in_a_folder_that_cannot_be_read_are_not_gone(photos, store):
    extracted(photos, store)
    (photos / "cat").chmod(0)
    try:
        report = extracted(photos, store)
    finally:
        (photos / "cat").chmod(0o755)
    assert report.gone == ()


def test_a_folder_that_cannot_be_listed_keeps_its_images(photos, store, monkeypatch):
    extracted(photos, store)
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("cat"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("featstore.images.sources.folders.os.scandir", refusing)
    assert extracted(photos, store).gone == ()


def moved(photos, name="elsewhere"):
    return photos.rename(photos.parent / name)


def test_the_catalog_of_a_moved_folder_follows_its_images(photos, store):
    extracted(photos, store)
    elsewhere = moved(photos)
    backbone = CountingBackbone()
    report = extracted(elsewhere, store, backbone=backbone)
    assert (report.catalog, report.moved_from, backbone.images) == ("photos", str(photos), 0)
    assert report.gone == ()
    assert store.catalog_names == ("photos",)
    assert store.catalog().location == str(elsewhere)
    again = extracted(elsewhere, store)
    assert (again.catalog, again.moved_from, again.read) == ("photos", None, 0)
    assert store.catalog_names == ("photos",)
    further = moved(elsewhere, "further")
    assert extracted(further, store).moved_from == str(elsewhere)
    assert store.catalog_names == ("photos",)


def test_images_that_got_lost_on_the_way_are_gone(photos, store):
    extracted(photos, store)
    elsewhere = moved(photos)
    (elsewhere / "cat" / "01.png").unlink()
    write_picture(elsewhere / "bird" / "new.png", 50)
    report = extracted(elsewhere, store)
    assert (report.catalog, report.gone) == ("photos", ("cat/01.png",))


def test_the_images_moved_out_of_a_folder_are_followed(photos, store):
    extracted(photos, store)
    (photos.parent / "elsewhere").mkdir()
    for name in ("cat", "dog"):
        (photos / name).rename(photos.parent / "elsewhere" / name)
    assert extracted(photos.parent / "elsewhere", store).catalog == "photos"


def test_a_copy_of_a_folder_that_is_still_there_has_a_catalog_of_its_own(photos, store):
    extracted(photos, store)
    shutil.copytree(photos, photos.parent / "copy")
    report = extracted(photos.parent / "copy", store)
    assert (report.catalog, report.moved_from) == ("copy", None)
    assert store.catalog_names == ("copy", "photos")


def test_other_images_do_not_take_over_the_catalog_of_a_folder_that_is_gone(photos, store):
    extracted(photos, store)
    away = moved(photos)
    shutil.copytree(away, photos.parent / "others")
    for number, path in enumerate((photos.parent / "others").glob("cat/*.png")):
        write_picture(path, 100 + number)
    write_picture(photos.parent / "others" / "dog" / "00.png", 200)
    assert extracted(photos.parent / "others", store).catalog == "others"
    assert store.catalog_names == ("others", "photos")


def test_a_catalog_that_the_user_names_is_taken_by_its_name(photos, store):
    extracted(photos, store)
    report = extracted(moved(photos), store, catalog="mine")
    assert report.catalog == "mine"
    assert store.catalog_names == ("mine", "photos")


def test_the_move_of_a_folder_with_its_name_is_reported(photos, store):
    extracted(photos, store)
    (photos.parent / "deeper").mkdir()
    report = extracted(photos.rename(photos.parent / "deeper" / "photos"), store)
    assert (report.catalog, report.moved_from) == ("photos", str(photos))


def test_a_moved_list_is_followed(photos, store):
    listed = photos.parent / "list.csv"
    listed.write_text("".join(["path,label\n", *(f"{path},x\n" for path in photos.glob("*/*.png"))]))
    extracted(listed, store)
    (photos.parent / "deeper").mkdir()
    report = extracted(listed.rename(photos.parent / "deeper" / "renamed.csv"), store)
    assert (report.catalog, report.moved_from) == ("list", str(listed))


def test_groups_move_with_the_images(photos, store):
    extracted(photos, store)
    store.write_near_groups([[row.tobytes().hex() for row in store.catalog().content_hash[:2]]])
    extracted(moved(photos), store)
    assert len(store.catalog().near_group_by_content()) == 2


def test_given_splits_that_a_move_forgets_are_warned_of(photos, store, caplog):
    (photos.parent / "test.txt").write_text("cat/01\n")
    extracted(photos, store, test_list=photos.parent / "test.txt")
    extracted(moved(photos), store)
    assert "give the lists again" in caplog.text


def test_an_interrupted_run_elsewhere_leaves_the_catalog_as_it_was(photos, store):
    extracted(photos, store)
    elsewhere = moved(photos)

    def interrupt(number):
        raise KeyboardInterrupt

    other = CountingBackbone(seed=1, batch_size=2, before_batch=lambda number: number and interrupt(number))
    with pytest.raises(ExtractionInterrupted) as interruption:
        extracted(elsewhere, store, backbone=other)
    assert interruption.value.report.moved_from is None
    assert store.catalog_names == ("photos",)
    assert len(store.catalog("photos")) == 12
    assert store.catalog("photos").location == str(photos)
    assert extracted(elsewhere, store).catalog == "photos"


def test_a_source_elsewhere_is_refused_while_the_first_is_there(photos, store):
    extracted(photos, store)
    other = photos.parent / "other" / "photos"
    shutil.copytree(photos, other)
    with pytest.raises(SourceError, match="--catalog NAME"):
        extracted(other, store)


@pytest.fixture
def twice(photos, store):
    """A store with the catalogs of a folder before and after its move, as version 0.4 made it."""
    extracted(photos, store)
    elsewhere = moved(photos)
    extracted(elsewhere, store, catalog="elsewhere")
    assert store.catalog_names == ("elsewhere", "photos")
    return elsewhere


def test_a_catalog_that_was_left_behind_by_a_move_is_not_asked_about(twice, store, caplog):
    assert store.catalog().name == "elsewhere"
    assert "the images of the catalog photos have moved, and all of them are in elsewhere" in caplog.text
    assert store.table().catalog_name == "elsewhere"
    assert store.write_near_groups([]) == 0
    assert store.catalog("photos").name == "photos"
    report = extracted(twice, store)
    assert (report.catalog, report.read) == ("elsewhere", 0)


def test_an_image_that_only_the_catalog_left_behind_has_is_asked_about(twice, store):
    (twice / "cat" / "01.png").unlink()
    extracted(twice, store)
    with pytest.raises(NotInStoreError, match="which catalog"):
        store.catalog()


@pytest.mark.parametrize("field", ["labels", "groups", "splits"])
def test_what_only_the_catalog_left_behind_says_is_asked_about(twice, store, field):
    was = store.catalog("photos")
    store.write_catalog(replace(was, **{field: ["train", *getattr(was, field)[1:]]}))
    with pytest.raises(NotInStoreError, match="which catalog"):
        store.table()


def test_catalogs_whose_sources_are_all_there_or_all_gone_are_asked_about(twice, store, photos):
    shutil.copytree(twice, photos)
    with pytest.raises(NotInStoreError, match="which catalog"):
        store.catalog()
    shutil.rmtree(photos)
    shutil.rmtree(twice)
    with pytest.raises(NotInStoreError, match="which catalog"):
        store.catalog()


def test_a_catalog_that_cannot_be_read_leaves_the_choice_to_the_caller(twice, store):
    with open(store.catalog_path("photos"), "rb+") as file:
        file.truncate(100)
    with pytest.raises(NotInStoreError, match="which catalog"):
        store.catalog()
    assert store.catalog("elsewhere").name == "elsewhere"
