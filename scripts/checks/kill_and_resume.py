"""Kills commands at random moments and goes on: the end must be that of the command that was never stopped.

    python -m scripts.checks.kill_and_resume --kills 100

fit, compare, compare with trials (`tune`), tune (`search`), ablate, reproduce, predict and calibrate run whole, and
then again while SIGKILL comes at random moments. What can be resumed is resumed; the others are begun again. After each
kill what was there is whole, and what is new is whole or absent. At the end weights, figures and answers are equal, but
for the clock's. Exit code 1 if they are not. Each command is a fork of this process, so that no time goes into imports.
"""

import argparse
import functools
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before torch is imported: a fork has no threads, and the last bits depend on their number
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

from tests.helpers.shapes import byte_level_tokenizer, save_model, tiny_model

from predgen.cli import main as predgen_main
from predgen.measures.statistics import bootstrap, bootstrap_interval

COMMON = ("--device", "cpu", "--quiet")
SMALL = ("--inputs", "review", "--target", "stars", "--batch-size", "8", *COMMON, "--set", "max_steps=4")
SAMPLED = ("--set", "evals_per_epoch=2", "--set", "schedule=adaptive", "--set", "sampling_choice=softmax")
WORDS = {"good": ("lovely", "warm", "clever", "fine"), "bad": ("dull", "cold", "weak", "sad")}
# What the clock says, and what says that a run was stopped.
TIMED = ("seconds", "second", "runtime", "resumed", "flos", "train_loss", "per_second")


@dataclass(frozen=True)
class Job:
    """A command that is killed.

    Attributes:
        arguments: its arguments; it runs in a folder of its own.
        unfinished: what it keeps there to go on with; empty where it is begun again.
        outcome: what must be equal in the end, from that folder.
        replaces: what it replaces, and must leave whole; empty where nothing was there.
    """

    arguments: tuple[str, ...]
    unfinished: str
    outcome: Callable[[Path], Any]
    replaces: str = ""


def without_times(value: Any) -> Any:
    """Returns what JSON holds without what the clock says."""
    if isinstance(value, dict):
        kept = {name: without_times(one) for name, one in value.items() if not name.endswith(TIMED)}
        return {name: one for name, one in kept.items() if name != "path"}
    if isinstance(value, list):
        # A line of the training record that has times alone is one of a run's end.
        return [
            one for one in map(without_times, value) if not (isinstance(one, dict) and set(one) <= {"epoch", "step"})
        ]
    return value


def files_below(path: Path) -> dict[str, bytes]:
    """Returns the content of a file, or of all files of a folder."""
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def _model(folder: Path) -> Any:
    out = folder / "out"
    record = json.loads((out / "predgen.json").read_text(encoding="utf-8"))["record"]
    return (out / "weights.safetensors").read_bytes(), without_times(record)


def _figures(folder: Path) -> Any:
    return without_times(json.loads((folder / "figures.json").read_text(encoding="utf-8")))


