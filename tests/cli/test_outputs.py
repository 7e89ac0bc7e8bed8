"""What a command writes outside of a store: never over what is there, over an input, or into a store."""

import os
import shlex
import shutil

import pytest
from click.testing import CliRunner

import featstore
from featstore.errors import OutputError
from featstore.images import ViewRecipe, view_sheet
from featstore.images.sheet import save_sheet
from featstore.io.outputs import check_output
from featstore_cli.main import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("made")
    random = np.random.default_rng(0)
    lines = ["path,label"]
    for number in range(60):
        path = folder / "land" / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = random.normal(90 + 60 * (number % 2), 40, (16, 16, 3))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
        lines.append(f"land/{number:02d}.png,{('fen', 'moor')[number % 2]}")
    (folder / "list.csv").write_text("\n".join(lines))
    store = folder / "land.fstore"
    featstore.extract(folder / "list.csv", store, backbone="scattering", image_size=16)
    opened = featstore.FeatureStore(store)
    featstore.fit(opened.table(), head="ridge").save(opened.head_path("ridge"))
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of all, in which the catalog's paths lead to the original photos."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "land.fstore/heads/ridge.head", tmp_path / "own.head")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line, code=0):
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exit_code == code, result.output
    return result


# {} is where the command writes.
WRITERS = {
    "views": ("views land/00.png --views 4 --random-crop 10 --out {}", "out.png"),
    "fit --plot": ("fit -q --plot {}", "out.png"),
    "fit --output": ("fit -q --head ridge -o ./{}", "out.head"),
    "report": ("report ridge -q --no-images --no-suspects -o {}", "out.html"),
    "evaluate --plot": ("evaluate ridge --plot {}", "out.svg"),
    "curve --plot": ("curve -q --fractions 1/2 --repeats 1 --plot {}", "out.pdf"),
    "suspects --csv": ("suspects -q --csv {}", "out.csv"),
    "duplicates --csv": ("duplicates -q --csv {}", "out.csv"),
    "pack": ("pack land.fstore {}", "out.h5"),
    "head classes": ("head classes own.head --rename fen=bog -o ./{}", "out.head"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_is_there_is_replaced_by_force_alone(place, name):
    line, file = WRITERS[name]
    (place / file).write_bytes(b"a year's work")
    before = sorted(os.listdir(place))
    told = run(line.format(file), code=1).stderr
    assert f"{file} exists; name another file, or replace it with --force" in told
    assert (place / file).read_bytes() == b"a year's work"
    assert sorted(os.listdir(place)) == before
    run(line.format(file) + " --force")
    assert (place / file).read_bytes() != b"a year's work"
    # What the same command wrote before is no different.
    run(line.format(file), code=1)


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_else_is_written_into_a_store(place, name):
    line, file = WRITERS[name]
    for inside in ("land.fstore", "land.fstore/catalogs"):
        told = run(line.format(f"{inside}/{file}") + " --force", code=1).stderr
        assert "lies in the store" in told
    assert sorted(os.listdir("land.fstore")) == ["catalogs", "featstore.json", "heads", "spaces"]
    assert os.listdir("land.fstore/catalogs") == ["list.h5"]


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("views {} --views 4 --random-crop 10 --out {}", "land/00.png"),
        ("fit -q --plot {1}", "{made}/land/00.png"),
        ("evaluate ridge --plot {1}", "{made}/land/00.png"),
        ("curve -q --fractions 1/2 --repeats 1 --plot {1}", "{made}/land/00.png"),
        ("suspects -q --csv {1}", "{made}/list.csv"),
        ("duplicates -q --csv {1}", "{made}/list.csv"),
        ("pack land.fstore {1} --format h5", "{made}/land/00.png"),
        ("fit -q -o {1}", "{made}/land/00.png"),
        ("import-head --backbone mobilenet --weights {} -o {}", "./own.head"),
    ],
)
def test_an_input_is_never_written_over(place, made, line, given):
    given = given.format(made=made)
    before = (place / given).read_bytes()
    told = run(line.format(given, given) + " --force", code=1).stderr
    assert "is an input" in told
    assert (place / given).read_bytes() == before


def test_an_input_under_another_name_is_one_too(place):
    os.symlink("land/00.png", "link.png")
    told = run("views link.png --views 4 --random-crop 10 --out land/00.png --force", code=1).stderr
    assert "is an input (link.png)" in told
    with pytest.raises(OutputError, match="is an input"):
        check_output("link.png", overwrite=True, inputs=["land/00.png", "link.png"])


def test_an_input_is_known_where_file_systems_compare_neither_case_nor_form(tmp_path, monkeypatch):
    photo = tmp_path / "gr\u00fcn.png"
    photo.write_bytes(b"photo")
    other = tmp_path / "GRu\u0308N.png"
    other.write_bytes(b"photo")
    monkeypatch.setattr(os.path, "samefile", lambda first, second: True)
    with pytest.raises(OutputError, match="is an input"):
        check_output(other, overwrite=True, inputs=[photo])


def test_a_folder_of_the_projector_is_replaced_by_force_alone(place):
    (place / "out").mkdir()
    (place / "out" / "metadata.tsv").write_text("mine")
    assert "--force" in run("projector land.fstore out", code=1).stderr
    assert os.listdir("out") == ["metadata.tsv"]
    run("projector land.fstore out --force")
    assert (place / "out" / "metadata.tsv").read_text() != "mine"
    assert "lies in the store" in run("projector land.fstore land.fstore/out", code=1).stderr
    assert not (place / "land.fstore" / "out").exists()


