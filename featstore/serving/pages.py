"""The server's pages, which load nothing from elsewhere."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from featstore.page_security import embedded_json, source_hash
from featstore.serving.limits import Limits
from featstore.version import __version__

__all__ = ["SCRIPTS", "STYLES", "docs_page", "policy_of", "render", "try_page"]

STYLES, SCRIPTS = ("page.css",), ("shared.js", "page.js")


def try_page(models: list[dict[str, Any]], *, needs_token: bool, limits: Limits) -> str:
    """Return the page to try models."""
    facts = {"models": models, "needsToken": needs_token, "mostImages": limits.images}
    return render(
        "page.html",
        styles=STYLES,
        scripts=SCRIPTS,
        models=models,
        data=embedded_json(facts),
        needs_token=needs_token,
    )


def docs_page(description: dict[str, Any]) -> str:
    """Return the description of the routes."""
    return render("docs.html", styles=STYLES, scripts=SCRIPTS, description=description)


def policy_of(styles: Sequence[str], scripts: Sequence[str], package: str = "featstore.serving") -> str:
    """Return the content security policy of a page: what is in it, and answers of this server."""
    style, script = source_hash(joined_text(package, styles)), source_hash(joined_text(package, scripts))
    return (
        f"default-src 'none'; img-src data: blob:; media-src blob:; connect-src 'self'; style-src {style}; "
        f"script-src {script}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def render(
    name: str,
    *,
    styles: Sequence[str],
    scripts: Sequence[str],
    package: str = "featstore.serving",
    data: str = "",
    **values: Any,
) -> str:
    """Return a page of a template, with its styles and scripts in it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(
        **values,
        data=Markup(data),
        style=Markup(joined_text(package, styles)),
        script=Markup(joined_text(package, scripts)),
        version=__version__,
    )


def joined_text(package: str, names: Sequence[str]) -> str:
    """Return the templates of some names in one text; ``serving/page.css`` is one of another package."""
    return "\n".join(_text(package, name) for name in names)


@cache
def _text(package: str, name: str) -> str:
    folder, _, own = name.rpartition("/")
    home = files(f"featstore.{folder}" if folder else package)
    return (home / "templates" / own).read_text(encoding="utf-8")
