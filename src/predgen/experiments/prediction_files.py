"""Files of predictions, of any tool, beside the truth: rows matched, answers read, tests as in every comparison."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from predgen.config import FieldSettings, build_config
from predgen.errors import ConfigError, DataError, explain, unknown_name
from predgen.experiments.results import Comparison, MethodResult
from predgen.measures.base import Measure
from predgen.measures.kinds import measure_of
from predgen.models.scored import Scored, ScoredField
from predgen.tables.joined import joining_of
from predgen.tables.reading import TableLike, read_table, require_columns, row_numbers
from predgen.tables.values import target_columns, values_of
from predgen.targets.cells import describe, is_missing, label_key, parse_number
from predgen.targets.field import ALONE, Field
from predgen.training.target import prepare_target
from predgen.warning_kinds import UnmatchedRowsWarning, warn

ANSWER, PROBABILITY = "prediction", "probability_"
# How far the probabilities of a row may sum up beside 1: files round them.
ROUNDING = 0.02


def compare_files(
    truth: TableLike,
    files: TableLike | Sequence[TableLike] | Mapping[str, TableLike],
    target: str,
    *,
    id: str | None = None,
    against: str | None = None,
    **declared: Any,
) -> Comparison:
    """Returns the metrics of files of predictions with intervals, and paired tests of them.

    An answer stands in the column `prediction`, or in one of the target's name; the probabilities of labels in columns
    `probability_<label>`. An answer that is no value of the target is invalid: a label that is none counts as wrong,
    a number that is none is left out of the metrics of numbers.

    Args:
        truth: a table with the true answers.
        files: tables with answers, by the name under which each is shown, the names of the files if they have none; or
            one path or data frame. A list is one of tables, not of rows.
        target: the column of the true answers, or several A,B of one answer, as `columns` says.
        id: a column that truth and files share, by which rows are matched; without it they are in the same order, and
            columns that both have must be equal.
        against: the one file that all others are tested against; every pair if not given.
        declared: what is declared of the target, as `fit` takes it (`kind`, `columns`, `labels`, `low`, `high`,
            `decimals`, …).

    Raises:
        ConfigError: there are no files, or two of one name.
        DataError: rows cannot be matched, a row is doubled, or probabilities are none.
        UnknownNameError: a column is missing, or `declared` has a name that declares nothing.
    """
    named = _named(files)
    if against is not None and against not in named:
        raise unknown_name("file", against, named)
    true_rows, tables = read_table(truth), {name: read_table(table) for name, table in named.items()}
    true_rows, declared = _joined(true_rows, target, declared)
    (column,) = target_columns((target,), true_rows)
    measure = measure_of(_field(true_rows, column, tables.values(), declared))
    places = {name: _places(true_rows, table, name, id, column) for name, table in tables.items()}
    common = np.all([of_file >= 0 for of_file in places.values()], axis=0)
    if not common.any():
        raise DataError(
            f"Expected rows that the truth and all files share, found none. Check the column '{id}' of each file."
        )
    _say_unmatched(places, tables, common)
    values = measure.as_array(values_of(measure.field, true_rows[common], (column,)))
    results = {}
    for name, table in tables.items():
        rows = table.iloc[places[name][common]]
        predicted = measure.as_array(_answers(measure.field, rows, name, column))
        # Numbers of other tools are compared as they stand, not as this target would write them.
        exact = np.isclose(predicted, values) if measure.field.numeric else measure.exact(values, predicted)
        scored = ScoredField(measure, values, predicted, _probabilities(measure, rows, name), exact)
        results[name] = MethodResult([Scored({ALONE: scored})], None, None)
    return Comparison(results, "matched", None, against=against)


def _named(files: TableLike | Sequence[TableLike] | Mapping[str, TableLike]) -> dict[str, TableLike]:
    """Returns the files by name: their own, with the folder where two have the same."""
    if isinstance(files, str | Path | pd.DataFrame):  # one file, which is no sequence of files
        files = [files]
    if isinstance(files, Mapping):
        named = dict(files)
    else:
        paths = [Path(file) if isinstance(file, str | Path) else None for file in files]
        stems = [f"file {number + 1}" if path is None else path.stem for number, path in enumerate(paths)]
        named = {}
        for stem, path, file in zip(stems, paths, files, strict=True):
            name = f"{path.parent.name}/{stem}" if path is not None and stems.count(stem) > 1 else stem
            if name in named:
                raise ConfigError(f"Expected files of different names, found '{name}' twice. Rename one of them.")
            named[name] = file
    if not named:
        raise ConfigError("Expected at least one file of predictions, found none.")
    return named


def _joined(truth: pd.DataFrame, target: str, declared: Mapping[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Returns the true answers with one column of the target, and what is declared of it."""
    declared = dict(declared)
    columns = declared.pop("columns", None)
    known = {name: value for name, value in declared.items() if name in FieldSettings.model_fields}
    settings = build_config({"data": "<truth>", "target": target, "columns": columns}, known).data
    joining = joining_of(settings, truth)
    if joining is None:
        return truth, declared
    return joining.table(truth, settings.target), declared | {"kind": joining.kind}