KEPT = ("--runs", "runs", "--json", "figures.json")
SPLIT = "--split=60/20/20"
BASELINE = ("--baselines", "mean_or_majority")
JOBS: dict[str, Job] = {
    "fit": Job(
        ("fit", "{table}", "--out", "out", *SMALL, *SAMPLED, "--set", "max_steps=16", "--set", "director_share=0.5"),
        "out.unfinished",
        _model,
    ),
    "compare": Job(("compare", "{table}", *BASELINE, SPLIT, *KEPT, *SMALL), "runs", _figures),
    "tune": Job(
        ("compare", "{table}", *BASELINE, "--methods", "predictor", "--trials", "3", SPLIT, *KEPT, *SMALL),
        "runs",
        _figures,
    ),
    "search": Job(
        (
            *("tune", "{table}", "--method", "predictor", "--search", "learning_rate=1e-4..1e-3", "--trials", "2"),
            *("--no-prune", "--runs", "runs", "--out", "better", "--json", "figures.json", SPLIT, *SMALL),
        ),
        "runs",
        _figures,
    ),
    "ablate": Job(("ablate", "{table}", "--parts", "passes", SPLIT, *KEPT, *SMALL), "runs", _figures),
    "reproduce": Job(
        (
            *("reproduce", "--data", "{tasks}", "--tasks", "sst2", "--backbones", "{backbone}", "--out", "cells"),
            *("--json", "figures.json", "--quiet"),
            *("--set", "max_steps=4", "--set", "batch_size=8", "--set", "device=cpu"),
        ),
        "cells/preset.json",
        _figures,
    ),
    "predict": Job(
        ("predict", "{model}", "{table}", "--out", "answers.csv", "--overwrite", *COMMON),
        "",
        lambda folder: files_below(folder / "answers.csv"),
        "answers.csv",
    ),
    "calibrate": Job(
        ("calibrate", "model", "{table}", *COMMON), "", lambda folder: files_below(folder / "model"), "model"
    ),
}


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


