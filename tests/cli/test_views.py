"""`featstore extract --views` and `featstore views`, as typed."""

import json
import os
import re
import shlex

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from featstore.images.decode import decode_views
from featstore_cli.main import main

EXTRACT = "extract photos --backbone scattering --image-size 32 -q"
RECIPE = "--flip --random-crop 10 --random-scale 10 --random-brightness 10"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four photos of two classes, and a store with three views of each."""
    folder = tmp_path_factory.mktemp("views")
    for number in range(4):
        path = folder / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        os.utime(path, ns=(10**18 + number, 10**18 + number))
    before = os.getcwd()
    os.chdir(folder)
    try:
        call(f"{EXTRACT} --store photos.fstore --views 3 {RECIPE}")
    finally:
        os.chdir(before)
    return folder


def call(line, code=0):
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return call


def test_the_report_counts_images_and_views(run):
    told = run(f"{EXTRACT} --store new.fstore --views 4 {RECIPE}").stdout
    assert "4 of 4 images in " in told
    assert "4 extracted (16 views), 0 reused, 0 failed (" in told
    assert " views/s)" in told
    again = json.loads(run(f"{EXTRACT} --store new.fstore --views 5 {RECIPE} --json").stdout)
    assert [again[key] for key in ("images", "views", "extracted", "extracted_views", "reused")] == [
        4,
        5,
        4,
        4,
        0,
    ]


def test_without_views_the_report_is_as_ever(run):
    told = run(f"{EXTRACT} --store plain.fstore").stdout
    assert "view" not in told
    assert json.loads(run(f"{EXTRACT} --store plain.fstore --json").stdout)["views"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--views 8", "need a recipe that makes them differ; choose one or more of flip, .*--random-crop"),
        ("--flip", "1 view is wanted; ask for 2 or more"),
        ("--flip --views 3", "3 views were requested, but only 2 are distinct"),
    ],
)
def test_views_and_recipe_must_go_together(options, message, run, folder):
    result = run(f"{EXTRACT} --store wrong.fstore {options}", code=1)
    assert result.stderr.startswith("Error: ")
    assert re.search(message, result.stderr)
    assert not (folder / "wrong.fstore").exists()


@pytest.mark.parametrize(
    "options", ["--views 0", "--views 65537", "--random-crop -1", "--random-brightness 101"]
)
def test_numbers_out_of_range_are_wrong_usage(options, run):
    assert "is not in the range" in run(f"{EXTRACT} {options}", code=2).stderr


def test_info_counts_images_and_views_and_shows_the_recipe(run):
    told = run("info photos.fstore").stdout
    [header, row, recipe] = told.splitlines()[2:5]
    assert header.split()[:3] == ["space", "images", "views"]
    assert row.split()[1:3] == ["4", "3"]
    assert recipe.startswith("views of scattering-")
    assert recipe.endswith(": flip, random_crop 10%, random_scale 10%, random_brightness 10%")
    assert "fewer than" not in told
    [space] = json.loads(run("info photos.fstore --json").stdout)["spaces"]
    assert [space[key] for key in ("rows", "images", "views")] == [12, 4, 3]


def test_info_says_where_views_are_missing(run, folder):
    run(f"{EXTRACT} --store some.fstore --views 2 {RECIPE}")
    (folder / "one").mkdir(exist_ok=True)
    (folder / "one" / "0.png").write_bytes((folder / "photos" / "a" / "0.png").read_bytes())
    run(f"{EXTRACT.replace('photos', 'one')} --store some.fstore --views 4 {RECIPE}")
    told = run("info some.fstore").stdout
    assert "  3 images with fewer than 4 views in scattering-" in told
    assert ": run extract with --views 4\n" in told


def test_a_sheet_shows_the_pixels_that_the_backbone_sees(run, folder):
    told = run(
        "views photos/a/0.png --out sheet.png --views 5 --image-size 30x20 --resize crop --flip --random-crop 25"
    )
    assert told.stdout.splitlines()[-1] == "5 views of photos/a/0.png in sheet.png"
    data = (folder / "photos" / "a" / "0.png").read_bytes()
    views = decode_views(
        data,
        size_px=(30, 20),
        resize="crop",
        recipe=featstore.ViewRecipe(flip=True, random_crop=25),
        content_hash=featstore.content_hash(data),
        views=range(5),
    )
    with Image.open(folder / "sheet.png") as image:
        sheet = np.asarray(image)
    for view, pixels in enumerate(views):
        left, top = 6 + view % 4 * 26, 6 + view // 4 * 50 + 14
        np.testing.assert_array_equal(sheet[top : top + 30, left : left + 20], pixels)


def test_a_sheet_of_a_space_takes_its_recipe_and_size(run, folder):
    told = json.loads(run("views photos/a/0.png --out space.png --store photos.fstore --json").stdout)
    assert told["size_px"] == [32, 32]
    assert told["recipe"] == {"flip": True, "random_crop": 10, "random_scale": 10, "random_brightness": 10}
    assert [view["view"] for view in told["views"]] == list(range(8))
    assert told["views"][0] == {
        "view": 0,
        "left": 0.0,
        "top": 0.0,
        "size": 1.0,
        "brightness": 1.0,
        "flip": False,
    }
    with Image.open(told["path"]) as sheet:
        assert sheet.size == (6 + 4 * 38, 12 + 2 * 52)


def test_a_sheet_of_a_recipe_that_only_flips_has_two_views(run):
    assert run("views photos/a/0.png -o flips.png --flip").stdout.endswith(
        "2 views of photos/a/0.png in flips.png\n"
    )


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("photos/a/0.png --out x.png", 2, "the views are not defined; give one or more of --flip"),
        ("photos/a/0.png --flip", 2, "Missing option '--out'"),
        ("photos/a/0.png --out x.txt --flip", 1, "ends in .jpeg, .jpg, .png, .webp; found x.txt"),
        ("photos/a/0.png --out nowhere/x.png --flip", 1, "there is no folder"),
        ("photos/a/9.png --out x.png --flip", 1, "photos/a/9.png: no such file"),
        ("photos --out x.png --flip", 1, "photos: "),
        ("photos.fstore/featstore.json --out x.png --flip", 1, "featstore.json: "),
        ("photos/a/0.png --out x.png --flip --views 3", 1, "only 2 are distinct"),
        ("photos/a/0.png --out x.png --flip --store photos.fstore", 2, "omit either --flip or --store"),
        (
            "photos/a/0.png --out x.png --image-size 9 --store photos.fstore",
            2,
            "omit either --image-size or --store",
        ),
        ("photos/a/0.png --out x.png --store nothing.fstore", 1, "there is no store"),
        ("photos/a/0.png --out x.png --store empty.fstore", 1, "there is no space"),
        ("photos/a/0.png --out x.png --random-crop 5 --views 60000", 1, "would have more than"),
    ],
)
def test_what_cannot_be_shown_is_said_clearly(options, code, message, run, folder):
    featstore.FeatureStore(folder / "empty.fstore", create=True)
    result = run(f"views {options}", code=code)
    assert message in result.stderr
    assert not [name for name in os.listdir(folder) if name.startswith((".tmp-", "x."))]


def test_a_store_without_views_says_so(run):
    run(f"{EXTRACT} --store without.fstore")
    result = run("views photos/a/0.png --out x.png --store without.fstore", code=1)
    assert "has no views but the images themselves; extract with --views 8 and" in result.stderr


def test_a_repair_says_with_how_many_views_to_extract_again(run, folder):
    run(f"{EXTRACT} --store damaged.fstore --views 3 {RECIPE}")
    [segment] = featstore.FeatureStore(folder / "damaged.fstore").space().segments
    with open(segment.path, "rb+") as file:
        file.seek(segment.offsets[0] + 100)
        file.write(b"\xff\xff\xff\xff")
    told = run("verify damaged.fstore --repair -q").stdout
    assert (
        f"extract again: with --views 3, 1 image of {folder / 'photos'} (catalog photos) for scattering-"
        in told
    )
    again = json.loads(run(f"{EXTRACT} --store damaged.fstore --views 3 {RECIPE} --json").stdout)
    assert (again["extracted"], again["extracted_views"], again["reused"]) == (1, 1, 3)
    os.truncate(featstore.FeatureStore(folder / "damaged.fstore").space().segments[0].path, 100)
    told = run("verify damaged.fstore --repair -q").stdout
    assert f"extract again: with as many --views as before, {folder / 'photos'} (catalog photos) for" in told
