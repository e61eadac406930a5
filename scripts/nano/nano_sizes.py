"""Held-out loss of small models against size and tokens: where the shape of `builtin:nano` comes from.

    python -m scripts.nano.nano_sizes runs/nano-text

Every run is one of `pretrain_nano.py`, from scratch with its default settings and its whole schedule.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from scripts.cells import add_options, markdown, run_cells
from scripts.nano.pretrain_nano import parse, pretrain

SHAPES = {
    "192x5": ("--width", "192", "--layers", "5", "--feed-forward", "512", "--heads", "6", "--key-value-heads", "3"),
    "256x6": ("--width", "256", "--layers", "6", "--feed-forward", "688", "--heads", "8", "--key-value-heads", "4"),
    "320x5": ("--width", "320", "--layers", "5", "--feed-forward", "864", "--heads", "10", "--key-value-heads", "5"),
}
TOKENS = (500_000, 1_000_000)


def main() -> None:
    """Runs what is not finished and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="folder that prepare_nano_text.py wrote")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    add_options(parser, "runs/nano-sizes")
    options = parser.parse_args()

    def run(shape: str, tokens: int) -> dict[str, Any]:
        start = time.perf_counter()
        out = options.out / f"{shape}-{tokens}"
        command = [str(options.text), "--out", str(out), *SHAPES[shape], "--tokens", str(tokens), "--evaluations", "1"]
        result = pretrain(parse([*command, "--compile"] if options.compile else command))
        return {**result, "shape": shape, "seconds": time.perf_counter() - start}

    cells = [(shape, tokens) for tokens in TOKENS for shape in SHAPES]
    found = run_cells(cells, run, options.out, options.only)
    rows = [(one["shape"], f"{one['parameters']:,}", f"{one['tokens']:,}", one["held_out_loss"]) for one in found]
    print(markdown(("width x layers", "parameters", "tokens", "held-out loss"), rows))


if __name__ == "__main__":
    main()
