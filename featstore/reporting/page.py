"""The page of a report: one HTML file that needs nothing else, and lets nothing else in."""

from importlib.resources import files
from typing import Any

from featstore.messages import printable
from featstore.page_security import embedded_json, source_hash

__all__ = ["render"]

_STYLES = ("report.css",)


def render(template: str, **values: Any) -> str:
    """Return the page of ``"report"`` or ``"labels"``, of images with one label or several.

    Texts are escaped by the template, data by :func:`embedded_json`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("featstore.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": _share, "interval": _interval, "printable": printable}
    kind = "several_labels.js" if template == "labels" else "one_label.js"
    style, script = _joined(_STYLES), _joined(("photos.js", kind, "tables.js", "map_painting.js", "map.js"))
    page = environment.get_template(f"{template}.html").render(
        **values | {"data": Markup(embedded_json(values["data"]))},
        style=Markup(style),
        script=Markup(script),
        style_hash=source_hash(style),
        script_hash=source_hash(script),
    )
    # Names that are not UTF-8.
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def _joined(names: tuple[str, ...]) -> str:
    home = files("featstore.reporting") / "templates"
    return "\n".join((home / name).read_text(encoding="utf-8") for name in names)


def _share(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{100 * value:.{digits}f}%"


def _interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{_share(ends[0])} to {_share(ends[1])}"
