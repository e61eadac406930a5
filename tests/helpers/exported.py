"""Exported models, used as their README says: by the example in it, without a call of the package."""

import re
import warnings
from pathlib import Path
from typing import Any

import pandas as pd


def example_in(folder: Path) -> str:
    """Returns the example in the README of an exported model."""
    found = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found is not None
    return found[1]


def run_example(folder: Path, rows: pd.DataFrame, *, side: str = "right") -> dict[str, Any]:
    """Runs the example over some rows in one batch; returns its names.

    Args:
        folder: the exported model.
        rows: what is answered.
        side: where the tokenizer pads.
    """
    code = re.sub(r"folder, rows = .*", "folder, rows = FOLDER, ROWS", example_in(folder))
    code = code.replace("AutoTokenizer.from_pretrained(folder)", "AutoTokenizer.from_pretrained(folder, **SIDE)")
    names: dict[str, Any] = {"FOLDER": str(folder), "ROWS": rows.to_dict("records")}
    names["SIDE"] = {} if side == "right" else {"padding_side": side}  # right is what the folder itself says
    with warnings.catch_warnings():
        # peft asks transformers 5.23 for a property under its old name.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        exec(code, names)
    return names
