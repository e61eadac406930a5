"""From a table and settings to what every method trains on: splits, target, template, parsed values."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from predgen.backbones.frozen_layers import KeptStates
from predgen.backbones.template import Template
from predgen.catalogue import build_task_config, flat_table, load_task, task_rows
from predgen.config import TASK_ROWS, DataSettings, RunConfig, merged_layers
from predgen.errors import ConfigError, DataError, explain
from predgen.measures.calibration import Calibration
from predgen.models.answer_columns import output_names
from predgen.tables.inputs import check_inputs, infer_inputs
from predgen.tables.joined import joining_of
from predgen.tables.reading import TableLike, read_table, require_columns
from predgen.tables.splits import Splits, load_splits
from predgen.tables.values import target_columns, values_of, warn_of_unseen, weights_in
from predgen.targets.kinds import field_kind
from predgen.targets.record import Target, field_values
from predgen.training.table_warnings import warn_of_inputs, warn_of_missing_labels
from predgen.training.target import kind_of, prepare_target, warn_of_lost_labels
from predgen.training.weighting import training_weights
from predgen.warning_kinds import OtherPartsWarning, TakenNameWarning, warn

log = logging.getLogger("predgen")

TABLE_IN_MEMORY = "<table in memory>"

DefaultTemplate = Callable[[Sequence[str], str], Template]


@dataclass(frozen=True)
class Prepared:
    """One table, ready for any method.

    Attributes:
        splits: the rows of each part.
        columns: the target's columns, one for each of its fields.
        target: what is predicted, inferred from the training part or declared.
        template: how a row becomes a prompt; its fields are the input columns.
        train_values: the training values.
        validation_values: the validation values; None for a label that the training part lacks.
        split_seed: what the split was drawn from.
        train_weights: what the losses of each training row are multiplied by, 1 on average; None for 1 each.
        frozen_states: what frozen layers made of its prompts, by what they are (`predgen.training.frozen_states`).
    """

    splits: Splits
    columns: tuple[str, ...]
    target: Target
    template: Template
    train_values: list[Any]
    validation_values: list[Any]
    split_seed: int
    train_weights: Float[np.ndarray, " row"] | None = None
    frozen_states: dict[tuple[Any, ...], KeptStates] = field(default_factory=dict, compare=False, repr=False)

    def fingerprint(self) -> str:
        """Returns a SHA-256 over what figures are of: target, template, and the rows that train, choose and test."""
        columns = [*self.template.fields, *self.columns]
        digest = hashlib.sha256(repr((self.target, self.template.text)).encode())
        for part in (self.splits.train, self.splits.validation, self.splits.test):
            if part is None:
                continue
            for row in part.loc[:, columns].itertuples(index=False, name=None):
                digest.update(repr(row).encode())
        if self.train_weights is not None:
            digest.update(self.train_weights.tobytes())
        return digest.hexdigest()


def prepare(
    settings: DataSettings, source: TableLike | None, seed: int, *, default_template: DefaultTemplate = Template.default
) -> Prepared:
    """Reads, splits and checks a table, and says what was inferred.

    Args:
        settings: which columns, which split.
        source: the table; `settings.data` where it is a path or a hub id; None where the task finds its rows.
        seed: of the split.
        default_template: makes the prompt of the input columns and the target's name where the settings have none.

    Raises:
        DataError: a cell, a row or a column is not what it must be.
    """
    tables = _tables(settings, source)
    splits = load_splits(
        tables.source,
        target=settings.target,
        stratify=lambda table: _strata(settings, table),
        validation=tables.validation,
        test=tables.test,
        split=settings.split,
        group=settings.group,
        seed=seed,
        calibration=tables.calibration,
    )
    joining = joining_of(settings, splits.train)
    if joining is not None:
        _check_unread(settings)
        settings = settings.model_copy(update={"kind": joining.kind})
        splits = splits.changed(partial(joining.table, names=settings.target))
    all_rows = splits.train
    splits = _capped(splits, settings.max_train_rows, settings.max_eval_rows)
    log.info("Rows: %s", splits.how)
    columns = target_columns(settings.target, splits.train)
    target, train_values = prepare_target(settings, splits.train, columns)
    if len(all_rows) > len(splits.train):
        for field, column in zip(target.fields.values(), columns, strict=True):
            warn_of_lost_labels(field, all_rows[column].tolist(), len(splits.train))
    name = "; ".join(columns) if joining is None or len(settings.target) == 1 else joining.target_name
    template = _template(settings, splits.train, columns, lambda inputs, _: default_template(inputs, name))
    _check_names(template, splits.train, target)
    for part in (splits.train, splits.validation, splits.test, splits.calibration):
        if part is not None:
            require_columns(part, template.fields)
            check_inputs(part, template.fields)
    warn_of_inputs(splits, template.fields, columns, _as_read(target, train_values, splits.train, columns))
    validation_values = values_of(target, splits.validation, columns)
    warn_of_unseen(target, validation_values, splits.validation, columns)
    warn_of_missing_labels(target, train_values, validation_values)
    for part in (splits.test, splits.calibration):
        if part is not None:
            # A bad cell is better found now than after training.
            warn_of_unseen(target, values_of(target, part, columns), part, columns)
    for part in (splits.validation, splits.test, splits.calibration):
        if part is not None and settings.weight is not None and settings.weight in part.columns:
            weights_in(part, settings.weight)  # a bad cell is one, whichever part the row is in
    weights = training_weights(settings, target, train_values, splits.train)
    return Prepared(splits, columns, target, template, train_values, validation_values, seed, weights)


def _as_read(target: Target, values: Sequence[Any], train: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Returns training rows with numbers in place of the cells that were read as some."""
    read = {
        column: pd.Series(field_values(target, values, name), train.index, dtype=object)
        for (name, field), column in zip(target.fields.items(), columns, strict=True)
        if field.numeric
    }
    return train.assign(**read)


