"""All that a report says of a fitted model, gathered from one prediction of its held-out rows."""

import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from predgen.config import changed_settings, command_of
from predgen.errors import unknown_name
from predgen.experiments.answer_facts import (
    INTERVAL,
    WORST_ROWS,
    field_facts,
    group_columns,
    promises,
    row_losses,
    shown_rows,
    slices,
)
from predgen.experiments.baseline_rows import Given, baseline_results
from predgen.experiments.data_facts import distributions, lengths_of, shared_rows
from predgen.experiments.reported_rows import ReportedRows, rows_to_report
from predgen.experiments.results import Comparison, MethodResult
from predgen.measures.base import json_number
from predgen.models.answer_columns import column_of, with_answers
from predgen.models.answer_warnings import warn_of_answers
from predgen.models.artifact import LIBRARIES
from predgen.models.asked import Asked
from predgen.models.encoding import Encoded, encode_prompts
from predgen.models.loading import load
from predgen.models.model import Model
from predgen.models.scored import Scored, score
from predgen.tables.reading import TableLike, row_numbers
from predgen.tables.values import target_columns, values_of
from predgen.targets.field import ALONE
from predgen.training.runs import Finished
from predgen.version import __version__

BASELINES = ("mean_or_majority", "tfidf_linear")
EXAMPLES = 10


def describe(
    run: Model | str | Path,
    data: TableLike | None = None,
    *,
    groups: Sequence[str] | None = None,
    baselines: Sequence[str] = BASELINES,
    **load_options: Any,
) -> dict[str, Any]:
    """Returns what a report says of a model, as plain JSON values; `predgen.report.run_page.write_report` makes a page.

    Args:
        run: the model, or its artifact's directory.
        data: rows whose answers are known; the held-out part of what the model was fitted on if not given, or if they
            are those very rows.
        groups: columns whose values are groups that errors are shown by; a few that have few values if not given.
        baselines: what stands beside the model, where the rows that it was fitted with can be had.
        load_options: keyword arguments of `predgen.load`, where `run` is a directory.

    Raises:
        ArtifactError: as `predgen.load`.
        ConfigError: there are no rows to report on.
        DataError: an input or an answer is missing, or is no value of the target.
        UnknownNameError: there is no such column or baseline.
    """
    model = run if isinstance(run, Model) else load(run, **load_options)
    reported = rows_to_report(model, data)
    table = reported.table
    columns = target_columns(model.config.data.target, table)
    for name in groups or ():
        if name not in table.columns:
            raise unknown_name("column", name, list(map(str, table.columns)))
    values = {part: values_of(model.target, rows, columns) for part, rows in reported.parts.items()}
    scored, answered, encoded, seconds = _answered(model, table, values[reported.part])
    prompts = {
        part: encode_prompts(model.method, model.contents, rows)
        for part, rows in reported.parts.items()
        if part != reported.part
    } | {reported.part: (encoded.prompts, encoded.num_cut)}
    lengths = {part: list(map(len, of_part)) for part, (of_part, _) in prompts.items()}
    metric = model.record.get("metric") or model.target.default_metric
    rows = _Rows(model, reported, scored, answered, metric)
    return {
        "target": list(columns),
        "kind": model.target.kind,
        "method": model.config.model.method,
        "backbone": model.contents.base_name,
        "metric": metric,
        "data": {
            "source": reported.source,
            "part": reported.part,
            "how": None if reported.fitted is None else reported.fitted.splits.how,
            "missing": reported.missing,
            "inputs": list(model.inputs),
            "lengths": lengths_of(lengths, {part: cut for part, (_, cut) in prompts.items()}),
            "fields": distributions(model.target, values),
            "shared": shared_rows(reported.parts, model.inputs),
        },
        "training": {
            "settings": changed_settings(model.config),
            "record": {name: value for name, value in model.record.items() if not isinstance(value, list | dict)},
            "history": model.record.get("history", []),
        },
        "comparison": _compared(model, reported, scored, values, baselines, seconds),
        "fields": field_facts(model, scored),
        "slices": slices(scored, metric, table, lengths[reported.part], rows.groups(groups)),
        "worst": rows.worst(),
        "examples": rows.examples(),
        "command": command_of(model.config),
        "versions": versions(),
    }


