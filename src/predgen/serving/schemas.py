"""What a request holds, and what a server says of its models."""

from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError

from predgen.errors import PredGenError
from predgen.measures.kinds import measure_of
from predgen.models.answer_columns import PREDICTION, PROBABILITY, QUANTILE, STD, column_of
from predgen.models.asked import MOST_QUANTILES, Asked, as_quantiles
from predgen.models.model import Model
from predgen.serving.limits import Limits, Refused

Row = dict[str, StrictStr | StrictBool | StrictInt | StrictFloat | None]
# How pydantic calls the types of a cell where it says what failed.
CELL_TYPES = ("str", "bool", "int", "float")
# Of which it is asked whether a model has intervals at all.
USUAL_LEVEL = 0.9
# Of which it is asked whether a model has quantiles at all.
USUAL_QUANTILES = (0.05, 0.5, 0.95)


class PredictRequest(BaseModel):
    """Rows to predict, and what to say of them."""

    model_config = ConfigDict(extra="forbid")

    model: StrictStr | None = Field(None, description="The model's name; it may be left out where there is one.")
    row: Row | None = Field(None, description="One row: its input columns and their cells.")
    rows: list[Row] | None = Field(None, description="Several rows, instead of `row`.")
    probabilities: StrictBool = Field(False, description="Also the probability of each label.")
    std: StrictBool = Field(False, description="Also the standard deviation of the written number.")
    interval: float | None = Field(
        None, gt=0, lt=1, description="Also intervals or label sets of this level; of a calibrated model."
    )
    quantiles: list[StrictFloat] | None = Field(
        None,
        description=f"Also the written number's quantiles at these shares, at most {MOST_QUANTILES}, each in (0, 1).",
        json_schema_extra={"maxItems": MOST_QUANTILES},
    )
    abstain_risk: StrictFloat | None = Field(
        None, gt=0, lt=1, description="Also whether the model is sure enough for this share of wrong answers."
    )
    abstain_delta: StrictFloat = Field(
        Asked.abstain_delta, gt=0, lt=1, description="The chance that more are wrong, over the calibration rows."
    )
    abstain_error: float | None = Field(None, ge=0, description="Of a number, the largest error that is not wrong.")
    written_tokens: StrictBool = Field(False, description="Also the written tokens, with the probability of each.")

    @property
    def asked(self) -> Asked:
        """What the model is asked for."""
        quantiles = as_quantiles(self.quantiles or ())
        return Asked(
            probabilities=self.probabilities,
            std=self.std,
            interval=self.interval,
            quantiles=quantiles,
            abstain_risk=self.abstain_risk,
            abstain_delta=self.abstain_delta,
            abstain_error=self.abstain_error,
            written_tokens=self.written_tokens,
        )


def read_request(body: bytes, limits: Limits) -> tuple[PredictRequest, list[Row]]:
    """Returns a request and its rows.

    Args:
        body: JSON.
        limits: what is taken.

    Raises:
        Refused: it is no such request, or has no rows, or too many.
    """
    try:
        request = PredictRequest.model_validate_json(body)
    except ValidationError as error:
        raise _refused(error) from error
    if (request.row is None) == (request.rows is None):
        raise Refused(422, "InvalidRequest", "Expected either 'row' or 'rows', found both or none. Give one of them.")
    rows = [request.row] if request.row is not None else request.rows
    assert rows is not None
    if not 1 <= len(rows) <= limits.rows:
        raise Refused(
            413 if rows else 422,
            "TooManyRows" if rows else "InvalidRequest",
            f"Expected 1 to {limits.rows:,} rows in a request, found {len(rows):,}. Send several requests.",
        )
    return request, rows


def _refused(error: ValidationError) -> Refused:
    """Returns what is said of a body that is no request: the first fault, with its place."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    said = fault["msg"].removeprefix("Invalid JSON: ")
    if fault["type"] == "json_invalid":
        return Refused(400, "InvalidJson", f"Expected a body of JSON, found a fault: {said}. Correct it.")
    place = [str(part) for part in fault["loc"]]
    if len(place) > 2 and place[-1] in CELL_TYPES:  # of a cell the last part is the first of its types
        place.pop()
        said = "a cell is text, a number, true, false or null"
    where = f"a fault at '{'.'.join(place)[:200]}'" if place else "a fault"
    return Refused(422, "InvalidRequest", f"Expected a request as /docs shows it, found {where}: {said}. Correct it.")


def describe_model(name: str, model: Model) -> dict[str, Any]:
    """Returns what clients need to know of a model, as JSON holds it.

    Args:
        name: by which it is asked for.
        model: the model.
    """
    base = model.contents.base_name
    if PurePosixPath(base).is_absolute() or PureWindowsPath(base).is_absolute():
        base = PureWindowsPath(base).name  # the folders of a machine are nobody's business
    return {
        "name": name,
        "target": list(model.config.data.target),
        "describes": model.target.describe(),
        "inputs": list(model.inputs),
        "method": model.config.model.method,
        "backbone": base,
        "calibrated": bool(model.contents.calibrations),
        "offers": {
            "probabilities": _offers(model, Asked(probabilities=True)),
            "std": _offers(model, Asked(std=True)),
            "interval": _offers(model, Asked(interval=USUAL_LEVEL)),
            "quantiles": _offers(model, Asked(quantiles=USUAL_QUANTILES)),
            "written_tokens": _offers(model, Asked(written_tokens=True)),
        },
        "fields": [_field(model, name) for name in model.target.fields],
    }


def _field(model: Model, name: str) -> dict[str, Any]:
    """Returns the names of the columns that answers for a field have."""
    field = model.target.fields[name]
    has_interval, has_distribution = name in model.contents.calibrations, field.numeric and model.method.writes
    return {
        "name": name,
        "kind": field.kind,
        "prediction": column_of(PREDICTION, name),
        "std": column_of(STD, name) if has_distribution else None,
        "quantile": column_of(QUANTILE, name) if has_distribution else None,
        "probabilities": [[str(label), column_of(PROBABILITY, name, label)] for label in field.labels],
        "interval": [column_of(column, name) for column in measure_of(field).interval_names] if has_interval else [],
    }


def _offers(model: Model, asked: Asked) -> bool:
    try:
        asked.check(model)
        asked.columns(model)
    except PredGenError:
        return False
    return True