def _check_unread(settings: DataSettings) -> None:
    """Refuses inputs that are joined into the target.

    Raises:
        ConfigError: with the column.
    """
    for name in settings.inputs or ():
        if name in settings.target:
            raise ConfigError(f"Expected inputs other than the target, found '{name}' in both. Leave it out.")


def _template(
    settings: DataSettings, train: pd.DataFrame, columns: Sequence[str], default_template: DefaultTemplate
) -> Template:
    """Returns how a row becomes a prompt: as the settings say, or by default from the free-text columns."""
    inputs = settings.inputs
    if settings.template is not None:
        if inputs is not None:
            raise ConfigError("Expected --inputs or --template, found both. The template's fields are the inputs.")
        return Template.parse(settings.template, [name for name in train.columns if name not in columns])
    if inputs is None:
        known = columns if settings.weight is None else [*columns, settings.weight]
        inputs = tuple(infer_inputs(train, known))
        log.info("Inputs: %s (the free-text columns; name others with --inputs)", ", ".join(inputs))
    require_columns(train, inputs)
    if len(set(inputs)) < len(inputs):
        raise ConfigError(f"Expected every input column once, found {', '.join(inputs)}. Leave the double one out.")
    for column in columns:
        if column in inputs:
            raise ConfigError(f"Expected inputs other than the target, found '{column}' in both. Leave it out.")
    return default_template(inputs, "; ".join(columns))


def _check_names(template: Template, train: pd.DataFrame, target: Target) -> None:
    """Refuses inputs that no prediction could be made of, as it adds a column of that name; warns of other columns.

    Raises:
        DataError: with the column.
    """
    every = {name: Calibration(1.0, ()) for name in target.fields}
    always = output_names(target, {}, probabilities=False, std=False, interval=False)
    asked = output_names(target, every, probabilities=True, std=True, interval=True)
    for name in template.fields:
        if name in always:
            raise DataError(
                explain(
                    expected="input columns whose names are free for the answers",
                    found=f"the input '{name}', which a prediction adds",
                    fix="Rename that column.",
                )
            )
    taken = [str(name) for name in train.columns if name in asked]
    if taken:
        names = ", ".join(f"'{name}'" for name in taken)
        warn(
            TakenNameWarning(
                f"A prediction adds columns of the names {names}, when it is asked for them: of a table with columns "
                "of these names it refuses to. Rename them before."
            )
        )


@dataclass(frozen=True)
class _Tables:
    """The tables of a run, with the columns that its prompt and its target read."""

    source: TableLike
    validation: TableLike | None
    test: TableLike | None
    calibration: TableLike | float | None


