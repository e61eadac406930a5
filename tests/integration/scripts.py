"""The scripts of `scripts/` as modules."""

import importlib
from pathlib import Path
from typing import Any

import pytest


def load_script(name: str) -> Any:
    """Returns a script; it may import others beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
        return importlib.import_module(name)
