"""Where a task's rows are, and its three parts."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from predgen.catalogue.loading import load_task, tasks
from predgen.catalogue.making import flat_table
from predgen.catalogue.schema import PARTS, PartName, Parts, Task
from predgen.errors import DataError, PredGenError, explain
from predgen.tables.reading import read_table, stream_table
from predgen.tables.splits import files_of_parts, hub_dataset

DATA_DIR = "PREDGEN_DATA_DIR"
# Rows that tell whether a folder is a task's.
LOOKED_AT = 20
# Of the rows that are held out and of sorted files' order: the same for everybody.
SEED = 0


@dataclass(frozen=True)
class TaskRows:
    """A task's rows, as flat tables whose index counts the rows of their source.

    Attributes:
        parts: the rows of each part.
        origin: where they come from, for people.
        note: what is said of these parts, if anything.
        is_fallback: whether a split of the task was missing.
    """

    parts: dict[PartName, pd.DataFrame]
    origin: str
    note: str | None
    is_fallback: bool


@dataclass(frozen=True)
class Source:
    """Where a task's splits are, each read when it is called."""

    where: str
    splits: Mapping[str, Callable[[], pd.DataFrame]]


def local_folder(task: Task, data: str | Path | None = None) -> Path | None:
    """Returns the folder that holds a task's files, or None if there is none.

    A folder that is not named for the task counts if its first rows are what the task's columns say.

    Args:
        task: the task.
        data: its folder, or the folder above; None for what PREDGEN_DATA_DIR names.
    """
    folder = _folder(task, data)
    if folder is None or folder.name == task.folder_name:
        return folder
    return folder if _holds_rows_of(task, folder) else None


def _folder(task: Task, data: str | Path | None) -> Path | None:
    """Returns the folder that is named for a task, or is named as its own, whatever its rows are."""
    above = data if data is not None else os.environ.get(DATA_DIR)
    if not above:
        return None
    folder = Path(above).expanduser()
    if (folder / task.folder_name).is_dir():
        return folder / task.folder_name
    holds_parts = data is not None and folder.is_dir() and bool(files_of_parts(folder))
    return folder if holds_parts else None


def _holds_rows_of(task: Task, folder: Path) -> bool:
    """Returns whether the first rows of a folder are a task's, and the folder is not named for another task."""
    if folder.absolute().name in {load_task(name).folder_name for name in tasks()} - {task.folder_name}:
        return False
    try:
        path = next(iter(files_of_parts(folder).values()))
        flat_table(task, next(stream_table(path, LOOKED_AT)))
    except PredGenError:
        return False
    return True


def find_source(task: Task, data: str | Path | None = None) -> Source:
    """Returns where a task's rows are: in `data`, else below PREDGEN_DATA_DIR, else on the hub.

    Raises:
        DataError: they are nowhere.
    """
    folder = _folder(task, data)
    if folder is not None:
        return Source(f"'{folder}'", {name: partial(read_table, path) for name, path in files_of_parts(folder).items()})
    if data is not None:
        raise DataError(
            explain(
                expected=f"the rows of the task '{task.name}' in '{data}': files such as test.jsonl, there or in its "
                f"folder {task.folder_name}",
                found="none" if Path(data).expanduser().is_dir() else "no such folder",
                fix="Check the folder, or leave it out to look elsewhere.",
            )
        )
    if task.hub is None:
        raise DataError(
            explain(
                expected=f"the rows of the task '{task.name}'",
                found=f"no folder {task.folder_name} below {DATA_DIR} ({os.environ.get(DATA_DIR) or 'not set'}), and "
                "the task is not on the hub in this form",
                fix=f"Put files such as test.jsonl into a folder {task.folder_name}, and name it as DATA.",
            )
        )
    return _on_hub(task)


def _on_hub(task: Task) -> Source:
    hub = task.hub
    assert hub is not None
    loaded = hub_dataset(hub.id, hub.config, hub.revision)
    renamed = set(hub.splits.values())
    names = {str(name): str(name) for name in loaded if name not in renamed} | hub.splits

    def read(their_names: Sequence[str]) -> pd.DataFrame:
        tables = [read_table(loaded[name]) for name in their_names]
        return pd.concat(tables, ignore_index=True).rename(columns=hub.rename)

    splits: dict[str, Callable[[], pd.DataFrame]] = {}
    for ours, theirs in names.items():
        their_names = theirs.split("+")
        if ours not in hub.hidden and all(name in loaded for name in their_names):
            splits[ours] = partial(read, their_names)
    return Source(f"the hub's {hub.id}", splits)


def task_rows(task: Task, data: str | Path | None = None) -> TaskRows:
    """Returns a task's parts.

    Args:
        task: the task.
        data: the folder of its files, or the folder above; None to look below PREDGEN_DATA_DIR, then on the hub.

    Raises:
        DataError: rows are nowhere, a split is missing, or a cell is not what the task says.
        UnknownNameError: a column that is read is missing.
    """
    task_source = find_source(task, data)
    chosen = _chosen(task, task_source)
    parts, origins = _read_parts(task, task_source, chosen, data)
    return TaskRows({name: parts[name] for name in PARTS}, " and ".join(origins), chosen.note, chosen is task.fallback)