def _field(truth: pd.DataFrame, column: str, tables: Iterable[pd.DataFrame], declared: Mapping[str, Any]) -> Field:
    """Returns what is predicted: as declared, else as the true answers say; labels are those of the files too."""
    for name in declared:
        if name not in FieldSettings.model_fields:
            raise unknown_name("setting of a target", name, FieldSettings.model_fields)

    def field_of(more: Mapping[str, Any]) -> Field:
        settings = build_config({"data": "<truth>", "target": [column]}, {**declared, **more}).data
        target, _ = prepare_target(settings, truth, (column,))
        (only,) = target.fields.values()
        return only

    field = field_of({})
    if not measure_of(field).DISCRETE:
        return field
    known = [label_key(label) for label in field.labels]
    others = {
        label_key(name.removeprefix(PROBABILITY)): None
        for table in tables
        for name in map(str, table.columns)
        if name.startswith(PROBABILITY)
    }
    added = [label for label in others if label not in known]
    # A rare label may have no true row, and its share is still one of those that sum up to 1.
    return field_of({"kind": field.kind, "labels": (*known, *added)}) if added else field


def _places(truth: pd.DataFrame, table: pd.DataFrame, name: str, id: str | None, column: str) -> np.ndarray:
    """Returns for each row of the truth its position in a file's table, −1 where it is not there."""
    if id is not None:
        keys = _keys(truth, id, "the truth")
        found = _keys(table, id, f"'{name}'")
        return np.array([found.get(key, -1) for key in keys])
    if len(table) != len(truth):
        raise DataError(
            f"Expected {len(truth)} rows in '{name}', as the truth has, found {len(table)}. Name the column "
            "that rows are matched by (id)."
        )
    shared = [one for one in truth.columns if one in table.columns and one != column]
    for one in shared:
        ours, theirs = ([label_key(cell) for cell in rows[one].tolist()] for rows in (truth, table))
        differing = next((row for row, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]), None)
        if differing is not None:
            raise DataError(
                explain(
                    expected=f"'{name}' in the order of the truth",
                    found="another cell than the truth has there",
                    fix="Sort the file, or name the column that rows are matched by (id).",
                    row=row_numbers(table)[differing],
                    column=str(one),
                )
            )
    return np.arange(len(truth))


def _keys(table: pd.DataFrame, id: str, name: str) -> dict[str, int]:
    """Returns the positions of rows by their ids."""
    require_columns(table, [id], f"rows of {name}")
    found: dict[str, int] = {}
    for position, (row, cell) in enumerate(zip(row_numbers(table), table[id].tolist(), strict=True)):
        key = label_key(cell)
        if key in found or is_missing(cell):
            raise DataError(
                explain(
                    expected=f"every id of {name} once",
                    found=describe(cell) if is_missing(cell) else f"'{key}' again",
                    fix="Leave the row out, or correct its id.",
                    row=row,
                    column=id,
                )
            )
        found[key] = position
    return found


def _say_unmatched(places: Mapping[str, np.ndarray], tables: Mapping[str, pd.DataFrame], common: np.ndarray) -> None:
    """Warns of rows that only the truth or only a file has."""
    said = []
    for name, of_file in places.items():
        missing, others = int((of_file < 0).sum()), len(tables[name]) - int((of_file >= 0).sum())
        facts = [*([f"lacks {missing} rows of the truth"] if missing else [])]
        facts += [f"has {others} rows that the truth lacks"] if others else []
        if facts:
            said.append(f"'{name}' {' and '.join(facts)}")
    if said:
        warn(
            UnmatchedRowsWarning(
                f"{'; '.join(said)}. The figures are of the {int(common.sum())} rows that the truth and all files have."
            )
        )


def _answers(field: Field, rows: pd.DataFrame, name: str, column: str) -> list[Any]:
    """Returns the answers of a file, None where one is no value of the target."""
    found = [one for one in (ANSWER, column) if one in rows.columns]
    if not found:
        require_columns(rows, [ANSWER], f"rows of '{name}'")
    return [field.answered(cell) for cell in rows[found[0]].tolist()]


def _probabilities(measure: Measure[Any], rows: pd.DataFrame, name: str) -> np.ndarray | None:
    """Returns the probability of each label of each row, NaN where a cell is empty; None where there are none.

    Raises:
        DataError: a label has no column while others have, a cell is no probability, or a row's do not sum up to 1.
    """
    names = [one for one in rows.columns if str(one).startswith(PROBABILITY)]
    columns = {label_key(str(one).removeprefix(PROBABILITY)): one for one in names}
    keys = [label_key(label) for label in measure.field.labels]
    if not set(keys) & set(columns):
        return None
    for key in keys:
        if key not in columns:
            raise DataError(
                f"Expected a column '{PROBABILITY}{key}' in '{name}' beside those of the other labels, found none. "
                "Add it."
            )
    table = np.full((len(rows), len(keys)), np.nan)
    every = rows[[columns[key] for key in keys]].itertuples(index=False)
    for position, (row, cells) in enumerate(zip(row_numbers(rows), every, strict=True)):
        if all(map(is_missing, cells)):
            continue
        shares = [parse_number(cell) for cell in cells]
        known = [share for share in shares if share is not None and 0 <= share <= 1 + ROUNDING]
        if len(known) < len(shares) or (measure.DISCRETE and abs(sum(known) - 1) > ROUNDING):
            raise DataError(
                explain(
                    expected=f"probabilities{' that sum up to 1' if measure.DISCRETE else ''} in '{name}'",
                    found=", ".join(map(describe, cells)),
                    fix="Correct the row, or leave the columns of probabilities out.",
                    row=row,
                )
            )
        table[position] = np.array(known) / (sum(known) if measure.DISCRETE else 1.0)
    return table
