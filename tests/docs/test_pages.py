"""README and docs show what works now."""

import os

import click
import pytest

from featstore_cli.main import main
from pages import PAGES, REAL, ROOT, blocks, fits, make_flowers, remove_other_stores, run

SHOWN = [(page, block) for page in PAGES for block in blocks(page)]
LINES = sorted({command.line for _, block in SHOWN for command in block.commands if command.arguments})


def test_the_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= 9000


def test_the_pages_hold_command_lines_to_test():
    assert len(LINES) > 30


@pytest.mark.parametrize("line", LINES)
def test_every_command_line_is_one_that_featstore_takes(line):
    (arguments,) = [c.arguments for _, b in SHOWN for c in b.commands if c.line == line][:1]
    command, context, words = main, click.Context(main, info_name="featstore"), arguments
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, command, words = command.resolve_command(context, list(words))
        context = click.Context(command, info_name=name, parent=context)
    try:
        command.make_context(context.info_name, list(words), parent=context.parent)
    except click.exceptions.Exit:
        pass
    except click.BadParameter as error:
        # The photos and heads of a page are not here; the options are.
        if "does not exist" not in str(error):
            raise


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        ("accuracy 98.9%, n = 184", "accuracy  98.9%, n = 184", True),
        ("calibration error  2.5%", "calibration error  2.6%", True),
        ("37 suspects, C=1", "36 suspects, C=1", True),
        ("margin -0.989", "margin -0.990", True),
        ("1,797 images in 3.2 s", "1,797 images in 9 s", True),
        ("accuracy 98.9%", "accuracy 98.2%", False),
        ("37 suspects", "35 suspects", False),
        ("digits/3/0448.png", "digits/3/0449.png", False),
        ("scattering-1", "scattering-2", False),
        ("log loss 0.041", "log loss none", False),
        ("one line", "another line", False),
    ],
)
def test_a_page_may_show_another_rounding_and_nothing_else(shown, printed, expected):
    assert fits([shown], [printed]) == expected
    assert fits(["…", shown], ["above", printed]) == expected


@pytest.fixture(scope="module")
def digits(demo):
    return demo


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    if not REAL.is_dir() or not os.environ.get("FEATSTORE_PAGES"):
        pytest.skip("takes minutes, and the real photos beside the checkout: `make pages`")
    folder = tmp_path_factory.mktemp("pages")
    make_flowers(folder)
    return folder


@pytest.mark.parametrize("where", ["digits", "flowers"])
def test_pages_show_what_commands_print(where, request, monkeypatch):
    monkeypatch.chdir(request.getfixturevalue(where))
    wrong = []
    for page in PAGES:
        for command in [
            command for block in blocks(page) if block.where == where for command in block.commands
        ]:
            printed = run(command)
            if not fits(command.shown, printed):
                wrong.append("\n".join([f"{page.name}: $ {command.line}", *printed]))
        remove_other_stores()
    assert not wrong, "\n\n".join(wrong)
