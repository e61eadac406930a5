"""The grid cell by cell: what is finished is a file and is never run again; tables are written as it goes."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from predgen.catalogue import Task, build_task_config, load_task, parts_of
from predgen.config import RunConfig
from predgen.errors import ConfigError, DataError, PredGenError, UnknownNameError, unknown_name
from predgen.experiments.comparing import Bench
from predgen.experiments.reproduction.grid import Cell, Preset, presets
from predgen.experiments.results import MethodResult
from predgen.files import alone_at, write_text
from predgen.measures.base import EXACT_MATCH, json_number
from predgen.measures.metrics import check_metric_of_kind
from predgen.models.building import check_method
from predgen.models.scored import intervals, scored_from_json
from predgen.training.fitting import prepared_for, say_backbone
from predgen.training.runs import Finished, check_folder, check_one_of
from predgen.training.training_run import source_of
from predgen.version import __version__
from predgen.warning_kinds import each_once

log = logging.getLogger("predgen")

CELLS_FOLDER = "cells"
PRESET_FILE = "preset.json"
SIMPLE = "mean_or_majority"
# Which of the paper's tables the tasks of a group are in.
FAMILIES = {"regression": "numbers", "classification": "labels", "commonsense": "labels", "arithmetic": "arithmetic"}
# What the file of a finished cell holds at least.
KEPT = frozenset(
    ("predicted", "probabilities", "settings", "fingerprint", "weights", "version", "train_seconds", "rows_per_second")
)
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class _Ready:
    """A task on which all of its cells are run.

    Attributes:
        task: the task.
        note: what is said of its parts, if anything.
        is_official: whether the parts are its own, as `predgen.catalogue.parts_of` says.
        bench: its rows, for the seed of the grid.
        fingerprint: of what is trained and chosen on.
        weights: a SHA-256 of the backbone's files.
        simple: the figures of the simple baseline.
    """

    task: Task
    note: str | None
    is_official: bool
    bench: Bench
    fingerprint: str
    weights: str
    simple: Mapping[str, float]


class _Failed(Exception):
    """A cell could not be fitted.

    Args:
        error: why.
    """

    def __init__(self, error: PredGenError) -> None:
        super().__init__(str(error))
        self.error = error


@each_once()
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
        backbones: instead of the preset's.
        methods: instead of the preset's.
        pefts: instead of the preset's, for all tasks.
        tasks: instead of the preset's.
        seeds: how many training seeds, from 0; the preset's if 0.
        resume: go on with what `out` holds; cells of other tasks and methods may be added. Figures are of the cells
            that are asked for, whatever else the folder holds.
        overwrite: begin anew.
        quiet: show no progress.
        report: called with the figures after each cell, to write tables.
        settings: settings of `predgen.config`, over the preset's and the tasks'.

    Returns:
        `cells`: the figures of each cell. `missing`: tasks whose rows are nowhere or wrong, each with a `reason`.
        `failed`: cells that could not be fitted, each with a `reason`; the others are run all the same.

    Raises:
        ConfigError: the grid or a setting is wrong, or a finished cell had other settings, rows or weights.
        DataError: a file of a finished cell is damaged.
        OutputExistsError: `out` holds something, and it is neither to be gone on with nor to be replaced.
        UnknownNameError: a preset, task, method or PEFT method is not known.
        PredGenError: as `fit`, where no cell could be fitted.
    """
    grid = grid_named(preset, backbones, methods, pefts, tasks, seeds, settings)
    cells = grid.cells()
    for cell in cells:  # before anything is trained
        metric = config_of(grid, cell).train.metric
        check_metric_of_kind(load_task(cell.task).target.kind, metric or load_task(cell.task).metrics[0])
    with alone_at(Path(out)):
        folder = _checked_folder(Path(out), preset, resume=resume, overwrite=overwrite)
        finished = Finished(folder)
        reproduction: dict[str, Any] = {
            "preset": preset,
            "versions": [__version__],
            "settings": {**grid.settings, **grid.given},
            "cells": [],
            "missing": [],
            "failed": [],
        }
        if not quiet:
            for backbone in grid.backbones:
                say_backbone(backbone)
        clock = _Clock(len(cells))
        begun = False
        first: PredGenError | None = None
        for backbone, name in dict.fromkeys((cell.backbone, cell.task) for cell in cells):
            task_cells = [cell for cell in cells if (cell.backbone, cell.task) == (backbone, name)]
            try:
                ready = _ready(grid, task_cells[0], data, finished, quiet=quiet)
            except (DataError, UnknownNameError) as error:
                log.warning("Left out '%s': %s", name, error)
                reproduction["missing"].append({"task": name, "backbone": backbone, "reason": str(error)})
                clock.skip(len(task_cells))
                continue
            if not begun:  # a mistyped folder of rows leaves nothing behind that would stand in the way
                begun = True
                _begin(folder, preset, overwrite=overwrite)
            for cell in task_cells:
                try:
                    reproduction["cells"].append(_run(grid, cell, ready, finished, clock))
                except _Failed as failure:
                    first = first or failure.error
                    log.warning("Could not fit '%s': %s", cell.name, failure)
                    reproduction["failed"].append({**asdict(cell), "reason": str(failure)})
                    clock.skip(1)
                    continue
                reproduction["versions"] = sorted({figures["version"] for figures in reproduction["cells"]})
                report(reproduction)
        if not reproduction["cells"]:
            raise first or ConfigError(
                "Expected the rows of one task at least, found none. Name the folder that has them (--data, or "
                "PREDGEN_DATA_DIR)."
            )
        report(reproduction)  # with what was left out after the last cell
        return reproduction


