"""From a source to its train, validation and test parts."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from predgen.errors import ConfigError, DataError, explain
from predgen.tables.files import SUFFIXES, table_suffix
from predgen.tables.reading import TableLike, close_file, read_table, require_columns, stream_table
from predgen.tables.values import columns_named
from predgen.targets.cells import is_missing, label_key

log = logging.getLogger("predgen")

PARTS = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
HUB_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Splits:
    """The parts of a table; each keeps the row numbers of its source as index.

    Attributes:
        train: what is learned from.
        validation: what choices are made on.
        test: what is reported; None where the source has none.
        how: one line for people.
        calibration: what nothing is chosen on; None unless asked for.
        unused: the rows that were left out of the training part, unchanged; None if there are none.
    """

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame | None
    how: str
    calibration: pd.DataFrame | None = None
    unused: pd.DataFrame | None = None

    def changed(self, change: Callable[[pd.DataFrame], pd.DataFrame]) -> "Splits":
        """Returns the parts, each changed."""
        held_out = (self.test, self.calibration, self.unused)
        test, calibration, unused = (None if part is None else change(part) for part in held_out)
        return Splits(change(self.train), change(self.validation), test, self.how, calibration, unused)


def load_splits(
    source: TableLike,
    *,
    target: Sequence[str],
    stratify: Callable[[pd.DataFrame], str | None],
    validation: TableLike | None,
    test: TableLike | None,
    split: tuple[float, float, float],
    group: str | None,
    seed: int,
    calibration: TableLike | float | None = None,
) -> Splits:
    """Returns a source's parts; a part that the source does not have is cut from its training rows.

    A single table is split by `split`, its labels stratified; a label's only row stays in train. Parts that are given
    beside it are not cut from it. A source with parts keeps them; without a validation part, one is cut from its
    training rows (its share by `split`: 10 % unless told), and without a test part it has none.

    Args:
        source: a file, a folder with train, validation and test files, a saved `datasets` folder, a hub id, or a
            table in memory.
        target: the names of the target's columns.
        stratify: the column of labels whose shares a table's parts keep; None for none.
        validation: a table to take as validation part.
        test: a table to take as test part.
        split: shares of train, validation and test.
        group: rows that share this column's value stay in one part.
        seed: of the split.
        calibration: a table to calibrate on, or the share of the training rows that is set aside for it.

    Raises:
        DataError: the source cannot be read, or a part would be empty.
    """
    if min(split) < 0 or sum(split) <= 0 or split[0] <= 0:
        raise ConfigError(f"Expected shares of train, validation and test such as 0.8/0.1/0.1, found {split}.")
    parts = _parts(source)
    single = set(parts) == {"train"}
    for name, given in (("validation", validation), ("test", test), ("calibration", calibration)):
        if given is not None and not isinstance(given, float):
            parts[name] = read_table(given)
    for name, table in parts.items():
        columns = columns_named(target, table)
        require_columns(table, columns if group is None else [*columns, group], f"{name} rows")
    train, left = _with_row_numbers(parts["train"]), float(sum(split))
    notes = []
    for name, share in (("test", split[2]), ("validation", split[1])):
        if name in parts or (name == "test" and (not single or share == 0)):
            continue
        train, parts[name], note = _cut(train, name, share / left, stratify(train), group, seed)
        left -= share
        notes.append(note)
    if isinstance(calibration, float):
        train, parts["calibration"], note = _cut(train, "calibration", calibration, stratify(train), group, seed)
        notes.append(note)
    held_out = [
        (name, _with_row_numbers(parts[name])) for name in ("validation", "test", "calibration") if name in parts
    ]
    sizes = " / ".join(f"{len(rows)} {name}" for name, rows in (("train", train), *held_out))
    how = f"{sizes}" + (f" ({'; '.join(dict.fromkeys(notes))}; seed {seed})" if notes else " (as given)")
    tables = dict(held_out)
    return Splits(train, tables["validation"], tables.get("test"), how, tables.get("calibration"))


def _with_row_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with an index that messages can count rows by."""
    return table if pd.api.types.is_integer_dtype(table.index) else table.reset_index(drop=True)


