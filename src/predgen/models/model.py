"""A fitted model: predict, evaluate, calibrate, save."""

import logging
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from predgen.backbones.packing import PackedWeights
from predgen.codec.kinds import fits
from predgen.config import RunConfig
from predgen.errors import ConfigError, DataError, explain
from predgen.measures.base import metric_of
from predgen.measures.number import crps
from predgen.measures.statistics import bootstrap_interval
from predgen.methods import Answers, Method, PredGen, Writer
from predgen.methods.buckets import BatchLimits, answer_all
from predgen.methods.writer import NUM_SAMPLES
from predgen.models.answer_columns import output_names, with_answers
from predgen.models.artifact import save_artifact
from predgen.models.contents import Contents
from predgen.models.encoding import Encoded, encode_rows
from predgen.models.scored import BOOTSTRAP_SEED, Evaluation, Scored, intervals, score
from predgen.tables.reading import TableLike, read_table, require_columns, row_numbers
from predgen.tables.values import unseen_labels, values_of
from predgen.targets.field import Field
from predgen.targets.record import Target, fields_of

log = logging.getLogger("predgen")

# Below this share of the Writer's probability, a warning says that what was computed from it is coarse.
COARSE_BELOW = 0.99
InvalidPolicy = Literal["nan", "warn", "raise"]


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
        marginal: bool = False,
    ) -> pd.DataFrame:
        """Returns the rows with three more columns: `prediction`, `written` and `invalid`.

        A record has a column `prediction_<field>` for each field, and the field's name in the other columns too, such
        as `std_<field>` or `probability_<field>_<label>`. A set is text, with its delimiter between the labels.

        Args:
            rows: a table, a path, or a list of rows, with the input columns.
            invalid: what to do where the written text is no value of the target (free decoding only): leave the
                prediction empty (`nan`), also warn of it (`warn`), or raise.
            probabilities: also a column `probability_<label>` for each label; of a set, that it is in it.
            std: also a column `std`, the standard deviation of the Writer's distribution, in the target's unit.
            interval: also columns `low` and `high` that hold a number with this probability, such as 0.9 (empty where
                an end is open), or a column `set` of labels that holds the label, with | between them; of a calibrated
                model.
            marginal: let the answers for a record's fields hold whatever the fields before them say. Otherwise they
                hold after what was written for these. Exact where the record's tree has at most 1,000 nodes,
                else from 256 draws for each row: the standard error of a probability is at most 0.03.

        Raises:
            ConfigError: a spread that this model does not have; see `check_spread`.
            DataError: an input is missing; an answer is invalid and the policy is `raise`.
            UnknownNameError: an input column is missing.
        """
        self.check_spread(probabilities=probabilities, std=std, interval=interval, marginal=marginal)
        return self.predict_encoded(
            self.encode(rows, probabilities=probabilities, std=std, interval=interval),
            invalid=invalid,
            probabilities=probabilities,
            std=std,
            interval=interval,
            marginal=marginal,
        )

    def encode(
        self, rows: TableLike, *, probabilities: bool = False, std: bool = False, interval: float | None = None
    ) -> Encoded:
        """Returns rows checked and tokenized, as `predict_encoded` takes them; the model does not work here.

        Args:
            rows: as `predict` takes them.
            probabilities: as there; the names of the columns that are added must be free.
            std: likewise.
            interval: likewise.

        Raises:
            DataError: an input is missing, or a column has the name of an answer's.
            UnknownNameError: an input column is missing.
        """
        added = output_names(
            self.target, self.contents.calibrations, probabilities=probabilities, std=std, interval=interval is not None
        )
        return encode_rows(self.method, self.contents, read_table(rows), added)

    def predict_encoded(
        self,
        encoded: Encoded,
        *,
        invalid: InvalidPolicy = "nan",
        probabilities: bool = False,
        std: bool = False,
        interval: float | None = None,
        marginal: bool = False,
    ) -> pd.DataFrame:
        """Returns what `predict` returns, of rows that `encode` made ready with the same arguments.

        Args:
            encoded: the rows.
            invalid: as in `predict`, like all that follow.
            probabilities: see there.
            std: see there.
            interval: see there.
            marginal: see there.

        Raises:
            DataError: an answer is invalid and the policy is `raise`.
            TrainingError: a single row does not fit into memory.
        """
        sets = interval is not None and any(field.labels for field in self._fields.values())
        answers = self._answer(encoded, probabilities=probabilities or std or sets, marginal=marginal)
        if marginal and isinstance(self.method, Writer) and not self.method.marginals_are_exact:
            log.info(
                "The marginal answers come from %d draws for each row: the standard error of a probability is at most "
                "%.2f.",
                NUM_SAMPLES,
                0.5 / NUM_SAMPLES**0.5,
            )
        wrong = [value is None for value in answers.values]
        if any(wrong) and invalid != "nan":
            first = wrong.index(True)
            message = explain(
                expected=f"a written {self.target.kind}",
                found=f"{sum(wrong)} invalid of {len(wrong)}, first '{answers.written[first]}'",
                fix="Use another decoding than free, or the policy 'nan'.",
                row=row_numbers(encoded.table)[first],
            )
            if invalid == "raise":
                raise DataError(message)
            log.warning(message)
        return with_answers(
            encoded.table,
            self.target,
            answers,
            self.contents.calibrations,
            probabilities=probabilities,
            std=std,
            interval=interval,
        )

    def calibrate(self, rows: TableLike) -> None:
        """Learns from rows what probabilities and intervals can be promised; nothing else may have been chosen on them.

        A set of labels learns nothing: its thresholds were tuned on the validation part.

        Raises:
            DataError: an input or an answer is missing, or there are too few rows.
        """
        table = read_table(rows)
        truth = values_of(self.target, table, self._columns(table))
        # Without the old temperature in them; and what was there stays if these rows cannot be taken.
        labels = any(field.labels for field in self._fields.values())
        scored = score(self.target, truth, self._untempered(self._encoded(table), probabilities=labels))
        calibrations = {
            name: field.measure.calibrate(field.truth, field.predicted, field.probabilities)
            for name, field in scored.fields.items()
        }
        found = {name: calibration for name, calibration in calibrations.items() if calibration is not None}
        if not found:
            raise ConfigError(
                "Expected a number or a label to calibrate, found sets of labels alone, whose thresholds are tuned on "
                "the validation part. Leave the calibration out."
            )
        self.contents = replace(self.contents, calibrations=found)

    def check_spread(
        self,
        *,
        probabilities: bool = False,
        std: bool = False,
        interval: float | None = None,
        marginal: bool = False,
    ) -> None:
        """Refuses to predict a spread that this model does not have.

        Raises:
            ConfigError: probabilities of numbers alone, or the spread of labels alone or of a method that does not
                write, or an interval of a model that was not calibrated, or not on enough rows, or marginals of
                something that is no record or is not the Writer's.
        """
        numbers = [field for field in self._fields.values() if field.numeric]
        if interval is not None:
            if not self.contents.calibrations:
                raise ConfigError(
                    "Expected a calibrated model for an interval, found one without calibration. Run predgen calibrate "
                    "on rows that nothing was chosen on, or fit with --calibration."
                )
            for calibration in self.contents.calibrations.values():
                calibration.check(interval)
        if probabilities and len(numbers) == len(self._fields):
            raise ConfigError(
                "Expected a model of labels for probabilities, found one of numbers. Ask for std instead."
            )
        if std and (not numbers or not self.method.writes):
            found = "the predictor, which writes none" if numbers else "one of labels"
            raise ConfigError(
                f"Expected a model that writes numbers for their standard deviation, found {found}. "
                + ("Fit the generator or predgen." if numbers else "Ask for probabilities instead.")
            )
        if marginal and len(self._fields) == 1:
            raise ConfigError("Expected a record for marginal answers, found one field. Leave marginal out.")
        if marginal and isinstance(self.method, PredGen) and any(mix.director != 0 for mix in self.method.mixes):
            raise ConfigError(
                "Expected answers from the Writer for marginal ones, found the Director's, which reads what was "
                "written. Add --predict-from writer."
            )

    @property
    def _fields(self) -> dict[str, Field]:
        return fields_of(self.target)

    def _columns(self, table: pd.DataFrame) -> tuple[str, ...]:
        """Returns the target's columns in a table.

        Raises:
            UnknownNameError: one is missing.
        """
        names = (self.config.data.target,) if len(self._fields) == 1 else tuple(self._fields)
        require_columns(table, names)
        return names

    def evaluate(self, rows: TableLike, *, interval: float | None = None) -> Evaluation:
        """Returns the metrics of the model's answers on rows whose answers are known, with 95 % intervals.

        A number that was written has `crps` beside them, the score of the Writer's whole distribution, where it has at
        most 10,000 values. A record's metrics stand after the field's name and a point.

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
        columns = self._columns(table)
        truth = values_of(self.target, table, columns)
        unseen = unseen_labels(self.target, truth, table, columns)
        if unseen:
            log.warning(unseen)
        answers, seconds = self.answers(table)
        scored = score(self.target, truth, answers)
        metrics, ci95 = scored.metrics(), intervals(scored)
        if answers.valid_mass is not None:
            metrics["valid_mass"] = float(answers.valid_mass.mean())
        by_row = self._spread_by_row(table, scored, interval)
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
            reliability=scored.reliability(),
        )

    def _spread_by_row(self, table: pd.DataFrame, scored: Scored, interval: float | None) -> dict[str, np.ndarray]:
        """Returns what a row's interval, set or distribution is worth, by the metric's name."""
        found: dict[str, np.ndarray] = {}
        every = scored.fields
        for name, one in every.items() if interval is not None else ():
            if name in self.contents.calibrations:
                assert interval is not None
                covered = one.measure.covered(
                    self.contents.calibrations[name], interval, one.truth, one.predicted, one.probabilities
                )
                found |= {metric_of(name, metric): rows for metric, rows in covered.items()}
        written = [
            (place, name)
            for place, (name, field) in enumerate(self._fields.items())
            if field.numeric and self.method.writes and fits(field)
        ]
        if written:
            answers = self._answer(self._encoded(table), probabilities=True)
            for place, name in written:
                quantiles = (answers.fields or (answers,))[place].quantiles
                assert quantiles is not None  # a method that writes numbers has their distribution
                found[metric_of(name, "crps")] = crps(every[name].truth, quantiles.numpy())
        return found

    def answers(self, table: pd.DataFrame) -> tuple[Answers, float]:
        """Returns the answers for a table's rows, with the probabilities of labels, and the seconds they took.

        Probabilities that cost more than the answers themselves are not in the seconds.
        """
        labels = any(field.labels for field in self._fields.values())
        free = self.method.free_probabilities
        start = time.perf_counter()
        encoded = self._encoded(table)
        answers = self._answer(encoded, probabilities=labels and free)
        seconds = time.perf_counter() - start
        return (answers if free or not labels else self._answer(encoded, probabilities=True)), seconds

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes the model as one directory, whole or not at all.

        Raises:
            OutputExistsError: the path exists and was not to be overwritten.
        """
        save_artifact(Path(path), self.method, self.contents, overwrite=overwrite)

    def _encoded(self, table: pd.DataFrame) -> Encoded:
        return encode_rows(self.method, self.contents, table)

    def _answer(self, encoded: Encoded, *, probabilities: bool, marginal: bool = False) -> Answers:
        """Returns the method's answers for some rows, label probabilities tempered."""
        answers = self._untempered(encoded, probabilities=probabilities, marginal=marginal)
        parts = [
            self._tempered(name, one) for name, one in zip(self._fields, answers.fields or (answers,), strict=True)
        ]
        return replace(answers, fields=tuple(parts)) if answers.fields else parts[0]

    def _tempered(self, name: str, answers: Answers) -> Answers:
        calibration = self.contents.calibrations.get(name)
        if calibration is None or answers.probabilities is None:
            return answers
        return replace(answers, probabilities=torch.from_numpy(calibration.tempered(answers.probabilities.numpy())))

    @cached_property
    def limits(self) -> BatchLimits:
        """How large a prediction batch may be; what did not fit into memory once is not tried again."""
        settings = self.config.train
        return BatchLimits.on(self.method.device, settings.eval_batch_size, settings.eval_batch_tokens)

    @cached_property
    def _packed(self) -> PackedWeights:
        """The weights as this machine reads them fastest, kept from one prediction to the next."""
        return PackedWeights(self.method.backbone)

    def _untempered(self, encoded: Encoded, *, probabilities: bool, marginal: bool = False) -> Answers:
        prompts = encoded.prompts
        if encoded.num_cut:
            log.warning(
                "%d of %d prompts were cut inside their longest field to fit the model.", encoded.num_cut, len(prompts)
            )
        with self._packed:
            answers = answer_all(
                self.method,
                prompts,
                batch_size=self.limits,
                probabilities=probabilities,
                marginal=marginal,
            )
        for one in answers.fields or (answers,):
            if one.covered is not None and float(one.covered.mean()) < COARSE_BELOW:
                log.warning(
                    "%.1f %% of the Writer's probability is known number by number, the rest for ranges of numbers "
                    "alone: means and standard deviations are coarse. %s them exact.",
                    100 * float(one.covered.mean()),
                    "trie_mass=1 makes"
                    if self.config.model.trie_mass < 1
                    else "Fewer decimals or a smaller range make",
                )
        return answers
