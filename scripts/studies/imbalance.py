"""What do class weights and thresholds bring where one label is rare? SST-2 with 5 % of one label, test rows.

    python -m scripts.studies.imbalance DATA

DATA holds the folder `sst2`. Of all three parts so many rows of the label `negative` are left out that 5 % have it.
Each method is fitted with and without balanced class weights, and each fit answers twice: the likeliest label, and from
the threshold on that had the best F1 on the validation rows. What is finished is a file, and is never run again. The
paired tests are of the F1 of the rare label over resamples of the test rows, the mean over the seeds.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, balanced_accuracy_score, precision_recall_fscore_support

import predgen
from predgen.catalogue import load_task, task_rows
from scripts.cells import add_options, markdown, run_cells

PARTS = {"train": 600, "validation": 460, "test": 950}
SHARE = 0.05
RARE, COMMON = "0", "1"
METHODS = ("predictor", "predgen")
WEIGHTS = ("none", "balanced")
ANSWERS = ("likeliest", "threshold")
RESAMPLES = 2_000
FIGURES = ("recall", "precision", "f1", "balanced_accuracy", "average_precision", "log_loss")


def parts_of(data: Path) -> dict[str, pd.DataFrame]:
    """Returns the rows of each part; the same ones in every run."""
    found = {}
    for part, table in task_rows(load_task("sst2"), data).parts.items():
        labels = table["label"].astype(str)
        num_rare = round(SHARE * PARTS[part])
        rare = table[labels == RARE].sample(num_rare, random_state=0)
        common = table[labels == COMMON]
        rows = pd.concat([rare, common.sample(min(PARTS[part] - num_rare, len(common)), random_state=0)])
        found[part] = rows.sample(frac=1, random_state=0).reset_index(drop=True)[["sentence", "label"]]
    return found


def figures(truth: np.ndarray, answers: np.ndarray, rare: np.ndarray) -> dict[str, float]:
    """Returns the metrics of some answers.

    Args:
        truth: which rows have the rare label.
        answers: which rows are answered with it.
        rare: its probability in each row.
    """
    precision, recall, f1, _ = precision_recall_fscore_support(truth, answers, average="binary", zero_division=0)
    right = np.where(truth, rare, 1 - rare)
    return {
        "recall": float(recall),
        "precision": float(precision),
        "f1": float(f1),
        "balanced_accuracy": float(balanced_accuracy_score(truth, answers)),
        "average_precision": float(average_precision_score(truth, rare)),
        "log_loss": float(-np.log(np.clip(right, 1e-12, 1)).mean()),
    }


def f1_of(truth: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Returns the F1 of the rare label in each resample, shape (resample,); arguments have shape (resample, row)."""
    hits = (truth & answers).sum(axis=1)
    return np.asarray(2 * hits / np.maximum(truth.sum(axis=1) + answers.sum(axis=1), 1))


def fitted(parts: dict[str, pd.DataFrame], method: str, weights: str, seed: int, **settings: Any) -> dict[str, Any]:
    """Returns the answers of a model, in both ways, on the test rows."""
    begun = time.perf_counter()
    declared = {
        name.partition(".")[2]: value for name, value in load_task("sst2").settings().items() if value is not None
    }
    declared = {name: value for name, value in declared.items() if name not in ("metric", "target")}
    with_threshold = predgen.fit(
        {part: parts[part] for part in ("train", "validation")},
        "label",
        method=method,
        class_weights=weights,
        threshold="f1",
        positive=RARE,
        metric="average_precision",
        seed=seed,
        quiet=True,
        **declared,
        **settings,
    )
    trained = time.perf_counter()
    answers = with_threshold.predict(parts["test"][["sentence"]], probabilities=True)
    rare = answers[f"probability_{RARE}"].to_numpy(float)
    found = {"threshold": (answers["prediction"].astype(str) == RARE).tolist(), "likeliest": (rare > 0.5).tolist()}
    truth = (parts["test"]["label"].astype(str) == RARE).to_numpy()
    return {
        "method": method,
        "weights": weights,
        "seed": seed,
        "settings": settings,
        "train_seconds": round(trained - begun, 1),
        "threshold": with_threshold.record["threshold"]["threshold"],
        "answers": found,
        "figures": {way: figures(truth, np.array(found[way]), rare) for way in ANSWERS},
    }


def tests_of(rows: list[dict[str, Any]], truth: np.ndarray, method: str) -> list[list[str]]:
    """Returns for each way the F1 of a method less that of the plain way, with its interval over test rows."""
    draws = np.random.default_rng(0).integers(0, len(truth), (RESAMPLES, len(truth)))

    def resampled(weights: str, way: str) -> np.ndarray:
        of = [row for row in rows if (row["method"], row["weights"]) == (method, weights)]
        return np.mean([f1_of(truth[draws], np.array(row["answers"][way])[draws]) for row in of], axis=0)

    plain, found = resampled("none", "likeliest"), []
    for weights in WEIGHTS:
        for way in ANSWERS:
            if (weights, way) != ("none", "likeliest"):
                low, high = np.quantile(resampled(weights, way) - plain, [0.025, 0.975])
                mean = (resampled(weights, way) - plain).mean()
                found.append([method, weights, way, f"{mean:+.3f}", f"{low:+.3f} … {high:+.3f}"])
    return found


def main() -> None:
    """Runs the cells that are not finished, and prints the tables of what is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of datasets")
    parser.add_argument("--backbone", default="builtin:smollm2")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--trained-layers", type=int, default=10)
    add_options(parser, "runs/imbalance")
    options = parser.parse_args()
    parts = parts_of(options.data)
    settings = {"backbone": options.backbone, "epochs": options.epochs, "trained_layers": options.trained_layers}
    ways = [(method, weights) for method in METHODS for weights in WEIGHTS]
    cells = [(method, weights, seed) for seed in range(options.seeds) for method, weights in ways]
    rows = run_cells(cells, lambda *cell: fitted(parts, *cell, **settings), options.out, options.only)
    shown = []
    for method, weights in ways:
        of = [row for row in rows if (row["method"], row["weights"]) == (method, weights)]
        for way in ANSWERS if of else ():
            values = [[row["figures"][way][name] for row in of] for name in FIGURES]
            means = [f"{np.mean(one):.3f} ± {np.std(one, ddof=1) if len(one) > 1 else 0:.3f}" for one in values]
            shown.append([method, weights, way, *means, str(len(of))])
    print("\n" + markdown(["method", "class weights", "answer", *FIGURES, "seeds"], shown))
    truth = (parts["test"]["label"].astype(str) == RARE).to_numpy()
    if len(rows) == len(cells):
        tested = [line for method in METHODS for line in tests_of(rows, truth, method)]
        print("\n" + markdown(["method", "class weights", "answer", "F1 less plain", "95 % interval"], tested))


if __name__ == "__main__":
    main()