def _read_parts(
    task: Task, task_source: Source, chosen: Parts, data: str | Path | None, only: PartName | None = None
) -> tuple[dict[PartName, pd.DataFrame], list[str]]:
    """Returns the rows of parts, and where they come from; of `only` and those that share its split, if it is given."""
    parts: dict[PartName, pd.DataFrame] = {}
    origins = [task_source.where]
    for (other, split), names in chosen.sources().items():
        if only is not None and only not in names:
            continue
        if other is None:
            table = flat_table(task, task_source.splits[split]())
        else:
            table, where = _rows_of(load_task(other), split, task, data)
            origins.append(where)
        parts |= _divided(table, [(name, getattr(chosen, name).share) for name in names], task)
    return parts, origins


def parts_of(task: Task, data: str | Path | None = None) -> tuple[str | None, bool]:
    """Returns the note on a task's parts, if any, and whether they are its own and official.

    They are not where the task falls back to others, or learns from the rows of another task. The arguments and the
    errors are those of `task_rows`.
    """
    chosen = _chosen(task, find_source(task, data))
    transferred = any(other is not None for other, _ in chosen.sources())
    return chosen.note, chosen is not task.fallback and not transferred


def _chosen(task: Task, source: Source, only: PartName | None = None) -> Parts:
    """Returns a task's parts, or those that it falls back to, by the splits of all parts or of `only` one.

    Raises:
        DataError: a split is missing.
    """
    missing = _missing(task.splits, source, only)
    if missing and task.fallback is not None and not _missing(task.fallback, source, only):
        return task.fallback
    if missing:
        raise DataError(
            explain(
                expected=f"the split {missing[0]} of the task '{task.name}' in {source.where}",
                found=", ".join(source.splits) or "none",
                fix="Add its file, or use another source of the rows.",
            )
        )
    return task.splits


def held_out_flat(task: Task, data: str | Path, *, with_target: bool = True) -> pd.DataFrame:
    """Returns the flat rows of a file, or a task's test part, for which the other parts need not be there.

    Args:
        task: the task.
        data: a file of rows as the task's source has them; or the folder of its files, or the folder above.
        with_target: whether the answers must be there.

    Raises:
        PredGenError: as `task_rows` and `flat_table`.
    """
    if Path(data).expanduser().is_file():
        return flat_table(task, read_table(data), with_target=with_target)
    source = find_source(task, data)
    try:
        chosen = _chosen(task, source)  # as in training: a fallback may train on what would else be the test part
    except DataError:
        chosen = _chosen(task, source, "test")
    return _read_parts(task, source, chosen, data, only="test")[0]["test"]


def _missing(parts: Parts, source: Source, only: PartName | None) -> list[str]:
    """Returns the task's own splits that are not there and that all parts, or `only` one, need."""
    return [
        split
        for (other, split), names in parts.sources().items()
        if other is None and (only is None or only in names) and split not in source.splits
    ]


def _rows_of(other: Task, split: str, task: Task, data: str | Path | None) -> tuple[pd.DataFrame, str]:
    """Returns the rows of another task under this one's names, and where they are.

    Raises:
        DataError: they do not have the columns that this task's prompt reads.
    """
    if data is not None:
        folders = [Path(data).expanduser(), Path(data).expanduser().absolute().parent]
        data = next((folder for folder in folders if (folder / other.folder_name).is_dir()), None)
    source = find_source(other, data)
    if split not in source.splits or not set(task.inputs) <= set(other.inputs):
        raise DataError(
            explain(
                expected=f"the split {split} of the task '{other.name}', with {', '.join(task.inputs)}",
                found=f"{', '.join(source.splits) or 'none'} in {source.where}, with {', '.join(other.inputs)}",
                fix=f"Add its file; '{task.name}' is trained on it.",
            )
        )
    table = flat_table(other, source.splits[split]())[[*task.inputs, other.target.column]]
    return table.rename(columns={other.target.column: task.target.column}), source.where


def _divided(
    table: pd.DataFrame, shares: Sequence[tuple[PartName, float | None]], task: Task
) -> dict[PartName, pd.DataFrame]:
    """Returns the parts that share a split's rows, each in the rows' order unless the task shuffles them."""
    order = np.random.default_rng(SEED).permutation(len(table))
    row_positions: dict[PartName, np.ndarray] = {}
    start = 0
    for name, share in shares:
        if share is not None:
            row_positions[name] = order[start : start + max(1, round(share * len(table)))]
            start += len(row_positions[name])
    if start >= len(table):
        raise DataError(
            explain(
                expected=f"rows enough for the parts {' and '.join(name for name, _ in shares)} of '{task.name}'",
                found=str(len(table)),
                fix="Give more rows.",
            )
        )
    rest = next(name for name, share in shares if share is None)
    row_positions[rest] = order[start:]
    return {
        name: table.iloc[positions if task.shuffle else np.sort(positions)] for name, positions in row_positions.items()
    }
