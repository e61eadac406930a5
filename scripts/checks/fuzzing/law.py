"""What must hold of every input: it is refused with an error that helps, or answered rightly."""

import math
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from predgen import Label, LabelSet, Model, Ordinal, PredGenError
from predgen.models.asked import Asked

ANSWERED, REFUSED = "answered", "refused"
# How far probabilities may be from 1, in single precision.
TOLERANCE = 1e-4
# No input may take longer, in seconds of the processor: others may be at work.
MOST_SECONDS = 60


class BrokenError(Exception):
    """An input was answered, and the answer is not right."""


class TooSlowError(Exception):
    """An input took too long."""


def hold(condition: bool, what: str) -> None:
    """Says what is not right of an answer.

    Raises:
        BrokenError: the condition does not hold.
    """
    if not condition:
        raise BrokenError(what)


def outcome_of(error: PredGenError) -> str:
    """Returns that an input was refused, with words that say what was found."""
    hold(len(str(error)) > 20, f"the message says nothing: {str(error)!r}")
    return REFUSED


def place_of(error: BaseException) -> str:
    """Returns what tells one fault from another: its type and the innermost place in the package."""
    if isinstance(error, BrokenError):
        return f"BrokenError: {str(error).split(':')[0]}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "predgen" in Path(frame.filename).parts] or frames
    return f"{type(error).__name__} in {Path(ours[-1].filename).name}:{ours[-1].name}" if ours else type(error).__name__


@contextmanager
def in_time(seconds: int = MOST_SECONDS) -> Iterator[None]:
    """Ends what takes too long.

    Raises:
        TooSlowError: it did.
    """

    def stop(number: int, frame: Any) -> None:
        raise TooSlowError(f"more than {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def check_answers(model: Model, table: pd.DataFrame, answers: pd.DataFrame, asked: Asked) -> None:
    """Refuses a prediction that is not one row for each row, with finite numbers and probabilities that sum to 1.

    Args:
        model: what answered.
        table: the rows.
        answers: what `Model.predict` returned.
        asked: what was asked for.

    Raises:
        BrokenError: something is not right.
    """
    hold(len(answers) == len(table), f"number of answers: {len(answers)} for {len(table)} rows")
    hold(list(answers.columns)[: len(table.columns)] == list(table.columns), "columns of the rows are not kept")
    invalid = answers["invalid"].tolist()
    hold(all(type(flag) is bool for flag in invalid), "invalid is no truth value")
    for name, field in model.target.fields.items():
        end = f"_{name}" if name else ""
        for flag, cell in zip(invalid, answers[f"prediction{end}"], strict=True):
            if field.numeric:
                hold(flag == (not math.isfinite(cell)), f"prediction{end} is not finite and not invalid: {cell}")
            else:
                hold(flag == (cell is None), f"prediction{end} is none and not invalid: {cell!r}")
            if isinstance(field, Label | Ordinal) and not flag:
                hold(cell in field.labels, f"prediction{end} is no label: {cell!r}")
        if asked.std and field.numeric:
            hold(all(0 <= cell < math.inf for cell in answers[f"std{end}"]), "a standard deviation is not finite")
        if asked.probabilities and field.labels:
            shares = answers[[f"probability{end}_{label}" for label in field.labels]].to_numpy(float)
            hold(bool(((shares >= 0) & (shares <= 1 + TOLERANCE)).all()), "a probability is outside of 0 … 1")
            if not isinstance(field, LabelSet):
                hold(bool((abs(shares.sum(1) - 1) < TOLERANCE).all()), "probabilities do not sum to 1")
        if asked.interval is not None and field.numeric and f"low{end}" in answers:
            low, high = answers[f"low{end}"].to_numpy(float), answers[f"high{end}"].to_numpy(float)
            hold(bool((~(low > high)).all()), "an interval ends before it begins")
