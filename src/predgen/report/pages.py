"""Pages of HTML that need no other file."""

import html
import re

from markdown_it import MarkdownIt

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; }
table { border-collapse: collapse; margin: 1rem 0 2rem; font-variant-numeric: tabular-nums; display: block;
  overflow-x: auto; }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .7rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { border-bottom: 2px solid #888; }
img { max-width: 100%; }
.words { line-height: 2.6; }
.words span { padding: .25rem .4rem; border-radius: .3rem; white-space: nowrap; }
.words sub { font-size: .65em; margin-left: .25em; }
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
