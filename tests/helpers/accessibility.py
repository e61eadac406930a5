"""What axe-core, the usual checker of accessibility, finds on a page."""

from importlib.util import find_spec
from typing import Any

import pytest

needs_axe = pytest.mark.skipif(
    find_spec("axe_playwright_python") is None,
    reason="needs axe-playwright-python (pip install 'predgen[browser]')",
)
# axe-core also knows minor and moderate ones.
GRAVE = ("serious", "critical")


def grave_faults(page: Any) -> list[str]:
    """Returns the faults of a page, as it is now, that axe-core calls serious or critical, each with its place."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response
    assert found["passes"]  # or nothing was looked at
    return [
        f"{fault['id']} ({fault['impact']}): {node['target']} {node['html'][:120]}"
        for fault in found["violations"]
        if fault["impact"] in GRAVE
        for node in fault["nodes"]
    ]
