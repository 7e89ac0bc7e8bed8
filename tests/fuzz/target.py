"""What is fuzzed: a reader, and valid files to change."""

import importlib
import pathlib
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Target:
    """One reader.

    Attributes
    ----------
    name : str
    run : callable
        Reads the bytes of a file. It may raise a ``FeatstoreError``, which refuses them; anything else is a
        finding, and so is an ``AssertionError`` of its own where what was read cannot be right.
    seeds : callable
        Gives valid files.
    mend : callable, optional
        Given a changed file of its seed's size and the seed, makes the checksums of file formats right again,
        so that the change gets past them.
    change : callable, optional
        Called with Hypothesis' ``draw`` and a seed, gives a changed file; by default its bytes are changed.
    is_json : bool
        Whether files are JSON, to be changed value by value too.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    mend: Callable[[bytes, bytes], bytes] | None = None
    change: Callable[..., bytes] | None = None
    is_json: bool = False


def all_targets() -> dict[str, Target]:
    """Return the ``TARGETS`` of every ``targets_*.py`` beside this file, by their names."""
    modules = sorted(path.stem for path in pathlib.Path(__file__).parent.glob("targets_*.py"))
    found = [target for name in modules for target in importlib.import_module(f"fuzz.{name}").TARGETS]
    return {target.name: target for target in found}