def _answered(model: Model, table: pd.DataFrame, truth: Sequence[Any]) -> tuple[Scored, pd.DataFrame, Encoded, float]:
    """Returns the answers beside the truth, the rows with the answers' columns, their prompts, and the seconds."""
    bare = table.loc[:, list(model.inputs)]
    has_labels = any(not field.numeric for field in model.target.fields.values())
    asked = Asked(probabilities=has_labels)
    start = time.perf_counter()
    encoded = model.encode(bare, asked)
    answers = model.answers(encoded, asked)
    seconds = time.perf_counter() - start
    warn_of_answers(model, encoded, answers, asked)
    calibrated = {
        name: calibration
        for name, calibration in model.contents.calibrations.items()
        if promises(calibration, INTERVAL)
    }
    answered = with_answers(
        encoded.table,
        model.target,
        answers,
        calibrated,
        probabilities=has_labels,
        std=False,
        interval=INTERVAL if calibrated else None,
    )
    return score(model.target, truth, answers), answered, encoded, seconds


def _compared(
    model: Model,
    reported: ReportedRows,
    scored: Scored,
    values: dict[str, list[Any]],
    baselines: Sequence[str],
    seconds: float,
) -> dict[str, Any]:
    """Returns the model's figures beside those of the baselines, as the JSON of a comparison."""
    results = {}
    if reported.fitted is not None:
        given = Given(model.config, reported.fitted, reported.table, values[reported.part], Finished(None))
        results = baseline_results(given, baselines)
    name = model.config.model.method
    rate = len(reported.table) / max(seconds, 1e-9)
    results[name] = MethodResult([scored], float(model.record.get("train_seconds", 0.0)), rate)
    return Comparison(results, reported.part, model.config, against=name).to_json()


class _Rows:
    """Single rows of a report, and the columns that group them."""

    def __init__(
        self, model: Model, reported: ReportedRows, scored: Scored, answered: pd.DataFrame, metric: str
    ) -> None:
        self.model, self.table = model, reported.table
        self.loss_name, self.losses = row_losses(scored, metric)
        columns = target_columns(model.config.data.target, self.table)
        self.numbers = row_numbers(self.table)
        self.columns: dict[str, list[Any]] = {name: self.table[name].tolist() for name in model.inputs}
        fields = list(model.target.fields)
        for field, column in zip(fields, columns, strict=True):
            of = "" if field == ALONE else f" of {field}"
            self.columns[f"truth{of}"] = list(map(_shown, self.table[column]))
            self.columns[f"answer{of}"] = list(map(_shown, answered[column_of("prediction", field)]))
            for end in ("low", "high", "set"):
                if column_of(end, field) in answered:
                    self.columns[f"{end}{of}"] = list(map(_shown, answered[column_of(end, field)]))
        if answered["written"].notna().any():
            self.columns["written"] = list(map(_shown, answered["written"]))
        self.columns[self.loss_name] = [json_number(float(loss)) for loss in self.losses]
        self.taken = [*model.inputs, *columns]

    def groups(self, asked: Sequence[str] | None) -> list[str]:
        """Returns the columns by whose values errors are shown."""
        return group_columns(self.table, self.taken, asked)

    def worst(self) -> list[dict[str, Any]]:
        """Returns the rows with the largest loss, those without one first: their answers are invalid."""
        order = np.argsort(-np.where(np.isfinite(self.losses), self.losses, np.inf), kind="stable")
        return self._shown(order[:WORST_ROWS].tolist())

    def examples(self) -> list[dict[str, Any]]:
        """Returns some rows, drawn with a fixed seed, in their order."""
        some = min(EXAMPLES, len(self.table))
        return self._shown(sorted(np.random.default_rng(0).choice(len(self.table), some, replace=False).tolist()))

    def _shown(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        return shown_rows(positions, self.columns, self.numbers, self.model.inputs)


def _shown(cell: Any) -> str | None:
    """Returns a cell as text; None for an empty one."""
    if cell is None or (isinstance(cell, float) and not np.isfinite(cell)):
        return None
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def versions() -> dict[str, str]:
    """Returns the versions of this package and of the libraries that answers depend on."""
    return {"predgen": __version__, **{name: version(name) for name in LIBRARIES}}
