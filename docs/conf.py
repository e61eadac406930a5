"""How Sphinx builds the site: `make docs`. Nothing is fetched while it builds."""

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "extensions")]

from scripts.docs.reference import write_pages  # noqa: E402

from predgen.version import __version__  # noqa: E402

# The reference is made from the code at every build, so that it cannot be stale.
write_pages(DOCS / "reference" / "generated")

project = "PredGen"
author = "The PredGen developers"
project_copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml", "repository_links"]
exclude_patterns = ["_build", "extensions"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

# Docstrings mark code by single backticks, as Markdown does.
default_role = "literal"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# Types of other libraries, and our own that are no public names, have no page to lead to.
nitpick_ignore_regex = [(r"py:.*", r".*")]

# `--option` is two dashes.
smartquotes = False

html_theme = "furo"
html_title = f"PredGen {__version__}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False


def leave_out_of_menus(app: Sphinx, page: str, text: list[str]) -> None:
    """Gives the tables that a study wrote no place in the menus; the page of the study leads to them."""
    if "ablation/" in page:
        text[0] = f"---\norphan: true\n---\n\n{text[0]}"


def short_types(app: Sphinx, *documented: Any) -> tuple[str, str | None] | None:
    """Returns a signature without the modules of its types, which autodoc leaves in those that it cannot parse."""
    *_, signature, returned = documented
    return (re.sub(r"~[\w.]+\.(\w+)", r"\1", signature), returned) if signature else None


def setup(app: Sphinx) -> None:
    """Registers what belongs to this site alone."""
    app.connect("source-read", leave_out_of_menus)
    app.connect("autodoc-process-signature", short_types)
