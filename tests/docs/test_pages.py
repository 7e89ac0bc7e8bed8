"""README and docs show what works now."""

import os

import click
import pytest

from featstore_cli.main import main
from pages import PAGES, REAL, ROOT, blocks, fits, make_flowers, run

SHOWN = [(page, block) for page in PAGES for block in blocks(page)]
LINES = sorted({command.line for _, block in SHOWN for command in block.commands if command.arguments})


def test_the_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= 9000


def test_pages_show_commands():
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
    for page, block in SHOWN:
        for command in block.commands if block.where == where else []:
            printed = run(command)
            if not fits(command.shown, printed):
                wrong.append("\n".join([f"{page.name}: $ {command.line}", *printed]))
    assert not wrong, "\n\n".join(wrong)
