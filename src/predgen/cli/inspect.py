"""`predgen inspect`."""

import logging
from typing import Annotated, Any

import typer

from predgen.cli.options import RUN_OPTIONS, Option, given_to, takes
from predgen.cli.output import JsonPath, Quiet, check_results, fails_clearly, print_table, show_notes, write_json
from predgen.config import ModelSettings, TrainSettings
from predgen.errors import ConfigError, TargetError, unknown_name
from predgen.names import DTYPES, PEFT_METHODS, in_a_sentence

log = logging.getLogger("predgen")

TARGET, PLAN = "Target", "Memory plan"
READ = {option.name: option.read for option in RUN_OPTIONS}


def _with_default(choices: list[str], default: str) -> str:
    """Returns names in a sentence, the default first and said to be it."""
    return in_a_sentence([f"{default} (the default)", *(name for name in choices if name != default)])


TARGET_OPTIONS = [
    Option("labels", str, "The labels to write.", TARGET, metavar="A,B"),
    Option("low", float, "Low end of a number.", TARGET),
    Option("high", float, "High end of a number.", TARGET),
    Option("decimals", int, "Its digits after the point.", TARGET),
    Option("data", str, "A table to infer the target from.", TARGET, metavar="TABLE"),
    Option("target", str, "Its column, or several A,B.", TARGET, metavar="COLUMN"),
    Option("kind", str, "number, label or set; of --data.", TARGET),
    Option("label_text", str, "Words to write: 0=negative,1=positive.", TARGET, READ["label_text"]),
]
LOW_RANK = in_a_sentence([name for name, peft in PEFT_METHODS.items() if peft.is_low_rank])
PLAN_OPTIONS = [
    Option("batch_size", int, f"Rows of a batch (default: {TrainSettings().batch_size}).", PLAN),
    Option("prompt_tokens", int, "Tokens of each prompt (default: 128).", PLAN),
    Option("dtype", str, f"{_with_default(list(DTYPES), ModelSettings().weights_type)}.", PLAN),
    Option("peft", str, f"{_with_default(list(PEFT_METHODS), ModelSettings().peft)}.", PLAN),
    Option("lora_rank", int, f"Rank of {LOW_RANK} (default: {ModelSettings().lora_rank}).", PLAN),
    Option("trained_layers", int, "How many of the last layers are trained (default: all).", PLAN),
    Option("rocoft_rank", int, f"Rows or columns of rocoft (default: {ModelSettings().rocoft_rank}).", PLAN),
]


@fails_clearly
@takes([*TARGET_OPTIONS, *PLAN_OPTIONS])
def inspect(
    context: typer.Context,
    backbone: Annotated[
        str,
        typer.Argument(metavar="BACKBONE", help="Local folder, hub id, GGUF file, or builtin:…", show_default=False),
    ],
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

      predgen inspect builtin:smollm2

      predgen inspect model.gguf --labels good,bad

      predgen inspect meta-llama/Llama-2-7b-hf --dtype bfloat16

      predgen inspect builtin:nano --low 0 --high 5 --decimals 1

      predgen inspect ./my-model --data reviews.csv --target stars --peft none
    """
    import predgen
    from predgen.report.inspection import inspection_parts

    show_notes(quiet)
    check_results(json)
    given = given_to(context)
    inspection = predgen.inspect_backbone(
        backbone,
        _target({option.name: given[option.name] for option in TARGET_OPTIONS}),
        revision=revision,
        load=not shape_only,
        **{option.name: given[option.name] for option in PLAN_OPTIONS},
    )
    result = inspection.to_json()
    write_json(json, result)
    for table in inspection_parts(result):
        print_table(table)
    for note in inspection.notes:
        log.info(note)
    if inspection.problems:
        raise TargetError(" ".join(inspection.problems))


def _target(given: dict[str, Any]) -> Any:
    """Returns the target that the options declare or that is inferred from a table; None if they say nothing of it.

    Raises:
        ConfigError: the options do not go together.
    """
    range_ = {name: given[name] for name in ("low", "high", "decimals")}
    if given["data"] is not None or given["target"] is not None:
        if given["labels"] is not None:
            raise ConfigError("Expected --labels or --data, found both. Leave one of them out.")
        declared = {name: given[name] for name in ("kind", "label_text")}
        return _inferred(given["data"], given["target"], {**range_, **declared})
    if given["kind"] is not None:
        raise ConfigError("Expected --kind together with --data and --target, found it alone. Leave it out.")
    return _declared(given["labels"], given["label_text"], range_)


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
    from predgen.tables.joined import joining_of
    from predgen.tables.reading import read_table
    from predgen.tables.values import target_columns
    from predgen.training.target import prepare_target

    if data is None or target is None:
        raise ConfigError("Expected --data TABLE and --target COLUMN together, found one of them. Add the other.")
    config = build_config({"data.data": data, "data.target": target}, settings)
    table = read_table(data)
    joining = joining_of(config.data, table)
    if joining is not None:
        table = joining.table(table, config.data.target)
        config = config.changed(**{"data.kind": joining.kind})
    return prepare_target(config.data, table, target_columns(config.data.target, table))[0]
