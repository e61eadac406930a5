"""Which rows a calibrated model answers, if few of the answers are to be wrong."""

from typing import TYPE_CHECKING, Any

import numpy as np

from predgen.errors import ConfigError
from predgen.measures.abstaining import Abstaining, abstaining, is_wrong
from predgen.measures.base import json_number
from predgen.measures.kinds import measure_of
from predgen.methods import Answers
from predgen.models.scored import ScoredField

if TYPE_CHECKING:
    from predgen.models.asked import Asked
    from predgen.models.model import Model

NEEDED = "Expected a calibrated model of one label or number for abstaining, found"


def sureness(model: "Model", answers: Answers) -> np.ndarray | None:
    """Returns how sure the answers of one field are, row by row; None where they have no such score.

    Of a label it is the probability of what is answered, before tempering; with a threshold t the probability p of the
    positive label gives (p − t) / (1 − t), or (t − p) / t below it. Of a distribution over labels it is the largest
    probability. Of a number it is minus the standard deviation of what the Writer would write. An invalid answer has
    −∞.

    Args:
        model: the model.
        answers: with untempered probabilities, or deviations.
    """
    contents = model.contents
    (field,) = model.target.fields.values()
    if answers.probabilities is not None:
        shares = answers.probabilities.double().numpy()
        chosen = measure_of(field).as_array(answers.values)
        # Of shares the answer is the whole row; of a label the position, which a written one has beside the likeliest.
        scores = shares.max(axis=1) if chosen.ndim == 2 else shares[np.arange(len(shares)), chosen]
        threshold, facts = contents.answering.thresholds[0], contents.record.get("threshold")
        if threshold is not None and facts is not None:
            cut = facts["threshold"]
            positive = int(np.flatnonzero(threshold.numpy() == cut)[0])
            above = shares[:, positive] - cut
            scores = np.where(above >= 0, above / max(1 - cut, 1e-12), -above / max(cut, 1e-12))
    elif answers.deviations is not None:
        scores = -answers.deviations.double().numpy()
    else:
        return None
    invalid = np.array([value is None for value in answers.values], dtype=bool)
    return np.where(invalid | np.isnan(scores), -np.inf, scores)


def errors_of(field: ScoredField) -> np.ndarray:
    """Returns how wrong each answer is: |error| in the target's unit, 1 for a wrong label, ∞ for an invalid answer."""
    losses = field.measure.losses(field.truth, field.predicted, None)
    errors = losses["absolute_error"] if "absolute_error" in losses else losses["error"]
    return np.where(np.isnan(errors), np.inf, errors)


def abstaining_of(model: "Model", asked: "Asked") -> Abstaining:
    """Returns from which score on a model answers.

    Args:
        model: the model.
        asked: the risk, its chance and a number's tolerance, as `Model.predict` takes them.

    Raises:
        ConfigError: it is not calibrated for that, or the tolerance is missing or not asked for.
    """
    risk, delta, error = asked.abstain_risk, asked.abstain_delta, asked.abstain_error
    assert risk is not None  # else all rows are answered
    field, *others = model.target.fields.values()
    if others:
        raise ConfigError(f"{NEEDED} a record of {len(others) + 1} columns. Fit one column.")
    if not measure_of(field).HAS_SURENESS:
        raise ConfigError(f"{NEEDED} one of {field.nouns}. Leave abstain_risk out.")
    if field.numeric and not model.method.writes:
        raise ConfigError(
            f"{NEEDED} the predictor, whose {field.nouns} have no spread. Fit the generator or predgen, which write."
        )
    calibration = next(iter(model.contents.calibrations.values()), None)
    if calibration is None or not calibration.sureness:
        found = "one without calibration" if calibration is None else "a calibration without the scores of its rows"
        raise ConfigError(f"{NEEDED} {found}. Run predgen calibrate on rows that nothing was chosen on.")
    if field.numeric != (error is not None):
        raise ConfigError(
            "Expected abstain_error, the largest error that is not wrong, of a model of numbers or dates and of no "
            f"other, found {'none' if error is None else f'{error:g}'} with {field.nouns}. "
            + ("Say --abstain-error 0.5, in the target's unit, days of dates." if field.numeric else "Leave it out.")
        )
    if error is not None and not 0 <= error < float("inf"):
        raise ConfigError(f"Expected abstain_error of at least 0, found {error:g}. Give a number in the target's unit.")
    wrong = is_wrong(np.array(calibration.errors), error)
    return abstaining(np.array(calibration.sureness), wrong, risk=risk, delta=delta)


def which_answered(model: "Model", answers: Answers, asked: "Asked") -> np.ndarray:
    """Returns which rows are answered, shape (row,).

    Args:
        model: the model.
        answers: as in `sureness`.
        asked: as in `abstaining_of`.
    """
    scores = sureness(model, answers)
    assert scores is not None  # the calibration has them
    return np.asarray(abstaining_of(model, asked).answered(scores))


def abstaining_facts(model: "Model", asked: "Asked") -> dict[str, Any]:
    """Returns what was asked for and what is promised, as JSON holds it; the arguments are those of `abstaining_of`."""
    chosen = abstaining_of(model, asked)
    return {
        "abstaining": {
            "risk": asked.abstain_risk,
            "delta": asked.abstain_delta,
            **({} if asked.abstain_error is None else {"error": asked.abstain_error}),
            "bound": json_number(chosen.bound),
            "calibration_rows": chosen.calibration_rows,
            "calibration_rows_answered": chosen.rows,
            "calibration_rows_wrong": chosen.wrong,
            "promise": described(model, asked),
        }
    }


def described(model: "Model", asked: "Asked") -> str:
    """Returns what is promised, in a sentence or two; the arguments are those of `abstaining_of`."""
    chosen = abstaining_of(model, asked)
    risk, surely = asked.abstain_risk, f"{100 * (1 - asked.abstain_delta):.6g} %"
    if not chosen.rows:
        return (
            f"Every row is abstained: no score bounds the risk by {risk:g} with {surely}. There are "
            f"{chosen.calibration_rows} calibration rows, and {chosen.rows_needed} are needed even if none of their "
            "answers is wrong."
        )
    return (
        f"With {surely} at most {chosen.bound:.3g} of the answers are wrong ({risk:g} was asked for): of "
        f"{chosen.calibration_rows} calibration rows {chosen.rows} would be answered, {chosen.wrong} of them wrongly."
    )
