"""Every warning that PredGen gives about tables, settings and answers; what each means: docs/reference/warnings.md.

A message is one line: how many rows, and what to do. Warnings about the machine and about progress are lines of the
log `predgen` instead.

    warnings.simplefilter("ignore", predgen.LeakWarning)      # silence one kind
    warnings.simplefilter("error", predgen.PredGenWarning)    # make all of them errors, as --strict does
"""

import sys
import warnings
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType

_PACKAGE = f"{Path(__file__).parent}/"
# Which message was shown at which line.
_shown: set[tuple[type[Warning], str, str, int]] = set()
# What was said inside of `each_once`; None outside.
_said: ContextVar[set[Hashable] | None] = ContextVar("predgen_said", default=None)


class PredGenWarning(UserWarning):
    """The root of every warning that PredGen gives."""


class OpenQuoteWarning(PredGenWarning):
    """A cell of a CSV file looks like several rows."""


class OtherPartsWarning(PredGenWarning):
    """A task's source lacks a part, and other rows stand for it."""


class SharedRowsWarning(PredGenWarning):
    """Rows of a held-out part have the inputs of training rows."""


class ConstantInputWarning(PredGenWarning):
    """An input column holds the same in all training rows."""


class LeakWarning(PredGenWarning):
    """An input column nearly gives the target away."""


class TakenNameWarning(PredGenWarning):
    """Columns of the table have names of columns that a prediction adds."""


class CutPromptsWarning(PredGenWarning):
    """Prompts were cut to fit."""


class AttributionGapWarning(PredGenWarning):
    """The attributions of words miss what they should add up to."""


class ConstantTargetWarning(PredGenWarning):
    """All training rows hold one number."""


class FarNumbersWarning(PredGenWarning):
    """Training numbers lie so far from the others that heads learn them as if they were nearer."""


class IdTargetWarning(PredGenWarning):
    """Nearly every training row has a label of its own."""


class RareLabelsWarning(PredGenWarning):
    """Labels stand in one training row alone."""


class SimilarLabelsWarning(PredGenWarning):
    """Labels whose texts differ are read as one, or look alike and are read as two."""


class LostLabelsWarning(PredGenWarning):
    """The training rows that are used lack labels that others have."""


class MissingLabelsWarning(PredGenWarning):
    """The validation part lacks labels that training rows have."""


class UnseenLabelsWarning(PredGenWarning):
    """Held-out rows have labels that training never saw."""


class NoTestPartWarning(PredGenWarning):
    """Figures are of the validation part, which also chose."""


class UnmatchedRowsWarning(PredGenWarning):
    """Files of predictions lack rows of the truth, or have others."""


class InvalidAnswersWarning(PredGenWarning):
    """Written answers are no value of the target."""


class CoarseDistributionWarning(PredGenWarning):
    """A large share of a number's probability is known for ranges of numbers alone."""


class CertainProbabilitiesWarning(PredGenWarning):
    """Probabilities of labels are exactly 0 or 1."""


class CalibrationEndWarning(PredGenWarning):
    """The temperature of a calibration is an end of what was searched."""


class FewCalibrationRowsWarning(PredGenWarning):
    """A calibration was learned from too few rows to say much."""


class UntunedThresholdsWarning(PredGenWarning):
    """A model answers from where its thresholds were not tuned."""


def warn(warning: PredGenWarning, about: Hashable = None) -> None:
    """Gives a warning, at the line that called the package.

    Args:
        warning: what to say.
        about: what it is about, in work that says each thing once (`each_once`): of several warnings of one class about
            one thing the first is said, whatever figures the others have. The message if None.
    """
    said = _said.get()
    if said is not None:
        key = (type(warning), str(warning) if about is None else about)
        if key in said:
            return
        said.add(key)
    file, line, module = _caller()
    shown = (type(warning), str(warning), file, line)
    if shown not in _shown or _repeats(warning):
        _shown.add(shown)
        warnings.warn_explicit(warning, type(warning), file, line, module, registry={})


@contextmanager
def each_once() -> Iterator[None]:
    """Lets work of many fits give each warning once; inside of other such work nothing changes."""
    if _said.get() is not None:
        yield
        return
    token = _said.set(set())
    try:
        yield
    finally:
        _said.reset(token)


def _repeats(warning: PredGenWarning) -> bool:
    """Returns whether a filter may ask for a warning each time that it is given, or for an error.

    All others show a message once for each line. Python forgets what it showed whenever some library enters
    `catch_warnings`, as each fit does; so that is remembered here.
    """
    return any(action in ("always", "error") and isinstance(warning, kind) for action, _, kind, *_ in warnings.filters)


def _caller() -> tuple[str, int, str]:
    """Returns where the package was called: the file, the line, and the module."""
    place, inside = ("predgen", 0, "predgen"), True
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        before, inside = inside, frame.f_code.co_filename.startswith(_PACKAGE)
        if before and not inside:
            place = frame.f_code.co_filename, frame.f_lineno, str(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    return place
