"""Pages of HTML that need no other file."""

import html
import re
from importlib.resources import files

from markdown_it import MarkdownIt

# The look of all pages; those of the server have it too.
STYLE = (files("predgen") / "report" / "templates" / "style.css").read_text(encoding="utf-8")


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