def _cut(
    table: pd.DataFrame, name: str, share: float, labels: str | None, group: str | None, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Returns the remaining rows, the part that was cut from them, and a note on how it was cut."""
    from sklearn.model_selection import train_test_split  # here, as a prediction does not need it

    num_cut = max(1, round(share * len(table)))
    if share <= 0 or len(table) - num_cut < 1:
        raise DataError(
            explain(
                expected=f"enough rows for a {name} part",
                found=f"{len(table)} rows and a share of {share:.2g}",
                fix=f"Give more rows, another --split, or a table with --{name}.",
            )
        )
    if group is not None:
        return _cut_groups(table, name, share, group, seed)
    rows, strata, note = np.arange(len(table)), None, "split at random"
    if labels is not None:
        rows, strata, note = _strata(table[labels], num_cut)
    _, cut = train_test_split(rows, test_size=num_cut, random_state=seed, stratify=strata)
    if labels is not None:
        cut = _leaving_every_label(_label_keys(table[labels]), cut, seed)
    rest = np.setdiff1d(np.arange(len(table)), cut)
    return table.iloc[rest], table.iloc[np.sort(cut)], note


def _label_keys(cells: pd.Series) -> pd.Series:
    return pd.Series(["" if is_missing(cell) else label_key(cell) for cell in cells])


def _leaving_every_label(keys: pd.Series, cut: np.ndarray, seed: int) -> np.ndarray:
    """Returns the rows of a part that leaves a row of every label, as far as there are others to cut in their place.

    Args:
        keys: the label of each row.
        cut: the rows that were drawn for the part.
        seed: of the draw of the others.
    """
    is_cut = np.isin(np.arange(len(keys)), cut)
    left = Counter(keys[~is_cut])
    lost = sorted(set(keys[is_cut]) - set(left))
    others = iter(np.random.default_rng(seed).permutation(len(keys)).tolist() if lost else [])
    for label in lost:
        other = next((row for row in others if not is_cut[row] and left[keys[row]] > 1), None)
        if other is None:  # there are more labels than rows for them
            break
        left[keys[other]] -= 1
        is_cut[other], is_cut[np.flatnonzero(is_cut & (keys == label).to_numpy())[0]] = True, False
    return np.flatnonzero(is_cut)


def _strata(cells: pd.Series, num_cut: int) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Returns the rows to cut from, their labels if there are rows enough to stratify, and how the cut is made."""
    keys = _label_keys(cells)
    repeated = keys.map(keys.value_counts()).to_numpy() >= 2
    if repeated.sum() <= num_cut:
        repeated[:] = True
    rows, labels = np.flatnonzero(repeated), keys.to_numpy()[repeated]
    num_labels = len(set(labels))
    enough = num_labels >= 2 and min(num_cut, len(rows) - num_cut) >= num_labels
    note = "split at random, " + ("stratified by label" if enough else "too few rows to stratify by label")
    alone = keys[~repeated].tolist()
    if alone:
        note += f"; labels of one row stay in train ({', '.join(alone[:3])}{', …' if len(alone) > 3 else ''})"
    return rows, labels if enough else None, note


def _cut_groups(
    table: pd.DataFrame, name: str, share: float, group: str, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Returns the remaining rows and a part of whole groups; the share counts groups, not rows."""
    from sklearn.model_selection import GroupShuffleSplit  # here, as a prediction does not need it

    groups = [label_key(cell) for cell in table[group]]
    num_groups = len(set(groups))
    if num_groups < 2:
        raise DataError(
            explain(
                expected=f"a group for each part, {name} included",
                found=f"too few different values in column '{group}'",
                fix="Name another --group column, or leave it out.",
            )
        )
    num_cut = min(max(1, round(share * num_groups)), num_groups - 1)
    splitter = GroupShuffleSplit(n_splits=1, test_size=num_cut, random_state=seed)
    rest, cut = next(splitter.split(np.zeros(len(table)), groups=groups))
    return table.iloc[np.sort(rest)], table.iloc[np.sort(cut)], f"split by whole groups of '{group}'"


def _parts(source: TableLike) -> dict[str, pd.DataFrame]:
    """Returns the parts that a source has, `train` always among them."""
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if path.is_dir():
            return _folder_parts(path)
        if path.exists() or table_suffix(path) is not None:
            return {"train": read_table(path)}
        return _named(hub_dataset(str(source)), f"the dataset '{source}'")
    aliases = {alias for aliases in PARTS.values() for alias in aliases}
    if isinstance(source, Mapping) and aliases & set(source) and all(_is_table(value) for value in source.values()):
        return _named(source, "the tables")
    return {"train": read_table(source)}


def _is_table(value: Any) -> bool:
    """Returns whether a mapping's value is a table of its own, not a column of cells."""
    if isinstance(value, list | tuple):
        return bool(value) and isinstance(value[0], Mapping)
    return isinstance(value, pd.DataFrame | Mapping | str | Path) or hasattr(value, "to_pandas")


def _folder_parts(folder: Path) -> dict[str, pd.DataFrame]:
    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        import datasets

        try:
            saved = datasets.load_from_disk(str(folder))
        except Exception as error:  # the library raises its own, arrow's and the system's errors
            raise DataError(
                f"Expected a saved dataset in '{folder}', found damage ({type(error).__name__}: {str(error)[:200]}). "
                "Save it again."
            ) from error
        return _named(saved, f"'{folder}'") if isinstance(saved, Mapping) else {"train": read_table(saved)}
    files = files_of_parts(folder)
    if "train" not in files:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise DataError(
            explain(
                expected=f"a train file ({', '.join(SUFFIXES)}) in the folder '{folder}'",
                found=there,
                fix="Name a file instead of the folder, or rename the file.",
            )
        )
    return {name: read_table(path) for name, path in files.items()}


def files_of_parts(folder: Path) -> dict[str, Path]:
    """Returns the files of a folder that are named as parts.

    Raises:
        DataError: two files are the same part.
    """
    files: dict[str, Path] = {}
    for name, aliases in PARTS.items():
        candidates = [path for alias in aliases for path in sorted(folder.glob(f"{alias}.*"))]
        candidates = [path for path in candidates if table_suffix(path) is not None]
        if len(candidates) > 1:
            raise DataError(
                explain(
                    expected=f"one {name} file",
                    found=f"{' and '.join(path.name for path in candidates)} in '{folder}'",
                    fix="Remove one, or name files with DATA, --validation and --test.",
                )
            )
        if candidates:
            files[name] = candidates[0]
    return files


def hub_dataset(name: str, config: str | None = None, revision: str | None = None) -> Mapping[str, Any]:
    """Returns the parts of a dataset on the hub, or in its cache, by the hub's names.

    Args:
        name: the hub id.
        config: which of its configurations; None for the only one.
        revision: a branch, tag or commit; None for the main branch.

    Raises:
        DataError: it cannot be had.
    """
    path = Path(name).expanduser()
    if path.is_absolute() or name.startswith(".") or name.count("/") > 1 or "\\" in name:
        raise DataError(
            explain(expected="a table file or a folder", found=f"none at '{name}'", fix=f"Check it.{close_file(path)}")
        )
    import datasets
    from huggingface_hub import HfApi

    try:
        if not _is_cached(name, Path(datasets.config.HF_DATASETS_CACHE)):
            # This answers at once where there is no network or no such dataset; loading would try for half a minute.
            HfApi().dataset_info(name, timeout=HUB_TIMEOUT_SECONDS)
        asked = {"name": config, "revision": revision}
        loaded = datasets.load_dataset(name, **{key: value for key, value in asked.items() if value is not None})
    except Exception as error:  # the libraries raise their own, the hub client's and the system's errors
        raise DataError(
            f"Expected a table file, a folder, or a dataset id that can be had, found '{name}': no such path exists "
            f"here, and the hub could not be reached or did not give it ({type(error).__name__}: {str(error)[:200]}). "
            f"Check the path, the name and the network.{close_file(path)}"
        ) from error
    if not isinstance(loaded, Mapping):
        raise DataError(f"Expected a dataset with parts, found {type(loaded).__name__} for '{name}'.")
    return loaded


def _is_cached(name: str, cache: Path) -> bool:
    """Returns whether a dataset may be in the cache, whose folders spell names in several ways."""
    wanted, *there = (
        re.sub("[^a-z0-9]", "", folder_name.lower()) for folder_name in (name, *(path.name for path in cache.glob("*")))
    )
    return any(folder_name.endswith(wanted) for folder_name in there)


def _named(tables: Mapping[str, Any], what: str) -> dict[str, pd.DataFrame]:
    """Returns tables under the standard names of their parts."""
    parts = {}
    for name, aliases in PARTS.items():
        for alias in aliases:
            if alias in tables and name not in parts:
                parts[name] = read_table(tables[alias])
    if "train" not in parts:
        raise DataError(
            explain(expected=f"a train part in {what}", found=", ".join(map(str, tables)), fix="Rename a part.")
        )
    return parts


def held_out_rows(source: TableLike) -> pd.DataFrame:
    """Returns a file's rows; of a source with parts, its test part, else its validation part, else its only one."""
    parts = _parts(source)
    name = next(name for name in ("test", "validation", "train") if name in parts)
    if len(parts) > 1:
        log.info("Rows: the %s part (%d rows)", name, len(parts[name]))
    return parts[name]


def stream_rows(source: str, rows_per_chunk: int) -> Iterator[pd.DataFrame]:
    """Yields a file's rows in chunks without holding them all; a source with parts gives its `held_out_rows`."""
    path = Path(source).expanduser()
    if path.is_file() or table_suffix(path) is not None:
        yield from stream_table(path, rows_per_chunk)
        return
    table = held_out_rows(source)
    for start in range(0, len(table), rows_per_chunk):
        yield table.iloc[start : start + rows_per_chunk]
