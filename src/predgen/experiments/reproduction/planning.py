"""What a grid would take: cells, memory, hours on a named GPU; nothing is run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predgen.backbones import find_local, read_shape
from predgen.catalogue import load_task, local_folder
from predgen.errors import DataError, explain
from predgen.experiments.reproduction.gpus import USED, Work, gpu_named
from predgen.experiments.reproduction.grid import Cell, Preset
from predgen.experiments.reproduction.running import CELLS_FOLDER, config_of, grid_named
from predgen.inspecting.inspection import inspect_backbone
from predgen.names import METHODS
from predgen.training.preparing import Prepared, prepare

# Where a backbone's tokenizer is not there: how many characters a token has, a common rule for English.
CHARACTERS_PER_TOKEN = 4.0
# Prompts that are tokenized to know their mean length.
COUNTED_ROWS = 200
# The prompt that memory is planned for where no rows of a backbone's tasks are known.
ASSUMED_TOKENS = 128.0


@dataclass(frozen=True)
class _Rows:
    """A task's prepared rows, and some of its prompts.

    Attributes:
        prepared: the task, ready.
        texts: some training prompts.
    """

    prepared: Prepared
    texts: list[str]


def plan_reproduction(
    preset: str = "small",
    *,
    gpu: str = "A100",
    out: str | Path | None = None,
    data: str | Path | None = None,
    backbones: Sequence[str] = (),
    methods: Sequence[str] = (),
    pefts: Sequence[str] = (),
    tasks: Sequence[str] = (),
    seeds: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Returns the cells of a grid, the memory and the hours that it takes on a GPU, as JSON holds them.

    Memory is taken from `predgen.inspect_backbone`'s plan, for the longest mean prompt of the tasks. Hours are counted
    operations of matrix products over the share `USED` of the GPU's peak. Hours are None where no cell's are known, and
    of the other cells where some are not: `not_counted` is how many, and a note says why.

    Args:
        preset: small, default or paper.
        gpu: one of `predgen.experiments.reproduction.gpus.GPUS`.
        out: the folder of a reproduction that was begun, whose finished cells take nothing more.
        data: a folder with a folder for each task; PREDGEN_DATA_DIR or the hub if not given.
        backbones: instead of the preset's.
        methods: instead of the preset's.
        pefts: instead of the preset's, for all tasks.
        tasks: instead of the preset's.
        seeds: how many training seeds, from 0; the preset's if 0.
        settings: settings of `predgen.config`, which override the preset's and the tasks'.

    Raises:
        UnknownNameError: the GPU or something of the grid is not known.
        DataError: the folder of the rows is not there.
        PredGenError: a backbone or a task's rows are not what they must be.
    """
    grid = grid_named(preset, backbones, methods, pefts, tasks, seeds, settings)
    machine = gpu_named(gpu)
    if data is not None and not Path(data).expanduser().is_dir():
        raise DataError(
            explain(
                expected=f"a folder with a folder for each task in '{data}'",
                found="a file" if Path(data).expanduser().exists() else "no such folder",
                fix="Check the folder, or leave it out to look below PREDGEN_DATA_DIR.",
            )
        )
    cells = grid.cells()
    rows = {name: _rows_of(grid, name, data) for name in grid.tasks}
    tokenizers = {name: _tokenizer(name) for name in grid.backbones}
    done = [cell for cell in cells if out is not None and (Path(out) / CELLS_FOLDER / f"{cell.name}.json").exists()]
    plan_rows = []
    counted: list[float] = []
    not_counted = 0
    for key in dict.fromkeys((cell.backbone, cell.peft, cell.method) for cell in cells):
        group = [cell for cell in cells if (cell.backbone, cell.peft, cell.method) == key]
        lengths = {cell.task: _prompt_tokens(tokenizers[key[0]], rows[cell.task]) for cell in group}
        known = [length for length in lengths.values() if length is not None]
        memory = _memory_plan(grid, group[0], max(known, default=ASSUMED_TOKENS))
        work = [_work(grid, cell, rows[cell.task], lengths[cell.task], memory) for cell in group if cell not in done]
        hours = [cell_work.hours(machine) for cell_work in work if cell_work is not None]
        plan_rows.append(
            {
                "backbone": key[0],
                "peft": key[1],
                "method": key[2],
                "cells": len(group),
                "fit_bytes": memory["fit_bytes"],
                "fits": memory["fit_bytes"] <= machine.memory_bytes,
                "hours": _total(hours, len(work) - len(hours)),
                "not_counted": len(work) - len(hours),
            }
        )
        counted += hours
        not_counted += len(work) - len(hours)
    return {
        "preset": preset,
        "gpu": gpu,
        "gpu_memory_bytes": machine.memory_bytes,
        "gpu_flops": machine.flops,
        "used": USED,
        "cells": len(cells),
        "finished": len(done),
        "hours": _total(counted, not_counted),
        "not_counted": not_counted,
        "rows": plan_rows,
        "notes": _notes(rows, tokenizers),
    }


