"""A fitted model: predict, evaluate, save, load."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from predgen.artifact import Contents, load_artifact, save_artifact
from predgen.calibration import calibrate_labels, calibrate_numbers, set_texts
from predgen.columns import check_inputs
from predgen.config import RunConfig
from predgen.errors import ConfigError, DataError, explain, unknown_name
from predgen.methods import Answers, Method, PredGen
from predgen.methods.predicting import answer_all
from predgen.metrics import crps, json_number, label_metrics, number_metrics, reliability
from predgen.mixing import MIXES
from predgen.preparing import unseen_labels, values_of
from predgen.statistics import bootstrap_interval
from predgen.tables import TableLike, read_table, require_columns, row_numbers
from predgen.targets import Label, Number, Target
from predgen.trie import fits

log = logging.getLogger("predgen")

OUTPUT_COLUMNS = ("prediction", "written", "invalid")
STD_COLUMN = "std"
INTERVAL_COLUMNS = ("low", "high")
SET_COLUMN = "set"
PROBABILITY_PREFIX = "probability_"
# Below this share of the Writer's probability, a warning says that what was computed from it is coarse.
COARSE_BELOW = 0.99
InvalidPolicy = Literal["nan", "warn", "raise"]
BOOTSTRAP_SEED = 0
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on rows whose answers are known.

    Attributes:
        metrics: by name, over the rows with a valid answer (an invalid label counts as wrong).
        ci95: the 95 % interval of each, from a bootstrap over the rows.
        rows: how many rows.
        invalid_fraction: the share of answers that are no value of the target.
        examples_per_second: rows answered per second, tokenization included.
        warnings: what a reader of the figures must know.
        reliability: of labels, as `predgen.metrics.reliability` returns it; empty for numbers.
    """

    metrics: dict[str, float]
    ci95: dict[str, tuple[float, float]]
    rows: int
    invalid_fraction: float
    examples_per_second: float
    warnings: tuple[str, ...] = ()
    reliability: tuple[dict[str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; a metric that is not defined is null."""
        return {
            "metrics": {name: json_number(value) for name, value in self.metrics.items()},
            "ci95": {name: [json_number(low), json_number(high)] for name, (low, high) in self.ci95.items()},
            "rows": self.rows,
            "invalid_fraction": self.invalid_fraction,
            "examples_per_second": self.examples_per_second,
            "warnings": list(self.warnings),
            "reliability": list(self.reliability),
        }


@dataclass(frozen=True)
class Scored:
    """A model's answers as arrays beside the truth, as metrics and tests take them.

    Attributes:
        truth: numbers, or label positions with −1 for a label never seen in training; shape (row,).
        predicted: numbers with NaN, or label positions with −1, for an invalid answer; shape (row,).
        probabilities: of each label, shape (row, label), or None.
    """

    kind: Literal["number", "label"]
    truth: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray | None

    def metrics(self, rows: np.ndarray | None = None) -> dict[str, float]:
        """Returns the metrics, of some rows or of all."""
        part = slice(None) if rows is None else rows
        if self.kind == "number":
            return number_metrics(self.truth[part], self.predicted[part])
        probabilities = None if self.probabilities is None else self.probabilities[part]
        return label_metrics(self.truth[part], self.predicted[part], probabilities)

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Returns the 95 % interval of each metric, from a bootstrap over the rows."""
        return bootstrap_interval(self.metrics, len(self.truth), seed=BOOTSTRAP_SEED)

    @property
    def invalid_fraction(self) -> float:
        """The share of invalid answers."""
        invalid = np.isnan(self.predicted) if self.kind == "number" else self.predicted < 0
        return float(invalid.mean())


def score(target: Target, truth: Sequence[Any], answers: Answers) -> Scored:
    """Returns answers and truth as arrays.

    Args:
        target: what is predicted.
        truth: the true values; None for a label never seen in training.
        answers: the answers, in the order of the truth.
    """
    if isinstance(target, Number):
        predicted = np.array([np.nan if value is None else value for value in answers.values], dtype=np.float64)
        return Scored("number", np.array(truth, dtype=np.float64), predicted, None)

    def positions(values: Sequence[Any]) -> np.ndarray:
        found = [None if value is None else target.index(value) for value in values]
        return np.array([-1 if position is None else position for position in found], dtype=np.int64)

    probabilities = None if answers.probabilities is None else answers.probabilities.numpy()
    return Scored("label", positions(truth), positions(answers.values), probabilities)


class Model:
    """A fitted model.

    Attributes:
        target: what it predicts.
        config: the settings it was fitted with.
        inputs: the columns that it reads.
        record: the training record.
    """

    def __init__(self, method: Method, contents: Contents) -> None:
        self.method = method
        self.contents = contents

    @property
    def target(self) -> Target:
        """What it predicts."""
        return self.method.target

    @property
    def config(self) -> RunConfig:
        """The settings it was fitted with."""
        return self.contents.config

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return self.contents.template.fields

    @property
    def record(self) -> dict[str, Any]:
        """The training record: rows read, losses and metrics over training, the best step, seconds."""
        return self.contents.record

    def predict(
        self,
        rows: TableLike,
        *,
        invalid: InvalidPolicy = "nan",
        probabilities: bool = False,
        std: bool = False,
        interval: float | None = None,
    ) -> pd.DataFrame:
        """Returns the rows with three more columns: `prediction`, `written` and `invalid`.

        Args:
            rows: a table, a path, or a list of rows, with the input columns.
            invalid: what to do where the written text is no value of the target (free decoding only): leave the
                prediction empty (`nan`), also warn of it (`warn`), or raise.
            probabilities: also a column `probability_<label>` for each label.
            std: also a column `std`, the standard deviation of the Writer's distribution, in the target's unit.
            interval: also columns `low` and `high` that hold a number with this probability, such as 0.9 (empty where
                an end is open), or a column `set` of labels that holds the label, with | between them; of a calibrated
                model.

        Raises:
            ConfigError: probabilities of a number, or the spread of labels or of a method that does not write, or an
                interval of a model that was not calibrated, or not on enough rows.
            DataError: an input is missing; an answer is invalid and the policy is `raise`.
            UnknownNameError: an input column is missing.
        """
        self.check_spread(probabilities=probabilities, std=std, interval=interval)
        table = read_table(rows)
        names = [f"{PROBABILITY_PREFIX}{value}" for value in self._labels] if probabilities else []
        ends = [] if interval is None else [SET_COLUMN] if self._labels else list(INTERVAL_COLUMNS)
        added = (*OUTPUT_COLUMNS, *([STD_COLUMN] if std else []), *names, *ends)
        taken = [name for name in added if name in table.columns]
        if taken:
            raise DataError(
                explain(
                    expected="input columns whose names are free for the output",
                    found=f"a column '{taken[0]}'",
                    fix="Rename that column.",
                )
            )
        sets = interval is not None and bool(self._labels)
        answers = self._answer(table, probabilities=probabilities or std or sets)
        wrong = [value is None for value in answers.values]
        if any(wrong) and invalid != "nan":
            first = wrong.index(True)
            message = explain(
                expected=f"a written {self.target.kind}",
                found=f"{sum(wrong)} invalid of {len(wrong)}, first '{answers.written[first]}'",
                fix="Use another decoding than free, or the policy 'nan'.",
                row=row_numbers(table)[first],
            )
            if invalid == "raise":
                raise DataError(message)
            log.warning(message)
        output = table.copy()
        values = [np.nan if value is None else value for value in answers.values]
        output["prediction"] = (
            values if isinstance(self.target, Number) else pd.Series(answers.values, index=table.index, dtype=object)
        )
        output["written"] = pd.Series(answers.written, index=table.index, dtype=object)
        output["invalid"] = wrong
        if probabilities and answers.probabilities is not None:
            output[names] = answers.probabilities.double().numpy()
        if std and answers.deviations is not None:
            output[STD_COLUMN] = answers.deviations.numpy()
        if interval is not None and self.contents.calibration is not None:
            calibration = self.contents.calibration
            if self._labels:
                assert answers.probabilities is not None  # asked for above
                chosen = calibration.sets(answers.probabilities.double().numpy(), interval)
                output[SET_COLUMN] = pd.Series(set_texts(self._labels, chosen), index=table.index, dtype=object)
            else:
                low, high = self._interval(np.array(values, dtype=np.float64), interval)
                # Where invalid calibration answers leave an end open, the cell is empty: files hold no infinity.
                output[ends] = np.column_stack([np.where(np.isfinite(end), end, np.nan) for end in (low, high)])
        return output

    def _interval(self, predicted: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ends of each answer's interval, inside a declared range."""
        assert self.contents.calibration is not None
        low, high = self.contents.calibration.interval(predicted, level)
        target = self.target
        if isinstance(target, Number) and target.declared:  # an inferred range promises nothing
            low, high = np.clip(low, target.low, None), np.clip(high, None, target.high)
        return low, high

    def calibrate(self, rows: TableLike) -> None:
        """Learns from rows what probabilities and intervals can be promised; nothing else may have been chosen on them.

        Raises:
            DataError: an input or an answer is missing, or there are too few rows.
        """
        table = read_table(rows)
        column = self.config.data.target
        require_columns(table, [column])
        truth = values_of(self.target, table, column)
        # Without the old temperature in them; and what was there stays if these rows cannot be taken.
        scored = score(self.target, truth, self._untempered(table, probabilities=bool(self._labels)))
        if scored.probabilities is None:
            calibration = calibrate_numbers(scored.predicted, scored.truth)
        else:
            calibration = calibrate_labels(scored.probabilities.astype(np.float64), scored.truth)
        self.contents = replace(self.contents, calibration=calibration)

    def check_spread(self, *, probabilities: bool = False, std: bool = False, interval: float | None = None) -> None:
        """Refuses to predict a spread that this model does not have.

        Raises:
            ConfigError: probabilities of a number, or the spread of labels or of a method that does not write, or an
                interval of a model that was not calibrated, or not on enough rows.
        """
        if interval is not None:
            if self.contents.calibration is None:
                raise ConfigError(
                    "Expected a calibrated model for an interval, found one without calibration. Run predgen calibrate "
                    "on rows that nothing was chosen on, or fit with --calibration."
                )
            self.contents.calibration.check(interval)
        if probabilities and not self._labels:
            raise ConfigError(
                "Expected a model of labels for probabilities, found one of numbers. Ask for std instead."
            )
        if std and (self._labels or not self.method.writes):
            found = "one of labels" if self._labels else "the predictor, which writes none"
            raise ConfigError(
                f"Expected a model that writes numbers for their standard deviation, found {found}. "
                + ("Ask for probabilities instead." if self._labels else "Fit the generator or predgen.")
            )

    @property
    def _labels(self) -> tuple[Any, ...]:
        """The labels; none for a number."""
        return self.target.values if isinstance(self.target, Label) else ()

    def evaluate(self, rows: TableLike, *, interval: float | None = None) -> Evaluation:
        """Returns the metrics of the model's answers on rows whose answers are known, with 95 % intervals.

        A number that was written has `crps` beside them, the score of the Writer's whole distribution, where it has at
        most 10,000 values.

        Args:
            rows: as `predict` takes them, with the target's column.
            interval: also `coverage`, the share of answers inside the intervals or sets of this level, and `width`, the
                intervals' mean width in the target's unit, or `set_size`, the labels' mean number.

        Raises:
            ConfigError: an interval of a model that was not calibrated, or not on enough rows.
            DataError: an input or an answer is missing, or is no value of the target.
        """
        self.check_spread(interval=interval)
        table = read_table(rows)
        column = self.config.data.target
        require_columns(table, [column])
        truth = values_of(self.target, table, column)
        unseen = unseen_labels(self.target, truth, table, column)
        if unseen:
            log.warning(unseen)
        answers, seconds = self.answers(table)
        scored = score(self.target, truth, answers)
        metrics = scored.metrics()
        if answers.valid_mass is not None:
            metrics["valid_mass"] = float(answers.valid_mass.mean())
        ci95 = scored.intervals()
        by_row = {} if interval is None else self._covered(scored, interval)
        if isinstance(self.target, Number) and self.method.writes and fits(self.target):
            quantiles = self._answer(table, probabilities=True).quantiles
            assert quantiles is not None  # a method that writes numbers has their distribution
            by_row["crps"] = crps(scored.truth, quantiles.numpy())
        if by_row:
            metrics |= {name: float(values.mean()) for name, values in by_row.items()}
            ci95 |= bootstrap_interval(
                lambda part: {name: float(values[part].mean()) for name, values in by_row.items()},
                len(truth),
                seed=BOOTSTRAP_SEED,
            )
        return Evaluation(
            metrics=metrics,
            ci95=ci95,
            rows=len(table),
            invalid_fraction=scored.invalid_fraction,
            examples_per_second=len(table) / seconds,
            warnings=(unseen,) if unseen else (),
            reliability=(
                () if scored.probabilities is None else tuple(reliability(scored.truth, scored.probabilities))
            ),
        )

    def _covered(self, scored: Scored, level: float) -> dict[str, np.ndarray]:
        """Returns for each row whether its interval or set holds the truth, and how large it is."""
        assert self.contents.calibration is not None
        if scored.probabilities is None:
            low, high = self._interval(scored.predicted, level)
            return {"coverage": (low <= scored.truth) & (scored.truth <= high), "width": high - low}
        chosen = self.contents.calibration.sets(scored.probabilities.astype(np.float64), level)
        held = chosen[np.arange(len(chosen)), np.maximum(scored.truth, 0)] & (scored.truth >= 0)
        return {"coverage": held, "set_size": chosen.sum(axis=1)}

    def answers(self, table: pd.DataFrame) -> tuple[Answers, float]:
        """Returns the answers for a table's rows, with the probabilities of labels, and the seconds they took.

        Probabilities that cost more than the answers themselves are not in the seconds.
        """
        labels = isinstance(self.target, Label)
        free = self.method.free_probabilities
        start = time.perf_counter()
        answers = self._answer(table, probabilities=labels and free)
        seconds = time.perf_counter() - start
        return (answers if free or not labels else self._answer(table, probabilities=True)), seconds

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes the model as one directory, whole or not at all.

        Raises:
            OutputExistsError: the path exists and was not to be overwritten.
        """
        save_artifact(Path(path), self.method, self.contents, overwrite=overwrite)

    def _answer(self, table: pd.DataFrame, *, probabilities: bool) -> Answers:
        """Returns the method's answers for the rows of a table, label probabilities tempered."""
        answers = self._untempered(table, probabilities=probabilities)
        calibration = self.contents.calibration
        if calibration is None or answers.probabilities is None:
            return answers
        return replace(answers, probabilities=torch.from_numpy(calibration.tempered(answers.probabilities.numpy())))

    def _untempered(self, table: pd.DataFrame, *, probabilities: bool) -> Answers:
        require_columns(table, self.inputs)
        check_inputs(table, self.inputs)
        prompts, num_cut = encode_prompts(self.method, self.contents, table)
        if num_cut:
            log.warning("%d of %d prompts were cut inside their longest field to fit the model.", num_cut, len(prompts))
        batch_size = self.config.train.eval_batch_size
        answers = answer_all(self.method, prompts, batch_size=batch_size, probabilities=probabilities)
        if answers.covered is not None and float(answers.covered.mean()) < COARSE_BELOW:
            log.warning(
                "%.1f %% of the Writer's probability is known number by number, the rest for ranges of numbers alone: "
                "means and standard deviations are coarse. Fewer decimals or a smaller range make them exact.",
                100 * float(answers.covered.mean()),
            )
        return answers


def encode_prompts(method: Method, contents: Contents, table: pd.DataFrame) -> tuple[list[list[int]], int]:
    """Returns the prompts of a table's rows as token ids, and how many were cut."""
    backbone = method.backbone
    longest = min(contents.config.model.max_prompt_tokens, backbone.max_positions - method.codec.max_length)
    fields = list(contents.template.fields)
    rows = [dict(zip(fields, cells, strict=True)) for cells in table.loc[:, fields].itertuples(index=False, name=None)]
    return contents.template.prompts(rows, backbone.tokenize_prompts, longest)


def choose_device(name: str) -> torch.device:
    """Returns the device of a name; `auto` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: the device is not there.
        UnknownNameError: no device is named so.
    """
    if name not in DEVICES:
        raise unknown_name("device", name, DEVICES)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("Expected a CUDA device, found none. Use --device cpu, or install torch with CUDA.")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("Expected an MPS device, found none. Use --device cpu.")
    return torch.device(name)


def load(path: str | Path, *, device: str = "auto", predict_from: str | None = None) -> Model:
    """Returns the model that an artifact holds.

    Args:
        path: the artifact's directory.
        device: `auto`, `cpu`, `cuda` or `mps`.
        predict_from: `director`, `writer`, `mean`, or `stack` if it was fitted; what it was fitted with if not given. A
            calibration holds for the answers that it was made of, and is left out with others.

    Raises:
        ArtifactError: it is missing, damaged, of a newer format, or of another base model.
        ConfigError: it cannot answer from there.
        UnknownNameError: there is no such device or source.
    """
    where = choose_device(device)
    if predict_from is not None and predict_from not in MIXES:
        raise unknown_name("source of answers", predict_from, MIXES)
    method, contents = load_artifact(Path(path))
    if predict_from is not None:
        if not isinstance(method, PredGen):
            raise ConfigError(
                f"Expected a model of the method predgen to predict from its {predict_from}, found one of the method "
                f"{contents.config.model.method}. Leave predict_from out."
            )
        if predict_from != contents.config.model.predict_from:
            if predict_from == "stack":
                raise ConfigError(
                    f"Expected a model whose stack was fitted, found '{path}', fitted without one. Fit it with "
                    "--predict-from stack."
                )
            method.mix = MIXES[predict_from]
            # From here on it is a model that answers from there; what was promised was of the other answers.
            config = contents.config
            model = config.model.model_copy(update={"predict_from": predict_from})
            contents = replace(contents, config=config.model_copy(update={"model": model}), calibration=None)
    return Model(method.to(where), contents)
