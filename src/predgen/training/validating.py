"""Answers on validation rows, and the choices (mixes, thresholds) that are fitted on them."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from predgen.backbones.base import dropout_off
from predgen.config import TrainSettings
from predgen.measures.choices import Mix
from predgen.measures.kinds import measure_of
from predgen.measures.metrics import higher_is_better, needs_probabilities
from predgen.methods import Answering, Answers, Batch, Method, PredGen
from predgen.methods.buckets import BatchLimits, run_in_buckets
from predgen.methods.heads import Head, truth_of
from predgen.models.asked import Asked
from predgen.models.contents import Contents
from predgen.models.encoding import Encoded, cut_warning, encode_prompts
from predgen.models.model import Model
from predgen.models.scored import Scored, ScoredField, score
from predgen.models.thresholds import with_threshold
from predgen.training.batches import Collator, Examples
from predgen.training.preparing import Prepared
from predgen.warning_kinds import warn
from predgen.writing.targets import Decoding

# Validation rows on which the exposure gap is measured.
EXPOSURE_ROWS = 256


class Validation:
    """The validation rows of a model, tokenized once: they choose the checkpoint, the mixes and the thresholds.

    Args:
        model: the model, before or in training.
        prepared: the table.
        metric: the metric that chooses the checkpoint.
        settings: the run's settings, with the batches that it has come down to.
    """

    def __init__(self, model: Model, prepared: Prepared, metric: str, settings: TrainSettings) -> None:
        self.model = model
        self.prepared = prepared
        self.metric = metric
        self.settings = settings
        table = prepared.splits.validation
        prompts, num_cut = encode_prompts(model.method, model.contents, table)
        if num_cut:
            cut = cut_warning(model.method, model.contents, num_cut, len(prompts), "validation")
            warn(cut, about=("validation", len(prompts)))
        self.rows = Encoded(table, prompts, num_cut)
        self.exposure_rows = _exposure_rows(model.method, prompts, prepared.validation_values)

    def metrics(self) -> dict[str, float]:
        """Returns the metrics of free-running answers, with label probabilities if the metric needs them."""
        model, metric = self.model, self.metric
        if "limits" not in model.__dict__:  # the device is known now; what did not fit once is not tried again
            model.limits = limits_of(self.settings, model.method)
        if self.stacks:
            scored = self._stacked()[1]
        else:
            answers = model.answers(self.rows, Asked(probabilities=needs_probabilities(metric)))
            scored = score(self.prepared.target, self.prepared.validation_values, answers)
        metrics = {**scored.metrics(), "invalid_fraction": scored.invalid_fraction}
        if not np.isfinite(metrics[metric]):
            # Every answer was invalid, or all were equal: the worst value there is.
            metrics[metric] = float("-inf") if higher_is_better(metric) else float("inf")
        if self.exposure_rows is not None:
            decoding = model.contents.answering.decoding
            metrics |= exposure(model.method, self.exposure_rows, decoding, batch_size=model.limits)
        return metrics

    def chosen_answering(self) -> Answering:
        """Returns how the trained model answers these rows best: its mixes, if they are to be fitted, and thresholds.

        The rows are read and written once; everything is computed from the answers that are kept.
        """
        answering = self.model.contents.answering
        tuned = tuned_fields(self.model.method, answering)
        if self.stacks:
            mixes, scored = self._stacked()
            answering = replace(answering, mixes=mixes)
        elif any(tuned):
            scored = self._scored(self._answers(answering)[0])
        else:
            return answering
        thresholds = [
            None if field.probabilities is None or not is_tuned else _thresholds(field)
            for field, is_tuned in zip(scored.fields.values(), tuned, strict=True)
        ]
        return replace(answering, thresholds=tuple(thresholds))

    def chosen_contents(self) -> Contents:
        """Returns the trained model's contents with the best way to answer these rows, a threshold among it."""
        contents = replace(self.model.contents, answering=self.chosen_answering())
        if contents.config.model.threshold == "none":
            return contents
        ((name, field),) = self.prepared.target.fields.items()
        scored = self._scored(self._answers(contents.answering)[0])
        return with_threshold(contents, field, scored.fields[name], "validation")

    @property
    def stacks(self) -> bool:
        """Whether the answers are mixed from the Director's and the Writer's by what these rows say."""
        return isinstance(self.model.method, PredGen) and self.model.config.model.predict_from == "stack"

    def _stacked(self) -> tuple[tuple[Mix, ...], Scored]:
        """Returns the mix of each field that answers these rows best, and its answers."""
        answering = self.model.contents.answering
        sources = self._answers(answering.predicting_from("director"), answering.predicting_from("writer"))
        director, writer = (self._scored(answers).fields for answers in sources)
        mixes, fields = [], {}
        for head, name in zip(self.model.method.fields, director, strict=True):
            directed, written = director[name], writer[name]
            mix = directed.measure.stack(directed.answers, written.answers, directed.truth)
            fields[name] = _mixed(head, mix, directed, written)
            mixes.append(mix)
        return tuple(mixes), Scored(fields)

    def _answers(self, *answerings: Answering) -> list[Answers]:
        return self.model.answers_each(self.rows, list(answerings), Asked(probabilities=True))

    def _scored(self, answers: Answers) -> Scored:
        return score(self.prepared.target, self.prepared.validation_values, answers)


