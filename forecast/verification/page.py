"""Self-contained HTML pages, without scripts and without anything fetched from elsewhere."""

import html
from collections.abc import Iterable, Sequence

from ... import __version__
from ...datasets.store.outputs import marker

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #8884; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
p { margin: .3rem 0; }
img { max-width: 100%; margin-top: .6rem; background: #fff; }
.state { display: inline-block; min-width: 5.5rem; padding: 0 .5rem; border-radius: .6rem;
  text-align: center; color: #fff; background: #5a6472; }
.done { background: #1b7f4b; }
.failed { background: #b3261e; }
.running, .publishing { background: #1d5fbf; }
.waiting, .retrying { background: #8a5a00; }
"""


def page(title: str, parts: Iterable[str], refresh: int | None = None) -> str:
    """Return a page.

    Args:
        title: title and heading, as text.
        parts: contents, as HTML.
        refresh: interval at which a browser reloads the page [s]; never by default.
    """
    reload = f"<meta http-equiv='refresh' content='{refresh}'>" if refresh else ""
    generator = f"<meta name='generator' content='{marker('report')} {__version__}'>"
    heading = html.escape(title)
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'>{generator}{reload}"
        f"<meta name='viewport' content='width=device-width'><title>{heading}</title>"
        f"<style>{_STYLE}</style></head><body><h1>{heading}</h1>{''.join(parts)}</body></html>\n"
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table.

    Args:
        columns: headings, as HTML.
        rows: cells, as HTML.
        numbers: indices of the columns that hold numbers, which are aligned to the right.
    """

    def line(tag: str, cells: Sequence[str]) -> str:
        parts = []
        for i, cell in enumerate(cells):
            attribute = " class='number'" if i in numbers else ""
            parts.append(f"<{tag}{attribute}>{cell}</{tag}>")
        return f"<tr>{''.join(parts)}</tr>"

    head = line("th", columns)
    body = "".join(line("td", row) for row in rows)
    return f"<div class='wide'><table><thead>{head}</thead><tbody>{body}</tbody></table></div>"