def write_task(folder: Path, num_rows: int) -> None:
    """Writes rows as the task sst2 has them."""
    folder.mkdir(parents=True)
    for name in ("train", "validation", "test"):
        rows = [
            {"sentence": f"a {('dull', 'warm')[row % 2]} film number {row}", "label": row % 2, "idx": row}
            for row in range(num_rows)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


class Place:
    """Where the jobs run.

    Attributes:
        folder: of all files.
        names: what stands for what in a job's arguments.
    """

    def __init__(self, folder: Path, num_rows: int, seed: int) -> None:
        self.folder = folder
        tokenizer = byte_level_tokenizer()
        model = tiny_model("llama", len(tokenizer), max_position_embeddings=512)
        self.names = {
            "table": str(folder / "reviews.csv"),
            "tasks": str(folder / "tasks"),
            "backbone": save_model(folder / "llama", model, tokenizer),
            "model": str(folder / "fitted" / "out"),
        }
        os.environ["PREDGEN_BACKBONE"] = self.names["backbone"]
        write_table(folder / "reviews.csv", num_rows, seed)
        write_task(folder / "tasks" / "sst2", num_rows)
        # A fork that imports lazily would do so again and again.
        import predgen.cli.ablate
        import predgen.cli.compare
        import predgen.cli.fit
        import predgen.cli.predict
        import predgen.cli.reproduce
        import predgen.experiments.ablating
        import predgen.experiments.choosing
        import predgen.experiments.reproduction.running
        import predgen.models.streaming
        import predgen.report.reproduction

        # The intervals of 1,000 resamples take longer than all else.
        few = {"resamples": 20}
        predgen.experiments.results.bootstrap = functools.partial(bootstrap, **few)
        for module in (predgen.models.scored, predgen.models.evaluating):
            module.bootstrap_interval = functools.partial(bootstrap_interval, **few)

    def started(self, job: Job, folder: Path, *, resume: bool) -> ForkProcess:
        """Starts a job in a folder."""
        arguments = [argument.format(**self.names) for argument in job.arguments]
        process = multiprocessing.get_context("fork").Process(
            target=_run, args=(folder, [*arguments, *(["--resume"] if resume else [])])
        )
        process.start()
        return process

    def fresh(self, name: str, job: Job) -> Path:
        """Returns a new folder with what a job replaces."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if job.replaces == "model":
            shutil.copytree(self.names["model"], folder / "model")
        elif job.replaces:
            (folder / job.replaces).write_text("old", encoding="utf-8")
        return folder


def _run(folder: Path, arguments: list[str]) -> None:
    """Runs the command line in a folder; standard output is nobody's."""
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.argv = ["predgen", *arguments]
    predgen_main()


def run_whole(place: Place, name: str) -> tuple[Any, float]:
    """Returns the outcome of a job that is not stopped, and its seconds."""
    job = JOBS[name]
    folder = place.fresh("fitted" if name == "fit" else "whole", job)
    begun = time.perf_counter()
    process = place.started(job, folder, resume=False)
    process.join()
    if process.exitcode:
        raise SystemExit(f"{name} failed by itself with {process.exitcode}.")
    return job.outcome(folder), time.perf_counter() - begun


def kill_until_done(place: Place, name: str, wanted: Any, kills: int, seconds: float, draw: random.Random) -> int:
    """Kills a job at random moments, and lets it end when all kills are spent; returns how many hit it.

    Args:
        place: where it runs.
        name: of the job.
        wanted: its outcome when it is not stopped.
        kills: how many.
        seconds: about how long it takes.
        draw: draws the moments.
    """
    job = JOBS[name]
    folder = place.fresh("killed", job)
    old = files_below(folder / job.replaces) if job.replaces else {}
    hits = 0
    while True:
        process = place.started(job, folder, resume=bool(job.unfinished) and (folder / job.unfinished).exists())
        process.join(None if hits == kills else draw.uniform(0, 1) * seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            hits += 1
            check_after_kill(name, folder, old, wanted)
            if not (job.unfinished == "out.unfinished" and (folder / "out").exists()):
                continue  # a model is there only when all is done
        elif process.exitcode:
            raise SystemExit(f"{name} failed with {process.exitcode} after {hits} kills.")
        found = job.outcome(folder)
        if found != wanted:
            other = "; ".join(differences(wanted, found))
            raise SystemExit(f"After {hits} kills {name} ended with other weights, figures or answers: {other}.")
        return hits


def differences(wanted: Any, found: Any, place: str = "") -> list[str]:
    """Returns where two outcomes differ, and how."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        names = sorted({*wanted, *found}, key=str)
        return [line for one in names for line in differences(wanted.get(one), found.get(one), f"{place}/{one}")]
    if isinstance(wanted, list | tuple) and isinstance(found, list | tuple) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [line for at, (one, other) in pairs for line in differences(one, other, f"{place}/{at}")]
    if wanted == found:
        return []
    if isinstance(wanted, bytes) and isinstance(found, bytes):
        return [f"{place}: {len(wanted)} and {len(found)} bytes, of which others differ"]
    return [f"{place}: {wanted!r} and {found!r}"]


def check_after_kill(name: str, folder: Path, old: dict[str, bytes], wanted: Any) -> None:
    """Refuses a folder in which something is half written."""
    job = JOBS[name]
    if job.replaces and files_below(folder / job.replaces) not in (old, wanted):
        raise SystemExit(f"After a kill '{job.replaces}' of {name} is neither what it was nor what it is to be.")
    for file in folder.rglob("*.json"):
        if not any(part.startswith(".") or part == "checkpoints" for part in file.relative_to(folder).parts):
            json.loads(file.read_text(encoding="utf-8"))
    if (folder / "out").exists() and job.outcome(folder) != wanted:
        raise SystemExit(f"After a kill the model of {name} is another.")


def main(arguments: list[str] | None = None) -> None:
    """Kills, goes on and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=21, help="of all jobs together")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", default=",".join(JOBS))
    options = parser.parse_args(arguments)
    draw = random.Random(options.seed)
    names = options.jobs.split(",")
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), options.rows, options.seed)
        if "fit" not in names:
            run_whole(place, "fit")  # whose model the others use
        left = options.kills
        for number, name in enumerate(names):
            begun = time.perf_counter()
            wanted, seconds = run_whole(place, name)
            share, hits, runs = left // (len(names) - number), 0, 0
            while hits < share:
                hits += kill_until_done(place, name, wanted, share - hits, seconds, draw)
                runs += 1
            left -= hits
            print(
                f"{name}: {hits} kills, {runs} runs, {time.perf_counter() - begun:.0f} s: the end of the run that was "
                "never stopped",
                flush=True,
            )
        print(f"{options.kills - left} kills")


if __name__ == "__main__":
    main()
