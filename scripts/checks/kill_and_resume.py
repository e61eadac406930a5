"""Kills `predgen fit` at random moments and resumes it: the end must be that of the run that was never stopped.

    python -m scripts.checks.kill_and_resume --kills 20

A table is made, a run is fitted whole, and then again while SIGKILL comes at random moments, each time resumed. Weights
must be equal to the bit, and the training record but for its seconds. Exit code 1 if they are not.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SETTINGS = (
    *("--target", "stars", "--inputs", "review", "--epochs", "4", "--batch-size", "8", "--device", "cpu", "--quiet"),
    *("--set", "evals_per_epoch=2", "--set", "schedule=adaptive", "--set", "sampling_choice=softmax"),
    *("--set", "director_share=0.5", "--set", "patience=8"),
)
WORDS = {"good": ("lovely", "warm", "clever", "fine"), "bad": ("dull", "cold", "weak", "sad")}


def write_table(path: Path, num_rows: int, seed: int) -> None:
    """Writes sentences whose number follows from their words."""
    draw = random.Random(seed)
    lines = ["review,stars"]
    for row in range(num_rows):
        good = draw.randint(0, 4)
        words = draw.choices(WORDS["good"], k=good) + draw.choices(WORDS["bad"], k=4 - good)
        draw.shuffle(words)
        lines.append(f"The {row} film was {' and '.join(words)}.,{good * 1.25:.2f}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def start(table: Path, out: Path, *, resume: bool) -> subprocess.Popen[bytes]:
    """Starts a fit in a process of its own."""
    command = [sys.executable, "-c", "from predgen.cli import main; main()", "fit", str(table), "--out", str(out)]
    return subprocess.Popen([*command, *SETTINGS, *(["--resume"] if resume else [])], stdout=subprocess.DEVNULL)


def kill_until_done(table: Path, out: Path, kills: int, seconds: float, draw: random.Random) -> int:
    """Kills a fit at random moments and lets it end when all kills are spent; returns how many hit it.

    A run that ends before its kill is begun anew.

    Args:
        table: the table.
        out: where the fitted model goes.
        kills: how many.
        seconds: about how long a whole run takes.
        draw: draws the moments.
    """
    unfinished = out.with_name(out.name + ".unfinished")
    hits = 0
    while hits < kills:
        process = start(table, out, resume=unfinished.exists())
        try:
            process.wait(timeout=draw.uniform(0.1, 1.0) * seconds)
            if process.returncode:
                raise SystemExit(f"The run failed by itself with {process.returncode}.")
            return hits
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            hits += 1
            if out.exists():  # it came after the last step
                return hits
    process = start(table, out, resume=unfinished.exists())
    if process.wait():
        raise SystemExit(f"The resumed run failed with {process.returncode}.")
    return hits


def outcome(out: Path) -> tuple[bytes, dict[str, Any]]:
    """Returns what must be equal: the weights, and the record without what the clock and the stops say."""
    record = json.loads((out / "predgen.json").read_text(encoding="utf-8"))["record"]
    for name in ("train_seconds", "resumed"):
        del record[name]
    timed = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "train_runtime")
    timed += ("train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")
    history = [{name: value for name, value in one.items() if name not in timed} for one in record.pop("history")]
    return (out / "weights.safetensors").read_bytes(), {**record, "history": [one for one in history if len(one) > 2]}


def main(arguments: list[str] | None = None) -> None:
    """Kills, resumes and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=75)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = folder / "reviews.csv"
        write_table(table, options.rows, options.seed)
        begin = time.perf_counter()
        if start(table, folder / "whole", resume=False).wait():
            raise SystemExit("The whole run failed.")
        seconds = time.perf_counter() - begin
        wanted = outcome(folder / "whole")
        hits = runs = 0
        while hits < options.kills:
            out = folder / f"killed-{runs}"
            hits += kill_until_done(table, out, options.kills - hits, seconds, draw)
            runs += 1
            found = outcome(out)
            if found[0] != wanted[0] or found[1] != wanted[1]:
                raise SystemExit(f"After {hits} kills the run ended with other weights or figures.")
            print(f"{hits} kills, {runs} runs: the same weights and figures as the run that was never stopped")


if __name__ == "__main__":
    main()
