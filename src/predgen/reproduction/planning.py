"""What a grid would take: cells, memory, hours on a named GPU; nothing is run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predgen.backbones import find_local, read_shape
from predgen.catalogue import load_task, local_folder
from predgen.inspecting import inspect_backbone
from predgen.preparing import Prepared, prepare
from predgen.reproduction.gpus import USED, Work, gpu_named
from predgen.reproduction.grid import Cell, Preset
from predgen.reproduction.running import CELLS_FOLDER, config_of, grid_named

# Where a backbone's tokenizer is not there: how many characters a token has, a common rule for English.
CHARACTERS_PER_TOKEN = 4.0
# Prompts that are tokenized to know their mean length.
COUNTED_ROWS = 200


@dataclass(frozen=True)
class _Rows:
    """What is known of a task's rows.

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

    Memory is that of `predgen.inspect_backbone`'s plan, for the longest mean prompt of the tasks. Hours are the counted
    operations of matrix products over the share `USED` of the GPU's peak. What cannot be known is None, with a note.

    Args:
        preset: as in `reproduce`, like all that follow but `gpu`.
        gpu: one of `predgen.reproduction.gpus.GPUS`.
        out: the folder of a reproduction that was begun, whose finished cells take nothing more.
        data: see `reproduce`.
        backbones: see there.
        methods: see there.
        pefts: see there.
        tasks: see there.
        seeds: see there.
        settings: see there.

    Raises:
        UnknownNameError: the GPU or something of the grid is not known.
        PredGenError: a backbone or a task's rows are not what they must be.
    """
    grid = grid_named(preset, backbones, methods, pefts, tasks, seeds, settings)
    machine = gpu_named(gpu)
    cells = grid.cells()
    notes: list[str] = []
    rows = {name: _rows_of(grid, name, data, notes) for name in grid.tasks}
    done = [cell for cell in cells if out is not None and (Path(out) / CELLS_FOLDER / f"{cell.name}.json").exists()]
    found = []
    for key in dict.fromkeys((cell.backbone, cell.peft, cell.method) for cell in cells):
        own = [cell for cell in cells if (cell.backbone, cell.peft, cell.method) == key]
        lengths = {cell.task: _prompt_tokens(key[0], rows[cell.task], notes) for cell in own}
        known = [length for length in lengths.values() if length is not None]
        memory = _memory_plan(grid, own[0], max(known, default=128.0))
        work = [_work(grid, cell, rows[cell.task], lengths[cell.task], memory) for cell in own if cell not in done]
        hours = sum(one.hours(machine) for one in work if one is not None)
        found.append(
            {
                "backbone": key[0],
                "peft": key[1],
                "method": key[2],
                "cells": len(own),
                "fit_bytes": memory["fit_bytes"],
                "fits": memory["fit_bytes"] <= machine.memory_bytes,
                "hours": hours,
            }
        )
    return {
        "preset": preset,
        "gpu": gpu,
        "gpu_memory_bytes": machine.memory_bytes,
        "gpu_flops": machine.flops,
        "used": USED,
        "cells": len(cells),
        "finished": len(done),
        "hours": sum(one["hours"] for one in found),
        "rows": found,
        "notes": list(dict.fromkeys(notes)),
    }


def _rows_of(grid: Preset, name: str, data: str | Path | None, notes: list[str]) -> _Rows | None:
    """Returns what is known of a task's rows; None where they are nowhere."""
    config = config_of(grid, Cell(name, grid.methods[0], grid.pefts[0], grid.backbones[0], grid.seeds[0]))
    if local_folder(load_task(name), data) is None:
        notes.append(f"The rows of {name} are not on this machine: its cells are counted, their hours are not.")
        return None
    prepared = prepare(config.data, data, config.train.seed)
    part = prepared.splits.train.head(COUNTED_ROWS)
    rows = ({str(name): cell for name, cell in row.items()} for row in part.to_dict("records"))
    return _Rows(prepared, [prepared.template.render(row) for row in rows])


def _prompt_tokens(backbone: str, rows: _Rows | None, notes: list[str]) -> float | None:
    """Returns the mean tokens of a task's prompts."""
    if rows is None:
        return None
    source = find_local(backbone, None)
    tokenizer = None if source is None else read_shape(source)[1]
    if tokenizer is None:
        notes.append(
            f"The tokenizer of {backbone} is not on this machine: a token is taken for {CHARACTERS_PER_TOKEN:g} "
            "characters."
        )
        return sum(map(len, rows.texts)) / len(rows.texts) / CHARACTERS_PER_TOKEN
    counted = tokenizer(rows.texts, add_special_tokens=True)["input_ids"]
    return sum(map(len, counted)) / len(counted)


def _memory_plan(grid: Preset, cell: Cell, prompt_tokens: float) -> dict[str, Any]:
    """Returns the plan of `inspect_backbone` for a cell's settings."""
    config = config_of(grid, cell)
    settings = {
        f"{section}.{name}": value
        for section, values in config.model_dump(mode="json", exclude={"data"}).items()
        for name, value in values.items()
        if name != "backbone"
    }
    plan: dict[str, Any] = inspect_backbone(
        cell.backbone, load=False, prompt_tokens=max(8, round(prompt_tokens)), **settings
    ).plan
    return plan


def _work(
    grid: Preset, cell: Cell, rows: _Rows | None, prompt_tokens: float | None, memory: dict[str, Any]
) -> Work | None:
    """Returns what a cell computes; None where its rows are not known."""
    if rows is None or prompt_tokens is None:
        return None
    config = config_of(grid, cell)
    splits = rows.prepared.splits
    test = splits.validation if splits.test is None else splits.test
    writes = cell.method != "predictor"
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
