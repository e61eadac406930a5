"""How much of the answer fitted models have in their states: estimates, controls and layers, side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from predgen.config import TASK_ROWS, RunConfig
from predgen.errors import ConfigError, DataError, unknown_name
from predgen.information.estimators import ESTIMATORS, MOST_SCORED, Pairs, check_rows, estimate, summary
from predgen.information.exact import entropy
from predgen.information.states import SOURCES, Rows, padded, prompts_of, sources_of, states_of
from predgen.measures.kinds import measure_of
from predgen.models.artifact import read_run
from predgen.models.loading import load
from predgen.models.model import Model
from predgen.tables.reading import TableLike
from predgen.tables.values import values_of
from predgen.targets.record import Target
from predgen.training.fitting import prepared_for
from predgen.training.preparing import TABLE_IN_MEMORY, Prepared
from predgen.version import __version__
from predgen.warning_kinds import NoTestPartWarning, UnseenLabelsWarning, each_once, warn

DEFAULT_SOURCES = ("pooled", "written", "written_mean")
DEFAULT_ESTIMATORS = ("mine", "infonce", "smile", "neighbours")
LAYER_ESTIMATOR = "infonce"
UNUSED = "training rows that the models did not see"


class Parts:
    """The rows that critics learn from, and those that estimates are of. No model was trained on either.

    Args:
        prepared: the rows that the models were fitted with.
        group: the column whose rows stay together, if the split had one.
        rows: the most rows of each part.

    Raises:
        DataError: there are too few rows.
    """

    def __init__(self, prepared: Prepared, group: str | None, rows: int) -> None:
        self.target, self.columns = prepared.target, prepared.columns
        splits, self.estimated_on = prepared.splits, "test"
        held_out = splits.test
        if held_out is None:
            held_out, self.estimated_on = splits.validation, "validation"
            warn(
                NoTestPartWarning(
                    f"There is no test part: the estimates are of the {len(held_out)} validation rows, which chose the "
                    "checkpoints. Give a test part (--test, --split)."
                )
            )
        unused, self.learned_from = splits.unused, UNUSED
        if unused is not None and group is not None:
            known = pd.concat([table[group] for table in (splits.train, splits.validation, held_out)])
            unused = unused[~unused[group].isin(known)]
        if unused is None or len(unused) < len(held_out) / 2:
            self.learned_from = f"half of the {self.estimated_on} rows"
            unused, held_out = _halves(held_out, group)
        # Tables are often sorted: a part of the rows is a random one.
        self.learn, self.learn_answers, lost = self._answered(_some(unused, rows))
        self.held_out, self.held_out_answers, other = self._answered(_some(held_out, min(rows, MOST_SCORED)))
        self.dropped = lost + other
        if self.dropped:
            warn(
                UnseenLabelsWarning(
                    f"{self.dropped} rows are left out: their label is none that the models know. Give training rows "
                    "of it."
                )
            )
        check_rows(len(self.learn), len(self.held_out))

    @property
    def labels(self) -> bool:
        """Whether the answers are labels."""
        return is_discrete(self.target)

    def _answered(self, table: pd.DataFrame) -> tuple[pd.DataFrame, Float[Tensor, "row answer"], int]:
        """Returns the rows whose answer is a value of the target, the answers, and how many rows have another."""
        values = values_of(self.target, table, self.columns)
        kept = [value is not None for value in values]
        known = [value for value in values if value is not None]
        return table[kept], answers_of(self.target, known), len(values) - len(known)

    def pairs(self, learn: Rows, held_out: Rows) -> tuple[Pairs, Pairs]:
        """Returns the states of both parts with their answers."""
        return (
            Pairs(*padded(learn), self.learn_answers, self.labels),
            Pairs(*padded(held_out), self.held_out_answers, self.labels),
        )

    def answer_entropy(self) -> float | None:
        """Returns H(Y) of the shares that the values have in the rows that estimates are of.

        None where most values come once: the shares then say how many rows there are, and no more.
        """
        _, counts = np.unique(self.held_out_answers.numpy(), axis=0, return_counts=True)
        return entropy(counts / counts.sum()) if len(counts) < counts.sum() / 2 else None


def _some(table: pd.DataFrame, rows: int) -> pd.DataFrame:
    """Returns a random part of the rows, in the order of the table."""
    return table.iloc[np.sort(np.random.default_rng(0).permutation(len(table))[:rows])]


def _halves(table: pd.DataFrame, group: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns two random halves of the rows; rows of a group are in the same."""
    keys = np.arange(len(table)) if group is None else table[group].to_numpy()
    names = np.array(list(dict.fromkeys(keys.tolist())), dtype=object)
    first = set(names[np.random.default_rng(0).permutation(len(names))[: len(names) // 2]].tolist())
    chosen = np.array([key in first for key in keys.tolist()])
    return table[chosen], table[~chosen]


def check_target(target: Target) -> None:
    """Refuses targets of several parts, before any work.

    Raises:
        ConfigError: the target is a record or a set of labels.
    """
    fields = list(target.fields.values())
    if len(fields) > 1 or not measure_of(fields[0]).HAS_COORDINATES:
        raise ConfigError(f"Expected models of a number or a label, found {target.noun}. Fit each part on its own.")


def is_discrete(target: Target) -> bool:
    """Returns whether the answers are labels."""
    return all(measure_of(field).DISCRETE for field in target.fields.values())


def answers_of(target: Target, values: Sequence[Any]) -> Float[Tensor, "row answer"]:
    """Returns answers as critics take them: labels one-hot, numbers as they are learned.

    Args:
        target: a number or a label.
        values: its values.
    """
    (field,) = target.fields.values()  # `check_target`
    return torch.tensor(measure_of(field).coordinates(values), dtype=torch.float32)


@each_once()
def measure_information(
    runs: Sequence[str | Path],
    data: TableLike | None = None,
    *,
    estimators: Sequence[str] = DEFAULT_ESTIMATORS,
    sources: Sequence[str] = DEFAULT_SOURCES,
    seeds: int = 3,
    rows: int = 5_000,
    layers: bool = True,
    device: str = "auto",
    trust_remote_code: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Returns how much of the answer fitted models have in their states: I(Y; Z) in nats, as JSON holds it.

    Critics learn from training rows that the models did not see (those that `max_train_rows` left out), or from half
    of the test rows if there are too few, and estimate on the (other) test rows. Written tokens are those that the
    model writes by itself, as in prediction; no gold token is fed. Each estimate stands beside its control, with
    answers of other rows, and H(Y), which bounds it.

    Args:
        runs: artifacts that were fitted on the same rows.
        data: the data that they were fitted on; where their settings say if not given.
        estimators: some of mine, infonce, smile, nwj, neighbours.
        sources: some of `pooled` (the pooled prompt), `written` (all written tokens), `written_mean` (their mean) and
            `prompt` (all tokens of the prompt); a predictor has `pooled` and `prompt` alone.
        seeds: of the estimators; the standard error is over them.
        rows: the most rows to learn from, and to estimate on.
        layers: also estimate at each layer, by InfoNCE.
        device: where the models run.
        trust_remote_code: run code from the repositories of their base models, if they were fitted so.
        progress: called with what comes next.

    Raises:
        ConfigError: the models are not of the same rows, or nothing is asked for.
        DataError: there are too few rows, or not those that the models were fitted with.
        UnknownNameError: an estimator or a source is not known.
    """
    for what, names, known in (("estimator", estimators, ESTIMATORS), ("source", sources, SOURCES)):
        for name in names:
            if name not in known:
                raise unknown_name(what, name, known)
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"Expected at least one {what}, and each once, found {', '.join(names) or 'none'}.")
    if not runs or seeds < 1 or rows < 1:
        raise ConfigError(f"Expected artifacts, seeds and rows, found {len(runs)}, {seeds} and {rows}.")
    shown = _names([str(run) for run in runs])
    fitted = {path: read_run(Path(path)) for path in shown}
    for path, (config, _) in fitted.items():
        if not set(sources) & set(sources_of(config.model.method)):
            raise ConfigError(
                f"Expected a source that '{shown[path]}' has ({', '.join(sources_of(config.model.method))}), found "
                f"{', '.join(sources)}. Ask for one of them, or leave the run out."
            )
    prepared = rows_of(fitted, data)
    config = next(iter(fitted.values()))[0]
    check_target(prepared.target)
    parts = Parts(prepared, config.data.group, rows)
    asked = _Asked(tuple(estimators), tuple(sources), seeds, layers)
    measured = []
    for path, (config, _) in fitted.items():  # one model at a time
        model = load(path, device=device, trust_remote_code=trust_remote_code)
        measured.append(
            {
                "name": shown[path],
                "path": path,
                "method": config.model.method,
                "backbone": config.model.backbone,
                "seed": config.train.seed,
                **_of_run(shown[path], model, parts, asked, progress),
            }
        )
        del model
    return {
        "version": __version__,
        "unit": "nats",
        "target": ",".join(config.data.target),
        "kind": prepared.target.kind,
        "rows": {"learn": len(parts.learn), "estimate": len(parts.held_out), "dropped": parts.dropped},
        "learned_from": parts.learned_from,
        "estimated_on": parts.estimated_on,
        "entropy": parts.answer_entropy(),
        "seeds": seeds,
        "runs": measured,
    }


@dataclass(frozen=True)
class _Asked:
    """The measures that are asked of each run; the attributes are arguments of `measure_information`."""

    estimators: tuple[str, ...]
    sources: tuple[str, ...]
    seeds: int
    layers: bool


def _of_run(name: str, model: Model, parts: Parts, asked: _Asked, progress: Callable[[str], None]) -> dict[str, Any]:
    """Returns the measures of one run, and of each of its layers."""
    model_sources = [source for source in asked.sources if source in sources_of(model.config.model.method)]
    progress(f"{name}: states of {len(parts.learn) + len(parts.held_out)} rows")
    learn, held_out = (
        states_of(model, prompts_of(model, table), model_sources, layers=asked.layers)
        for table in (parts.learn, parts.held_out)
    )
    measures = []
    for source in model_sources:
        pairs = parts.pairs(learn.last[source], held_out.last[source])
        for estimator in asked.estimators:
            progress(f"{name}: {source}, {estimator}")
            measures.append({"source": source, "estimator": estimator, **_measured(estimator, pairs, asked.seeds)})
    layers: dict[str, list[dict[str, Any]]] = {}
    for source in learn.layers:
        layers[source] = []
        for layer, states in enumerate(zip(learn.layers[source], held_out.layers[source], strict=True)):
            progress(f"{name}: {source}, layer {layer}")
            layers[source].append(_summed(LAYER_ESTIMATOR, parts.pairs(*states), asked.seeds)[0])
    return {"measures": measures, "layers": layers}


def rows_of(fitted: Mapping[str, tuple[RunConfig, Mapping[str, Any]]], data: TableLike | None) -> Prepared:
    """Returns the rows that models were fitted with.

    Args:
        fitted: the settings and the training record of each model, by its path.
        data: the data; where the settings of the first say if not given.

    Raises:
        ConfigError: the models were fitted with other rows than each other.
        DataError: the rows are others now, or the models do not say which they were.
    """
    path, (config, record) = next(iter(fitted.items()))
    for other, (_, its) in fitted.items():
        if "rows_sha256" not in its:
            raise DataError(
                f"Expected a model that says which rows it was fitted with, found '{other}', which was fitted by an "
                "older version. Fit it again."
            )
        if its["rows_sha256"] != record["rows_sha256"]:
            raise ConfigError(
                f"Expected models that were fitted with the same rows, found '{path}' and '{other}'. Fit them by one "
                "predgen compare --models DIR."
            )
    if data is None:
        if config.data.data == TABLE_IN_MEMORY:
            raise ConfigError("Expected the data that the models were fitted on, found none. Name it with data.")
        data = None if config.data.data == TASK_ROWS else config.data.data
    train = config.train.model_copy(update={"seed": record["split_seed"]})
    prepared = prepared_for(config.model_copy(update={"train": train}), data)
    if prepared.fingerprint() != record["rows_sha256"]:
        where = f" in '{data}'" if isinstance(data, str | Path) else ""
        raise DataError(
            f"Expected the rows that '{path}' was fitted with, found others{where}. Restore the table, or name the "
            "right one."
        )
    return prepared


def _measured(name: str, pairs: tuple[Pairs, Pairs], seeds: int) -> dict[str, Any]:
    """Returns an estimate with its control and the critics' curves."""
    (figures, curves), (control, control_curves) = (
        _summed(name, pairs, seeds, shuffle=shuffle) for shuffle in (False, True)
    )
    return {**figures, "control": control, "curves": curves, "control_curves": control_curves}


def _summed(
    name: str, pairs: tuple[Pairs, Pairs], seeds: int, *, shuffle: bool = False
) -> tuple[dict[str, Any], list[list[tuple[int, float]]]]:
    """Returns an estimate over seeds, and each seed's curve."""
    estimates = [estimate(name, *pairs, seed, shuffle=shuffle) for seed in range(seeds)]
    return summary(name, estimates), [result.curve for result in estimates]


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Returns the folders' own names, or the paths where two are the same.

    Raises:
        ConfigError: a path is named twice.
    """
    if len(set(paths)) < len(paths):
        raise ConfigError(f"Expected each artifact once, found {', '.join(paths)}. Leave the double one out.")
    short = {path: Path(path).name for path in paths}
    return short if len(set(short.values())) == len(paths) else {path: path for path in paths}