def grid_named(
    preset: str,
    backbones: Sequence[str],
    methods: Sequence[str],
    pefts: Sequence[str],
    tasks: Sequence[str],
    seeds: int,
    settings: Mapping[str, Any],
) -> Preset:
    """Returns a preset with the user's changes; it takes the arguments of `reproduce`.

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
    note, is_official = parts_of(task, data)
    config = config_of(grid, cell)
    prepared = prepared_for(config, data)
    bench = Bench.of(prepared, seed=cell.seed, finished=finished, quiet=quiet)
    weights = source_of(config).content_hash()
    return _Ready(task, note, is_official, bench, prepared.fingerprint(), weights, _simple_figures(bench, config))


def _simple_figures(bench: Bench, config: RunConfig) -> dict[str, float]:
    """Returns the figures of the simple baseline, which answers every row alike.

    For exact match the answer is the most frequent training number. The mean of the training numbers hardly ever equals
    a true one, so a model that always writes one good number would beat it without having read the text.
    """
    figures = dict(bench.baselines([SIMPLE], config)[SIMPLE].metrics())
    if EXACT_MATCH in figures:
        answers, counts = np.unique(bench.prepared.train_values, return_counts=True)
        frequent = {"predicted": [float(answers[counts.argmax()])] * len(bench.truth), "probabilities": None}
        figures[EXACT_MATCH] = scored_from_json(bench.prepared.target, bench.truth, frequent).metrics()[EXACT_MATCH]
    return figures


def _run(grid: Preset, cell: Cell, ready: _Ready, finished: Finished, clock: "_Clock") -> dict[str, Any]:
    """Returns a cell's figures, fitting it if it is not finished.

    Raises:
        ConfigError: it was finished with other settings, on other rows, or from other weights.
        DataError: its file is damaged.
        _Failed: it cannot be fitted.
    """
    config = config_of(grid, cell)
    start = time.perf_counter()
    fresh = False

    def figures(folder: Path | None) -> dict[str, Any]:
        nonlocal fresh
        fresh = True
        try:
            check_method(config, ready.bench.prepared.target)
            fitted = ready.bench.fit(cell.name, config)(folder)
        except PredGenError as error:
            raise _Failed(error) from error
        return {**fitted, "fingerprint": ready.fingerprint, "weights": ready.weights, "version": __version__}

    kept = finished.figures(cell.name, figures)
    _check_kept(kept, cell, config, ready)
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
        "version": kept["version"],
        "family": FAMILIES[ready.task.group],
        "part": bench.part,
        "capped": config.data.max_train_rows is not None or config.data.max_eval_rows is not None,
        "official": ready.is_official,
        "rows": {"train": len(splits.train), "validation": len(splits.validation), "test": len(bench.table)},
        "metrics": {name: json_number(value) for name, value in result.metrics().items()},
        "ci95": {name: [json_number(low), json_number(high)] for name, (low, high) in intervals(scored).items()},
        "invalid_fraction": result.invalid_fraction,
        "simple": {name: json_number(value) for name, value in ready.simple.items()},
        "notes": [] if ready.note is None else [ready.note],
        "train_seconds": kept["train_seconds"],
        "rows_per_second": kept["rows_per_second"],
    }


def _check_kept(kept: dict[str, Any], cell: Cell, config: RunConfig, ready: _Ready) -> None:
    """Refuses figures that are not of this cell.

    Raises:
        ConfigError: it was finished with other settings, on other rows, or from other weights.
        DataError: something is missing.
    """
    missing = KEPT - set(kept)
    if missing:
        raise _damaged(cell, f"no {min(missing)}")
    settings = config.model_dump(mode="json")
    expected = {"settings": settings, "fingerprint": ready.fingerprint, "weights": ready.weights}
    for name, what in (("settings", "settings"), ("fingerprint", "rows"), ("weights", "weights")):
        if kept[name] != expected[name]:
            raise ConfigError(
                f"Expected the {what} that the finished cell '{cell.name}' was run with, found others. Go back to "
                "those, or use another --out, or --overwrite to start over."
            )
    if len(kept["predicted"]) != len(ready.bench.truth):
        raise _damaged(cell, f"{len(kept['predicted'])} answers for {len(ready.bench.truth)} rows")


def _damaged(cell: Cell, problem: str) -> DataError:
    return DataError(
        f"Expected the figures of the finished cell '{cell.name}', found {problem}. Remove its file; the same command "
        "with --resume runs it again."
    )


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


def _checked_folder(out: Path, preset: str, *, resume: bool, overwrite: bool) -> Path:
    """Returns where the cells are or will be kept; nothing is made yet.

    Raises:
        ConfigError: there is nothing to go on with, or it is of another preset.
        OutputExistsError: there is something, and it is neither to be gone on with nor to be replaced.
    """
    marker, cells = out / PRESET_FILE, out / CELLS_FOLDER
    check_one_of(overwrite=overwrite, resume=resume)
    check_folder(
        out,
        "a reproduction",
        is_begun=marker.exists(),
        holds_other=out.exists() and not marker.is_file() and (not out.is_dir() or any(out.iterdir())),
        overwrite=overwrite,
        resume=resume,
    )
    if not resume:
        return cells
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
    return cells


def _begin(cells: Path, preset: str, *, overwrite: bool) -> None:
    """Makes the folder of the cells, empty if it is to be replaced, and says beside it whose they are."""
    if overwrite and cells.exists():
        for file in sorted(cells.glob("*.json")):
            file.unlink()
    cells.mkdir(parents=True, exist_ok=True)
    marker = cells.parent / PRESET_FILE
    if overwrite or not marker.exists():
        write_text(marker, json.dumps({"preset": preset}) + "\n")
