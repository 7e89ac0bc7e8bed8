"""Generate reference pages from the code: the help of each command, and the public names."""

from typing import Any

import click

import featstore
from featstore_cli.main import main

_GENERATED = {
    "<!-- commands -->": lambda: "\n\n".join(_sections(main, "featstore")),
    "<!-- python -->": lambda: "\n\n".join(_identifiers()),
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each marker by what it stands for."""
    for marker, generate in _GENERATED.items():
        if marker in markdown:
            markdown = markdown.replace(marker, generate())
    return markdown


def _sections(command: click.Command, name: str, parent: click.Context | None = None) -> list[str]:
    context = click.Context(command, info_name=name, parent=parent, **command.context_settings)
    sections = [f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```"]
    for name, child in getattr(command, "commands", {}).items():
        sections += _sections(child, name, context)
    return sections


def _identifiers() -> list[str]:
    public = (getattr(featstore, name) for name in sorted(featstore.__all__) if name != "__version__")
    return [f"::: {thing.__module__}.{thing.__qualname__}" for thing in public]