def _tables(settings: DataSettings, source: TableLike | None) -> _Tables:
    """Returns the tables of a run; those of a task are read and made flat as the task says."""
    if settings.task is None:
        if source is None:
            raise ConfigError("Expected data, found none. Give a table, a path, or a task.")
        return _Tables(source, settings.validation, settings.test, settings.calibration)
    task = load_task(settings.task)

    def flat(table: TableLike) -> pd.DataFrame:
        return flat_table(task, read_table(table))

    flat_source: TableLike
    if source is None or (isinstance(source, str | Path) and not Path(source).expanduser().is_file()):
        task_tables = task_rows(task, source)
        log.info("Task: %s, %s; rows from %s", task.reference, task.title, task_tables.origin)
        if task_tables.note and task_tables.is_fallback:
            warn(OtherPartsWarning(task_tables.note))
        elif task_tables.note:
            log.info(task_tables.note)
        flat_source = dict(task_tables.parts)
    else:
        flat_source = flat(source)
    return _Tables(
        flat_source,
        None if settings.validation is None else flat(settings.validation),
        None if settings.test is None else flat(settings.test),
        flat(settings.calibration) if isinstance(settings.calibration, str) else settings.calibration,
    )


def settings_of(data: TableLike | None, target: str | Sequence[str] | None, settings: Mapping[str, Any]) -> RunConfig:
    """Returns the checked settings of a run on some data, those that its task declares below all others.

    Args:
        data: a table, a path, a folder of splits, or a hub id; None where the settings name a task.
        target: the column to predict, or several as one record; None for the task's.
        settings: any setting of `predgen.config`.

    Raises:
        ConfigError: there are neither data nor a task; or as `build_config`.
    """
    if data is None:
        if merged_layers(settings).get("data.task") is None:
            raise ConfigError("Expected data, found none. Give a table, a path, or a task.")
        return build_task_config(settings, {"data.target": target})
    return build_task_config(settings, {"data.data": _name_of(data), "data.target": target})


def run_of(
    data: TableLike | None,
    target: str | Sequence[str] | None,
    settings: Mapping[str, Any],
    config: RunConfig | None,
) -> tuple[RunConfig, TableLike | None]:
    """Returns the checked settings of a run, and its table; None where its task finds the rows.

    Args:
        data: as `settings_of` takes it; with `config` None stands for the table that it names.
        target: as `settings_of` takes it; None with `config`.
        settings: as `settings_of` takes them; none with `config`.
        config: all settings; None to make them of the other arguments.

    Raises:
        ConfigError: there are both `config` and other settings, or neither data nor a task; or as `settings_of`.
    """
    if config is None:
        return settings_of(data, target, settings), data
    if target is not None or settings:
        given = ", ".join([*(["target"] if target is not None else []), *settings])
        raise ConfigError(
            f"Expected either config or single settings, found both (config and {given}). Set them with "
            "config.changed(…)."
        )
    if data is not None:
        return config.changed(**{"data.data": _name_of(data)}), data
    if config.data.data in ("", TABLE_IN_MEMORY):
        raise ConfigError("Expected data, found none. Give a table, a path, or a task.")
    return config, None if config.data.data == TASK_ROWS else config.data.data


def _name_of(data: TableLike) -> str:
    """Returns how settings name a table."""
    return str(data) if isinstance(data, str | Path) else TABLE_IN_MEMORY


def _strata(settings: DataSettings, table: pd.DataFrame) -> str | None:
    """Returns the first column of the target that holds labels, which a split keeps in their shares."""
    if joining_of(settings, table) is not None:
        return None
    for column in target_columns(settings.target, table):
        kind, _ = kind_of(settings.fields.get(column, settings), table[column].tolist())
        if field_kind(kind).stratifies:
            return column
    return None


def _capped(splits: Splits, max_train_rows: int | None, max_eval_rows: int | None) -> Splits:
    """Returns the first rows of each part, and what was left of the training part."""
    if max_train_rows is None and max_eval_rows is None:
        return splits
    train, validation = splits.train.iloc[:max_train_rows], splits.validation.iloc[:max_eval_rows]
    test = None if splits.test is None else splits.test.iloc[:max_eval_rows]
    sizes = f"{len(train)} / {len(validation)} / {0 if test is None else len(test)}"
    how = f"{splits.how}; the first {sizes} of each part are used"
    unused = splits.train.iloc[len(train) :] if len(train) < len(splits.train) else None
    return Splits(train, validation, test, how, splits.calibration, unused)
