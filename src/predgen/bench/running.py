"""From cells to figures: times, ratios under the names of the goals, memory, how much of the machine is used."""

import logging
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from predgen.backbones.devices import choose_device
from predgen.bench import rivals
from predgen.bench.memory import peak_memory
from predgen.bench.rivals import Rival
from predgen.bench.shapes import Cell
from predgen.bench.timing import count_flops, count_tokens, machine, matrix_rate, ratio, time_cases
from predgen.bench.workload import DTYPES, make_workload
from predgen.errors import ConfigError
from predgen.training.runs import Finished, check_folder, check_one_of
from predgen.version import __version__

log = logging.getLogger("predgen")

# Each ratio: its name, the rival above, the rival below.
RATIOS: dict[str, tuple[Rival, Rival]] = {
    "train_overhead_over_predictor": (rivals.TRAIN_ONE_PASS, rivals.TRAIN_PREDICTOR),
    "train_overhead_over_predictor_all_values": (rivals.TRAIN_EXACT, rivals.TRAIN_PREDICTOR),
    "train_overhead_over_predictor_fixed_point": (rivals.TRAIN_FIXED_POINT, rivals.TRAIN_PREDICTOR),
    "train_speedup_over_published": (rivals.TRAIN_PUBLISHED, rivals.TRAIN_ONE_PASS),
    "train_speedup_over_sft": (rivals.TRAIN_SFT, rivals.TRAIN_ONE_PASS),
    "predict_overhead_over_predictor": (rivals.PREDICT_PREDGEN, rivals.PREDICT_PREDICTOR),
    "predict_overhead_over_predictor_all_values": (rivals.PREDICT_EXACT, rivals.PREDICT_PREDICTOR),
    "predict_speedup_over_published": (rivals.PREDICT_PUBLISHED, rivals.PREDICT_PREDGEN),
    "predict_speedup_over_published_last_logits": (rivals.PREDICT_KINDER, rivals.PREDICT_PREDGEN),
    "predict_speedup_over_published_packed": (rivals.PREDICT_PUBLISHED_PACKED, rivals.PREDICT_PREDGEN),
    "predict_speedup_over_generate": (rivals.PREDICT_GENERATE, rivals.PREDICT_PREDGEN),
    "predict_speedup_over_generate_packed": (rivals.PREDICT_GENERATE_PACKED, rivals.PREDICT_PREDGEN),
    "predict_speedup_of_packed_weights": (rivals.PREDICT_PLAIN, rivals.PREDICT_PREDGEN),
    "trie_overhead_over_predictor": (rivals.PREDICT_ALL, rivals.PREDICT_PREDICTOR),
    "trie_overhead_over_predictor_pruned": (rivals.PREDICT_PRUNED, rivals.PREDICT_PREDICTOR),
    "label_cost_64_over_2": (rivals.PREDICT_64, rivals.PREDICT_TWO),
    "rows_per_second_bucketed_over_unsorted": (rivals.PREDICT_UNSORTED, rivals.PREDICT_BUCKETED),
}
MEMORY_RATIO = "train_memory_over_published"
MEMORY_RIVALS = (rivals.TRAIN_PREDICTOR, rivals.TRAIN_ONE_PASS, rivals.TRAIN_PUBLISHED, rivals.TRAIN_SFT)
# What is asked of the default cell on a CPU: at most, or at least.
GOALS: dict[str, tuple[Literal["most", "least"], float]] = {
    "train_overhead_over_predictor": ("most", 1.10),
    "train_overhead_over_predictor_all_values": ("most", 1.25),
    "train_overhead_over_predictor_fixed_point": ("most", 1.25),
    "train_speedup_over_published": ("least", 2.7),
    "train_speedup_over_sft": ("least", 1.7),
    MEMORY_RATIO: ("most", 0.5),
    "predict_overhead_over_predictor": ("most", 1.15),
    "predict_overhead_over_predictor_all_values": ("most", 1.35),
    "predict_speedup_over_published": ("least", 3.8),
    "predict_speedup_over_generate": ("least", 1.2),
    "trie_overhead_over_predictor": ("most", 1.6),
    "trie_overhead_over_predictor_pruned": ("most", 1.35),
    "label_cost_64_over_2": ("most", 1.5),
}
# Each share of the machine's rate: the rival that is timed, and the rival whose operations are counted. They do the
# same products; the counter does not know those over pre-packed weights.
USED = {
    "train_flops_over_matrix_rate": (rivals.TRAIN_ONE_PASS, rivals.TRAIN_ONE_PASS),
    "predict_flops_over_matrix_rate": (rivals.PREDICT_PREDGEN, rivals.PREDICT_PLAIN),
}


