"""A grid of measurements: each cell runs once, its figures are a JSON file, and what is finished is never run again."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from predgen.files import write_text


def add_options(parser: argparse.ArgumentParser, out: str) -> None:
    """Adds what every grid has: where its files go, and which cells to run."""
    parser.add_argument("--out", type=Path, default=Path(out), help="folder of the finished cells")
    parser.add_argument("--only", nargs="*", default=[], help="run only cells that have all these words in their name")


def run_cells(
    cells: Sequence[tuple[Any, ...]], run: Callable[..., dict[str, Any]], out: Path, only: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Runs the cells that are not finished, and returns the figures of all that are.

    Args:
        cells: what tells a cell from the others; the words of its file's name.
        run: called with a cell's parts; returns its figures.
        out: the folder of the files.
        only: words that a cell must have; all cells run if there are none.
    """
    for cell in cells:
        path = _file(out, cell)
        if set(only) <= set(map(str, cell)) and not path.exists():
            figures = run(*cell)
            write_text(path, json.dumps(figures, indent=2) + "\n")
            shown = {name: value for name, value in figures.items() if name != "losses"}
            print(path.stem, json.dumps(shown), flush=True)
    return [json.loads(path.read_text(encoding="utf-8")) for cell in cells if (path := _file(out, cell)).exists()]


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a Markdown table; floats with three decimals, nothing for None."""
    lines = ["| " + " | ".join(header) + " |", "| --- " * len(header) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(_shown, row)) + " |" for row in rows])


def _file(out: Path, cell: tuple[Any, ...]) -> Path:
    return out / ("-".join(map(str, cell)) + ".json")


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
