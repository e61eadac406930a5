"""Pages of HTML that need no other file."""

import html
import re

from markdown_it import MarkdownIt

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b;
  background: #fff; }
h1 { line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin-top: 3rem; border-bottom: 1px solid #ccc; padding-bottom: .2rem; }
a { color: #005a8e; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; }
table { border-collapse: collapse; margin: 1rem 0 2rem; font-variant-numeric: tabular-nums; display: block;
  overflow-x: auto; }
.scroll { overflow-x: auto; margin: 1rem 0 2rem; }
.chart { overflow-x: auto; }
.scroll table { display: table; margin: 0; }
caption { text-align: left; color: #444; padding-bottom: .3rem; }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .7rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { border-bottom: 2px solid #888; }
tbody th { font-weight: normal; border-bottom: 1px solid #ddd; }
img, svg { max-width: 100%; height: auto; }
figure { margin: 1.5rem 0 2.5rem; }
figcaption { color: #333; }
summary { cursor: pointer; color: #005a8e; }
pre { overflow-x: auto; background: #f4f4f4; padding: 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.row { border: 1px solid #ddd; border-radius: .4rem; padding: .2rem 1rem; margin: 1rem 0; }
.row h3 { margin: .5rem 0 0; font-size: 1em; }
.row dl { display: flex; flex-wrap: wrap; gap: .2rem 1.5rem; }
.row .input { flex: 1 0 100%; }
.row dt { color: #444; font-size: .85em; }
.row dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.words { line-height: 2.6; }
.words span { padding: .25rem .4rem; border-radius: .3rem; white-space: nowrap; }
.words sub { font-size: .65em; margin-left: .25em; }
@media print { nav, summary { display: none; } .row, figure, tr { break-inside: avoid; }
  .scroll { overflow: visible; } }
"""


def plain_text(name: str) -> str:
    """Returns a name as Markdown shows it: on one line, no bar ends a cell, nothing in it is a link or an image."""
    return re.sub(r"([\\`*\[\]<>|!])", r"\\\1", " ".join(name.split()))


def code(name: str) -> str:
    """Returns a name as code in Markdown, on one line; a backtick or a bar in it is written as another sign."""
    return f"`{' '.join(name.split()).replace('`', chr(39)).replace('|', '¦')}`"


def rendered(markdown: str) -> str:
    """Returns Markdown as HTML: tables and emphasis, and neither images nor links nor HTML of its own."""
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    return str(renderer.disable(["image", "link", "autolink", "reference"]).render(markdown))


def page(title: str, body: str) -> str:
    """Returns a whole page.

    Args:
        title: as text.
        body: as HTML.
    """
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
