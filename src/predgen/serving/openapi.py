"""What the server answers, as OpenAPI describes it, with examples of its own models."""

from collections.abc import Sequence
from typing import Any

from predgen.serving.schemas import USUAL_LEVEL, USUAL_QUANTILES, PredictRequest
from predgen.version import __version__

ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            "required": ["type", "message"],
        }
    },
    "required": ["error"],
}
ERRORS = {
    "400": "The body is no JSON.",
    "401": "The key is missing or unknown.",
    "404": "There is no such model.",
    "408": "The request did not come in time.",
    "413": "The body or the number of rows is too large.",
    "422": "The rows or the options are not those of the model: the message says which.",
    "429": "Too many rows wait. Ask again after the seconds of `Retry-After`.",
    "500": "A mistake in the server.",
    "501": "The server lacks a package that the option needs.",
    "503": "The server stops, or a row does not fit into its memory.",
    "504": "The answer took too long.",
}
# What examples ask for where that is more than yes or no.
VALUES: dict[str, Any] = {"interval": USUAL_LEVEL, "quantiles": list(USUAL_QUANTILES)}


def described(models: Sequence[dict[str, Any]], *, needs_key: bool) -> dict[str, Any]:
    """Returns the description of a server.

    Args:
        models: as `describe_model` returns them.
        needs_key: whether requests need a key.
    """
    locked: dict[str, Any] = {"security": [{"key": []}]} if needs_key else {}
    schema = PredictRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    components: dict[str, Any] = {"schemas": {"PredictRequest": schema, "Error": ERROR}}
    if needs_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "PredGen", "version": __version__, "description": "Fitted models that predict from text."},
        "paths": {
            "/v1/predict": {"post": {**_predict(models), **locked}},
            "/v1/models": {"get": {**_get("The models: what they read, predict and offer."), **locked}},
            "/health": {"get": _get("Whether the process lives.")},
            "/ready": {"get": _get("Whether every model answers; 503 if not.")},
            "/metrics": {"get": {**_get("Counters, as Prometheus reads them.", "text/plain"), **locked}},
        },
        "components": components,
    }


def _get(summary: str, content: str = "application/json") -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": {content: {}}}}}


def _predict(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    answers: dict[str, Any] = {
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "answers": {"type": "array", "items": {"type": "object"}, "description": "One for each row, in order."},
        },
    }
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    first = models[0]
    return {
        "summary": "Predict one row or many.",
        "description": (
            "Each answer has the columns that `Model.predict` adds: `prediction`, `written`, `invalid`, and those that "
            "are asked for; null stands for what is missing. With the header `Accept: application/x-ndjson` they "
            "come as lines of JSON, one for each row, as soon as they are there. An error after the first line is a "
            "last line with `error`."
        ),
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/PredictRequest"},
                    "examples": {name: {"value": value} for name, value in _examples(models).items()},
                }
            },
        },
        "responses": {
            "200": {
                "description": "The answers.",
                "content": {
                    "application/json": {
                        "schema": answers,
                        "example": {"model": first["name"], "answers": [_answer(first)]},
                    },
                    "application/x-ndjson": {"schema": {"type": "string"}},
                },
            },
            **{status: {"description": text, "content": content} for status, text in ERRORS.items()},
        },
    }


def _examples(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns a request for each model, and one of several rows with all that the first one offers."""
    examples = {
        model["name"]: {"model": model["name"], "row": {name: "Some words." for name in model["inputs"]}}
        for model in models
    }
    first = models[0]
    rows = [{name: text for name in first["inputs"]} for text in ("Some words.", "Other words.")]
    options = {name: VALUES.get(name, True) for name, there in first["offers"].items() if there}
    return {**examples, "several rows": {"model": first["name"], "rows": rows, **options}}


def _answer(model: dict[str, Any]) -> dict[str, Any]:
    predictions = {field["prediction"]: 3.5 if field["std"] else "a value" for field in model["fields"]}
    return {**predictions, "written": "what was written", "invalid": False}
