"""The threshold of a model of two labels: chosen on rows, kept in its contents, left out again."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from predgen.config import RunConfig
from predgen.errors import ConfigError
from predgen.measures.cuts import best_cut, cost_threshold
from predgen.measures.kinds import measure_of
from predgen.models.contents import Contents
from predgen.models.scored import ScoredField
from predgen.targets.field import Field
from predgen.targets.record import Target
from predgen.warning_kinds import UntunedThresholdsWarning, warn

# The key of the training record that says how the threshold was chosen.
THRESHOLD = "threshold"
# The Writer's estimate of a label that is read from its probabilities.
FROM_PROBABILITIES = "thresholds"


def check_threshold(config: RunConfig, target: Target) -> None:
    """Refuses a threshold that a target cannot have, or costs that are missing or not asked for.

    Raises:
        ConfigError: with what to do.
    """
    rule, costs = config.model.threshold, config.model.cost
    if (rule == "cost") != (costs is not None):
        found = "none" if costs is None else f"them with threshold '{rule}'"
        raise ConfigError(
            f"Expected the costs of a false positive and a false negative with threshold 'cost', found {found}. Say "
            "both: --threshold cost --cost 1,5."
        )
    if rule == "none":
        return
    field, *others = target.fields.values()
    if others or not measure_of(field).HAS_CUT or len(field.labels) != 2:
        found = f"{len(others) + 1} columns" if others else target.describe()
        raise ConfigError(f"Expected one target of two labels with a threshold, found {found}. Leave it out.")
    if config.model.decoding == "free":
        raise ConfigError(
            "Expected probabilities for a threshold, found free decoding, whose answer is its text. Leave one of them "
            "out."
        )


def with_threshold(contents: Contents, field: Field, answers: ScoredField, chosen_on: str) -> Contents:
    """Returns contents with the threshold that their settings ask for.

    Args:
        contents: of the trained model.
        field: the target, two labels.
        answers: of the rows that choose it, their probabilities as they are without a calibration.
        chosen_on: what these rows are, such as `validation`.
    """
    rule, costs = contents.config.model.threshold, contents.config.model.cost
    assert answers.probabilities is not None  # labels are answered with them
    positive = measure_of(field).positive_index
    assert positive is not None  # `check_threshold` refused others
    kept = (answers.truth >= 0) & np.isfinite(answers.probabilities).all(axis=1)
    held, probabilities = answers.truth[kept] == positive, answers.probabilities[kept, positive]
    if held.all() or not held.any():
        warn(
            UntunedThresholdsWarning(
                f"The {chosen_on} rows do not have both labels: no threshold can be chosen, and it is one half. Give "
                "more rows."
            )
        )
        return without_threshold(contents)
    cut = best_cut(probabilities, held, rule, costs)
    facts = {
        "rule": rule,
        "positive": str(field.labels[positive]),
        "threshold": cut.threshold,
        "value": cut.value,
        "value_at_half": cut.at_half,
        "rows": int(kept.sum()),
        "positive_rows": int(held.sum()),
        "chosen_on": chosen_on,
        **({} if costs is None else {"cost": list(costs), "analytic": cost_threshold(costs)}),
    }
    by_label = torch.full((2,), 1 - cut.threshold, dtype=torch.float64)
    by_label[positive] = cut.threshold
    return replace(
        contents,
        answering=replace(contents.answering, thresholds=(by_label,)),
        record={**contents.record, THRESHOLD: facts},
    )


def without_threshold(contents: Contents) -> Contents:
    """Returns contents of a model of two labels that answers the likeliest one; those of others as they are."""
    if contents.config.model.threshold == "none":
        return contents
    answering, settings = contents.answering, {"model.threshold": "none", "model.cost": None}
    # How sure an answer is hangs on the threshold: no rows are left that say how often such answers are wrong.
    calibrations = {
        name: replace(calibration, sureness=(), errors=()) for name, calibration in contents.calibrations.items()
    }
    texts = tuple("text" if name == FROM_PROBABILITIES else name for name in answering.estimates)
    return replace(
        contents,
        config=contents.config.changed(**settings),
        answering=replace(answering, thresholds=(None,) * len(answering.thresholds), estimates=texts),
        calibrations=calibrations,
        record={name: value for name, value in contents.record.items() if name != THRESHOLD},
    )


def threshold_facts(contents: Contents) -> dict[str, Any]:
    """Returns how a model's threshold was chosen, and where it lies among its calibrated probabilities; else nothing.

    `threshold` is that of the model's own probabilities, and `calibrated` that of the tempered ones, which are those
    that predictions show: the answers are the same.
    """
    facts: Mapping[str, Any] | None = contents.record.get(THRESHOLD)
    if facts is None or contents.answering.thresholds[0] is None:
        return {}
    threshold = facts["threshold"]
    calibration = next(iter(contents.calibrations.values()), None)
    pair = np.array([[1 - threshold, threshold]])
    shown = threshold if calibration is None else float(calibration.tempered(pair)[0, 1])
    return {THRESHOLD: {**facts, "calibrated": shown}}
