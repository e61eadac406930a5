"""The three methods on real language models of 135 and 270 million parameters: SST-2, STS-B and docstrings, test rows.

    python -m scripts.studies.real_models DATA --stage tune
    python -m scripts.studies.real_models DATA --stage test
    python -m scripts.studies.real_models DATA --stage types

DATA holds the folders `sst2` and `stsb`; the docstrings are those of `predgen demo`. `tune` fits each method of each
backbone with each learning rate on each task, one seed, and prints the figures of the validation rows: the best rate of
a method is the one with the best mean rank over the tasks, the larger one where two are equal. `test` fits each
method with the defaults on each seed and prints the test rows' figures with intervals over rows, paired tests of the
seeds' mean losses. `types` fits the predictor with weights in bfloat16 and in float32, one seed, and prints both. What
is finished is a file, and is never run again.
"""

import argparse
import itertools
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import predgen
from predgen.cli.demo_tables import docstring_sentences
from predgen.measures.statistics import bootstrap_interval, holm, paired_permutation
from predgen.models.evaluating import timed_answers
from predgen.models.scored import score
from predgen.tables.values import values_of
from scripts.cells import add_options, markdown, run_cells

BACKBONES = ("builtin:smollm2", "builtin:gemma3-270m", "builtin:nano")
METHODS = ("predictor", "generator", "predgen")
TASKS: dict[str, dict[str, Any]] = {
    "sst2": {"target": "label", "inputs": ["sentence"], "label_text": {"0": "negative", "1": "positive"}},
    "stsb": {"target": "label", "inputs": ["sentence1", "sentence2"], "low": 0.0, "high": 5.0, "decimals": 1},
    "docstrings": {"target": "library", "inputs": ["sentence"]},
}
# What the checkpoint is chosen by, and the loss of a row whose mean it is.
METRICS = {"sst2": "log_loss", "stsb": "mse", "docstrings": "log_loss"}
LOSSES = METRICS | {"stsb": "squared_error"}
SHOWN = {
    "sst2": ["accuracy", "log_loss", "ece"],
    "stsb": ["mse", "pearson"],
    "docstrings": ["accuracy", "log_loss", "ece"],
}
RATES = {"lora": (3e-4, 1e-3, 3e-3), "none": (1e-5, 3e-5, 1e-4)}
PARTS = ("train", "validation", "test")


def parts_of(data: Path, task: str, rows: dict[str, int]) -> dict[str, pd.DataFrame]:
    """Returns a task's parts, each as many rows as are asked for, drawn with a fixed seed."""
    if task == "docstrings":
        table = docstring_sentences()
        ends = np.cumsum([0, *(rows[part] for part in PARTS)])
        return {part: table.iloc[ends[i] : ends[i + 1]].reset_index(drop=True) for i, part in enumerate(PARTS)}
    tables = {part: pd.read_json(data / task / f"{part}.jsonl", lines=True) for part in PARTS}
    return {
        part: table.sample(n=min(rows[part], len(table)), random_state=0).reset_index(drop=True)
        for part, table in tables.items()
    }


