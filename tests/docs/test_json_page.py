"""docs/reference/json.md lists the keys that commands print."""

import json
import re
import shlex

import pytest
from click.testing import CliRunner

from featstore_cli.main import main
from pages import ROOT

PAGE = (ROOT / "docs/reference/json.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^`([a-z -]+)`\n:   (?:a list of )?`([^`]+)`", PAGE, re.M))
LINES = {
    "cache": "cache",
    "backbones": "backbones",
    "backbones suggest": "backbones suggest digits --backbone scattering",
    "heads": "heads",
    "extract": "extract digits --backbone scattering --store digits.fstore",
    "collect": "collect shards.fstore digits",
    "diff": "diff digits digits --store digits.fstore",
    "info": "info digits.fstore",
    "fit": "fit digits.fstore --head centroid -o other",
    "evaluate": "evaluate other --store digits.fstore",
    "evaluate --folds": "evaluate other --store digits.fstore --folds 2",
    "report": "report other --store digits.fstore --no-suspects -o other.html",
    "compare": "compare logistic other --store digits.fstore",
    "curve": "curve digits.fstore --head centroid --fractions 1/2 --repeats 1",
    "views": "views digits/0/0000.png --out views.png --random-crop 20 --image-size 96",
    "head classes": "head classes other --store digits.fstore --remove 0 -o few",
    "duplicates": "duplicates digits.fstore --threshold 0.9",
    "similar": "similar digits/7/0007.png --store digits.fstore",
    "centres": "centres digits.fstore",
    "next": "next 3 unlabelled.fstore",
    "suspects": "suspects digits.fstore --head centroid --folds 2",
    "projector": "projector digits.fstore projector",
    "predict": "predict logistic digits/7/0007.png --store digits.fstore",
    "remove": "remove digits.fstore --head logistic",
    "forget": "forget digits.fstore digits/0/0000.png",
    "verify": "verify digits.fstore",
    "verify --repair": "verify digits.fstore --repair",
    "merge": "merge merged.fstore digits.fstore",
    "compact": "compact digits.fstore",
    "pack": "pack digits.fstore digits.h5",
}

BEFORE = {
    "collect": "extract digits --backbone scattering --store shards.fstore --shard 1/1",
    "next": "extract digits/7 --backbone scattering --store unlabelled.fstore",
}


def parsed(text):
    """``a, b{c, d[{e}]}`` as ``{"a": {}, "b": {"c": {}, "d": {"e": {}}}}``."""
    tree = here = {}
    above, last = [], None
    for sign in re.findall(r"[\w@]+|[{}]", text):
        if sign == "{":
            above.append(here)
            here = here[last] if last is not None else here
        elif sign == "}":
            here = above.pop()
        else:
            last = sign
            here[last] = {}
    return tree


def lacking(shown, printed, where=""):
    """Keys that are shown and not printed, where there is something of the kind."""
    if isinstance(printed, list):
        return lacking(shown, printed[0], where) if printed else []
    if not printed:
        return []
    missing = [f"{where}{key}" for key in shown if key not in printed]
    return missing + [
        name
        for key, inner in shown.items()
        if inner and key in printed
        for name in lacking(inner, printed[key], f"{where}{key}.")
    ]


def test_a_page_is_parsed():
    assert parsed("a, b{c, d[{e}]}, f") == {"a": {}, "b": {"c": {}, "d": {"e": {}}}, "f": {}}
    assert parsed("{a, b[{c}]}") == {"a": {}, "b": {"c": {}}}
    assert lacking(parsed("a[{b, c}]"), {"a": [{"b": 1}]}) == ["a.c"]


def test_every_command_with_json_has_an_entry():
    found = {name for name in walk(main) if name not in ENTRIES and f"`{name}`\n:" not in PAGE}
    assert not found


def walk(group, prefix=""):
    for name, command in group.commands.items() if hasattr(group, "commands") else ():
        if hasattr(command, "commands"):
            yield from walk(command, f"{prefix}{name} ")
        elif any("--json" in option.opts for option in command.params):
            yield prefix + name


@pytest.mark.parametrize("name", LINES)
def test_the_page_lists_the_keys_that_are_printed(name, small_demo, monkeypatch):
    monkeypatch.chdir(small_demo)
    if name in BEFORE:
        assert CliRunner().invoke(main, shlex.split(BEFORE[name])).exit_code == 0
    result = CliRunner().invoke(main, [*shlex.split(LINES[name]), "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    shown = parsed(ENTRIES[name.removesuffix(" --folds")])
    top = printed[0] if isinstance(printed, list) else printed
    assert set(top) == set(shown)
    assert not lacking(shown, printed)
