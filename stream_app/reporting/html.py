"""A page of a report: one HTML file that asks nobody for anything, readable on light and on dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

__all__ = ["html_page", "pictures"]

_STYLE: Final = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;background:Canvas;color:CanvasText}
h1,h2,h3{line-height:1.2}h2{margin-top:2.5rem;border-bottom:1px solid;padding-bottom:.2rem}
table{border-collapse:collapse;margin:.8rem 0}th,td{padding:.2rem .7rem;text-align:left;border-bottom:1px solid #8886}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.better{color:#1a9850}.worse{color:#e34a33;font-weight:600}
.pictures{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}figcaption{font-size:.85rem;opacity:.8}
.wide{overflow-x:auto}pre{overflow-x:auto;padding:.6rem;border:1px solid #8886}dt{font-weight:600}dd{margin:0 0 .4rem 1rem}
svg{max-width:100%;height:auto}small{white-space:nowrap}
"""


def html_page(title: str, body: Sequence[str]) -> str:
    """Return a whole page; `body` are pieces of HTML, one after the other."""
    inside = "\n".join(body)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head><body>\n{inside}\n</body></html>\n'


def pictures(parts: Iterable[tuple[str, str]]) -> str:
    """Set pictures side by side; a part is a caption, which is text, and what is shown, which is SVG."""
    inside = "".join(f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" for caption, svg in parts)
    return f"<div class=pictures>{inside}</div>"
