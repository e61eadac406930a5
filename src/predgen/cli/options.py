"""The options that commands have as lists, those that name settings above all.

An option is one entry here: its name, the setting it stands for, how its text is read, and its help. Settings
without an option of their own are reached by `--set`.
"""

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer
import yaml

from predgen.config import (
    SECTIONS,
    RunConfig,
    build_config,
    merged_layers,
    parse_yaml,
    read_config_file,
    split_names,
)
from predgen.errors import ConfigError

CommandT = TypeVar("CommandT", bound=Callable[..., None])
PANELS = {"data": "Data", "model": "Model", "train": "Training"}
# The options of each command that has a list of them, by the command's name.
OPTIONS_OF: dict[str, Sequence["Option"]] = {}


def _label_text(text: str) -> dict[str, str]:
    words: dict[str, str] = {}
    for pair in split_names(text):
        label, _, word = (piece.strip() for piece in pair.partition("="))
        if not label or not word:
            raise ConfigError(f"Expected --label-text label=word,label=word, found '{pair}'.")
        if label in words:
            raise ConfigError(f"Expected every label of --label-text once, found '{label}' twice. Leave one out.")
        words[label] = word
    return words


def _split(text: str) -> list[float]:
    try:
        shares = [float(share) for share in text.split("/")]
    except ValueError:
        shares = []
    if len(shares) != 3 or not all(math.isfinite(share) and share >= 0 for share in shares) or sum(shares) <= 0:
        raise ConfigError(f"Expected --split train/validation/test such as 80/10/10, found '{text}'.")
    return [share / sum(shares) for share in shares]


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: the parameter's name; the option's is the same with dashes.
        kind: the type that the command line reads.
        help: what it is for.
        panel: the heading under which help shows it.
        read: from what was given to the option's value.
        metavar: how help shows what it takes; the type's name if not given.
        setting: the setting that it stands for, with its section; empty where it stands for none.
    """

    name: str
    kind: Any
    help: str
    panel: str
    read: Callable[[Any], Any] = lambda value: value
    metavar: str | None = None
    setting: str = ""

    @functools.cached_property
    def parameter(self) -> Any:
        """What the command line parses: typer makes it of a function that has this parameter alone."""
        kind = self.kind
        shown = typer.Option(
            f"--{self.name.replace('_', '-')}", metavar=self.metavar, help=self.help, rich_help_panel=self.panel
        )

        def command(value: Annotated[kind | None, shown] = None) -> None:
            """Has the parameter."""

        alone = typer.Typer(add_completion=False)
        alone.command()(command)
        (parameter,) = typer.main.get_command(alone).params
        parameter.name = self.name
        return parameter

    def value(self, given: Any) -> Any:
        """Returns the option's value, or None if it was not given."""
        return None if given is None else self.read(given)


def run_option(setting: str, kind: type, read: Callable[[Any], Any] = lambda value: value) -> Option:
    """Returns the option of a setting, with the setting's own words and default as its help.

    Args:
        setting: the setting's name with its section.
        kind: as in `Option`.
        read: as in `Option`.
    """
    section, _, name = setting.partition(".")
    field = SECTIONS[section].model_fields[name]
    default = f" (default: {field.default})" if isinstance(field.default, str | int | float) else ""
    return Option(name, kind, f"{field.description}{default}", PANELS[section], read, setting=setting)


RUN_OPTIONS = [
    run_option("data.task", str),
    run_option("data.target", str),
    run_option("data.columns", str),
    run_option("data.inputs", str, split_names),
    run_option("data.template", str),
    run_option("data.kind", str),
    run_option("data.label_text", str, _label_text),
    run_option("data.labels", str, split_names),
    run_option("data.positive", str),
    run_option("data.low", str),
    run_option("data.high", str),
    run_option("data.decimals", int),
    run_option("data.number_format", str),
    run_option("data.date_format", str),
    run_option("data.validation", str),
    run_option("data.test", str),
    run_option("data.calibration", str),
    run_option("data.split", str, _split),
    run_option("data.group", str),
    run_option("data.weight", str),
    run_option("data.class_weights", str),
    run_option("data.max_train_rows", int),
    run_option("data.max_eval_rows", int),
    run_option("model.backbone", str),
    run_option("model.method", str),
    run_option("model.peft", str),
    run_option("model.pooling", str),
    run_option("model.director", str),
    run_option("model.decoding", str),
    run_option("model.predict_from", str),
    run_option("model.threshold", str),
    run_option("model.cost", str),
    run_option("train.loss", str),
    run_option("train.schedule", str),
    run_option("train.epochs", float),
    run_option("train.batch_size", int),
    run_option("train.learning_rate", float),
    run_option("train.metric", str),
    run_option("train.device", str),
    run_option("train.seed", int),
]