@pytest.mark.parametrize(
    "line",
    [
        "pack land.fstore out.h5",
        "projector land.fstore out",
        "compact",
        "views land/00.png --store land.fstore",
        "collect land.fstore list.csv",
    ],
)
def test_a_space_given_twice_is_refused_where_one_is_taken(place, line):
    told = run(f"{line} --space scattering --space other", code=2).stderr
    assert "--space is given 2 times, and this command takes one: scattering, other" in told
    assert sorted(os.listdir("land.fstore")) == ["catalogs", "featstore.json", "heads", "spaces"]
    assert not {"out", "out.h5"} & {*os.listdir()}


@pytest.mark.parametrize("line", ["pack land.fstore out.h5", "extract list.csv --backbone scattering"])
def test_a_catalog_given_twice_is_refused_where_one_is_taken(place, line):
    told = run(f"{line} --catalog list --catalog other", code=2).stderr
    assert "--catalog is given 2 times, and this command takes one: list, other" in told


def test_joining_spaces_is_suggested_where_several_can_be_given(place, made):
    featstore.extract(made / "list.csv", "land.fstore", backbone="scattering", image_size=24)
    for line in ("suspects -q", "similar land/00.png"):
        assert "which space? name one with --space;" in (told := run(line, code=1).stderr)
        assert "repeat --space to join several" in told
    for line in ("pack land.fstore out.h5", "projector land.fstore out"):
        assert "which space? name one with --space;" in (told := run(line, code=1).stderr)
        assert "several" not in told


def test_tensorboard_and_exported_models_stay_out_of_stores_too(place):
    assert "lies in the store" in run("fit -q --tensorboard land.fstore/runs", code=1).stderr
    assert "lies in the store" in run("export ridge land.fstore/model --no-verify", code=1).stderr
    assert sorted(os.listdir("land.fstore")) == ["catalogs", "featstore.json", "heads", "spaces"]


def test_a_head_in_its_store_is_replaced_as_ever(place):
    run("fit -q --head ridge")
    run("fit -q --head ridge -o land.fstore/heads/ridge.head")
    run("head classes ridge --rename fen=bog -o ridge")
    assert featstore.Head.load("land.fstore/heads/ridge.head").classes.tolist() == ["bog", "moor"]


@pytest.mark.parametrize("line", ["fit -q --head ridge", "head classes ridge --rename fen=bog"])
def test_a_path_to_save_a_head_at_gets_the_ending_of_heads(place, line):
    (place / "folder").mkdir()
    run(f"{line} -o ./mine")
    assert "mine.head exists" in run(f"{line} -o ./mine", code=1).stderr
    run(f"{line} -o folder/v1.2")
    run(f"{line} -o land.fstore/heads/two")
    run("evaluate ./mine.head --store land.fstore")
    assert "is a folder; name the file" in run(f"{line} -o ./folder", code=1).stderr
    assert os.listdir("folder") == ["v1.2.head"]
    assert sorted(os.listdir("land.fstore/heads")) == ["ridge.head", "two.head"]
    assert not (place / "mine").exists()


def test_from_python_it_is_the_same(place):
    table = featstore.FeatureStore("land.fstore").table()
    head = featstore.fit(table, head="ridge")
    sheet = view_sheet("land/00.png", ViewRecipe(flip=True))
    evaluation = featstore.evaluate(head, table)
    for write, file in (
        (head.save, "out.head"),
        (lambda path, **options: featstore.save_plot(evaluation, path, **options), "out.png"),
        (lambda path, **options: save_sheet(sheet, path, **options), "sheet.png"),
        (lambda path, **options: featstore.FeatureStore("land.fstore").pack(path, **options), "out.h5"),
        (lambda path, **options: featstore.export_projector(table, path, **options), "folder"),
    ):
        write(file)
        with pytest.raises(OutputError, match="exists; name another file, or replace it with --force"):
            write(file)
        write(file, overwrite=True)
        with pytest.raises(OutputError, match="lies in the store"):
            write(f"land.fstore/catalogs/{file}", overwrite=True)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_is_not_there_is_named_before_the_work(place, name):
    line, file = WRITERS[name]
    assert "there is no folder" in run(line.format(f"nowhere/{file}"), code=1).stderr


@pytest.fixture
def locked(place, monkeypatch):
    """Folders that the user may not write, whoever runs the tests."""
    may = os.access
    (place / "locked").mkdir()

    def access(path, mode, **options):
        is_locked = os.path.realpath(path).startswith((str(place / "locked"), str(place / "land.fstore")))
        return not (is_locked and mode & os.W_OK) and may(path, mode, **options)

    monkeypatch.setattr(os, "access", access)
    for name in ("evaluate", "find_duplicates", "find_suspects", "fit", "learning_curve", "view_sheet"):
        monkeypatch.setattr(featstore, name, refuse_to_work)


def refuse_to_work(*arguments, **options):
    raise AssertionError("the place to write to was not checked before the work")


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_cannot_be_written_is_named_before_the_work(place, name):
    line, file = WRITERS[name]
    told = run(line.format(f"locked/{file}"), code=1).stderr
    assert f"locked/{file}: permission denied; name a place that can be written" in told


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize(
    "line",
    [
        "fit -q --head ridge -o mine",
        "fit -q --head ridge --force",
        "head classes ridge --rename fen=bog -o mine",
        "export ridge locked/model --no-verify",
        "projector land.fstore locked/folder",
        "fit -q --tensorboard locked/runs",
    ],
)
def test_a_place_that_cannot_be_written_is_named_before_the_work(place, line):
    assert "permission denied" in run(line, code=1).stderr
    assert os.listdir("land.fstore/heads") == ["ridge.head"]
