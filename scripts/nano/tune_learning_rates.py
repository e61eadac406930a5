"""Validation figures of a grid of learning rates: where the default of each PEFT method comes from.

    python -m scripts.nano.tune_learning_rates DATA_DIR --out runs/learning-rates

DATA_DIR holds the folders `lcp` and `sst2`. Each finished cell is a JSON file in --out and is never run again; the
table over all finished cells is printed at the end. A number's figure is the mean squared error in hundredths, a
label's the error (1 − accuracy), both on validation rows alone.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import predgen
from predgen.files import write_text

RATES = {"none": (2.5e-4, 5e-4, 1e-3), "lora": (5e-4, 1e-3, 3e-3)}
TASKS: dict[str, dict[str, Any]] = {
    "lcp": {"target": "complexity", "inputs": ["token", "sentence"], "max_steps": 300},
    "sst2": {
        "target": "label",
        "max_train_rows": 8000,
        "label_text": {"0": "negative", "1": "positive"},
    },
}
METHODS = ("predictor", "predgen")


def cells() -> list[tuple[str, str, str, float]]:
    """Returns task, method, PEFT and rate of every cell."""
    return [
        (task, method, peft, rate)
        for peft, rates in RATES.items()
        for rate, task, method in itertools.product(rates, TASKS, METHODS)
    ]


def run(data: Path, task: str, method: str, peft: str, rate: float) -> dict[str, Any]:
    """Returns a cell's figures."""
    settings = dict(TASKS[task])
    start = time.perf_counter()
    model = predgen.fit(
        data / task,
        settings.pop("target"),
        method=method,
        peft=peft,
        learning_rate=rate,
        quiet=True,
        **settings,
    )
    best = model.record["best_metric"]
    figure = 100 * best if model.record["metric"] == "mse" else 1 - best
    return {
        "task": task,
        "method": method,
        "peft": peft,
        "learning_rate": rate,
        "figure": figure,
        "seconds": time.perf_counter() - start,
    }


def table(found: list[dict[str, Any]]) -> str:
    """Returns the figures as Markdown, a row for each PEFT and rate."""
    columns = list(itertools.product(TASKS, METHODS))
    by_cell = {(one["peft"], one["learning_rate"], one["task"], one["method"]): one["figure"] for one in found}
    lines = [
        "| peft | learning rate | " + " | ".join(f"{task} {method}" for task, method in columns) + " |",
        "| --- " * (len(columns) + 2) + "|",
    ]
    for peft, rate in sorted({(one["peft"], one["learning_rate"]) for one in found}):
        figures = [by_cell.get((peft, rate, task, method)) for task, method in columns]
        shown = ["" if figure is None else f"{figure:.3f}" for figure in figures]
        lines.append(f"| {peft} | {rate:g} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs the cells that are not finished and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/learning-rates"))
    parser.add_argument("--only", nargs="*", default=[], help="words that a cell must have, such as sst2 lora 0.001")
    arguments = parser.parse_args()
    for cell in cells():
        if not set(arguments.only) <= set(map(str, cell)):
            continue
        path = arguments.out / ("-".join(map(str, cell)) + ".json")
        if not path.exists():
            result = run(arguments.data, *cell)
            write_text(path, json.dumps(result, indent=2) + "\n")
            print(json.dumps(result), flush=True)
    print(table([json.loads(path.read_text(encoding="utf-8")) for path in sorted(arguments.out.glob("*.json"))]))


if __name__ == "__main__":
    main()
