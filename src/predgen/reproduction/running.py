"""The grid cell by cell: what is finished is a file and is never run again; tables are written as it goes."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predgen.building import check_method
from predgen.catalogue import Task, build_task_config, load_task, note_of
from predgen.comparing import Bench
from predgen.config import RunConfig
from predgen.errors import ConfigError, DataError, OutputExistsError, unknown_name
from predgen.files import write_text
from predgen.fitting import prepared_for, warn_if_for_trying
from predgen.metrics import check_metric, json_number
from predgen.reproduction.grid import Cell, Preset, presets
from predgen.results import MethodResult
from predgen.runs import Finished
from predgen.scored import intervals, scored_from_json
from predgen.version import __version__

log = logging.getLogger("predgen")

CELLS_FOLDER = "cells"
PRESET_FILE = "preset.json"
SIMPLE = "mean_or_majority"
# Which of the paper's tables the tasks of a group are in.
FAMILIES = {"regression": "numbers", "classification": "labels", "commonsense": "labels", "arithmetic": "arithmetic"}
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class _Ready:
    """A task on which all of its cells are run.

    Attributes:
        task: the task.
        note: what is said of its parts, if anything.
        bench: its rows, for the seed of the grid.
        fingerprint: of what is trained and chosen on.
        simple: the figures of the simple baseline.
    """

    task: Task
    note: str | None
    bench: Bench
    fingerprint: str
    simple: Mapping[str, float]


def reproduce(
    preset: str = "small",
    *,
    out: str | Path,
    data: str | Path | None = None,
    backbones: Sequence[str] = (),
    methods: Sequence[str] = (),
    pefts: Sequence[str] = (),
    tasks: Sequence[str] = (),
    seeds: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    report: Report = lambda _: None,
    **settings: Any,
) -> dict[str, Any]:
    """Runs a grid of tasks, methods, PEFT methods, backbones and seeds, and returns its figures as JSON holds them.

    Args:
        preset: small, default or paper.
        out: a folder that keeps each finished cell.
        data: a folder with a folder for each task; PREDGEN_DATA_DIR or the hub if not given.
        backbones: in the place of the preset's.
        methods: in the place of the preset's.
        pefts: in the place of the preset's, over all tasks.
        tasks: in the place of the preset's.
        seeds: how many training seeds, from 0; the preset's if 0.
        resume: go on with what `out` holds; cells of other tasks and methods may be added. Figures are of the cells
            that are asked for, whatever else the folder holds.
        overwrite: begin anew.
        quiet: show no progress.
        report: called with the figures after each cell, to write tables.
        settings: settings of `predgen.config`, over the preset's and the tasks'.

    Raises:
        ConfigError: the grid or a setting is wrong, or a finished cell had other settings or rows.
        OutputExistsError: `out` holds something, and it is neither to be gone on with nor to be replaced.
        UnknownNameError: a preset, task, method or PEFT method is not known.
        PredGenError: as `fit`.
    """
    grid = grid_named(preset, backbones, methods, pefts, tasks, seeds, settings)
    cells = grid.cells()
    for cell in cells:  # before anything is trained
        metric = config_of(grid, cell).train.metric
        check_metric({"": load_task(cell.task).target.kind}, metric or load_task(cell.task).metrics[0])
    finished = Finished(_cells_folder(Path(out), preset, resume=resume, overwrite=overwrite))
    found: dict[str, Any] = {
        "preset": preset,
        "version": __version__,
        "settings": {**grid.settings, **grid.given},
        "cells": [],
        "missing": [],
    }
    if not quiet:
        for backbone in grid.backbones:
            warn_if_for_trying(backbone)
    clock = _Clock(len(cells))
    for backbone, name in dict.fromkeys((cell.backbone, cell.task) for cell in cells):
        own = [cell for cell in cells if (cell.backbone, cell.task) == (backbone, name)]
        try:
            ready = _ready(grid, own[0], data, finished, quiet=quiet)
        except DataError as error:
            log.warning("Left out '%s': %s", name, error)
            found["missing"].append({"task": name, "backbone": backbone, "reason": str(error)})
            clock.skip(len(own))
            continue
        for cell in own:
            found["cells"].append(_run(grid, cell, ready, finished, clock))
            report(found)
    if not found["cells"]:
        raise ConfigError(
            "Expected the rows of one task at least, found none. Name the folder that has them (--data, or "
            "PREDGEN_DATA_DIR)."
        )
    report(found)  # with the tasks that were left out after the last cell
    return found


def grid_named(
    preset: str,
    backbones: Sequence[str],
    methods: Sequence[str],
    pefts: Sequence[str],
    tasks: Sequence[str],
    seeds: int,
    settings: Mapping[str, Any],
) -> Preset:
    """Returns a preset with what a user changes of it; the arguments are those of `reproduce`.

    Raises:
        ConfigError: the grid or a setting is wrong.
        UnknownNameError: a preset, task, method or PEFT method is not known.
    """
    known = presets()
    if preset not in known:
        raise unknown_name("preset", preset, known)
    return known[preset].changed(
        backbones=backbones, methods=methods, pefts=pefts, tasks=tasks, seeds=seeds, settings=settings
    )


def config_of(grid: Preset, cell: Cell) -> RunConfig:
    """Returns the settings of a cell: the task's, then the grid's."""
    return build_task_config({"data.task": cell.task}, grid.settings_of(cell))


def _ready(grid: Preset, cell: Cell, data: str | Path | None, finished: Finished, *, quiet: bool) -> _Ready:
    """Returns a task made ready.

    Raises:
        DataError: its rows are nowhere, or are not what they must be.
    """
    task = load_task(cell.task)
    if data is not None and not (Path(data).expanduser() / task.folder_name).is_dir():
        raise DataError(
            f"Expected a folder '{task.folder_name}' in '{data}', found none. Name the one with a folder for each task."
        )
    note = note_of(task, data)
    prepared = prepared_for(config_of(grid, cell), data)
    bench = Bench.of(prepared, seed=cell.seed, finished=finished, quiet=quiet)
    return _Ready(task, note, bench, prepared.fingerprint(), bench.baselines()[SIMPLE].metrics())


def _run(grid: Preset, cell: Cell, ready: _Ready, finished: Finished, clock: "_Clock") -> dict[str, Any]:
    """Returns a cell's figures, fitting it if it is not finished.

    Raises:
        ConfigError: it was finished with other settings, or on other rows.
    """
    config = config_of(grid, cell)
    check_method(config, ready.bench.prepared.target)
    fit = ready.bench.fit(cell.name, config)
    start = time.perf_counter()
    fresh = False

    def figures(folder: Path | None) -> dict[str, Any]:
        nonlocal fresh
        fresh = True
        return {**fit(folder), "fingerprint": ready.fingerprint}

    kept = finished.figures(cell.name, figures)
    if kept["settings"] != config.model_dump(mode="json") or kept["fingerprint"] != ready.fingerprint:
        what = "rows" if kept["settings"] == config.model_dump(mode="json") else "settings"
        raise ConfigError(
            f"Expected the {what} that the finished cell '{cell.name}' was run with, found others. Go back to "
            "those, or use another --out, or --overwrite to start over."
        )
    clock.tick(time.perf_counter() - start if fresh else None, cell)
    bench = ready.bench
    scored = scored_from_json(bench.prepared.target, bench.truth, kept)
    result = MethodResult([scored], kept["train_seconds"], kept["rows_per_second"])
    splits = bench.prepared.splits
    return {
        "task": cell.task,
        "method": cell.method,
        "peft": cell.peft,
        "backbone": cell.backbone,
        "seed": cell.seed,
        "family": FAMILIES[ready.task.group],
        "part": bench.part,
        "capped": config.data.max_train_rows is not None or config.data.max_eval_rows is not None,
        "rows": {"train": len(splits.train), "validation": len(splits.validation), "test": len(bench.table)},
        "metrics": {name: json_number(value) for name, value in result.metrics().items()},
        "ci95": {name: [json_number(low), json_number(high)] for name, (low, high) in intervals(scored).items()},
        "invalid_fraction": result.invalid_fraction,
        "simple": {name: json_number(value) for name, value in ready.simple.items()},
        "notes": [] if ready.note is None else [ready.note],
        "train_seconds": kept["train_seconds"],
        "rows_per_second": kept["rows_per_second"],
    }


class _Clock:
    """Says how far a grid is, and about how long it still takes.

    Args:
        total: how many cells.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.seconds: list[float] = []

    def skip(self, cells: int) -> None:
        """Counts cells that will not be run."""
        self.total -= cells

    def tick(self, seconds: float | None, cell: Cell) -> None:
        """Counts a cell, and says so.

        Args:
            seconds: that it took; None if it was finished before.
            cell: the cell.
        """
        self.done += 1
        if seconds is None:
            return
        self.seconds.append(seconds)
        left = (self.total - self.done) * sum(self.seconds) / len(self.seconds)
        log.info(
            "Finished %d of %d cells (%s, %s, %s) in %.0f s; about %.0f min left.",
            self.done,
            self.total,
            cell.task,
            cell.method,
            cell.peft,
            seconds,
            left / 60,
        )


