"""How the values of settings are read: from the texts of a command line, from YAML, from Python."""

import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from predgen import names
from predgen.targets import date_cells
from predgen.targets.cells import label_key


def split_names(value: Any) -> Any:
    """Returns the names that a text lists with commas; anything else as it is."""
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


def target_names(value: Any) -> Any:
    """Returns the names of a target's columns, which a text lists with commas; anything else as it is.

    A column's own name may have commas, which only the table tells. Nothing is stripped therefore: joined by commas,
    the names are the text again.

    Example:
        >>> target_names("stars"), target_names(["stars", "mood"]), target_names("stars, mood")
        (('stars',), ('stars', 'mood'), ('stars', ' mood'))
    """
    if isinstance(value, str):
        return tuple(value.split(",")) if value else ()
    return tuple(map(str, value)) if isinstance(value, list | tuple) else value


def target_in_file(columns: tuple[str, ...]) -> str | list[str]:
    """Returns a target's columns as files hold them: one text, or a list where it could not be split again."""
    return list(columns) if any("," in name for name in columns) else ",".join(columns)


def text_keys(value: Any) -> Any:
    """Returns a mapping with the keys of labels, where YAML reads 0 or true; anything else as it is."""
    return {label_key(key): text for key, text in value.items()} if isinstance(value, Mapping) else value


def class_weights(value: Any) -> Any:
    """Returns the name of a rule, or the weights of labels that a text such as a=3,b=1 or {a: 3, b: 1} lists.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str) and value not in names.CLASS_WEIGHTS:
        pairs = [pair.partition("=" if "=" in pair else ":") for pair in value.strip().strip("{}").split(",")]
        value = {name.strip(): weight.strip() for name, _, weight in pairs}
    if isinstance(value, Mapping):
        value = text_keys(value)
        try:
            weights = {name: float(weight) for name, weight in value.items() if not isinstance(weight, bool)}
        except (TypeError, ValueError, OverflowError):
            weights = {}
        if not value or len(weights) < len(value) or not all(0 <= one < math.inf for one in weights.values()):
            known = names.in_a_sentence(list(names.CLASS_WEIGHTS))
            raise ValueError(f"expected {known}, or a number of at least 0 for each label: a=3,b=1")
        return weights
    return value


def error_costs(value: Any) -> Any:
    """Returns the costs of a false positive and of a false negative, which a text such as 1,5 lists.

    Raises:
        ValueError: they are not two numbers of at least 0, one of them above it.
    """
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    try:
        costs = tuple(float(part) for part in parts if not isinstance(part, bool))
    except (TypeError, ValueError, OverflowError):
        costs = ()
    if len(costs) != 2 or len(parts) != 2 or not all(0 <= cost < math.inf for cost in costs) or not any(costs):
        raise ValueError("expected the cost of a false positive and of a false negative, at least 0, such as 1,5")
    return costs


def table_or_share(value: Any) -> Any:
    """Returns the number that a text is; the name of a table as it is.

    Raises:
        ValueError: it is a number that is no share.
    """
    try:
        share = float(value)
    except (TypeError, ValueError, OverflowError):
        return value
    if isinstance(value, bool) or not 0 < share < 1:
        raise ValueError("expected a table, or a share between 0 and 1")
    return share


def split_shares(value: Any) -> Any:
    """Returns the shares that a text such as 80/10/10 gives; anything else as it is."""
    return [float(share) for share in value.split("/")] if isinstance(value, str) else value


def estimate_name(value: Any) -> Any:
    """Returns the name of a point estimate; a quantile is its share as text.

    Raises:
        ValueError: it is neither a known name nor a share between 0 and 1.
    """
    if isinstance(value, str) and value in names.ESTIMATES:
        return value
    try:
        share = float(value)
    except (TypeError, ValueError, OverflowError):
        share = -1.0
    if isinstance(value, bool) or not 0 < share < 1:
        raise ValueError(f"expected {', '.join(names.ESTIMATES)}, or a quantile between 0 and 1")
    return str(share)


def range_end(value: Any) -> Any:
    """Returns the end of a range: a number, or the ISO text of a date, as YAML reads dates by itself.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    try:
        return value if isinstance(value, str) and date_cells.day_of(value) is not None else float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("expected a number, or an ISO date such as 2021-03-01") from None


Names = Annotated[tuple[str, ...], BeforeValidator(split_names)]
RangeEnd = Annotated[float | str, BeforeValidator(range_end)]
Estimate = Annotated[str, BeforeValidator(estimate_name)]
LabelText = Annotated[dict[str, str], BeforeValidator(text_keys)]
Costs = Annotated[tuple[float, float] | None, BeforeValidator(error_costs)]
ClassWeights = Annotated[Literal["balanced", "none"] | dict[str, float], BeforeValidator(class_weights)]
TargetNames = Annotated[
    tuple[str, ...], BeforeValidator(target_names), PlainSerializer(target_in_file, when_used="json")
]
Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]
