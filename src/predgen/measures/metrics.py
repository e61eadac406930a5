"""The names of metrics: which a target has, and which of them are better when they are larger."""

from predgen.errors import unknown_name
from predgen.measures.base import metric_of
from predgen.measures.kinds import MEASURES, measure_of
from predgen.targets.record import Target

# The mean over a record's fields of how far each lies from the best constant answer.
RELATIVE_ERROR = "relative_error"


def higher_is_better(name: str) -> bool:
    """Returns whether more of a metric is better; of a record's field it stands after the field's name and a point.

    Example:
        >>> higher_is_better("accuracy"), higher_is_better("mood.log_loss")
        (True, False)
    """
    bare = name.rpartition(".")[2]
    return bare != RELATIVE_ERROR and not any(bare in measure.LOWER_IS_BETTER for measure in MEASURES.values())


def needs_probabilities(name: str) -> bool:
    """Returns whether a metric is one of the probabilities of labels."""
    return any(name.rpartition(".")[2] in measure.OF_PROBABILITIES for measure in MEASURES.values())


def metric_names(target: Target) -> tuple[str, ...]:
    """Returns the names of a target's metrics; those of a record's fields stand after the field's name and a point.

    Example:
        >>> from predgen.targets.label import Label
        >>> from predgen.targets.number import Number
        >>> from predgen.targets.record import Record
        >>> metric_names(Record({"mood": Label(("a", "b"), ("good", "bad")), "stars": Number(0.0, 5.0, 1)}))[:2]
        ('relative_error', 'mood.accuracy')
    """
    fields = target.fields
    names = [metric_of(name, metric) for name, field in fields.items() for metric in measure_of(field).names]
    return tuple(names) if len(fields) == 1 else (RELATIVE_ERROR, *names)


def check_metric_of_kind(kind: str, name: str) -> None:
    """Refuses a metric that a kind of field does not have.

    Raises:
        UnknownNameError: with the names that it has.
    """
    if name not in MEASURES[kind].NAMES:
        raise unknown_name(f"metric of a {kind}", name, MEASURES[kind].NAMES)


def check_metric(target: Target, name: str) -> None:
    """Refuses a metric that a target does not have.

    Raises:
        UnknownNameError: with the names that it has.
    """
    known = metric_names(target)
    if name not in known:
        what = "the record" if len(target.fields) > 1 else f"a {target.kind}"
        raise unknown_name(f"metric of {what}", name, known)
