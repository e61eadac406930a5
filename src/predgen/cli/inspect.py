"""`predgen inspect`."""

import logging
from typing import Annotated, Any

import typer

from predgen.cli.options import option_value
from predgen.cli.output import JsonPath, Quiet, check_results, fails_clearly, print_table, show_notes, write_json
from predgen.errors import ConfigError, TargetError, unknown_name

log = logging.getLogger("predgen")

TARGET, PLAN = "Target", "Memory plan"


@fails_clearly
def inspect(
    backbone: Annotated[
        str,
        typer.Argument(metavar="BACKBONE", help="Local folder, hub id, or builtin:nano.", show_default=False),
    ],
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="A,B", help="The labels to write.", rich_help_panel=TARGET),
    ] = None,
    low: Annotated[float | None, typer.Option("--low", help="Low end of a number.", rich_help_panel=TARGET)] = None,
    high: Annotated[float | None, typer.Option("--high", help="High end of a number.", rich_help_panel=TARGET)] = None,
    decimals: Annotated[
        int | None, typer.Option("--decimals", help="Its digits after the point.", rich_help_panel=TARGET)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="TABLE", help="A table to infer the target from.", rich_help_panel=TARGET),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="COLUMN", help="Its column, or several A,B.", rich_help_panel=TARGET),
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="number, label or set; of --data.", rich_help_panel=TARGET)
    ] = None,
    label_text: Annotated[
        str | None,
        typer.Option("--label-text", help="Words to write: 0=negative,1=positive.", rich_help_panel=TARGET),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Rows of a batch (default: 16).", rich_help_panel=PLAN)
    ] = None,
    prompt_tokens: Annotated[
        int | None,
        typer.Option("--prompt-tokens", help="Tokens of each prompt (default: 128).", rich_help_panel=PLAN),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="float32 (the default), bfloat16 or float16.", rich_help_panel=PLAN),
    ] = None,
    peft: Annotated[
        str | None,
        typer.Option("--peft", help="lora (the default), dora, adalora, rocoft or none.", rich_help_panel=PLAN),
    ] = None,
    lora_rank: Annotated[
        int | None,
        typer.Option("--lora-rank", help="Rank of lora, dora or adalora (default: 16).", rich_help_panel=PLAN),
    ] = None,
    rocoft_rank: Annotated[
        int | None,
        typer.Option("--rocoft-rank", help="Rows or columns of rocoft (default: 3).", rich_help_panel=PLAN),
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="The hub's revision.")] = None,
    shape_only: Annotated[bool, typer.Option("--shape-only", help="Do not read the weights.")] = False,
    json: JsonPath = None,
    quiet: Quiet = False,
) -> None:
    """Say what a backbone is, how its tokenizer writes a target, and what memory it needs.

    Nothing is downloaded. Llama-2-7b, Llama-2-13b and Meta-Llama-3-8B are known by their shape. A target that `fit`
    would refuse ends in an error, after everything was shown.

    [bold]Examples[/bold]

      predgen inspect builtin:nano --labels good,bad

      predgen inspect meta-llama/Llama-2-7b-hf --dtype bfloat16

      predgen inspect builtin:nano --low 0 --high 5 --decimals 1

      predgen inspect ./my-model --data reviews.csv --target stars --peft none
    """
    import predgen
    from predgen.report.inspection import inspection_parts

    show_notes(quiet)
    check_results(json)
    range_ = {"low": low, "high": high, "decimals": decimals}
    words = option_value("label_text", label_text)
    if data is not None or target is not None:
        if labels is not None:
            raise ConfigError("Expected --labels or --data, found both. Leave one of them out.")
        asked = _inferred(data, target, {**range_, "kind": kind, "label_text": words})
    else:
        if kind is not None:
            raise ConfigError("Expected --kind together with --data and --target, found it alone. Leave it out.")
        asked = _declared(labels, words, range_)
    plan: dict[str, Any] = {
        "batch_size": batch_size,
        "dtype": dtype,
        "peft": peft,
        "lora_rank": lora_rank,
        "rocoft_rank": rocoft_rank,
    }
    found = predgen.inspect_backbone(
        backbone, asked, revision=revision, load=not shape_only, prompt_tokens=prompt_tokens, **plan
    )
    result = found.to_json()
    write_json(json, result)
    for part in inspection_parts(result):
        print_table(part)
    for note in found.notes:
        log.info(note)
    if found.problems:
        raise TargetError(" ".join(found.problems))


def _declared(labels: str | None, words: dict[str, str] | None, range_: dict[str, Any]) -> Any:
    """Returns the target that the options declare, or None if they declare none."""
    from predgen.config import split_names
    from predgen.targets.label import Label
    from predgen.targets.number import Number

    given = [f"--{name}" for name, value in range_.items() if value is not None]
    if labels is None:
        if words:
            raise ConfigError(
                "Expected --label-text together with --labels or --data, found it alone. Add one of them."
            )
        if not given:
            return None
        if len(given) < len(range_):
            raise ConfigError(
                f"Expected --low, --high and --decimals together, found {' and '.join(given)} alone. Add the others."
            )
        return Number(**range_, declared=True)
    if given:
        raise ConfigError(f"Expected --labels or a number, found both ({given[0]}). Leave one of them out.")
    names: tuple[str, ...] = split_names(labels)
    for name in words or {}:
        if name not in names:
            raise unknown_name("label", name, names)
    return Label(names, tuple((words or {}).get(name, name) for name in names))


def _inferred(data: str | None, target: str | None, settings: dict[str, Any]) -> Any:
    """Returns the target of a table's column, by the rules of `fit`, from all of its rows."""
    from predgen.config import build_config
    from predgen.tables.reading import read_table
    from predgen.tables.values import target_columns
    from predgen.training.target import prepare_target

    if data is None or target is None:
        raise ConfigError("Expected --data TABLE and --target COLUMN together, found one of them. Add the other.")
    config = build_config({"data.data": data, "data.target": target}, settings)
    table = read_table(data)
    return prepare_target(config.data, table, target_columns(target, table))[0]
