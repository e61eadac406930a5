"""Artifacts of an earlier release, made by its own code, load today and predict equal to the bit.

`python -m scripts.checks.release_artifacts [--release COMMIT] [--folder FOLDER]` takes the code of a release out
of git, fits one small model of each kind with it, and lets that release and today's code answer the same rows.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from math import isclose
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RELEASE = "1b69a79"  # the last commit of 0.6.0

WORDS = ("lovely", "bright", "warm", "honest", "clever", "dull", "cold", "broken", "sad", "noisy")
TASTES = ("sweet", "sour", "very bitter")
FAST = {"quiet": True, "max_steps": 4, "batch_size": 8, "seed": 3}
# What each model is fitted with, and how it is asked.
FITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "predictor-number": ({"target": "stars", "method": "predictor"}, {}),
    "predictor-label": ({"target": "mood", "method": "predictor", "pooling": "mean"}, {"probabilities": True}),
    "predictor-set": ({"target": "tastes", "method": "predictor"}, {"probabilities": True}),
    "predictor-record": ({"target": "mood,stars", "method": "predictor"}, {"probabilities": True}),
    "generator-number": ({"target": "stars", "method": "generator", "metric": "mae"}, {"std": True}),
    "generator-text": ({"target": "stars", "method": "generator", "decoding": "free", "estimate": "text"}, {}),
    "generator-label": ({"target": "mood", "method": "generator", "decoding": "beam"}, {"probabilities": True}),
    "generator-set": ({"target": "tastes", "method": "generator"}, {"probabilities": True}),
    "generator-record": (
        {"target": "mood,stars", "method": "generator", "trie_mass": 0.9},
        {"probabilities": True, "std": True, "marginal": True},
    ),
    "generator-wide": ({"target": "price", "method": "generator"}, {"std": True}),
    "predgen-number": ({"target": "stars", "calibration": 0.3}, {"std": True, "interval": 0.8}),
    "predgen-label": (
        {"target": "mood", "calibration": 0.3, "director": "mean", "loss": "wdal"},
        {"probabilities": True, "interval": 0.8},
    ),
    "predgen-set": ({"target": "tastes", "predict_from": "stack", "director": "last"}, {"probabilities": True}),
    "predgen-record": (
        {"target": "tastes,stars,mood", "predict_from": "mean", "loss": "uncertainty"},
        {"probabilities": True, "std": True},
    ),
    "predgen-wide": ({"target": "price", "predict_from": "stack", "decoding": "trie"}, {}),
    "predgen-full": ({"target": "mood", "writer_vocabulary": "full", "peft": "none"}, {"probabilities": True}),
    "predgen-rocoft": ({"target": "stars", "peft": "rocoft", "rocoft_selection": "magnitude"}, {"std": True}),
    "predgen-adalora": ({"target": "mood", "peft": "adalora", "lora_rank": 4}, {"probabilities": True}),
    "predgen-dora": ({"target": "mood", "peft": "dora", "director_share": 0.5}, {"probabilities": True}),
}


def rows() -> list[dict[str, Any]]:
    """Returns rows with a number, a label, a set of labels and a number of a wide range."""
    made = []
    for row in range(80):
        chosen = [WORDS[(row * step + step) % len(WORDS)] for step in (1, 3, 7)]
        good = sum(word in WORDS[:5] for word in chosen)
        made.append(
            {
                "review": f"Film {row} was {', '.join(chosen)}{' and long' * (row % 4)}.",
                "stars": round(good * 1.25 + row % 3 / 4, 2),
                "mood": "good" if good >= 2 else "rather bad" if good else "bad",
                "tastes": "|".join(taste for index, taste in enumerate(TASTES) if row >> index & 1) or "none",
                "price": float(f"{(row % 9 + 1) * 1.37:.2f}e{row % 8 - 1}"),
            }
        )
    return made


def fit_all(folder: Path, names: list[str]) -> None:
    """Fits and saves the models with whatever code `predgen` is."""
    import predgen

    for name in names:
        settings, _ = FITS[name]
        target = settings["target"].split(",")
        columns = ["review", *target]
        table = [{column: row[column] for column in columns} for row in rows()]
        predgen.fit(
            table,
            target if len(target) > 1 else target[0],
            out=folder / name,
            inputs="review",
            **FAST,
            **{key: value for key, value in settings.items() if key != "target"},
        )


def answer_all(folder: Path, names: list[str], out: Path) -> None:
    """Writes the answers of the saved models, and the metrics that they reach; floats keep every bit in JSON."""
    import predgen

    answers = {}
    for name in names:
        settings, asked = FITS[name]
        model = predgen.load(folder / name)
        table = model.predict([{"review": row["review"]} for row in rows()[:30]], **asked)
        known = [{key: row[key] for key in ("review", *settings["target"].split(","))} for row in rows()[:30]]
        answers[name] = {
            "columns": list(table.columns),
            "rows": json.loads(json.dumps(table.astype(object).values.tolist(), default=str)),
            "metrics": model.evaluate(known).metrics,
        }
    out.write_text(json.dumps(answers, indent=1), encoding="utf-8")


def run_with(source: Path, *arguments: str) -> None:
    """Runs this script with the code of a folder, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(source), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, __file__, *arguments], check=True, env=environment)


def unpack_release(commit: str, folder: Path) -> Path:
    """Returns the folder of a release's modules, taken out of git."""
    packed = subprocess.run(["git", "archive", commit, "src"], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder / "release", filter="data")
    return folder / "release" / "src"


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Returns a line for each model and each part of its answers that is no longer the same.

    Metrics may be more than the release had, and are sums that may round otherwise in their last bits.
    """
    return [
        f"{name}: {part}"
        for name in before
        for part in before[name]
        if not (_same_metrics if part == "metrics" else _same)(before[name][part], now[name][part])
    ]


def _same(before: Any, now: Any) -> bool:
    return json.dumps(before) == json.dumps(now)


def _same_metrics(before: dict[str, float], now: dict[str, float]) -> bool:
    return all(name in now and (_same(value, now[name]) or isclose(value, now[name])) for name, value in before.items())


def check(folder: Path, release: str, names: list[str]) -> list[str]:
    """Returns what today's code answers otherwise than the release did; artifacts that are there are used again."""
    source = unpack_release(release, folder)
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        run_with(source, "--fit", ",".join(missing), "--folder", str(folder))
    before, now = folder / "before.json", folder / "now.json"
    run_with(source, "--answer", ",".join(names), "--folder", str(folder), "--out", str(before))
    run_with(ROOT / "src", "--answer", ",".join(names), "--folder", str(folder), "--out", str(now))
    return differences(*(json.loads(path.read_text(encoding="utf-8")) for path in (before, now)))


def main() -> int:
    """Returns 0 where every answer is the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", default=RELEASE)
    parser.add_argument("--folder", type=Path, help="where the artifacts are kept; a temporary one if not given")
    parser.add_argument("--names", default=",".join(FITS), help="which models")
    parser.add_argument("--fit", help=argparse.SUPPRESS)
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fit:
        fit_all(given.folder, given.fit.split(","))
        return 0
    if given.answer:
        answer_all(given.folder, given.answer.split(","), given.out)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        names = given.names.split(",")
        changed = check(folder, given.release, names)
    print("\n".join(changed) or f"{len(names)} models of {given.release} predict equal to the bit")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
