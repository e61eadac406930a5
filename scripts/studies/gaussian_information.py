"""How far estimators of mutual information are from the truth: correlated Gaussians, whose information is known.

    python -m scripts.studies.gaussian_information --plot docs/results/information/gaussians.png

For each dimension and information (in nats), 10 seeds draw new pairs, learn from 20,000 of them and estimate on 5,000
others. The controls have the answers of other rows.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from predgen.information import ESTIMATORS, Pairs, estimate
from predgen.information.exact import correlation_of
from scripts.cells import add_options, markdown, run_cells

DIMENSIONS = (1, 5, 20)
INFORMATIONS = (0.5, 1.0, 2.0, 4.0)
SHUFFLED_AT = 2.0
LEARN_ROWS, HELD_OUT_ROWS = 20_000, 5_000


def gaussians(rows: int, dimension: int, information: float, generator: torch.Generator) -> Pairs:
    """Returns pairs of Gaussian vectors that have an information."""
    correlation = correlation_of(information, dimension)
    states, noise = (torch.randn(rows, dimension, generator=generator) for _ in range(2))
    return Pairs.of_vectors(states, correlation * states + (1 - correlation**2) ** 0.5 * noise)


def run(what: str, dimension: int, information: float, seed: int, *, rows: tuple[int, int]) -> dict[str, Any]:
    """Returns what each estimator says of one draw."""
    generator = torch.Generator().manual_seed(1_000 * seed + dimension)
    learn, held_out = (gaussians(number, dimension, information, generator) for number in rows)
    shuffle = what == "shuffled"
    found = {name: estimate(name, learn, held_out, seed, shuffle=shuffle).value for name in ESTIMATORS}
    return {"what": what, "dimension": dimension, "information": information, "seed": seed, "found": found}


def table(cells: list[dict[str, Any]]) -> str:
    """Returns the estimates as Markdown: the mean over the seeds, its error in percent, and the spread."""
    lines = []
    for what, dimension, information in dict.fromkeys((c["what"], c["dimension"], c["information"]) for c in cells):
        own = [c for c in cells if (c["what"], c["dimension"], c["information"]) == (what, dimension, information)]
        line: list[Any] = [dimension, f"{information:g}" if what == "true" else f"0 ({information:g} shuffled)"]
        for name in ESTIMATORS:
            values = [c["found"][name] for c in own]
            mean = statistics.mean(values)
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            error = f" ({100 * (mean / information - 1):+.0f} %)" if what == "true" else ""
            line.append(f"{mean:z.3f} ± {spread:z.3f}{error}")
        lines.append([*line, len(own)])
    return markdown(["dimension", "true nats", *ESTIMATORS, "seeds"], lines)


def draw(cells: list[dict[str, Any]], path: Path) -> None:
    """Draws the estimates against the truth, a panel for each dimension; bars are the spread over seeds."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = figure.subplots(1, len(DIMENSIONS), sharey=True, squeeze=False)[0]
    for panel, dimension in zip(panels, DIMENSIONS, strict=True):
        own = [c for c in cells if c["dimension"] == dimension and c["what"] == "true"]
        truths = sorted({c["information"] for c in own})
        panel.plot([0, 4.2], [0, 4.2], color="gray", linewidth=1, linestyle="--", label="truth")
        for place, name in enumerate(ESTIMATORS):
            each = [[c["found"][name] for c in own if c["information"] == truth] for truth in truths]
            moved = [truth + 0.05 * (place - 2) for truth in truths]
            spreads = [statistics.stdev(values) if len(values) > 1 else 0 for values in each]
            means = [statistics.mean(values) for values in each]
            panel.errorbar(moved, means, yerr=spreads, marker="o", markersize=4, capsize=3, label=name)
        panel.set_title(f"dimension {dimension}")
        panel.set_xlabel("true information (nats)")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("estimate (nats)")
    panels[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Runs what is not finished, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "runs/gaussian-information")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rows", type=int, nargs=2, default=(LEARN_ROWS, HELD_OUT_ROWS), metavar=("LEARN", "HELD_OUT"))
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args(arguments)
    cells = [
        (what, dimension, information, seed)
        for seed in range(given.seeds)
        for what, informations in (("true", INFORMATIONS), ("shuffled", (SHUFFLED_AT,)))
        for dimension in DIMENSIONS
        for information in informations
    ]
    rows = tuple(given.rows)
    found = run_cells(cells, lambda *cell: run(*cell, rows=rows), given.out, given.only)
    print(table(found))
    if given.plot is not None:
        draw(found, given.plot)


if __name__ == "__main__":
    main()
