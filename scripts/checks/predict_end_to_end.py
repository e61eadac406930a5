"""What `predgen predict` takes from file to file beside the model's own time, and how much memory it takes.

    python -m scripts.checks.predict_end_to_end DATA --out runs/end-to-end

DATA holds the folders `stsb` and `sst2` of JSON lines. What is finished is a file, and is never run again. The cells:

- `stsb|sst2, METHOD, plain|ahead`: the training rows, repeated to --rows, through a model that was trained for a few
  steps, file to file. The model's time is that inside of `Method.answer`. `plain` does one thing after the other, and
  its stages are timed one by one; `ahead` is what the command does: a thread reads and tokenizes the next chunk.
- `stsb|sst2, METHOD, both`: both roads in turn, --repetitions times, on --repeated-rows rows; medians.
- `one-layer, predgen, both`: the same on --short-rows short texts, with the model of the next kind.
- `memory, ROWS`: the most resident memory of a process that predicts so many short texts with a model of one layer.

Loading the model is not in the seconds, but in the memory.
"""

import argparse
import csv
import functools
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

import predgen
from predgen.backbones import find_source
from predgen.methods.buckets import answer_all_each
from predgen.models.answer_columns import with_answers
from predgen.models.asked import Asked
from predgen.models.streaming import predict_file
from predgen.tables.saving import TableWriter
from predgen.tables.splits import stream_rows
from scripts.cells import add_options, markdown, run_cells

TASKS: dict[str, dict[str, Any]] = {
    "stsb": {"target": "label", "inputs": ["sentence1", "sentence2"], "low": 0.0, "high": 5.0},
    "sst2": {"target": "label", "inputs": ["sentence"], "label_text": {"0": "negative", "1": "positive"}},
}
METHODS = ("predictor", "generator", "predgen")
MODES = ("plain", "ahead")
STAGES = ("reading", "tokenizing", "batching", "model", "columns", "writing")
FIT: dict[str, Any] = {"max_steps": 3, "quiet": True, "device": "cpu"}
FIT_ROWS = 200
WORDS = (
    *("a", "the", "film", "was", "good", "bad", "long", "short", "and"),
    *("very", "not", "so", "dull", "warm", "bright", "old", "new", "plain"),
)
KIBIBYTE = 1024
# The command line, and the most resident memory of its process in KiB. That of `getrusage` would count the process that
# started it too.
MEASURED = """
from pathlib import Path
from predgen.cli import main
try:
    main()
finally:
    print(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line).split()[1])
"""


class Stopwatch:
    """Seconds by stage; a stage inside another does not count for that one."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._inside: list[float] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time inside for a stage."""
        self._inside.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] += spent - self._inside.pop()
            if self._inside:
                self._inside[-1] += spent

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function with its time counted for a stage."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return function(*args, **kwargs)

        return timed

    def reading(self, source: str, rows_per_chunk: int) -> Iterator[pd.DataFrame]:
        """Yields the chunks of `stream_rows`, with its time counted."""
        chunks = stream_rows(source, rows_per_chunk)
        while True:
            with self.stage("reading"):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk


def training_rows(data: Path, task: str, num_rows: int) -> Iterator[dict[str, Any]]:
    """Yields a task's training rows, from the first one again after the last."""
    lines = (data / task / "train.jsonl").read_text(encoding="utf-8").splitlines()
    for line in itertools.islice(itertools.cycle(lines), num_rows):
        yield json.loads(line)