def fitted(parts: dict[str, pd.DataFrame], task: str, part: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the metrics and the losses of one part's rows under a model that is fitted now."""
    declared = {name: value for name, value in TASKS[task].items() if name != "target"}
    tables = {name: parts[name] for name in ("train", "validation")}
    model = predgen.fit(tables, TASKS[task]["target"], quiet=True, metric=METRICS[task], **declared, **settings)
    answers, _ = timed_answers(model, parts[part])
    scored = score(model.target, values_of(model.target, parts[part], [TASKS[task]["target"]]), answers)
    return {
        "settings": settings,
        "metrics": {name: float(value) for name, value in scored.metrics().items()},
        "losses": {name: [float(row) for row in rows] for name, rows in scored.losses().items()},
        "train_seconds": model.contents.record["train_seconds"],
    }


def tuned_table(cells: list[dict[str, Any]]) -> str:
    """Returns the validation figures of each rate as Markdown."""
    rows = [
        [
            cell["backbone"],
            cell["peft"],
            cell["method"],
            cell["task"],
            f"{cell['rate']:g}",
            cell["metrics"][METRICS[cell["task"]]],
        ]
        for cell in cells
    ]
    return markdown(["backbone", "trained", "method", "task", "learning rate", "validation"], rows)


def interval_of(losses: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % interval of a mean over rows."""
    return bootstrap_interval(lambda part: {"mean": float(losses[part].mean())}, len(losses), seed=0)["mean"]


def test_tables(cells: list[dict[str, Any]]) -> str:
    """Returns each backbone's and task's figures and tests as Markdown."""
    found = []
    for backbone, task in dict.fromkeys((cell["backbone"], cell["task"]) for cell in cells):
        chosen = [cell for cell in cells if (cell["backbone"], cell["task"]) == (backbone, task)]
        metric = METRICS[task]
        losses, rows = {}, []
        for method in dict.fromkeys(cell["method"] for cell in chosen):
            runs = [cell for cell in chosen if cell["method"] == method]
            line: list[Any] = [method]
            for name in SHOWN[task]:
                values = [run["metrics"][name] for run in runs]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                line.append(f"{statistics.mean(values):.3f} ± {spread:.3f}")
            losses[method] = np.mean([run["losses"][LOSSES[task]] for run in runs], axis=0)
            low, high = interval_of(losses[method])
            rows.append([*line, f"{low:.3f} … {high:.3f}", statistics.mean(run["train_seconds"] for run in runs)])
        pairs = list(itertools.combinations(losses, 2))
        values = holm([paired_permutation(losses[one], losses[other], seed=0) for one, other in pairs])
        tests = [
            [f"{one} − {other}", f"{(losses[one] - losses[other]).mean():+.3f}", f"{p:.4f}"]
            for (one, other), p in zip(pairs, values, strict=True)
        ]
        found += [
            markdown([f"{backbone}, {task}", *SHOWN[task], f"95 % interval of {metric}", "seconds"], rows),
            markdown(["pair", f"difference of {metric}", "p (Holm)"], tests),
        ]
    return "\n\n".join(found)


def types_table(cells: list[dict[str, Any]]) -> str:
    """Returns the figures of each type of weights as Markdown."""
    rows = []
    for cell in cells:
        figures = ", ".join(f"{name} {cell['metrics'][name]:.3f}" for name in SHOWN[cell["task"]])
        rows.append([cell["backbone"], cell["task"], cell["dtype"], figures, cell["train_seconds"]])
    return markdown(["backbone", "task", "type", "test rows", "seconds"], rows)


def main() -> None:
    """Runs what is not finished and prints the tables of what is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--stage", choices=("tune", "test", "types"), default="test")
    parser.add_argument("--backbones", nargs="*", default=list(BACKBONES))
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--pefts", nargs="*", default=["lora"])
    parser.add_argument("--rates", type=float, nargs="*", default=[], help="instead of those of each --pefts")
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seed", type=int, default=0, help="of `tune`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--train-rows", type=int, default=640)
    parser.add_argument("--validation-rows", type=int, default=200)
    parser.add_argument("--test-rows", type=int, default=500)
    add_options(parser, "runs/real-models")
    options = parser.parse_args()
    rows = dict(zip(PARTS, (options.train_rows, options.validation_rows, options.test_rows), strict=True))
    tables: dict[str, dict[str, pd.DataFrame]] = {}

    def parts(task: str) -> dict[str, pd.DataFrame]:
        if task not in tables:
            tables[task] = parts_of(options.data, task, rows)
        return tables[task]

    def tune(_: str, backbone: str, peft: str, task: str, method: str, rate: float, seed: int = 0) -> dict[str, Any]:
        settings = {"backbone": f"builtin:{backbone}", "peft": peft, "method": method, "learning_rate": rate}
        settings |= {"epochs": options.epochs, "seed": seed}
        names = {"backbone": backbone, "peft": peft, "task": task, "method": method, "rate": rate}
        return {**names, **fitted(parts(task), task, "validation", settings)}

    def test(_: str, backbone: str, peft: str, task: str, method: str, seed: int) -> dict[str, Any]:
        settings = {"backbone": f"builtin:{backbone}", "peft": peft, "method": method}
        settings |= {"epochs": options.epochs, "seed": seed}
        names = {"backbone": backbone, "peft": peft, "task": task, "method": method, "seed": seed}
        return {**names, **fitted(parts(task), task, "test", settings)}

    def compare_types(_: str, backbone: str, task: str, dtype: str) -> dict[str, Any]:
        settings = {"backbone": f"builtin:{backbone}", "method": "predictor", "dtype": dtype}
        settings |= {"epochs": options.epochs, "seed": 0}
        names = {"backbone": backbone, "task": task, "dtype": dtype}
        return {**names, **fitted(parts(task), task, "test", settings)}

    short = [backbone.removeprefix("builtin:") for backbone in options.backbones]
    if options.stage == "tune":
        cells = [
            ("tune", backbone, peft, task, method, rate, *([options.seed] if options.seed else []))
            for backbone, peft, task, method in itertools.product(short, options.pefts, options.tasks, options.methods)
            for rate in options.rates or RATES[peft]
        ]
        print(tuned_table(run_cells(cells, tune, options.out, options.only)), flush=True)
    elif options.stage == "types":
        kinds = itertools.product(["types"], short, options.tasks, ("bfloat16", "float32"))
        print(types_table(run_cells(list(kinds), compare_types, options.out, options.only)), flush=True)
    else:
        grid = itertools.product(["test"], short, options.pefts, options.tasks, METHODS, range(options.seeds))
        print(test_tables(run_cells(list(grid), test, options.out, options.only)), flush=True)


if __name__ == "__main__":
    main()