def _total(hours: Sequence[float], not_counted: int) -> float | None:
    """Returns the hours of the cells that are counted; None where none is and some should be."""
    return sum(hours) if hours or not not_counted else None


def _notes(rows: Mapping[str, _Rows | None], tokenizers: Mapping[str, Any]) -> list[str]:
    """Returns what a plan does not know, a sentence for each reason."""
    notes = []
    missing = [name for name, known in rows.items() if known is None]
    if missing:
        notes.append(
            f"The rows of {', '.join(missing)} are not on this machine: their cells are counted, their hours are not."
        )
    if missing and len(missing) == len(rows):
        notes.append(f"Memory is that of prompts of {ASSUMED_TOKENS:g} tokens, an assumption.")
    unread = [name for name, tokenizer in tokenizers.items() if tokenizer is None]
    if unread and len(missing) < len(rows):
        notes.append(
            f"No tokenizer of {', '.join(unread)} is on this machine: a token is taken for {CHARACTERS_PER_TOKEN:g} "
            "characters."
        )
    return notes


def _rows_of(grid: Preset, name: str, data: str | Path | None) -> _Rows | None:
    """Returns a task's prepared rows and some prompts; None where its rows are not found."""
    config = config_of(grid, Cell(name, grid.methods[0], grid.pefts[0], grid.backbones[0], grid.seeds[0]))
    if local_folder(load_task(name), data) is None:
        return None
    prepared = prepare(config.data, data, config.train.seed)
    head = prepared.splits.train.head(COUNTED_ROWS)
    rows = ({str(name): cell for name, cell in row.items()} for row in head.to_dict("records"))
    return _Rows(prepared, [prepared.template.render(row) for row in rows])


def _tokenizer(backbone: str) -> Any | None:
    """Returns a backbone's tokenizer; None where it is not on this machine."""
    source = find_local(backbone, None)
    return None if source is None else read_shape(source)[1]


def _prompt_tokens(tokenizer: Any | None, rows: _Rows | None) -> float | None:
    """Returns the mean tokens of a task's prompts."""
    if rows is None:
        return None
    if tokenizer is None:
        return sum(map(len, rows.texts)) / len(rows.texts) / CHARACTERS_PER_TOKEN
    counted = tokenizer(rows.texts, add_special_tokens=True)["input_ids"]
    return sum(map(len, counted)) / len(counted)


def _memory_plan(grid: Preset, cell: Cell, prompt_tokens: float) -> dict[str, Any]:
    """Returns the plan of `inspect_backbone` for a cell's settings."""
    plan: dict[str, Any] = inspect_backbone(
        cell.backbone, config=config_of(grid, cell), load=False, prompt_tokens=max(8, round(prompt_tokens))
    ).plan
    return plan


def _work(
    grid: Preset, cell: Cell, rows: _Rows | None, prompt_tokens: float | None, memory: dict[str, Any]
) -> Work | None:
    """Returns the operations of a cell; None where its rows are not known."""
    if rows is None or prompt_tokens is None:
        return None
    config = config_of(grid, cell)
    splits = rows.prepared.splits
    test = splits.validation if splits.test is None else splits.test
    writes = METHODS[cell.method].writes
    epochs = config.train.epochs
    if config.train.max_steps is not None:
        epochs = config.train.max_steps * config.train.batch_size * config.train.accumulation / len(splits.train)
    return Work(
        parameters=memory["parameters"],
        all_trained=cell.peft == "none",
        train_rows=len(splits.train),
        test_rows=len(test) + math.ceil(epochs * config.train.evals_per_epoch) * len(splits.validation),
        epochs=epochs,
        prompt_tokens=prompt_tokens,
        target_tokens=memory["target_tokens"] if writes else 0,
        passes=config.train.passes if cell.method == "predgen" else 0,
    )
