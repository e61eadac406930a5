"""Answers on validation rows, and what is chosen by them."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from predgen.backbones.base import dropout_off
from predgen.config import TrainSettings
from predgen.measures.choices import MIXES, Mix
from predgen.measures.kinds import measure_of
from predgen.measures.metrics import higher_is_better, needs_probabilities
from predgen.methods import Generator, Method, PredGen, Writer
from predgen.methods.buckets import BatchLimits, answer_all, run_in_buckets
from predgen.methods.heads import truth_of
from predgen.models.contents import Contents
from predgen.models.encoding import encode_prompts
from predgen.models.scored import ScoredField, score
from predgen.training.batches import Collator, Examples
from predgen.training.preparing import Prepared

log = logging.getLogger("predgen")


# Validation rows on which the exposure gap is measured.
EXPOSURE_ROWS = 256


def fitted_mixes(method: PredGen, contents: Contents, prepared: Prepared, limits: BatchLimits) -> list[Mix]:
    """Returns the shares of Director and Writer that answer the validation rows best, for each field."""
    director, writer = (
        _validation_fields(method, contents, prepared, limits, [MIXES[source]] * len(method.fields))
        for source in ("director", "writer")
    )
    return [
        one.measure.stack(one.answers, other.answers, one.truth) for one, other in zip(director, writer, strict=True)
    ]


def tune_thresholds(method: Method, contents: Contents, prepared: Prepared, limits: BatchLimits) -> None:
    """Sets the probability from which on each label is in a set: the one with the best F1 on the validation part.

    A generator whose sets are what it wrote needs none.
    """
    tuned = [
        measure_of(one.field).HAS_THRESHOLDS
        and not (isinstance(method, Generator) and method.estimates[place] == "text")
        for place, one in enumerate(method.fields)
    ]
    if not any(tuned):
        return
    for place, scored in enumerate(_validation_fields(method, contents, prepared, limits)):
        if tuned[place]:
            assert scored.probabilities is not None
            method.thresholds[place] = torch.from_numpy(scored.measure.thresholds(scored.truth, scored.probabilities))


def _validation_fields(
    method: Method, contents: Contents, prepared: Prepared, limits: BatchLimits, mixes: list[Mix] | None = None
) -> list[ScoredField]:
    """Returns the method's answers for the validation part, field by field, with the probabilities of labels."""
    prompts, _ = encode_prompts(method, contents, prepared.splits.validation)
    if isinstance(method, PredGen) and mixes is not None:
        method.mixes = mixes
    answers = answer_all(method, prompts, batch_size=limits, probabilities=True)
    return list(score(prepared.target, prepared.validation_values, answers).fields.values())


def validator_of(
    method: Method, contents: Contents, prepared: Prepared, metric: str, settings: TrainSettings
) -> Callable[[Method], dict[str, float]]:
    """Returns the free-running validation; it asks for label probabilities only if the metric needs them."""
    prompts, num_cut = encode_prompts(method, contents, prepared.splits.validation)
    if num_cut:
        log.warning("%d of %d validation prompts were cut inside their longest field.", num_cut, len(prompts))
    looked_at = _exposure_rows(method, prompts, prepared.validation_values)

    limits: BatchLimits | None = None

    def validate(trained: Method) -> dict[str, float]:
        nonlocal limits  # what did not fit once is not tried again; the device is known now
        limits = limits or limits_of(settings, trained)
        answers = answer_all(trained, prompts, batch_size=limits, probabilities=needs_probabilities(metric))
        scored = score(prepared.target, prepared.validation_values, answers)
        metrics = {**scored.metrics(), "invalid_fraction": scored.invalid_fraction}
        if not np.isfinite(metrics[metric]):
            # Every answer was invalid, or all were equal: the worst value there is.
            metrics[metric] = float("-inf") if higher_is_better(metric) else float("inf")
        if looked_at is not None and isinstance(trained, Writer):
            metrics |= exposure(trained, looked_at, batch_size=limits)
        return metrics

    return validate


def _exposure_rows(method: Method, prompts: list[list[int]], values: list[Any]) -> Collator | None:
    """Returns some validation rows, spread evenly, to measure the exposure on; None for a method that does not write.

    Rows whose label was never seen have no gold tokens.
    """
    known = [row for row, value in enumerate(values) if _is_known(value)]
    if not isinstance(method, Writer) or not known:
        return None
    rows = [known[position] for position in np.linspace(0, len(known) - 1, min(len(known), EXPOSURE_ROWS), dtype=int)]
    chosen = [values[row] for row in rows]
    truth = truth_of(method.target, chosen, [one.scale for one in method.fields])
    return Collator(Examples([prompts[row] for row in rows], chosen, truth), method.backbone, method.codec)


def exposure(method: Writer, rows: Collator, *, batch_size: int | BatchLimits) -> dict[str, float]:
    """Returns the Writer's accuracy on both, their difference `exposure_gap`, and L_D on both if there is a Director.

    Args:
        method: the method, on its device.
        rows: the examples to look at.
        batch_size: the most rows of a batch, or the limits of its rows and tokens.
    """

    def measured(positions: list[int]) -> dict[str, float]:
        batch = {name: part.to(method.device) for name, part in rows(positions).items()}
        return {name: float(value) * len(positions) for name, value in method.exposure(**batch).items()}

    with dropout_off(method):
        parts, _ = run_in_buckets(rows.examples.lengths, BatchLimits.of(batch_size), measured)
    means = {name: sum(part[name] for part in parts) / len(rows.examples) for name in parts[0]}
    return {**means, "exposure_gap": means["writer_accuracy_gold"] - means["writer_accuracy_own"]}


def limits_of(settings: TrainSettings, method: Method) -> BatchLimits:
    """Returns how large a prediction batch may be where the method is."""
    return BatchLimits.on(method.device, settings.eval_batch_size, settings.eval_batch_tokens)


def _is_known(value: Any) -> bool:
    """Returns whether a value of a target has a path: no label of it is one that training never saw."""
    if isinstance(value, dict):
        return all(map(_is_known, value.values()))
    return value is not None and not (isinstance(value, tuple) and None in value)