def write_rows(path: Path, rows: Iterator[dict[str, Any]], columns: list[str]) -> Path:
    """Writes some columns of rows as CSV, one row at a time, and returns the path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def model_of(folder: Path, data: Path, task: str, method: str) -> Path:
    """Returns the artifact of a method that was trained for a few steps, made if it is not there."""
    path = folder / f"{task}-{method}"
    if not path.exists():
        rows = pd.DataFrame(training_rows(data, task, FIT_ROWS)).astype(object)
        predgen.fit(rows, out=path, method=method, **TASKS[task], **FIT)
    return path


def run_once(artifact: Path, table: Path, *, ahead: bool) -> dict[str, Any]:
    """Returns the seconds of one prediction from file to file: the stages' (without the thread), the model's, all."""
    model = predgen.load(artifact, device="cpu")
    watch = Stopwatch()
    model_seconds = [0.0]

    def answer(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return type(model.method).answer_each(model.method, *args, **kwargs)
        finally:
            model_seconds[0] += time.perf_counter() - start

    model.method.answer_each = answer if ahead else watch.around("model", answer)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as name:
        writer = TableWriter(Path(name) / "answers.csv")
        if ahead:
            done = predict_file(model, str(table), writer, asked=Asked())
        else:
            with (
                patch("predgen.models.streaming.stream_rows", watch.reading),
                patch("predgen.models.model.Model.encode", watch.around("tokenizing", predgen.Model.encode)),
                patch("predgen.models.model.answer_all_each", watch.around("batching", answer_all_each)),
                patch("predgen.models.model.with_answers", watch.around("columns", with_answers)),
                patch("predgen.tables.saving.TableWriter.write", watch.around("writing", TableWriter.write)),
                patch("predgen.tables.saving.TableWriter.__exit__", watch.around("writing", TableWriter.__exit__)),
            ):
                done = predict_file(model, str(table), writer, asked=Asked(), ahead=False)
    return {
        "rows": done.rows,
        "seconds": done.seconds,
        "model_seconds": model_seconds[0],
        "other_fraction": 1 - model_seconds[0] / done.seconds,
        "rows_per_second": done.rows_per_second,
        "threads": torch.get_num_threads(),
        "stages": None if ahead else watch.seconds,
    }


def run_both(artifact: Path, table: Path, repetitions: int) -> dict[str, Any]:
    """Returns the seconds of both roads, run in turn, and the ratio of their medians."""
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    others: dict[str, list[float]] = {mode: [] for mode in MODES}
    for repetition in range(repetitions):
        for mode in random.Random(repetition).sample(MODES, len(MODES)):
            found = run_once(artifact, table, ahead=mode == "ahead")
            seconds[mode].append(found["seconds"])
            others[mode].append(found["other_fraction"])
    medians = {mode: statistics.median(seconds[mode]) for mode in MODES}
    return {
        "rows": found["rows"],
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "median_seconds": medians,
        "median_other_fraction": {mode: statistics.median(others[mode]) for mode in MODES},
        "ahead_over_plain": medians["ahead"] / medians["plain"],
    }


def tiny_model(folder: Path) -> Path:
    """Returns the artifact of a Llama of one layer and random weights over the tokenizer of `builtin:nano`."""
    path, base = folder / "one-layer", folder / "one-layer-base"
    if path.exists():
        return path
    tokenizer = AutoTokenizer.from_pretrained(find_source("builtin:nano").folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        **{f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")},
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    rows = pd.DataFrame(short_texts(FIT_ROWS)).astype(object)
    predgen.fit(rows, "label", out=path, backbone=str(base.absolute()), inputs=["text"], peft="none", **FIT)
    return path


def short_texts(num_rows: int) -> Iterator[dict[str, str]]:
    """Yields rows of a few words."""
    draw = random.Random(0)
    for row in range(num_rows):
        text = " ".join(draw.choices(WORDS, k=draw.randint(3, 8)))
        yield {"text": f"{text} {row}", "label": draw.choice(["good", "bad"])}


def peak_memory(artifact: Path, num_rows: int) -> dict[str, Any]:
    """Returns the most resident memory of `predgen predict` on so many rows, in a process of its own (on Linux)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_rows(folder / "rows.csv", short_texts(num_rows), ["text"])
        arguments = ["predict", str(artifact), str(table), "--out", str(folder / "answers.csv"), "--device", "cpu"]
        arguments += ["--json", str(folder / "done.json"), "--quiet"]
        command = [sys.executable, "-c", MEASURED, *arguments]
        printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    return {
        "rows": done["rows"],
        "peak_mebibytes": int(printed.split()[-1]) / KIBIBYTE,
        "rows_per_second": done["examples_per_second"],
    }