def rows_of_texts(texts: list[str], inputs: tuple[str, ...]) -> list[dict[str, str]]:
    """Returns the rows that --text options stand for: one text is a row, or one `column=text` for each column.

    Raises:
        ConfigError: a column is missing, not known, or there twice.
    """
    if len(inputs) == 1:
        prefix = f"{inputs[0]}="
        return [{inputs[0]: text.removeprefix(prefix)} for text in texts]
    row: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in inputs:
            raise ConfigError(f"Expected --text column=text for the columns {', '.join(inputs)}, found '{text[:60]}'.")
        if name in row:
            raise ConfigError(f"Expected --text {name}=… once, found it twice. Use DATA and --out for several rows.")
        row[name] = value
    missing = [name for name in inputs if name not in row]
    if missing:
        raise ConfigError(f"Expected --text {missing[0]}=… as well: the model reads {', '.join(inputs)}.")
    return [row]


# Where other settings come from; they follow the options that stand for one.
SETTINGS = [
    Option("config", str, "Settings from a YAML file.", "Settings", metavar="FILE"),
    Option("set", list[str], "Any setting by name.", "Settings", metavar="KEY=VALUE"),
]
Data = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA",
        help="CSV, TSV, JSONL or Parquet file, folder of splits, saved dataset, or hub id; "
        "with --task the folder of its rows.",
        show_default=False,
    ),
]


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Returns the layer of `key=value` texts; values are read as YAML.

    Raises:
        ConfigError: a text without `=`, or a value that is no YAML.
    """
    layer: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"Expected --set key=value, found '{text}'. Put '=' between the name and the value.")
        try:
            layer[key.strip()] = parse_yaml(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"Expected a YAML value in --set {text}, found a mistake: {error}. Quote it.") from error
    return layer


def takes(options: Sequence[Option]) -> Callable[[CommandT], CommandT]:
    """Returns a decorator that gives a command some options besides its own; `given_to` reads them."""

    def decorate(command: CommandT) -> CommandT:
        OPTIONS_OF[command.__name__] = options
        return command

    return decorate


def takes_settings(*, without: Collection[str] = ()) -> Callable[[CommandT], CommandT]:
    """Returns a decorator that gives a command the options of settings; `run_config` reads them.

    Args:
        without: settings whose options the command does not have.
    """
    return takes([*(option for option in RUN_OPTIONS if option.setting not in without), *SETTINGS])


def given_to(context: typer.Context) -> dict[str, Any]:
    """Returns the values of the options that `takes` gave a command, by their names; None for those not given.

    Raises:
        ConfigError: a text cannot be read.
    """
    return {option.name: option.value(context.obj[option.name]) for option in OPTIONS_OF[str(context.command.name)]}


def run_config(context: typer.Context, data: str | None) -> RunConfig:
    """Returns the checked settings of a command of `takes_settings`.

    Layers, later ones winning: the file of `--config`, the options, `--set`; those of a task stand below them.

    Args:
        context: the command's.
        data: the table, its argument.

    Raises:
        ConfigError: values that are not allowed, or no table or no target.
        UnknownNameError: a name that is no setting or no task.
    """
    values = given_to(context)
    options = {option.setting: values[option.name] for option in RUN_OPTIONS if option.name in values}
    config = _built(
        {} if values["config"] is None else read_config_file(values["config"]),
        {"data.data": data, **options},
        parse_assignments(values["set"] or []),
    )
    if not config.data.data:
        raise ConfigError("Expected DATA, the table to read, found none. Name a file, a folder or a hub id.")
    if not config.data.target:
        raise ConfigError(
            "Expected --target COLUMN, the column to predict, found none. Name one of the table's columns."
        )
    return config


def _built(*layers: Mapping[str, Any]) -> RunConfig:
    """Returns the checked settings of the layers, which may lack a table and a target."""
    if merged_layers(*layers).get("data.task") is None:
        return build_config({"data.data": "", "data.target": ""}, *layers)
    from predgen.catalogue import build_task_config  # it reads tables, and help must not wait for that

    return build_task_config(*layers)
