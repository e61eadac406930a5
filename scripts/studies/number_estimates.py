"""Which point estimate for which metric, and do 90 % intervals hold: STS-B and LCP, the generator, test rows.

    python -m scripts.studies.number_estimates DATA

DATA holds the folders `stsb` and `lcp`. Each seed's model answers the same rows four times, with the same weights: by
greedy text, and by mode, mean, median of its distribution. Losses are averaged over the seeds for each row, then
tested by paired permutations, corrected by Holm. The intervals are of the mean: coverage over random halves of the test
rows, and with the validation part as calibration rows (which also chose the checkpoint).
"""

import argparse
import itertools
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import predgen
from predgen.measures.calibration import calibrate_numbers
from predgen.measures.statistics import holm, paired_permutation
from predgen.models.evaluating import timed_answers
from scripts.cells import add_options, markdown, run_cells

TASKS: dict[str, dict[str, Any]] = {
    "stsb": {"target": "label", "inputs": ["sentence1", "sentence2"]},
    "lcp": {"target": "complexity", "inputs": ["token", "sentence"]},
}
# The name of each estimate: how it is decoded, and what is answered.
ESTIMATES: dict[str, tuple[str, str]] = {
    "greedy text": ("greedy", "text"),
    "mode": ("trie", "mode"),
    "mean": ("greedy", "mean"),
    "median": ("greedy", "median"),
}
LOSSES = {"mse": np.square, "mae": np.abs}
PARTS = ("train", "validation", "test")
LEVEL = 0.9
SPLITS = 200


def answers_of(model: predgen.Model, rows: pd.DataFrame) -> dict[str, list[float]]:
    """Returns each estimate's answers for some rows."""
    found = {}
    usual = model.contents.answering
    for name, (decoding, estimate) in ESTIMATES.items():
        answering = replace(usual, decoding=replace(usual.decoding, name=decoding), estimates=(estimate,))
        model.contents = replace(model.contents, answering=answering)
        found[name] = [float(value) for value in timed_answers(model, rows)[0].values]
    return found


def coverage(predicted: np.ndarray, truth: np.ndarray, rows: np.ndarray, others: np.ndarray) -> float:
    """Returns the share of the other rows whose interval, calibrated on some rows, holds the truth."""
    low, high = calibrate_numbers(predicted[rows], truth[rows]).interval(predicted[others], LEVEL)
    return float(np.mean((low <= truth[others]) & (truth[others] <= high)))


def coverages(cell: dict[str, Any]) -> tuple[float, float]:
    """Returns the coverage of the mean's intervals: averaged over random halves of the test rows, and officially."""
    predicted, truth = np.array(cell["test"]["mean"]), np.array(cell["test_truth"])
    draw = np.random.default_rng(0)
    halves = []
    for _ in range(SPLITS):
        order = draw.permutation(len(truth))
        halves.append(coverage(predicted, truth, order[: len(truth) // 2], order[len(truth) // 2 :]))
    both = np.concatenate([cell["validation"]["mean"], predicted])
    truths = np.concatenate([cell["validation_truth"], truth])
    rows = np.arange(len(both))
    cut = len(cell["validation_truth"])
    return statistics.mean(halves), coverage(both, truths, rows[:cut], rows[cut:])


def tables_of(task: str, found: list[dict[str, Any]]) -> str:
    """Returns the tables of one task as Markdown."""
    truth = np.array(found[0]["test_truth"])
    rows, tests = [], []
    for metric, loss in LOSSES.items():
        per_row = {
            name: np.mean([loss(np.array(cell["test"][name]) - truth) for cell in found], axis=0) for name in ESTIMATES
        }
        for name in ESTIMATES:
            seeds = [float(loss(np.array(cell["test"][name]) - truth).mean()) for cell in found]
            spread = statistics.stdev(seeds) if len(seeds) > 1 else 0.0
            rows.append([f"{task} {metric}", name, f"{statistics.mean(seeds):.4f} ± {spread:.4f}"])
        pairs = list(itertools.combinations(ESTIMATES, 2))
        values = [paired_permutation(per_row[a], per_row[b], seed=0) for a, b in pairs]
        for (a, b), p in zip(pairs, holm(values), strict=True):
            tests.append([f"{task} {metric}", f"{a} − {b}", f"{(per_row[a] - per_row[b]).mean():+.4f}", f"{p:.4f}"])
    kept = [coverages(cell) for cell in found]
    shares = [
        [f"{task} {name}", " ".join(f"{100 * one[index]:.1f} %" for one in kept)]
        for index, name in enumerate(("random halves of the test rows", "calibrated on the validation part"))
    ]
    return "\n\n".join(
        markdown(header, lines)
        for header, lines in (
            (["metric", "estimate", "mean ± seeds"], rows),
            (["metric", "pair", "difference", "p (Holm)"], tests),
            (["coverage of 90 % intervals", "each seed"], shares),
        )
    )


def main() -> None:
    """Runs what is not finished and prints the tables of the finished tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--max-train-rows", type=int)
    parser.add_argument("--max-prompt-tokens", type=int, default=64)
    add_options(parser, "runs/number-estimates")
    options = parser.parse_args()

    def run(task: str, seed: int) -> dict[str, Any]:
        settings = {"method": "generator", "peft": "none", "seed": seed, "epochs": options.epochs}
        settings |= {"max_prompt_tokens": options.max_prompt_tokens, "max_train_rows": options.max_train_rows}
        parts = {name: pd.read_json(options.data / task / f"{name}.jsonl", lines=True) for name in PARTS}
        if options.max_train_rows:  # the files are ordered
            parts["train"] = parts["train"].sample(frac=1, random_state=0).reset_index(drop=True)
        model = predgen.fit(parts, quiet=True, **settings, **TASKS[task])
        figures: dict[str, Any] = {"task": task, "seed": seed, "settings": settings}
        for part in ("validation", "test"):
            figures[part] = answers_of(model, parts[part])
            figures[f"{part}_truth"] = [float(value) for value in parts[part][TASKS[task]["target"]]]
        return figures

    for task in TASKS:
        cells = [(task, seed) for seed in range(options.seeds)]
        found = run_cells(cells, run, options.out, options.only)
        if len(found) == len(cells):
            print(tables_of(task, found), flush=True)


if __name__ == "__main__":
    main()