def report_of(found: list[dict[str, Any]]) -> str:
    """Returns the figures as Markdown tables, those that there are."""
    parts = []
    once = [one for one in found if one["cell"][-1] in MODES]
    if once:
        rows = [
            [
                " ".join(one["cell"]),
                one["rows"],
                one["seconds"],
                one["model_seconds"],
                f"{100 * one['other_fraction']:.1f} %",
                *(None if one["stages"] is None else one["stages"][stage] for stage in STAGES if stage != "model"),
            ]
            for one in once
        ]
        stages = [f"{stage} s" for stage in STAGES if stage != "model"]
        parts.append(markdown(["cell", "rows", "seconds", "model s", "not model", *stages], rows))
    both = [one for one in found if one["cell"][-1] == "both"]
    if both:
        rows = [
            [" ".join(one["cell"][:-1]), one["rows"], *(one["median_seconds"][mode] for mode in MODES)]
            + [one["ahead_over_plain"]]
            + [f"{100 * one['median_other_fraction'][mode]:.1f} %" for mode in MODES]
            for one in both
        ]
        header = ["cell", "rows", "plain s", "ahead s", "ahead / plain", "not model, plain", "not model, ahead"]
        parts.append(markdown(header, rows))
    memory = [one for one in found if one["cell"][0] == "memory"]
    if memory:
        first = memory[0]["peak_mebibytes"]
        rows = [
            [one["rows"], round(one["peak_mebibytes"]), one["peak_mebibytes"] / first, round(one["rows_per_second"])]
            for one in memory
        ]
        parts.append(markdown(["rows", "peak MiB", "of the first", "rows per second"], rows))
    return "\n\n".join(parts)


def main() -> None:
    """Measures what is not finished, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with stsb and sst2")
    add_options(parser, "runs/end-to-end")
    parser.add_argument("--rows", type=int, default=20_000, help="of the tables from file to file")
    parser.add_argument("--repeated-rows", type=int, default=10_000, help="of the tables that both roads are run on")
    parser.add_argument("--short-rows", type=int, default=20_000, help="of short texts that both roads are run on")
    parser.add_argument("--repetitions", type=int, default=5, help="of both roads, in turn")
    parser.add_argument("--memory-rows", type=int, nargs="*", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--tasks", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--threads", type=int, help="of torch; its own choice if not given")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    models = options.out / "models"

    def run(*cell: Any) -> dict[str, Any]:
        if cell[0] == "memory":
            return {"cell": [str(one) for one in cell], **peak_memory(tiny_model(models), cell[1])}
        task, method, mode = cell
        with tempfile.TemporaryDirectory() as name:
            if task == "one-layer":
                artifact, columns = tiny_model(models), ["text"]
                rows: Iterator[dict[str, Any]] = short_texts(options.short_rows)
            else:
                artifact, columns = model_of(models, options.data, task, method), TASKS[task]["inputs"]
                num_rows = options.repeated_rows if mode == "both" else options.rows
                rows = training_rows(options.data, task, num_rows)
            table = write_rows(Path(name) / "rows.csv", rows, columns)
            if mode == "both":
                figures = run_both(artifact, table, options.repetitions)
            else:
                figures = run_once(artifact, table, ahead=mode == "ahead")
        return {"cell": list(cell), **figures}

    grid: list[tuple[Any, ...]] = list(itertools.product(options.tasks, options.methods, (*MODES, "both")))
    grid.append(("one-layer", "predgen", "both"))
    grid += [("memory", rows) for rows in options.memory_rows]
    print(report_of(run_cells(grid, run, options.out, options.only)))


if __name__ == "__main__":
    main()
