"""Which rows a calibrated model answers, if few of the answers are to be wrong."""

from typing import TYPE_CHECKING

import numpy as np

from predgen.errors import ConfigError
from predgen.measures.abstaining import Abstaining, abstaining
from predgen.methods import Answers
from predgen.models.asked import Asked
from predgen.models.contents import Contents
from predgen.models.encoding import Encoded

if TYPE_CHECKING:
    from predgen.models.model import Model


def sureness(contents: Contents, answers: Answers) -> np.ndarray | None:
    """Returns how sure the answers of one field are, row by row; None where they have no such score.

    Of a label it is the probability of what is answered, before tempering; with a threshold t the probability p of the
    positive label gives (p − t) / (1 − t), or (t − p) / t below it. Of a number it is minus the standard deviation of
    what the Writer would write. An invalid answer has −∞.

    Args:
        contents: of the model.
        answers: with untempered probabilities, or deviations.
    """
    threshold = contents.answering.thresholds[0]
    if answers.probabilities is not None:
        shares = answers.probabilities.double().numpy()
        scores = shares.max(axis=1)
        facts = contents.record.get("threshold")
        if threshold is not None and facts is not None:
            cut = facts["threshold"]
            positive = int(np.flatnonzero(threshold.numpy() == cut)[0])
            above = shares[:, positive] - cut
            scores = np.where(above >= 0, above / max(1 - cut, 1e-12), -above / max(cut, 1e-12))
    elif answers.deviations is not None:
        scores = -answers.deviations.double().numpy()
    else:
        return None
    invalid = np.array([value is None for value in answers.values])
    return np.where(invalid | np.isnan(scores), -np.inf, scores)


def abstaining_of(model: "Model", asked: Asked) -> Abstaining:
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
    calibration = None if others else next(iter(model.contents.calibrations.values()), None)
    if calibration is None or not calibration.sureness:
        found = "several columns" if others else "none"
        fix = "Fit one column." if others else "Run predgen calibrate on rows that nothing was chosen on."
        if calibration is not None:
            found = "a calibration without the scores of its rows"
            fix += " Numbers need a method that writes: generator or predgen."
        raise ConfigError(f"Expected a calibrated model of one label or number for abstaining, found {found}. {fix}")
    if field.numeric != (error is not None):
        raise ConfigError(
            "Expected abstain_error, the largest error that is not wrong, of a model of numbers and of no other, found "
            f"{'none' if error is None else error} with {field.nouns}. "
            + ("Say --abstain-error 0.5, in the target's unit." if field.numeric else "Leave it out.")
        )
    if error is not None and not 0 <= error < float("inf"):
        raise ConfigError(f"Expected abstain_error of at least 0, found {error:g}. Give a number in the target's unit.")
    wrong = np.array(calibration.errors) > (0.0 if error is None else error)
    return abstaining(np.array(calibration.sureness), wrong, risk=risk, delta=delta)


def which_answered(model: "Model", encoded: Encoded, asked: Asked) -> np.ndarray:
    """Returns which rows are answered, shape (row,).

    Args:
        model: the model.
        encoded: the rows.
        asked: as in `abstaining_of`.
    """
    chosen = abstaining_of(model, asked)
    (answers,) = model.answers_each(encoded, [model.contents.answering], Asked(probabilities=True))
    scores = sureness(model.contents, answers)
    assert scores is not None  # the calibration has them
    return np.asarray(chosen.answered(scores))


def described(model: "Model", asked: Asked) -> str:
    """Returns what is promised, in a sentence or two; the arguments are those of `abstaining_of`."""
    chosen = abstaining_of(model, asked)
    risk, surely = asked.abstain_risk, f"{1 - asked.abstain_delta:.0%}"
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
