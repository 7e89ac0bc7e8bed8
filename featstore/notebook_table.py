"""HTML tables for notebooks."""

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["html_table", "percent"]

_MOST_ROWS = 50


def html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table of at most 50 rows; texts are escaped, numbers right-aligned, None left blank."""
    lines = [f"<table><caption>{escape(caption)}</caption>", "<thead><tr>"]
    lines += [f"<th>{escape(name)}</th>" for name in header]
    lines.append("</tr></thead><tbody>")
    found = list(rows)
    for row in found[:_MOST_ROWS]:
        lines.append(f"<tr>{''.join(map(_cell, row))}</tr>")
    if (more := len(found) - _MOST_ROWS) > 0:
        lines.append(f'<tr><td colspan="{len(header)}">… and {more:,} more</td></tr>')
    return "".join([*lines, "</tbody></table>"])


def percent(share: float | None, ends: Sequence[float] | None = None) -> str:
    """Format a fraction in percent, with its interval if given; empty for None."""
    if share is None:
        return ""
    return f"{100 * share:.1f}%" + (f" ({100 * ends[0]:.1f}% to {100 * ends[1]:.1f}%)" if ends else "")


def _cell(value: object) -> str:
    if value is None or isinstance(value, str):
        return f"<td>{escape(value or '')}</td>"
    text = f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else value
    return f'<td style="text-align:right">{escape(str(text))}</td>'
