"""The forms of the Director against the pooled heads and the generator: which is best, on which task, by how much.

    python -m scripts.studies.method DATA --tasks sst2 docstrings stsb --sizes 500
    python -m scripts.studies.method DATA --stage table
    python -m scripts.studies.method DATA --stage gradients --tasks stsb docstrings

DATA holds the folders of the benchmark's tasks; docstrings are those of `predgen demo`. `run` fits each form with each
learning rate on the first seed, and with the rate that had the best validation figure on the others: every form has the
same number of trials. What is finished is a file, and is never run again; `table` prints what is finished. What is
reported are test rows, which nothing was chosen on. `gradients` prints how long the gradients of L_W and L_D are at the
weights that both train, at some steps of the form `expectation` with equal weights.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import predgen
from predgen.catalogue import load_task, task_rows
from predgen.cli.demo_tables import docstring_sentences
from predgen.measures.statistics import holm, paired_permutation
from predgen.methods.heads import truth_of
from predgen.models.encoding import encode_rows
from predgen.models.evaluating import timed_answers
from predgen.models.scored import score
from predgen.tables.values import values_of
from predgen.training.batches import Collator, Examples
from scripts.cells import add_options, markdown, run_cells

PARTS = ("train", "validation", "test")
# The task of the catalogue, and what is declared otherwise; docstrings are the demo's.
TASKS: dict[str, dict[str, Any]] = {
    "sst2": {},
    "docstrings": {"target": "library", "inputs": ["sentence"]},
    "arc_easy": {},
    "emotion": {"target": "emotion", "inputs": ["text"], "kind": "label"},
    "stsb": {},
    "sick": {},
    "lcp": {},
    "wassa": {},
    "humicroedit": {},
}
ROWS_OF = {"emotion": "wassa"}
NUMBERS = ("stsb", "sick", "lcp", "wassa", "humicroedit")
RIVALS: dict[str, dict[str, Any]] = {
    "predictor": {"method": "predictor"},
    "predictor-attention": {"method": "predictor", "pooling": "attention"},
    "predictor-latent": {"method": "predictor", "pooling": "latent", "number_loss": "huber"},
    "generator": {"method": "generator"},
}
FORMS: dict[str, dict[str, Any]] = RIVALS | {
    "states": {"method": "predgen", "director_form": "states"},
    "states+start": {"method": "predgen", "director_form": "states+start"},
    "correction": {"method": "predgen", "director_form": "correction"},
    "expectation": {"method": "predgen", "director_form": "expectation"},
    "expectation-equal": {"method": "predgen", "director_form": "expectation", "writer_weight": 1.0},
    "expectation-value": {
        "method": "predgen",
        "director_form": "expectation",
        "writer_loss": "expected_value",
        "writer_weight": 1.0,
    },
    "expectation-quantiles": {"method": "predgen", "director_form": "expectation", "number_loss": "quantiles"},
}
RATES = (5e-4, 1e-3)
STEPS = (1, 10, 30)


def metric_of(task: str) -> str:
    """Returns what checkpoints and rates are chosen by."""
    return "mse" if task in NUMBERS else "log_loss"


def loss_of(task: str) -> str:
    """Returns the loss of a row, whose mean is the metric."""
    return "squared_error" if task in NUMBERS else "log_loss"


def forms_of(task: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns the settings of some forms on a task; without those that only numbers have where there are none."""
    forms = {}
    for name in names:
        settings = dict(FORMS[name])
        if task not in NUMBERS:
            if "writer_loss" in settings or settings.get("number_loss") == "quantiles":
                continue
            settings.pop("number_loss", None)
        forms[name] = settings
    return forms


def parts_of(data: Path, task: str, rows: dict[str, int]) -> dict[str, pd.DataFrame]:
    """Returns a task's parts, each as many rows as are asked for, drawn with a fixed seed."""
    if task == "docstrings":
        table = docstring_sentences()
        held_out = rows["validation"] + rows["test"]
        ends = np.cumsum([0, len(table) - held_out, rows["validation"], rows["test"]])
        tables = {part: table.iloc[ends[i] : ends[i + 1]] for i, part in enumerate(PARTS)}
    else:
        tables = dict(task_rows(load_task(ROWS_OF.get(task, task)), data).parts)
    return {
        part: table.sample(n=min(rows[part], len(table)), random_state=0).reset_index(drop=True)
        for part, table in tables.items()
    }


def declared(task: str) -> dict[str, Any]:
    """Returns the settings that say what is predicted, and from what."""
    if TASKS[task]:
        return dict(TASKS[task])
    settings = load_task(task).settings()
    return {
        name.partition(".")[2]: value for name, value in settings.items() if value is not None and "metric" not in name
    }


