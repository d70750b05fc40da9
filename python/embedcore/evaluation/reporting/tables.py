"""Tables of HTML reports, and the styles that go with them. Every text is escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any, Final

STYLE: Final = """\
p.note, .note { color: #4a5258; font-size: 13px }
table { border-collapse: collapse; font-size: 13px; width: 100% }
th { text-align: left; font-weight: 600; border-bottom: 1px solid #8b949c; padding: .25rem .6rem .25rem 0 }
td { border-bottom: 1px solid #e4e7ec; padding: .25rem .6rem .25rem 0; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
svg { max-width: 100%; height: auto }"""


def cell(value: Any) -> str:
    """A bool is a gate: met or not."""
    if value is None:
        return "-"
    if value is True or value is False:
        return '<span class="ok">met</span>' if value else '<span class="bad">NOT MET</span>'
    return escape(str(value))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, show: Callable[[Any], str] = cell) -> str:
    """Columns that hold only numbers stand to the right. ``show``: the HTML of a value."""
    if not rows:
        return '<p class="note">none</p>'
    numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(columns))]
    tag = [' class="n"' if number else "" for number in numeric]
    head = "".join(f"<th{t}>{escape(name)}</th>" for name, t in zip(columns, tag, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{t}>{show(value)}</td>" for value, t in zip(row, tag, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>\n{body}</table>"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