def run_bench(
    cells: Sequence[Cell],
    *,
    repetitions: int = 7,
    device: str = "auto",
    runs: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Returns the figures of cells, of which the first is the one that the ratios at the top are of.

    Args:
        cells: what to measure.
        repetitions: timed runs of every case.
        device: auto, cpu, cuda or mps.
        runs: a folder that keeps each finished cell; nothing is kept if not given.
        resume: go on with what the folder holds.
        overwrite: measure again what the folder holds.

    Returns:
        The ratios of the first cell under the names of `RATIOS`, `train_memory_over_published`,
        `train_flops_over_matrix_rate` and `predict_flops_over_matrix_rate`, `machine`, and all `cells` with their
        seconds. A ratio that a cell does not have is None, as those of all numbers where they are too many.

    Raises:
        ConfigError: the device is not there, or there is nothing to repeat.
        OutputExistsError: the folder holds something, and it is neither to be gone on with nor to be measured again.
    """
    if repetitions < 1:
        raise ConfigError(f"Expected at least 1 repetition, found {repetitions}. Use a larger number.")
    where = choose_device(device)
    finished = Finished(runs_folder(runs, resume=resume, overwrite=overwrite))
    figures = []
    for cell in cells:
        log.info("Measuring %s", cell.name)
        name = f"{cell.name}-{where.type}-{torch.get_num_threads()}-threads-{repetitions}-{__version__}"

        def make(_: Path | None, cell: Cell = cell) -> dict[str, Any]:
            return measure(cell, repetitions, where)

        figures.append(finished.figures(name, make))
    return {**figures[0]["ratios"], "machine": machine(where), "version": __version__, "cells": figures}


def measure(cell: Cell, repetitions: int, device: torch.device) -> dict[str, Any]:
    """Returns the figures of one cell.

    Args:
        cell: the cell.
        repetitions: timed runs of every case.
        device: where they run.
    """
    work = make_workload(cell, device)
    cases = rivals.cases_of(work)
    rate = matrix_rate(DTYPES[cell.dtype], device)
    flops = {timed.name: count_flops(cases[counted.name]) for timed, counted in USED.values()}
    tokens = {name: count_tokens(work.backbone.model, case) / cell.batch_size for name, case in cases.items()}
    seconds = time_cases(cases, repetitions, device)
    parameters = sum(parameter.numel() for parameter in work.backbone.model.parameters())
    target_tokens = work.batch.gold.symbols.shape[1]
    del work, cases
    memory = {rival.name: peak_memory(cell, rival, device.type)["peak_bytes"] for rival in MEMORY_RIVALS}
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    spreads = {
        name: ratio(seconds[over.name], seconds[base.name])
        for name, (over, base) in RATIOS.items()
        if over.name in seconds and base.name in seconds
    }
    ratios: dict[str, float | None] = {name: spreads[name]["ratio"] if name in spreads else None for name in RATIOS}
    ratios[MEMORY_RATIO] = memory[rivals.TRAIN_ONE_PASS.name] / memory[rivals.TRAIN_PUBLISHED.name]
    ratios |= {name: flops[timed.name] / medians[timed.name] / rate for name, (timed, _) in USED.items()}
    return {
        "cell": cell.to_json(),
        "parameters": parameters,
        "target_tokens": target_tokens,
        "repetitions": repetitions,
        "ratios": ratios,
        "spreads": spreads,
        "median_seconds": medians,
        "seconds": seconds,
        "tokens_per_row": {name: count for name, count in tokens.items() if "ragged" not in name},
        "peak_bytes": memory,
        "flops": flops,
        "matrix_flops_per_second": rate,
        "machine": machine(device),
    }


def runs_folder(runs: str | Path | None, *, resume: bool, overwrite: bool) -> Path | None:
    """Returns where finished cells are kept, emptied of cells if they are to be measured again."""
    if runs is None:
        if resume:
            raise ConfigError("Expected --runs DIR to go on with, found none. Name the folder of the first run.")
        return None
    folder = Path(runs)
    held = sorted(folder.iterdir()) if folder.is_dir() else []
    check_one_of(overwrite=overwrite, resume=resume)
    check_folder(
        folder,
        "finished cells",
        is_begun=bool(held) or resume,  # a grid may be begun with --resume
        holds_other=any(path.suffix != ".json" for path in held) or (folder.exists() and not folder.is_dir()),
        overwrite=overwrite,
        resume=resume,
    )
    if overwrite:
        for path in held:
            path.unlink()
    return folder
