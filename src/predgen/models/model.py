"""A model: predict, evaluate, calibrate, save."""

import logging
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from predgen.backbones.prepacking import PrepackedWeights
from predgen.config import RunConfig
from predgen.methods import Answering, Answers, Generator, Method, PredGen
from predgen.methods.buckets import BatchLimits, answer_all_each
from predgen.methods.writer import NUM_SAMPLES
from predgen.models.abstention import described, which_answered
from predgen.models.answer_columns import with_abstained, with_answers
from predgen.models.answer_warnings import AnswerWarnings
from predgen.models.artifact import save_artifact
from predgen.models.asked import Asked, InvalidPolicy, as_quantiles
from predgen.models.contents import Contents
from predgen.models.encoding import Encoded, encode_rows
from predgen.models.evaluating import calibrations_from, evaluation_of
from predgen.models.one_at_a_time import one_at_a_time
from predgen.models.scored import Evaluation
from predgen.models.written_tokens import with_written_tokens
from predgen.tables.reading import TableLike, read_table
from predgen.targets.record import Target

log = logging.getLogger("predgen")


class Model:
    """A method with its settings; made before training, it answers in training and afterwards by the same code.

    Several threads may use one model: each has the answers that it would have alone, and waits for its turn. So may a
    process that was forked, on a CPU; on other devices it must load the model itself.

    Attributes:
        target: what it predicts.
        config: the settings it was fitted with.
        inputs: the columns that it reads.
        record: the training record.
        origin: the hub's name and commit that it was loaded from, such as `org/name@0123…`; None of any other.
    """

    def __init__(self, method: Method, contents: Contents, origin: str | None = None) -> None:
        self.method = method
        self.contents = contents
        self.origin = origin

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

    def _repr_html_(self) -> str:
        """Returns the facts of the model as notebooks show them."""
        facts: dict[str, Any] = {
            "target": f"{', '.join(self.config.data.target)}: {self.target.describe()}",
            "inputs": ", ".join(self.inputs),
            "method": self.config.model.method,
            "backbone": self.contents.base_name,
            "calibrated": "yes" if self.contents.calibrations else "no",
            **{name: self.record[name] for name in ("train_rows", "metric", "best_metric") if name in self.record},
        }
        return str(pd.Series(facts, name="model").to_frame().to_html())

    def predict(
        self,
        rows: TableLike,
        *,
        invalid: InvalidPolicy = "nan",
        probabilities: bool = False,
        std: bool = False,
        interval: float | None = None,
        marginal: bool = False,
        quantiles: Iterable[float] = (),
        abstain_risk: float | None = None,
        abstain_delta: float = 0.05,
        abstain_error: float | None = None,
        written_tokens: bool = False,
    ) -> pd.DataFrame:
        """Returns the rows with three more columns: `prediction`, `written` and `invalid`.

        A record has a column `prediction_<field>` for each field, and the field's name in the other columns too, such
        as `std_<field>` or `probability_<field>_<label>`. A set is text, with its delimiter between the labels.

        Args:
            rows: a table, a path, or a list of rows, with the input columns; of no rows the answer has none, either.
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
            quantiles: also a column for each of these shares, such as `quantile_0.05` for 0.05: the smallest number
                that the Writer's does not exceed with at least this probability, in the target's unit. At most 100,
                each above 0 and below 1.
            abstain_risk: the largest share of answers that may be wrong, such as 0.05: also a column `abstained`, true
                where the model is not sure enough; `prediction` is empty there. Of a calibrated model of one column.
            abstain_delta: the chance that more are wrong, over the draw of the calibration rows.
            abstain_error: of a number, the largest error that is not wrong, in the target's unit.
            written_tokens: also a column `written_tokens`: JSON, a list of `{"token": …, "probability": …}` whose
                product is the Writer's probability of what was written. It reads each prompt once more.

        Raises:
            ConfigError: a spread that this model does not have, or to abstain without a calibration for it; see
                `check_spread`.
            DataError: an input is missing; an answer is invalid and the policy is `raise`.
            UnknownNameError: an input column is missing.
        """
        asked = Asked(
            invalid,
            probabilities,
            std,
            interval,
            marginal,
            as_quantiles(quantiles),
            abstain_risk,
            abstain_delta,
            abstain_error,
            written_tokens,
        )
        asked.check(self)
        if isinstance(rows, pd.DataFrame | list | tuple) and not len(rows):
            columns = rows.columns if isinstance(rows, pd.DataFrame) else ()
            return pd.DataFrame(columns=[*map(str, columns), *asked.columns(self)], dtype=object)
        if abstain_risk is not None:
            log.info("%s", described(self, asked))
        return self.predict_encoded(self.encode(rows, asked), asked)

    def encode(self, rows: TableLike, asked: Asked | None = None) -> Encoded:
        """Returns rows checked and tokenized, as `predict_encoded` takes them; the model does not work here.

        Args:
            rows: as `predict` takes them.
            asked: what they will be asked for: the names of the columns that are added must be free.

        Raises:
            DataError: an input is missing, or a column has the name of an answer's.
            UnknownNameError: an input column is missing.
        """
        added = (asked or Asked()).columns(self)
        return encode_rows(self.method, self.contents, read_table(rows), added)

    def predict_encoded(
        self, encoded: Encoded, asked: Asked | None = None, warnings: AnswerWarnings | None = None
    ) -> pd.DataFrame:
        """Returns the predictions of rows that `encode` made ready, as `predict` returns them.

        Args:
            encoded: the rows.
            asked: what is asked for.
            warnings: counts what is to be warned of, for the caller to give; None to give the warnings here.

        Raises:
            DataError: an answer is invalid and the policy is `raise`.
            TrainingError: a single row does not fit into memory.
        """
        asked = asked or Asked()
        untempered = self.untempered_answers(encoded, asked)
        answers = self.tempered(untempered)
        counted = warnings or AnswerWarnings(self, asked)
        counted.add(encoded, answers)
        if warnings is None:
            counted.give()
        writer = self.method.writer if isinstance(self.method, Generator | PredGen) else None
        if asked.marginal and writer is not None and not writer.marginals_are_exact:
            log.info(
                "The marginal answers come from %d draws for each row: the standard error of a probability is at most "
                "%.2f.",
                NUM_SAMPLES,
                0.5 / NUM_SAMPLES**0.5,
            )
        found = with_answers(
            encoded.table,
            self.target,
            answers,
            self.contents.calibrations,
            probabilities=asked.probabilities,
            std=asked.std,
            interval=asked.interval,
            quantiles=asked.quantiles,
        )
        if asked.abstain_risk is not None:
            found = with_abstained(found, which_answered(self, untempered, asked))
        return with_written_tokens(found, self, encoded) if asked.written_tokens else found

    def calibrate(self, rows: TableLike) -> None:
        """Learns from rows what probabilities and intervals can be promised; nothing else may have been chosen on them.

        A set of labels learns nothing: its thresholds were tuned on the validation part.

        Raises:
            DataError: an input or an answer is missing, or there are too few rows.
        """
        # What was there stays if these rows cannot be taken.
        self.contents = replace(self.contents, calibrations=calibrations_from(self, rows))

    def check_spread(self, **asked: Any) -> None:
        """Refuses to predict a spread that this model does not have.

        Args:
            asked: keyword arguments of `predict`.

        Raises:
            ConfigError: as `predgen.models.asked.Asked.check`.
        """
        Asked(**asked).check(self)

    def evaluate(
        self,
        rows: TableLike,
        *,
        interval: float | None = None,
        weight: str | None = None,
        abstain_risk: float | None = None,
        abstain_delta: float = 0.05,
        abstain_error: float | None = None,
    ) -> Evaluation:
        """Returns the metrics of the model's answers on rows whose answers are known, with 95 % intervals.

        A number that was written has `crps` beside them, the score of the Writer's whole distribution, where it has at
        most 10,000 values. A record's metrics stand after the field's name and a point.

        Args:
            rows: as `predict` takes them, with the target's column.
            interval: also `coverage`, the share of answers inside the intervals or sets of this level, and `width`, the
                intervals' mean width in the target's unit, or `set_size`, the labels' mean number.
            weight: a column of weights of at least 0: each metric is that of rows which stand there as often as their
                weight says, and 0 leaves a row out. All rows count alike if it is not given.
            abstain_risk: also `answered_share`, the share of rows that `predict` would answer with this risk;
                `risk_answered`, the share of wrong answers among them; and `risk_all`, that among all rows.
            abstain_delta: as `predict` takes it.
            abstain_error: as `predict` takes it.

        Raises:
            ConfigError: an interval of a model that was not calibrated, or not on enough rows.
                To abstain, as `predict`.
            DataError: an input, an answer or a weight is missing, or is no value of the target.
        """
        asked = Asked(
            interval=interval, abstain_risk=abstain_risk, abstain_delta=abstain_delta, abstain_error=abstain_error
        )
        return evaluation_of(self, rows, asked, weight=weight)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes the model as one directory, whole or not at all.

        Raises:
            OutputExistsError: the path exists and was not to be overwritten.
        """
        save_artifact(Path(path), self.method, self.contents, overwrite=overwrite)

    # ---- answers

    def answers(self, encoded: Encoded, asked: Asked | None = None) -> Answers:
        """Returns the answers for some rows, label probabilities tempered.

        Args:
            encoded: the rows.
            asked: what is asked for.
        """
        return self.tempered(self.untempered_answers(encoded, asked))

    def untempered_answers(self, encoded: Encoded, asked: Asked | None = None) -> Answers:
        """Returns the answers with the probabilities that the model itself gives.

        Args:
            encoded: the rows.
            asked: what is asked for.
        """
        (answers,) = self.answers_each(encoded, [self.contents.answering], asked)
        return answers

    def tempered(self, answers: Answers) -> Answers:
        """Returns answers with the probabilities of labels that the calibrations make of the model's own.

        Args:
            answers: as `untempered_answers` returns them.
        """
        fields = [
            self._tempered(name, of_field) for name, of_field in zip(self.target.fields, answers.by_field, strict=True)
        ]
        return replace(answers, fields=tuple(fields)) if answers.fields else fields[0]

    def answers_each(self, encoded: Encoded, answerings: list[Answering], asked: Asked | None = None) -> list[Answers]:
        """Returns the answers of one reading and one writing, chosen in several ways and not tempered.

        Args:
            encoded: the rows.
            answerings: how the answers are chosen; with one decoding.
            asked: what is asked for.
        """
        asked = asked or Asked()
        # The weights of a model in training change from one validation to the next.
        with one_at_a_time(self.method.device), nullcontext() if self.method.training else self._packed:
            return answer_all_each(
                self.method,
                encoded.prompts,
                answerings,
                batch_size=self.limits,
                probabilities=asked.needs_spread(self.target),
                marginal=asked.marginal,
                quantiles=asked.quantiles,
            )

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
    def _packed(self) -> PrepackedWeights:
        """The weights as this machine reads them fastest, kept from one prediction to the next."""
        return PrepackedWeights(self.method.backbone)
