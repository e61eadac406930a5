"""Templates of pages, filled: all that comes from data is escaped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from predgen.report.pages import STYLE

_TEMPLATES = Environment(
    loader=PackageLoader("predgen.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


# On narrow screens, where a chart is scrolled rather than made too small to read.
PIXELS_OF_INCH = 70


@dataclass(frozen=True)
class Figure:
    """A chart with its text: what it shows in a sentence, and its figures as a table.

    Attributes:
        title: what it is of.
        text: how to read it.
        svg: the picture.
        header: of the table.
        rows: of the table.
        least: the pixels below which it is not made smaller.
    """

    title: str
    text: str
    svg: Markup
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    least: int


def has_charts() -> bool:
    """Returns whether charts can be drawn on this machine."""
    return find_spec("matplotlib") is not None


def figure_of(
    title: str,
    text: str,
    draw: Callable[[Any], None],
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    height: float,
    width: float = 7.0,
) -> Figure:
    """Returns a chart with its text.

    Args:
        title: what it is of.
        text: how to read it.
        draw: draws it on an empty figure.
        header: of the table behind it.
        rows: of that table.
        height: in inches.
        width: in inches.
    """
    from predgen.report.charts import chart

    svg = Markup(chart(title, draw, height=height, width=width))  # matplotlib escapes what it draws
    return Figure(title, text, svg, header, rows, round(PIXELS_OF_INCH * width))


def strong(text: str) -> Markup:
    """Returns a text in bold."""
    return Markup("<strong>{}</strong>").format(text)


def filled(template: str, title: str, **values: Any) -> str:
    """Returns a page that needs no other file.

    Args:
        template: its name in `predgen.report.templates`.
        title: as text.
        values: what the template names.
    """
    return _TEMPLATES.get_template(template).render(title=title, style=Markup(STYLE), **values) + "\n"
