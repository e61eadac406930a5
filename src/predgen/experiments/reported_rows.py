"""Which rows a report is about, and which the model learned from."""

import warnings
from dataclasses import dataclass

import pandas as pd

from predgen.config import TASK_ROWS
from predgen.errors import ConfigError, PredGenError
from predgen.models.evaluating import answered_table
from predgen.models.model import Model
from predgen.tables.reading import TableLike
from predgen.tables.splits import held_out_rows
from predgen.training.preparing import TABLE_IN_MEMORY, Prepared, prepare
from predgen.warning_kinds import NoTestPartWarning, PredGenWarning, warn

GIVEN = "given"


@dataclass(frozen=True)
class ReportedRows:
    """The rows of a report.

    Attributes:
        table: the rows that the model answers.
        part: which part they are: `test`, `validation`, or `given` where a table of its own was named.
        source: where they come from, for people.
        fitted: the rows that the model was fitted with; None if they cannot be had.
        missing: why they cannot be had, if so.
    """

    table: pd.DataFrame
    part: str
    source: str
    fitted: Prepared | None
    missing: str | None = None

    @property
    def parts(self) -> dict[str, pd.DataFrame]:
        """The rows of each part by its name, those of the report last."""
        parts = {}
        if self.fitted is not None:
            splits = self.fitted.splits
            parts = {"train": splits.train, "validation": splits.validation}
            parts |= {} if splits.calibration is None else {"calibration": splits.calibration}
            parts.pop(self.part, None)
        return parts | {self.part: self.table}


def rows_to_report(model: Model, data: TableLike | None) -> ReportedRows:
    """Returns the rows of a report: the held-out part of what a model was fitted on, or other rows.

    Args:
        model: the model.
        data: rows whose answers are known. If they are those of the fit, their held-out part is taken.

    Raises:
        ConfigError: no rows are named, and the model was fitted on a table in memory.
        DataError: the rows of the fit are others now, and no rows are named.
    """
    settings = model.config.data
    own = None if settings.data == TASK_ROWS else settings.data
    source = own or f"the task {settings.task}"
    if data is None:
        if own == TABLE_IN_MEMORY:
            raise ConfigError(
                "Expected rows to report on, found none: the model was fitted on a table in memory. Name rows whose "
                "answers are known."
            )
        fitted = _prepared(model, own)
        if fitted is None:
            raise ConfigError(
                f"Expected the rows that the model was fitted with, found others in '{source}'. Restore them, or name "
                "rows whose answers are known."
            )
        return _held_out(fitted, source)
    named = str(data) if isinstance(data, str) or hasattr(data, "__fspath__") else "a table in memory"
    try:
        with warnings.catch_warnings(action="ignore", category=PredGenWarning):
            fitted = _prepared(model, data)
    except PredGenError:  # rows that were never made for a fit, such as a test file alone
        fitted = None
    if fitted is not None:
        return _held_out(fitted, named)
    table, _ = answered_table(model, held_out_rows(data))
    if own == TABLE_IN_MEMORY:
        return ReportedRows(table, GIVEN, named, None, "The model was fitted on a table in memory.")
    try:
        fitted = _prepared(model, own)
    except PredGenError as error:
        return ReportedRows(table, GIVEN, named, None, str(error))
    missing = None if fitted is not None else f"The rows in '{source}' are others now."
    return ReportedRows(table, GIVEN, named, fitted, missing)


def _held_out(fitted: Prepared, source: str) -> ReportedRows:
    """Returns the rows that the model did not learn from: the test part, else the validation part."""
    if fitted.splits.test is not None:
        return ReportedRows(fitted.splits.test, "test", source, fitted)
    warn(
        NoTestPartWarning(
            f"There is no test part: the report is of the {len(fitted.splits.validation)} validation rows, which also "
            "chose the checkpoint. Give a test part (--test, --split), or other rows."
        )
    )
    return ReportedRows(fitted.splits.validation, "validation", source, fitted)


def _prepared(model: Model, data: TableLike | None) -> Prepared | None:
    """Returns the rows that a model was fitted with, split as they were; None if the data holds others."""
    prepared = prepare(
        model.config.data, data, model.record["split_seed"], default_template=lambda *_: model.contents.template
    )
    return prepared if prepared.fingerprint() == model.record["rows_sha256"] else None