def _cells_folder(out: Path, preset: str, *, resume: bool, overwrite: bool) -> Path:
    """Returns where the cells are kept, new or gone on with.

    Raises:
        ConfigError: there is nothing to go on with, or it is of another preset.
        OutputExistsError: there is something, and it is neither to be gone on with nor to be replaced.
    """
    marker, cells = out / PRESET_FILE, out / CELLS_FOLDER
    if resume and overwrite:
        raise ConfigError("Expected either --resume or --overwrite, found both. Leave one out.")
    if out.exists() and not marker.is_file() and (not out.is_dir() or any(out.iterdir())):
        raise OutputExistsError(f"Expected a reproduction or nothing at '{out}', found something else. Name another.")
    if resume:
        if not marker.exists():
            raise ConfigError(f"Expected an unfinished reproduction at '{out}', found none. Leave --resume out.")
        try:
            begun = json.loads(marker.read_text(encoding="utf-8"))["preset"]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"Expected the preset of a reproduction in '{marker}', found damage ({error}). Write "
                f'{{"preset": "NAME"}} into it, or use --overwrite to start over.'
            ) from error
        if begun != preset:
            raise ConfigError(
                f"Expected the preset that '{out}' was begun with, {begun}, found {preset}. Name it, or another --out."
            )
    elif marker.exists() and not overwrite:
        raise OutputExistsError(
            f"Expected no reproduction, found one at '{out}'. Use --resume to go on with it, or --overwrite to start "
            "over."
        )
    if overwrite and cells.exists():
        for one in sorted(cells.glob("*.json")):
            one.unlink()
    cells.mkdir(parents=True, exist_ok=True)
    write_text(marker, json.dumps({"preset": preset, "version": __version__}) + "\n")
    return cells
