"""How many decimals, and which form: errors of the Writer, of the Director and of both on LCP, test rows.

    python -m scripts.studies.long_numbers DATA

DATA holds the folder `lcp`. PredGen is fitted for each form of the number (fixed, scientific), each number of decimals
and each seed; the scientific form has one decimal fewer in its mantissa, so that both tell numbers near 0.3 apart
equally well. One fitted model answers from its Director, from the written text, and from the mean of both. Losses are
averaged over the seeds for each row, then tested by paired permutations, corrected by Holm.
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
from predgen.measures.statistics import holm, paired_permutation
from predgen.models.evaluating import timed_answers
from scripts.cells import add_options, markdown, run_cells

FORMS = ("fixed", "scientific")
DECIMALS = (2, 4, 8)
SOURCES: dict[str, str] = {"Director": "director", "Writer": "writer", "both": "mean"}
PARTS = ("train", "validation", "test")


def answers_of(model: predgen.Model, rows: pd.DataFrame) -> dict[str, list[float]]:
    """Returns the answers of the Director, of the written text, and of their mean."""
    found = {}
    texts = replace(model.contents.answering, estimates=("text",))
    for name, source in SOURCES.items():
        model.contents = replace(model.contents, answering=texts.predicting_from(source))
        found[name] = [float(value) for value in timed_answers(model, rows)[0].values]
    return found


def per_row(cells: list[dict[str, Any]], form: str, decimals: int, source: str) -> np.ndarray:
    """Returns each test row's squared error, averaged over the seeds."""
    chosen = [cell for cell in cells if (cell["form"], cell["decimals"]) == (form, decimals)]
    errors = [(np.array(cell[source]) - np.array(cell["truth"])) ** 2 for cell in chosen]
    return np.asarray(np.mean(errors, axis=0))


def tables_of(cells: list[dict[str, Any]]) -> str:
    """Returns the errors and the tests as Markdown."""
    errors = []
    for form, decimals in itertools.product(FORMS, DECIMALS):
        chosen = [cell for cell in cells if (cell["form"], cell["decimals"]) == (form, decimals)]
        line = [form, str(decimals), f"{statistics.mean(cell['tokens'] for cell in chosen):.1f}"]
        for source in SOURCES:
            seeds = [float(np.mean((np.array(cell[source]) - np.array(cell["truth"])) ** 2)) for cell in chosen]
            spread = statistics.stdev(seeds) if len(seeds) > 1 else 0.0
            line.append(f"{statistics.mean(seeds):.4f} ± {spread:.4f}")
        errors.append(line)
    pairs = []
    for source in ("Director", "Writer"):
        for one, other in itertools.combinations(DECIMALS, 2):
            pairs.append((source, ("fixed", one), ("fixed", other)))
        pairs += [(source, ("fixed", decimals), ("scientific", decimals)) for decimals in DECIMALS]
    losses = [(per_row(cells, *one, source), per_row(cells, *other, source)) for source, one, other in pairs]
    values = holm([paired_permutation(a, b, seed=0) for a, b in losses])
    tests = [
        [source, f"{one[0]} {one[1]} − {other[0]} {other[1]}", f"{(a - b).mean():+.4f}", f"{p:.4f}"]
        for (source, one, other), (a, b), p in zip(pairs, losses, values, strict=True)
    ]
    return "\n\n".join(
        (
            markdown(["form", "decimals", "tokens", *SOURCES], errors),
            markdown(["answer", "pair", "difference of mse", "p (Holm)"], tests),
        )
    )


def main() -> None:
    """Runs what is not finished and prints the tables when all is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--max-train-rows", type=int, default=1200)
    parser.add_argument("--max-prompt-tokens", type=int, default=64)
    add_options(parser, "runs/long-numbers")
    options = parser.parse_args()

    def run(form: str, decimals: int, seed: int) -> dict[str, Any]:
        settings = {
            "number_form": form,
            "decimals": decimals if form == "fixed" else decimals - 1,
            "low": 0.0,
            "high": 1.0,
            "peft": "none",
            "seed": seed,
            "epochs": options.epochs,
            "max_prompt_tokens": options.max_prompt_tokens,
            "max_train_rows": options.max_train_rows,
        }
        parts = {name: pd.read_json(options.data / "lcp" / f"{name}.jsonl", lines=True) for name in PARTS}
        parts["train"] = parts["train"].sample(frac=1, random_state=0).reset_index(drop=True)  # the file is ordered
        model = predgen.fit(parts, "complexity", inputs=["token", "sentence"], quiet=True, **settings)
        paths = [model.method.codec.path(value) for value in parts["test"]["complexity"]]
        return {
            "form": form,
            "decimals": decimals,
            "seed": seed,
            "settings": settings,
            "tokens": statistics.mean(map(len, paths)),
            "truth": [float(value) for value in parts["test"]["complexity"]],
            **answers_of(model, parts["test"]),
        }

    cells = list(itertools.product(FORMS, DECIMALS, range(options.seeds)))
    found = run_cells(cells, run, options.out, options.only)
    if len(found) == len(cells):
        print(tables_of(found), flush=True)


if __name__ == "__main__":
    main()
