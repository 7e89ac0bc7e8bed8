"""The command lines that README and docs show, and what they print.

A block of console text shows commands after ``$``. Below a marker such as ``<!-- run: digits -->`` its commands are run in
the folder that ``featstore demo`` makes (or, for ``flowers``, beside the real photos), and must print what is shown, but
for durations, speeds, dates and the last digits of numbers, which processors round differently. A line ``…`` stands for any lines. ``python tests/pages.py digits|flowers FOLDER``
writes what they print today; FOLDER is what ``featstore demo`` made, or a new one for the flowers.
"""

import os
import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "data"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"(?:<!-- run: (?P<where>\w+) -->\n)?```console\n(?P<text>.*?)```\n", re.S)
# Durations, images per second, when a head was saved, and rounding errors.
_TIMED = re.compile(
    r"\d[\d.]*e-\d\d|\d[\d,.]* s\b|\d[\d,.]* (?:images|views)/s|\d[\d,.]* MB|\d{4}-\d\d-\d\dT[\d:+]+"
)

# Numbers that stand alone, not those in names, paths and versions.
_NUMBER = re.compile(r"(?<![\w./-])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w/]|\.\w)")


@dataclass
class Command:
    """A command line as a page shows it, and the lines that it shows below."""

    line: str
    shown: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> list[str] | None:
        """What featstore is called with; nothing where the line is of another program, or a pipe into it."""
        words = shlex.split(self.line, comments=True)
        if "featstore" not in words:
            return None
        words = words[words.index("featstore") + 1 :]
        return words[: min((words.index(sign) for sign in (">", "|") if sign in words), default=len(words))]


@dataclass
class Block:
    """One block of console text."""

    page: Path
    where: str | None
    commands: list[Command]


def blocks(page: Path) -> list[Block]:
    """Return a page's blocks of console text."""
    return [_block(page, match) for match in _BLOCK.finditer(page.read_text(encoding="utf-8"))]


def _block(page: Path, match: re.Match[str]) -> Block:
    commands: list[Command] = []
    for line in match["text"].splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:]))
        else:
            commands[-1].shown.append(line)
    return Block(page, match["where"], commands)


def run(command: Command) -> list[str]:
    """Run a command line in the current folder and return the lines of its standard output and error."""
    from featstore_cli.main import main

    arguments = command.arguments
    assert arguments is not None, command.line
    result = CliRunner().invoke(main, ["--help"] if not arguments else [*arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return [line.rstrip() for line in result.output.splitlines()]


def make_flowers(folder: Path) -> None:
    """Lay out a folder as a user of the pages has it: photos (one of them broken), weights, and official lists."""
    shutil.copytree(REAL / "flowers", folder / "flowers")
    photo = (folder / "flowers" / "roses").glob("*.jpg")
    (folder / "flowers" / "roses" / "broken.jpg").write_bytes(min(photo).read_bytes()[:5000])
    (folder / "mobilenet_v2.h5").symlink_to(REAL / "weights" / "mobilenet_v2_1.0_224_no_top.h5")
    names = sorted(f"{path.parent.name}/{path.stem}" for path in (REAL / "flowers").glob("*/*.jpg"))
    (folder / "train.txt").write_text("".join(f"{name}\n" for i, name in enumerate(names) if i % 5))
    (folder / "test.txt").write_text("".join(f"{name}\n" for i, name in enumerate(names) if not i % 5))


def fits(shown: list[str], printed: list[str]) -> bool:
    """Return whether a page shows what was printed, but for what another processor's rounding changes."""
    lines = [_plain(line) for line in _trimmed(shown)]
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else "(\\S+?)".join(map(re.escape, _NUMBER.split(line))) + r"\n"
        for line in lines
    )
    match = re.fullmatch(pattern, "".join(_plain(line) + "\n" for line in _trimmed(printed)))
    numbers = [number for line in lines for number in _NUMBER.findall(line)]
    return match is not None and all(map(_is_near, numbers, match.groups()))


def _plain(line: str) -> str:
    return re.sub(" +", " ", _TIMED.sub("#", line.strip()))


def _is_near(shown: str, printed: str) -> bool:
    """Return whether two numbers differ by at most one, or two units of the last decimal, or 0.5 per cent."""
    if not _NUMBER.fullmatch(printed):
        return False
    one, other = (float(text.replace(",", "")) for text in (shown, printed))
    decimals = len(shown.partition(".")[2])
    return abs(one - other) <= max(2.001 * 10**-decimals if decimals else 1, 0.005 * abs(one))


def remove_other_stores() -> None:
    """Remove the stores that a page made for itself beside the one that all pages share."""
    for store in Path().glob("*.fstore"):
        if store.name not in ("digits.fstore", "flowers.fstore"):
            shutil.rmtree(store)


def _trimmed(lines: list[str]) -> list[str]:
    text = "\n".join(lines).strip("\n")
    return text.split("\n") if text else []


def _refreshed(page: Path, where: str) -> str:
    """Return a page with what its commands print now; of long outputs as many lines as are shown."""

    def block(match: re.Match[str]) -> str:
        if match["where"] != where:
            return match[0]
        text = f"<!-- run: {where} -->\n```console\n"
        for command in _block(page, match).commands:
            printed = run(command)
            if fits(command.shown, printed) and _trimmed(command.shown) != ["…"]:
                lines = command.shown
            else:
                lines = [*printed, *([""] if command.shown[-1:] == [""] else [])]
            text += "\n".join([f"$ {command.line}", *lines]) + "\n"
        return text + "```\n"

    return _BLOCK.sub(block, page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    import sys

    where, folder = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    if where == "flowers" and not os.path.exists(f"{folder}/flowers"):
        make_flowers(Path(folder))
    os.chdir(folder)
    for page in PAGES:
        text = _refreshed(page, where)
        if text != page.read_text(encoding="utf-8"):
            page.write_text(text, encoding="utf-8")
            print(page)
        remove_other_stores()
