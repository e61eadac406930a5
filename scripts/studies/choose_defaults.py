"""Which default? Each part of the method switched on four tasks, on validation rows, with several seeds.

    python -m scripts.studies.choose_defaults DATA --out runs/defaults

DATA holds the folders `stsb`, `sick`, `lcp` and `sst2`. Every finished fit is a JSON file in --out, so the same command
goes on after a stop. For each task that is finished three files are written to --tables: all tests as JSON, a short
JSON of each fit, and a table of the variants as Markdown.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

import predgen
from predgen.files import write_text
from scripts.cells import markdown

TASKS: dict[str, dict[str, Any]] = {
    "stsb": {"target": "label", "inputs": ["sentence1", "sentence2"]},
    "sick": {"target": "relatedness_score", "inputs": ["sentence_A", "sentence_B"]},
    "lcp": {"target": "complexity", "inputs": ["token", "sentence"]},
    "sst2": {"target": "label", "inputs": ["sentence"], "label_text": {"0": "negative", "1": "positive"}},
}


def parts_of(folder: Path, num_train: int, num_validation: int) -> dict[str, pd.DataFrame]:
    """Returns rows drawn from the training and the validation part; the test part is not even read.

    The files of some tasks are ordered (by source, by word), so first rows would not do.
    """
    sizes = {"train": num_train, "validation": num_validation}
    found = {}
    for part, size in sizes.items():
        table = pd.read_json(folder / f"{part}.jsonl", lines=True, dtype=False)
        found[part] = table.sample(min(size, len(table)), random_state=0).reset_index(drop=True).astype(object)
    return found


def cell_of(file: Path) -> dict[str, Any]:
    """Returns what is kept of a finished fit: its name and seed, where its losses went, and its last validation."""
    name, _, seed = file.stem.rpartition("-seed")
    figures = json.loads(file.read_text(encoding="utf-8"))
    course = [one for one in figures["history"] if "writer_loss" in one or "director_loss" in one]
    quarters = [course[round(share * (len(course) - 1))] for share in (0.0, 0.25, 0.5, 0.75, 1.0)] if course else []
    last = [one for one in figures["history"] if any(key.startswith("eval_") for key in one)][-1]
    return {
        "variant": name,
        "seed": int(seed),
        "train_seconds": round(figures["train_seconds"], 1),
        "course": [
            {key: one[key] for key in ("step", "writer_loss", "director_loss") if key in one} for one in quarters
        ],
        "validation": {key.removeprefix("eval_"): value for key, value in last.items() if key.startswith("eval_")},
    }


def variants_markdown(found: dict[str, Any], cells: list[dict[str, Any]]) -> str:
    """Returns a table of the variants: the metric, its difference from the base, and what the Director and Writer do.

    Args:
        found: the JSON of a comparison with its base.
        cells: from `cell_of`.
    """
    metrics = ("mse",) if "mse" in found["methods"]["base"]["metrics"] else ("accuracy", "log_loss")
    tests = {(test["a"], test["metric"]): test for test in found["tests"]}
    header = ["variant"]
    for metric in metrics:
        header += [f"{metric} ± seeds", "95 % interval", "minus base", "p (Holm)"]
    header += ["L_D on gold", "L_D on own", "Writer after gold", "after own"]
    rows = []
    for name, result in found["methods"].items():
        row: list[Any] = [f"`{name}`"]
        for metric in metrics:
            low, high = result["ci95"][metric]
            row += [
                mean_and_spread(result["metrics"][metric], result["seed_deviation"][metric]),
                f"{low:.4f}, {high:.4f}",
            ]
            test = tests.get((name, metric))
            row += [f"{test['difference']:+.4f}", f"{test['p_holm']:.3f}"] if test else [None, None]
        own = [one["validation"] for one in cells if one["variant"] == name]
        for key in ("director_loss_gold", "director_loss_own", "writer_accuracy_gold", "writer_accuracy_own"):
            values = [one[key] for one in own if one.get(key) is not None]
            row.append(sum(values) / len(values) if values else None)
        rows.append(row)
    return markdown(header, rows) + "\n"


def mean_and_spread(mean: float, deviation: float | None) -> str:
    """Returns a mean, and its spread over seeds where there is more than one."""
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"


def main() -> None:
    """Runs what is not finished and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/defaults"))
    parser.add_argument("--tables", type=Path, default=Path("docs/results/ablation"))
    parser.add_argument("--without-sampling", action="store_true", help="a base that is always fed gold")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--parts", nargs="+", help="parts of predgen.experiments.ablating.PARTS; all if not given")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-rows", type=int, default=1200)
    parser.add_argument("--validation-rows", type=int, default=300)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--max-prompt-tokens", type=int, default=64)
    options = parser.parse_args()
    sampling = {"schedule": "constant", "sampling_end": 0.0} if options.without_sampling else {}
    for task in options.tasks:
        name = f"{task}-without-sampling" if options.without_sampling else task
        runs = options.out / name
        found = predgen.ablate(
            parts_of(options.data / task, options.train_rows, options.validation_rows),
            parts=options.parts,
            seeds=options.seeds,
            epochs=options.epochs,
            peft="none",  # learns more from few rows than LoRA: SST-2 0.68 against 0.60 (1,200 rows, two epochs)
            max_prompt_tokens=options.max_prompt_tokens,
            runs=runs,
            resume=runs.exists(),
            quiet=True,
            **sampling,
            **TASKS[task],
        ).to_json()
        cells = [cell_of(file) for file in sorted(runs.glob("*-seed*.json"))]
        table = variants_markdown(found, cells)
        write_text(options.tables / f"{name}.md", f"# Ablation: {name}\n\n{table}")
        write_text(options.tables / f"{name}-tests.json", json.dumps(found["tests"], allow_nan=False) + "\n")
        lines = ",\n".join(json.dumps(cell, allow_nan=False) for cell in cells)
        write_text(options.tables / f"{name}-cells.json", f"[\n{lines}\n]\n")
        print(f"## {name}\n\n{table}", flush=True)


if __name__ == "__main__":
    main()