def fitted(parts: dict[str, pd.DataFrame], task: str, **settings: Any) -> Any:
    """Returns a model that is fitted now."""
    said = declared(task)
    target = said.pop("target")
    tables = {name: parts[name] for name in ("train", "validation")}
    return predgen.fit(tables, target, quiet=True, metric=metric_of(task), **(said | settings))


def figures(model: Any, table: pd.DataFrame, task: str) -> dict[str, Any]:
    """Returns the metrics of some rows, each row's loss, and the rows that were answered in a second."""
    answers, seconds = timed_answers(model, table)
    scored = score(model.target, values_of(model.target, table, [model.contents.config.data.target[0]]), answers)
    return {
        "test": {name: round(float(value), 6) for name, value in scored.metrics().items()},
        "losses": [round(float(row), 6) for row in scored.losses()[loss_of(task)]],
        "rows_per_second": round(len(table) / seconds, 3),
    }


def best_rate(cells: Sequence[dict[str, Any]]) -> float:
    """Returns the rate of the first seed's best validation figure; both metrics are better when lower."""
    first = [cell for cell in cells if cell["seed"] == 0]
    best = min(first, key=lambda cell: float(cell["validation"][cell["metric"]]))
    return float(best["rate"])


def chosen_cells(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the cells of each form's best rate."""
    kept = []
    for name in dict.fromkeys(_name(cell) for cell in cells):
        of_form = [cell for cell in cells if _name(cell) == name]
        if any(cell["seed"] == 0 for cell in of_form):
            rate = best_rate(of_form)
            kept += [cell for cell in of_form if cell["rate"] == rate]
    return kept


def _name(cell: dict[str, Any]) -> tuple[Any, ...]:
    return cell["backbone"], cell["task"], cell["size"], cell["form"]


def means_of(cells: Sequence[dict[str, Any]], seeds: int) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Returns, for each form of each task that has all its seeds, the figures over seeds and the rows' mean losses."""
    found = {}
    for name in dict.fromkeys(_name(cell) for cell in cells):
        runs = [cell for cell in cells if _name(cell) == name]
        if len(runs) < seeds:
            continue
        values = [run["test"][run["metric"]] for run in runs]
        found[name] = {
            "metric": runs[0]["metric"],
            "rate": runs[0]["rate"],
            "mean": statistics.mean(values),
            "spread": statistics.stdev(values) if len(values) > 1 else 0.0,
            "ece": statistics.mean(run["test"].get("ece", float("nan")) for run in runs),
            "losses": np.mean([run["losses"] for run in runs], axis=0),
            "validation": statistics.mean(run["validation"][run["metric"]] for run in runs),
            "train_seconds": statistics.mean(run["train_seconds"] for run in runs),
            "rows_per_second": statistics.mean(run["rows_per_second"] for run in runs),
        }
    return found


def tables(cells: Sequence[dict[str, Any]], seeds: int, ours: str = "expectation") -> str:
    """Returns a table for each task, the mean ranks, and tests of one form against the best rival, as Markdown.

    The rival of a task is the one with the best validation figure; its test rows are what is compared.
    """
    means = means_of(chosen_cells(cells), seeds)
    parts, ranks, pairs = [], {}, []
    for place in dict.fromkeys(name[:3] for name in means):
        here = {name[3]: found for name, found in means.items() if name[:3] == place}
        order = sorted(here, key=lambda form: float(here[form]["mean"]))
        for rank, form in enumerate(order):
            ranks.setdefault(form, []).append(rank + 1)
        rows = [
            [
                form,
                f"{found['mean']:.4f} ± {found['spread']:.4f}",
                None if np.isnan(found["ece"]) else f"{found['ece']:.3f}",
                f"{found['rate']:g}",
                f"{found['train_seconds']:.0f}",
                f"{found['rows_per_second']:.1f}",
            ]
            for form, found in here.items()
        ]
        title = f"{place[0]}, {place[1]}, {place[2]} rows"
        metric = next(iter(here.values()))["metric"]
        parts.append(markdown([title, metric, "ECE", "rate", "seconds", "rows a second"], rows))
        rivals = [form for form in here if form in RIVALS]
        if rivals and ours in here:
            rival = min(rivals, key=lambda form: float(here[form]["validation"]))
            difference = here[ours]["losses"] - here[rival]["losses"]
            p = paired_permutation(here[ours]["losses"], here[rival]["losses"], seed=0)
            pairs.append((title, rival, float(difference.mean()), p))
    rank_rows = [[form, f"{statistics.mean(found):.2f}", str(len(found))] for form, found in sorted(ranks.items())]
    parts.append(markdown(["form", "mean rank", "tasks"], rank_rows))
    if pairs:
        corrected = holm([p for *_, p in pairs])
        tests = [
            [title, rival, f"{difference:+.4f}", f"{p:.4f}"]
            for (title, rival, difference, _), p in zip(pairs, corrected, strict=True)
        ]
        parts.append(markdown(["task", f"{ours} − the best rival", "difference", "p (Holm)"], tests))
    return "\n\n".join(parts)


def gradient_norms(model: Any, table: pd.DataFrame) -> tuple[float, float, float]:
    """Returns the norms of the gradients of L_W and L_D at the weights that both train, and their cosine."""
    method = model.method.train()
    values = values_of(model.target, table, [model.contents.config.data.target[0]])
    truth = truth_of(model.target, values, [head.scale for head in method.fields])
    examples = Examples(encode_rows(method, model.contents, table).prompts, values, truth)
    batch = Collator(examples, method.backbone, method.codec)(range(len(table)))["batch"].to(method.device)
    shared = [weight for weight in method.backbone.parameters() if weight.requires_grad]
    losses = method(batch)
    flat = []
    for name in ("writer_loss", "director_loss"):
        gradients = torch.autograd.grad(losses[name], shared, retain_graph=True, allow_unused=True)
        flat.append(torch.cat([gradient.flatten().float() for gradient in gradients if gradient is not None]))
    writer, director = flat
    cosine = torch.nn.functional.cosine_similarity(writer, director, dim=0)
    return float(writer.norm()), float(director.norm()), float(cosine)


def main() -> None:
    """Runs what is not finished and prints the tables of what is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--stage", choices=("run", "table", "gradients"), default="run")
    parser.add_argument("--backbones", nargs="*", default=["smollm2"])
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--sizes", type=int, nargs="*", default=[500])
    parser.add_argument("--forms", nargs="*", default=list(FORMS))
    parser.add_argument("--rates", type=float, nargs="*", default=list(RATES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--validation-rows", type=int, default=200)
    parser.add_argument("--test-rows", type=int, default=500)
    add_options(parser, "runs/method")
    options = parser.parse_args()
    kept: dict[tuple[str, int], dict[str, pd.DataFrame]] = {}

    def parts(task: str, size: int) -> dict[str, pd.DataFrame]:
        if (task, size) not in kept:
            rows = dict(zip(PARTS, (size, options.validation_rows, options.test_rows), strict=True))
            kept[task, size] = parts_of(options.data, task, rows)
        return kept[task, size]

    def run(stage: str, backbone: str, task: str, size: int, form: str, rate: float, seed: int) -> dict[str, Any]:
        start = time.perf_counter()
        settings = forms_of(task, [form])[form]
        model = fitted(
            parts(task, size),
            task,
            backbone=f"builtin:{backbone}",
            learning_rate=rate,
            seed=seed,
            epochs=options.epochs,
            **settings,
        )
        names = {"backbone": backbone, "task": task, "size": size, "form": form, "rate": rate, "seed": seed}
        return {
            **names,
            "settings": settings | {"epochs": options.epochs},
            "version": predgen.__version__,
            "metric": metric_of(task),
            "train_seconds": round(model.contents.record["train_seconds"], 1),
            "seconds": round(time.perf_counter() - start, 1),
            "validation": figures(model, parts(task, size)["validation"], task)["test"],
            **figures(model, parts(task, size)["test"], task),
        }

    places = list(itertools.product(options.backbones, options.tasks, options.sizes))
    if options.stage == "gradients":
        rows = []
        for backbone, task, size in places:
            settings: dict[str, Any] = {"director_form": "expectation", "writer_weight": 1.0, "seed": 0}
            for step in STEPS:
                model = fitted(parts(task, size), task, backbone=f"builtin:{backbone}", max_steps=step, **settings)
                norms = gradient_norms(model, parts(task, size)["train"].tail(32))
                rows.append([backbone, task, str(step), *(f"{norm:.3g}" for norm in norms)])
        print(markdown(["backbone", "task", "step", "norm of L_W", "norm of L_D", "cosine"], rows), flush=True)
        return
    found: list[dict[str, Any]] = []
    for backbone, task, size in places:
        for form in forms_of(task, options.forms):
            first = [("method", backbone, task, size, form, rate, 0) for rate in options.rates]
            only = ["nothing runs"] if options.stage == "table" else options.only
            cells = run_cells(first, run, options.out, only)
            found += cells
            if len(cells) == len(first):
                rate = best_rate(cells)
                rest = [("method", backbone, task, size, form, rate, seed) for seed in range(1, options.seeds)]
                found += run_cells(rest, run, options.out, only)
    print(tables(found, options.seeds), flush=True)


if __name__ == "__main__":
    main()
