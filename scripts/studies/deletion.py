"""Do attributions find the words that an answer rests on? SST-2, words deleted by rank and at random.

    python -m scripts.studies.deletion DATA

DATA holds the folder `sst2`. A predictor over an encoder, all-MiniLM-L6-v2 if no other backbone is named, is fitted
once on some training rows. Then of each validation row a fifth of the words is deleted, one at least: those with the
largest attributions to the answered label by each method, or random ones, in several draws. What falls is the log-odds
and the probability of the label that was answered for the whole row; the means have 95 % bootstrap intervals over the
rows, and the differences from the random words are paired by row. What is finished is a file, and is never run again.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import predgen
from predgen.explaining.explanation import Word
from predgen.explaining.leaving_out import scores_of_texts
from predgen.explaining.scores import questions_for
from predgen.explaining.texts import Span, without, word_spans
from predgen.measures.statistics import bootstrap_interval
from predgen.models.model import Model
from scripts.cells import add_options, markdown, run_cells
from scripts.studies.minilm_pairs import encoder_folder

METHODS = ("gradients", "words")
COLUMN = "sentence"
# Of the training part, to choose the checkpoint by.
VALIDATION_ROWS = 400


def fitted(args: argparse.Namespace) -> Model:
    """Returns the classifier, fitted if its folder is not there."""
    folder = args.out / "model"
    if not folder.exists():
        drawn = _rows(args.data, "train").sample(args.train_rows + VALIDATION_ROWS, random_state=0)
        parts = {"train": drawn[: args.train_rows], "validation": drawn[args.train_rows :]}
        predgen.fit(
            parts,
            target="label",
            inputs=[COLUMN],
            label_text={"0": "negative", "1": "positive"},
            backbone=args.backbone or encoder_folder(),
            method="predictor",
            peft="none",
            epochs=args.epochs,
            learning_rate=args.learning_rate,
            max_prompt_tokens=96,
            seed=0,
            out=folder,
            quiet=True,
        )
    return predgen.load(folder)


def _rows(data: Path, part: str) -> pd.DataFrame:
    return pd.read_json(data / "sst2" / f"{part}.jsonl", lines=True)[[COLUMN, "label"]]


def removed_of(row: str, words: Sequence[Word] | None, draw: int) -> list[Span]:
    """Returns the words of a text to delete.

    Args:
        row: the text.
        words: the text's words with their attributions; None for random ones.
        draw: the seed of random ones.
    """
    spans = word_spans({COLUMN: row})
    number = max(1, round(len(spans) / 5))
    if words is None:
        return random.Random(f"{draw} {row}").sample(spans, number)
    ranked = sorted(words, key=lambda word: -(word.attribution or 0.0))
    return [(word.column, word.start, word.end) for word in ranked[:number]]


def drops(model: Model, texts: Sequence[str], name: str, draw: int, steps: int) -> dict[str, Any]:
    """Returns by how much the answered labels' log-odds and probabilities fall, row by row.

    Args:
        model: the classifier.
        texts: of the rows.
        name: a method of explaining, or `random`.
        draw: the seed of random words.
        steps: of the gradients.
    """
    table = pd.DataFrame({COLUMN: list(texts)})
    answers = model.predict(table)["prediction"]
    questions = [questions_for(model, [answer], None) for answer in answers]
    words: list[Any] = [None] * len(texts)
    gaps: list[float] = []
    if name != "random":
        found = predgen.explain(model, table, method=name, steps=steps)
        words, gaps = [one.words for one in found], [one.gap_fraction for one in found if one.gap_fraction is not None]
    edited = [
        without({COLUMN: text}, removed_of(text, of_row, draw)) for text, of_row in zip(texts, words, strict=True)
    ]
    before = scores_of_texts(model, [{COLUMN: text} for text in texts], questions)
    after = scores_of_texts(model, edited, questions)
    return {
        "name": name,
        "log_odds": (before.values - after.values).squeeze(1).tolist(),
        "probability": (before.probabilities - after.probabilities).squeeze(1).tolist(),
        "turned": ((before.values > 0) != (after.values > 0)).squeeze(1).double().tolist(),
        "median_gap": float(np.median(gaps)) if gaps else None,
        "largest_gap": max(gaps, default=None),
    }


def table_of(found: Sequence[dict[str, Any]]) -> str:
    """Returns the mean drops with their intervals as Markdown, random draws averaged by row."""
    names = list(dict.fromkeys(cell["name"] for cell in found))
    means = {
        name: {
            drop: np.mean([cell[drop] for cell in found if cell["name"] == name], axis=0)
            for drop in ("log_odds", "probability", "turned")
        }
        for name in names
    }

    def shown(values: np.ndarray) -> str:
        interval = bootstrap_interval(lambda rows: {"mean": float(values[rows].mean())}, len(values), seed=0)["mean"]
        return f"{values.mean():.3f} ({interval[0]:.3f} … {interval[1]:.3f})"

    rows = [[name, *(shown(values) for values in of_name.values())] for name, of_name in means.items()]
    if "random" in means:
        rows += [
            [f"{name} − random", *(shown(values - means["random"][drop]) for drop, values in means[name].items())]
            for name in names
            if name != "random"
        ]
    return markdown(["deleted", "fall of the log-odds", "fall of the probability", "answers that turned"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", help="all-MiniLM-L6-v2 if not given")
    parser.add_argument("--train-rows", type=int, default=2000)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--rows", type=int, default=200, help="validation rows")
    parser.add_argument("--draws", type=int, default=5, help="draws of random words")
    parser.add_argument("--steps", type=int, default=32)
    add_options(parser, "runs/deletion")
    args = parser.parse_args()
    model = fitted(args)
    rows = _rows(args.data, "validation").sample(args.rows, random_state=0)
    accuracy = float((model.predict(rows[[COLUMN]])["prediction"].astype(int) == rows["label"]).mean())
    print(f"accuracy on these {len(rows)} rows: {accuracy:.3f}", flush=True)
    cells = [*((name, 0) for name in METHODS), *(("random", draw) for draw in range(args.draws))]

    def run(name: str, draw: int) -> dict[str, Any]:
        return drops(model, rows[COLUMN].tolist(), name, draw, args.steps)

    found = run_cells(cells, run, args.out / f"rows{args.rows}", args.only)
    for cell in found:
        if cell["median_gap"] is not None:
            print(f"{cell['name']}: gap {cell['median_gap']:.3%} (median), {cell['largest_gap']:.3%} (largest)")
    print(table_of(found))


if __name__ == "__main__":
    main()
