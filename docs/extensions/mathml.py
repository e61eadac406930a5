"""Equations as MathML, which browsers draw by themselves: no script and no font is fetched."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx


def visit_math(translator: Any, node: nodes.math) -> None:
    """Writes an equation inside a line."""
    translator.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def visit_math_block(translator: Any, node: nodes.math_block) -> None:
    """Writes an equation on a line of its own."""
    text = node.astext()
    equation = rf"\begin{{aligned}}{text}\end{{aligned}}" if re.search(r"(?<!\\)&|\\\\", text) else text
    translator.body.append(f'<div class="math-block">{tex2mathml(equation, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the renderer."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