def tuned_fields(method: Method, answering: Answering) -> list[bool]:
    """Returns which fields' thresholds are tuned: sets, but not those of a method that reads them from its text."""
    return [
        measure_of(head.field).HAS_THRESHOLDS
        and (not method.writes or isinstance(method, PredGen) or answering.estimates[field_index] != "text")
        for field_index, head in enumerate(method.fields)
    ]


def _mixed(head: Head[Any], mix: Mix, director: ScoredField, writer: ScoredField) -> ScoredField:
    """Returns the answers of a mix."""
    is_table = director.probabilities is not None and writer.probabilities is not None
    parts = (one.probabilities if is_table else one.predicted for one in (director, writer))
    predictions = head.mixed(mix, *map(torch.as_tensor, parts))
    predicted = director.measure.as_array(head.values(predictions))
    table = predictions.numpy() if is_table else None
    return ScoredField.of(head.field, director.truth, predicted, table)


def _thresholds(field: ScoredField) -> Float[Tensor, " label"]:
    """Returns the probability from which on each label is in a set."""
    assert field.probabilities is not None  # or there is nothing to tune
    return torch.from_numpy(field.measure.thresholds(field.truth, field.probabilities))


def _exposure_rows(method: Method, prompts: list[list[int]], values: list[object]) -> Collator | None:
    """Returns some validation rows, spread evenly, for the exposure gap; None for a method that does not write.

    Rows whose label was never seen have no gold tokens.
    """
    known = [row for row, value in enumerate(values) if _is_known(value)]
    if not method.writes or not known:
        return None
    rows = [known[position] for position in np.linspace(0, len(known) - 1, min(len(known), EXPOSURE_ROWS), dtype=int)]
    chosen = [values[row] for row in rows]
    truth = truth_of(method.target, chosen, [head.scale for head in method.fields])
    return Collator(Examples([prompts[row] for row in rows], chosen, truth), method.backbone, method.codec)


def exposure(method: Method, rows: Collator, decoding: Decoding, *, batch_size: int | BatchLimits) -> dict[str, float]:
    """Returns teacher-forced and free-running accuracy, their difference `exposure_gap`, and L_D of both, if any.

    Args:
        method: a method that writes, on its device.
        rows: the examples to look at.
        decoding: how the method writes its own targets.
        batch_size: the most rows of a batch, or the limits of its rows and tokens.
    """

    def measured(positions: list[int]) -> dict[str, float]:
        batch: Batch = rows(positions)["batch"].to(method.device)
        return {name: float(value) * len(positions) for name, value in method.exposure(batch, decoding).items()}

    with dropout_off(method):
        sums, _ = run_in_buckets(rows.examples.lengths, BatchLimits.of(batch_size), measured)
    means = {name: sum(batch[name] for batch in sums) / len(rows.examples) for name in sums[0]}
    return {**means, "exposure_gap": means["writer_accuracy_gold"] - means["writer_accuracy_own"]}


def limits_of(settings: TrainSettings, method: Method) -> BatchLimits:
    """Returns how large a prediction batch may be where the method is."""
    return BatchLimits.on(method.device, settings.eval_batch_size, settings.eval_batch_tokens)


def _is_known(value: object) -> bool:
    """Returns whether a value of a target has a path: no label of it is one that training never saw."""
    if isinstance(value, dict):
        return all(map(_is_known, value.values()))
    return value is not None and not (isinstance(value, tuple) and None in value)
