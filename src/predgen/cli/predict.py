"""`predgen predict`."""

from typing import Annotated, Any

import typer

from predgen.cli.options import rows_of_texts
from predgen.cli.output import (
    AbstainDelta,
    AbstainError,
    AbstainRisk,
    Device,
    Interval,
    JsonPath,
    MovedBackbone,
    NoThreshold,
    Overwrite,
    PredictFrom,
    Quiet,
    Revision,
    Strict,
    TaskName,
    TrustRemoteCode,
    check_results,
    fails_clearly,
    print_line,
    says_what_is_kept,
    show_notes,
    working,
    write_json,
)
from predgen.cli.starting import without_collection
from predgen.errors import ConfigError


@fails_clearly
def predict(
    model_dir: Annotated[
        str, typer.Argument(metavar="DIR", help="A fitted model, or its name on the hub.", show_default=False)
    ],
    data: Annotated[str | None, typer.Argument(metavar="DATA", help="The rows to predict.")] = None,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help=".csv, .tsv, .jsonl or .parquet")] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", help="A text to predict, instead of DATA. With several input columns: column=text."),
    ] = None,
    invalid: Annotated[str, typer.Option("--invalid", help="Answers that are no value: nan, warn or raise.")] = "nan",
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also the probability of each label.")] = False,
    std: Annotated[bool, typer.Option("--std", help="Also the standard deviation of the written number.")] = False,
    quantiles: Annotated[
        str | None,
        typer.Option("--quantiles", metavar="SHARES", help="Quantiles of the written number, such as 0.05,0.5,0.95."),
    ] = None,
    interval: Interval = None,
    marginal: Annotated[
        bool, typer.Option("--marginal", help="Of a record: a field's answers whatever the fields before it say.")
    ] = False,
    abstain_risk: AbstainRisk = None,
    abstain_delta: AbstainDelta = 0.05,
    abstain_error: AbstainError = None,
    written_tokens: Annotated[
        bool, typer.Option("--written-tokens", help="Also the written tokens, with the probability of each.")
    ] = False,
    task: TaskName = None,
    overwrite: Overwrite = False,
    predict_from: PredictFrom = None,
    no_threshold: NoThreshold = False,
    revision: Revision = None,
    backbone: MovedBackbone = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    json: JsonPath = None,
    strict: Strict = False,
    quiet: Quiet = False,
) -> None:
    """Predict rows: the input columns, and `prediction`, `written`, `invalid`, in the rows' order.

    A model reads its input columns alone; all others are kept as they are.

    [bold]Examples[/bold]

      predgen predict stars-model new.csv --out answers.csv

      predgen predict stars-model new.csv --out answers.csv --interval 0.9

      predgen predict stars-model new.csv --out answers.csv --quantiles 0.1,0.9

      predgen predict record-model new.csv --out answers.csv --marginal

      predgen predict sure-model new.csv --out answers.csv --abstain-risk 0.1

      predgen predict boolq-model rows.jsonl --task boolq --out answers.jsonl

      predgen predict stars-model --text "I would buy it again."

      predgen predict pairs-model --text first="A dog." --text second="A cat."
    """
    from predgen.errors import unknown_name

    show_notes(quiet, strict=strict)
    if invalid not in ("nan", "warn", "raise"):
        raise unknown_name("policy for invalid answers", invalid, ["nan", "warn", "raise"])
    if (data is None) == (not text):
        raise ConfigError("Expected either DATA or --text, found both or none. Give one of them.")
    if text and task is not None:
        raise ConfigError("Expected --task together with DATA, found it with --text. Leave one of them out.")
    check_results(json)
    model_of: dict[str, Any] = {"path": model_dir, "backbone": backbone, "device": device, "predict_from": predict_from}
    model_of |= {"threshold": not no_threshold, "trust_remote_code": trust_remote_code, "revision": revision}
    asked = {"invalid": invalid, "probabilities": probabilities, "std": std, "interval": interval}
    asked |= {"marginal": marginal, "quantiles": _shares(quantiles)}
    asked |= {"abstain_risk": abstain_risk, "abstain_delta": abstain_delta, "abstain_error": abstain_error}
    asked |= {"written_tokens": written_tokens}
    if text:
        write_json(json, _predict_texts(model_of, text, out, asked, overwrite))
        return
    if out is None:
        raise ConfigError(
            "Expected --out FILE for the answers, found none. Name a .csv, .tsv, .jsonl or .parquet file."
        )
    with says_what_is_kept(None, "Nothing is kept of these answers. The same command begins again."):
        result = _predict_table(model_of, str(data), task, out, asked, overwrite, quiet)
    print_line(
        f"{result['rows']} answers in '{out}', {result['invalid']} of them invalid, "
        f"{result['examples_per_second']:.0f} rows per second."
    )
    write_json(json, result)


def _shares(text: str | None) -> tuple[float, ...]:
    """Returns the shares that commas part.

    Raises:
        ConfigError: one is no number.
    """
    from predgen.models.asked import as_quantiles

    return () if text is None else as_quantiles(text.split(","))


def _predict_texts(
    model_of: dict[str, Any], texts: list[str], out: str | None, asked: dict[str, Any], overwrite: bool
) -> list[dict[Any, Any]]:
    """Prints the answers for texts, writes them if a file is named, and returns them."""
    with without_collection():
        import predgen
        from predgen.models.answer_columns import ABSTAINED, PREDICTION, column_of
        from predgen.tables.saving import TableWriter

        writer = None if out is None else TableWriter(out, overwrite=overwrite)
        model = predgen.load(**model_of)
    answers = model.predict(rows_of_texts(texts, model.inputs), **asked)
    if writer is not None:
        with writer:
            writer.write(answers)
    predictions = {name: column_of(PREDICTION, name) for name in model.target.fields}
    columns = len(model.inputs) + len(predictions) + 2  # `written` and `invalid` follow them
    records = answers.astype(object).where(answers.notna(), None).to_dict("records")
    for record in records:
        named = [f"{name}={record[column]}" if name else str(record[column]) for name, column in predictions.items()]
        answer = "  ".join(named)
        if record.get(ABSTAINED):
            answer = "abstained"
        if record["invalid"]:
            answer = "invalid" if record["written"] is None else f"invalid: {record['written']}"
        spread = [f"{name}={_shown(value)}" for name, value in list(record.items())[columns:] if name != ABSTAINED]
        print_line("  ".join([answer, *spread]))
    return records


def _shown(value: Any) -> str:
    """Returns a value in short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _predict_table(
    model_of: dict[str, Any], data: str, task: str | None, out: str, asked: dict[str, Any], overwrite: bool, quiet: bool
) -> dict[str, Any]:
    """Streams a table through a model, chunk by chunk, into a file that appears when all is done."""
    with without_collection():
        import predgen
        from predgen.models.abstention import described
        from predgen.models.asked import Asked
        from predgen.models.streaming import Streamed, predict_file
        from predgen.tables.saving import TableWriter

        writer = TableWriter(out, overwrite=overwrite)  # refuses an existing file before the model is loaded
        model = predgen.load(**model_of)
    Asked(**asked).check(model)
    if asked["abstain_risk"] is not None:
        print_line(described(model, Asked(**asked)))
    with working(quiet) as say:
        say("predicting")

        def show(done: Streamed) -> None:
            say(f"{done.rows} rows, {done.rows_per_second:.0f} per second")

        done = predict_file(model, data, writer, asked=Asked(**asked), task=task, on_chunk=show)
    return {"rows": done.rows, "invalid": done.invalid, "examples_per_second": done.rows_per_second, "out": out}
