"""Links to files of the repository that are no pages of the site.

On a forge such a link opens the file or the folder. Here a file is offered as a download, which MyST does by itself,
and of a link to a folder only its text is left.
"""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


class FolderLinks(SphinxPostTransform):
    """Takes the link off a text that leads to a folder."""

    default_priority = 8  # MyST resolves its links at 9, and warns of those that it does not know

    def run(self, **_: Any) -> None:
        """Goes through a page's links."""
        for link in list(self.document.findall(pending_xref)):
            page = self.env.doc2path(link.get("refdoc", self.env.docname))
            if link.get("reftype") == "myst" and (Path(page).parent / link["reftarget"]).is_dir():
                link.replace_self(nodes.inline("", "", *link.children))


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the transform."""
    app.add_post_transform(FolderLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
