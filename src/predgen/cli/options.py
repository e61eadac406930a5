"""The options that name settings, shared by every command that fits.

An option is one entry here: its name, the setting it stands for, how its text is read, and its help. Settings
without an option of their own are reached by `--set`.
"""

import functools
import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from predgen.config import (
    SECTIONS,
    TASK_ROWS,
    RunConfig,
    build_config,
    merged_layers,
    parse_assignments,
    read_config_file,
    split_names,
)
from predgen.errors import ConfigError


def _label_text(text: str) -> dict[str, str]:
    words: dict[str, str] = {}
    for pair in split_names(text):
        label, _, word = (part.strip() for part in pair.partition("="))
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
class RunOption:
    """One option.

    Attributes:
        setting: the setting's name with its section; the option's is the same with dashes.
        kind: the type that the command line reads.
        read: from the text to the setting's value.
    """

    setting: str
    kind: type
    read: Callable[[Any], Any] = lambda value: value

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.setting.rpartition(".")[2]

    @property
    def panel(self) -> str:
        """The heading under which help shows it."""
        return {"data": "Data", "model": "Model", "train": "Training"}[self.setting.partition(".")[0]]

    @property
    def help(self) -> str:
        """The setting's own description and default."""
        field = SECTIONS[self.setting.partition(".")[0]].model_fields[self.name]
        shown = isinstance(field.default, str | int | float)
        default = f" (default: {field.default})" if shown else ""
        return f"{field.description}{default}"

    @property
    def shown(self) -> Any:
        """How the command line shows it."""
        return typer.Option(f"--{self.name.replace('_', '-')}", help=self.help, rich_help_panel=self.panel)

    def value(self, text: Any) -> Any:
        """Returns the setting's value, or None if the option was not given."""
        return None if text is None else self.read(text)


RUN_OPTIONS = [
    RunOption("data.task", str),
    RunOption("data.target", str),
    RunOption("data.inputs", str, split_names),
    RunOption("data.template", str),
    RunOption("data.kind", str),
    RunOption("data.label_text", str, _label_text),
    RunOption("data.low", float),
    RunOption("data.high", float),
    RunOption("data.decimals", int),
    RunOption("data.validation", str),
    RunOption("data.test", str),
    RunOption("data.calibration", str),
    RunOption("data.split", str, _split),
    RunOption("data.group", str),
    RunOption("data.max_train_rows", int),
    RunOption("data.max_eval_rows", int),
    RunOption("model.backbone", str),
    RunOption("model.method", str),
    RunOption("model.peft", str),
    RunOption("model.pooling", str),
    RunOption("model.director", str),
    RunOption("model.decoding", str),
    RunOption("model.predict_from", str),
    RunOption("train.loss", str),
    RunOption("train.schedule", str),
    RunOption("train.epochs", float),
    RunOption("train.batch_size", int),
    RunOption("train.learning_rate", float),
    RunOption("train.metric", str),
    RunOption("train.device", str),
    RunOption("train.seed", int),
]


def option_value(name: str, text: Any) -> Any:
    """Returns the value that the text of an option of `RUN_OPTIONS` stands for, or None if it was not given."""
    return next(option for option in RUN_OPTIONS if option.name == name).value(text)


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


CONFIG = typer.Option("--config", metavar="FILE", help="Settings from a YAML file.", rich_help_panel="Settings")
SET = typer.Option("--set", metavar="KEY=VALUE", help="Any setting by name.", rich_help_panel="Settings")
DATA = typer.Argument(
    metavar="DATA",
    help="CSV, TSV, JSONL or Parquet file, folder of splits, saved dataset, or hub id; "
    "with --task the folder of its rows.",
    show_default=False,
)


def with_run_options(*, without: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Returns a decorator that gives a command the run options and hands it the settings they make, as `settings`.

    Layers, later ones winning: the file of `--config`, the options, `--set`. All are checked before the command runs.

    Args:
        without: settings whose options the command does not have.
    """
    options = [option for option in RUN_OPTIONS if option.setting not in without]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapper(data: str | None = None, **values: Any) -> None:
            given = {option.setting: option.value(values.pop(option.name)) for option in options}
            file, assignments = values.pop("config"), values.pop("set_")
            settings = _resolve(
                {} if file is None else read_config_file(file),
                {"data.data": data, **given},
                parse_assignments(assignments or []),
            )
            data = settings.pop("data.data")
            data = None if data == TASK_ROWS else data
            command(data=data, target=settings.pop("data.target"), settings=settings, **values)

        own = inspect.signature(command, eval_str=True)
        parameters = [
            _parameter("data", str, DATA, inspect.Parameter.POSITIONAL_OR_KEYWORD),
            *(
                one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
                for name, one in own.parameters.items()
                if name not in ("data", "target", "settings")
            ),
            *(_parameter(option.name, option.kind, option.shown) for option in options),
            _parameter("config", str, CONFIG),
            _parameter("set_", list[str], SET),
        ]
        wrapper.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapper

    return decorate


def _parameter(name: str, kind: Any, shown: Any, place: Any = inspect.Parameter.KEYWORD_ONLY) -> inspect.Parameter:
    return inspect.Parameter(name, place, default=None, annotation=Annotated[kind | None, shown])


def _config(*layers: Mapping[str, Any]) -> RunConfig:
    """Returns the checked settings of the layers; those of a task stand below them."""
    if merged_layers(*layers).get("data.task") is None:
        return build_config({"data.data": "", "data.target": ""}, *layers)
    from predgen.catalogue import build_task_config  # it reads tables, and help must not wait for that

    return build_task_config(*layers)


def _resolve(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the checked settings of the layers, each under its section's and its own name."""
    config = _config(*layers)
    if not config.data.data:
        raise ConfigError("Expected DATA, the table to read, found none. Name a file, a folder or a hub id.")
    if not config.data.target:
        raise ConfigError(
            "Expected --target COLUMN, the column to predict, found none. Name one of the table's columns."
        )
    return {
        f"{section}.{name}": value
        for section, settings in config.model_dump().items()
        for name, value in settings.items()
    }
