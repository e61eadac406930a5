"""The settings of a run, checked once, in one place.

Configuration objects stay in the runs and the command line; flat values go into the mathematics.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from predgen import names
from predgen.errors import ConfigError, did_you_mean, unknown_name

# The settings' name of the data where a task finds its rows by itself.
TASK_ROWS = "<rows of the task>"


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
    """Returns a mapping with the texts of labels as keys, where YAML reads 0 or true; anything else as it is."""
    if not isinstance(value, Mapping):
        return value
    return {str(key).lower() if isinstance(key, bool) else str(key): text for key, text in value.items()}


def table_or_share(value: Any) -> Any:
    """Returns the number that a text is; the name of a table as it is.

    Raises:
        ValueError: it is a number that is no share.
    """
    try:
        share = float(value)
    except (TypeError, ValueError):
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
    except (TypeError, ValueError):
        share = -1.0
    if isinstance(value, bool) or not 0 < share < 1:
        raise ValueError(f"expected {', '.join(names.ESTIMATES)}, or a quantile between 0 and 1")
    return str(share)


def chosen(choices: names.Choices[Any], default: str | None, description: str) -> Any:
    """Returns the field of a setting that is a name of a table, whose names its description explains."""
    description = f"{description}: {choices.explained}"
    return Field(default, description=description, json_schema_extra={"enum": list(choices)})


Names = Annotated[tuple[str, ...], BeforeValidator(split_names)]
Estimate = Annotated[str, BeforeValidator(estimate_name)]
LabelText = Annotated[dict[str, str], BeforeValidator(text_keys)]
TargetNames = Annotated[
    tuple[str, ...], BeforeValidator(target_names), PlainSerializer(target_in_file, when_used="json")
]
Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*")
    @classmethod
    def _is_in_its_table(cls, value: Any, info: Any) -> Any:
        """Returns a value that need not be a name, or is one of those that its setting has."""
        extra = cls.model_fields[str(info.field_name)].json_schema_extra
        allowed = extra.get("enum") if isinstance(extra, dict) else None
        if isinstance(allowed, list) and isinstance(value, str) and value not in allowed:
            # Not the table's own error: all settings that are not right are told together.
            known = names.in_a_sentence([f"'{name}'" for name in allowed])
            hint = did_you_mean(value, map(str, allowed))
            raise PydanticCustomError("unknown_name", "Input should be {known}", {"known": known, "hint": hint})
        return value


class FieldSettings(_Settings):
    """What is declared of a column to predict."""

    kind: str | None = chosen(names.KINDS, None, "what a column holds; inferred, and said, if not given")
    label_text: LabelText = Field(default_factory=dict, description="words to write for labels: 0=negative,1=positive")
    label_codes: bool = Field(False, description="write letters A, B, C … for the labels")
    labels: Names | None = Field(
        None,
        description="declared labels A,B, those that no training row has among them; others are refused; of an ordinal "
        "from the lowest to the highest",
    )
    low: float | None = Field(None, description="declared low end of a number; values outside are refused")
    high: float | None = Field(None, description="declared high end of a number")
    decimals: int | None = Field(None, ge=0, le=14, description="declared digits after the point, or of a mantissa")
    number_form: Literal["fixed", "scientific"] | None = Field(
        None, description="how a number is written: fixed, or scientific with its exponent first; inferred if not given"
    )
    logarithmic: bool | None = Field(
        None, description="learn the logarithm of a number, whose values are above 0; inferred if not given"
    )


class DataSettings(FieldSettings):
    """Which table, which columns, which split."""

    task: str | None = Field(
        None, description="a task of the catalogue (predgen tasks), or a YAML file: what it declares is set"
    )
    data: str = Field(description="table file, folder of splits, saved dataset, or hub id")
    target: TargetNames = Field(description="the column to predict, or several A,B as one record")
    fields: dict[str, FieldSettings] = Field(
        default_factory=dict, description="what is declared of a record's columns: {A: {low: 0, high: 1}}"
    )
    inputs: Names | None = Field(None, description="input columns A,B; the free-text columns if not given")
    template: str | None = Field(
        None, description="the prompt, with {column} fields and <sep> between texts, instead of inputs"
    )
    validation: str | None = Field(None, description="a table to choose on")
    test: str | None = Field(None, description="a table to report on")
    calibration: Annotated[float | str | None, BeforeValidator(table_or_share)] = Field(
        None, description="rows to calibrate on: a table, or a share of the training rows such as 0.1"
    )
    split: Annotated[tuple[Share, Share, Share], BeforeValidator(split_shares)] = Field(
        (0.8, 0.1, 0.1), description="shares of one table: train/validation/test, such as 80/10/10"
    )
    group: str | None = Field(None, description="rows that share this column's value stay in one part")
    max_train_rows: int | None = Field(None, ge=1, description="first rows of the training part to use")
    max_eval_rows: int | None = Field(None, ge=1, description="first rows of validation and test to use")


class ModelSettings(_Settings):
    """Which backbone, which method, which parts."""

    backbone: str = Field(
        default_factory=names.default_backbone,
        description="hub id, local folder, GGUF file, builtin:smollm2, builtin:gemma3-270m or builtin:nano; "
        "PREDGEN_BACKBONE if not given, else builtin:smollm2 where it is installed, else builtin:nano",
    )
    revision: str | None = Field(None, description="hub revision of the backbone")
    method: str = chosen(names.METHODS, "predgen", "the method")
    peft: str = chosen(names.PEFT_METHODS, "lora", "what is trained of the backbone")
    lora_rank: int = Field(
        16, ge=1, description="rank of the update of lora and dora; the mean rank that adalora ends with"
    )
    trained_layers: int | None = Field(
        None, ge=1, description="how many of the backbone's last layers are trained, in each stack; all if not given"
    )
    adalora_initial_rank: int | None = Field(
        None, ge=2, description="rank that adalora begins with; half as much again as lora_rank if not given"
    )
    adalora_orthogonality: float = Field(
        0.1, ge=0, description="weight of adalora's penalty on singular vectors that are not orthogonal"
    )
    rocoft_axis: str = chosen(names.ROCOFT_AXES, "rows", "what rocoft trains of each matrix")
    rocoft_rank: int = Field(3, ge=1, description="how many rows or columns rocoft trains")
    rocoft_selection: str = chosen(names.ROCOFT_SELECTIONS, "first", "which ones rocoft trains")
    rocoft_biases: bool = Field(False, description="rocoft trains biases too")
    pooling: str = chosen(names.POOLINGS, "auto", "predictor: which state of the prompt its head reads")
    predict_from: str = chosen(names.ANSWER_SOURCES, "director", "where predgen's answers come from")
    director_form: str = chosen(names.DIRECTOR_FORMS, "states", "predgen: what the Director is")
    director: str = chosen(names.READINGS, "attention", "predgen: how the Director reads the written states")
    decoding: str = chosen(names.DECODINGS, "auto", "how the target is written")
    beam_width: int = Field(4, ge=1, description="prefixes that decoding=beam keeps")
    trie_mass: float = Field(
        1.0,
        ge=0.5,
        le=1,
        description="share of the probability that is scored target by target where all targets are scored; below 1, "
        "those that begin with unlikely symbols are not written",
    )
    estimate: Estimate = Field(
        "auto",
        description=f"generator's answer for a number: {names.ESTIMATES.explained}, or a quantile such as 0.9",
    )
    writer_prior: bool = Field(False, description="add how often each symbol comes in training to the Writer's logits")
    writer_vocabulary: str = chosen(names.WRITER_VOCABULARIES, "target", "tokens of the Writer's softmax")
    max_prompt_tokens: int = Field(512, ge=8, description="longer prompts are cut inside their longest field")
    dtype: str | None = chosen(
        names.DTYPES,
        None,
        "type of the backbone's weights; on a CPU whose bfloat16 is faster bfloat16 for large frozen backbones, else "
        "float32, if not given",
    )
    device_map: str | None = Field(
        None, description="where the backbone's layers go: auto, balanced, sequential, or one device for all of them"
    )
    quantization: str | None = chosen(
        names.QUANTIZATIONS, None, "fewer bits for the backbone's weights, which stay frozen (bitsandbytes)"
    )
    chat_template: bool = Field(
        False, description="wrap each prompt as a user's message, for instruct models that have a chat template"
    )
    trust_remote_code: bool = Field(
        False, description="run code from the backbone's repository; only for one that you have read and trust"
    )

    @property
    def weights_type(self) -> str:
        """The type of the weights: that of older runs, which said none, is float32."""
        return self.dtype or "float32"


class TrainSettings(_Settings):
    """How it is trained."""

    epochs: float = Field(3.0, gt=0, description="passes over the training rows")
    max_steps: int | None = Field(None, ge=1, description="optimizer steps; overrides epochs")
    batch_size: int = Field(16, ge=1, description="rows per step and process")
    accumulation: int = Field(1, ge=1, description="batches summed up for one optimizer step")
    eval_batch_size: int = Field(128, ge=1, description="most rows per prediction batch")
    eval_batch_tokens: int | None = Field(
        None,
        ge=1,
        description="most prompt tokens per prediction batch, padding included; 4096 on a CPU and 16384 elsewhere if "
        "not given",
    )
    learning_rate: float | None = Field(
        None, gt=0, description="of the backbone; tuned for the PEFT method and the width if not given"
    )
    head_learning_rate: float | None = Field(None, gt=0, description="of the heads; the tuned one if not given")
    warmup_fraction: float = Field(0.06, ge=0, lt=1, description="share of steps with a rising learning rate")
    warmup_steps: int | None = Field(
        None, ge=0, description="steps with a rising learning rate; overrides warmup_fraction"
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decoupled weight decay")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    loss: str = chosen(names.JOINS, "wdal_stable", "how L_W and L_D are joined")
    standardize: bool = Field(True, description="heads of numbers learn standardized ones")
    loss_sharpness: float = Field(1.0, gt=0, description="of wdal_smooth: the larger, the closer to wdal")
    writer_loss: str = chosen(names.WRITER_LOSSES, "cross_entropy", "L_W of numbers")
    number_token_weight: float = Field(0.3, ge=0, description="of the number token loss beside the cross-entropy")
    digit_deviation: float = Field(0.5, gt=0, description="standard deviation of smoothed_digits, in digits")
    schedule: str = chosen(names.SCHEDULES, "linear", "sampling probability over training")
    sampling_start: float = Field(0.0, ge=0, le=1, description="sampling probability at the first step")
    sampling_end: float = Field(1.0, ge=0, le=1, description="sampling probability at the schedule's end")
    sampling_fraction: float = Field(0.5, gt=0, le=1, description="share of the steps until the schedule's end")
    sampling_steps: int | None = Field(
        None, ge=1, description="steps until the schedule's end, also beyond the run's; overrides sampling_fraction"
    )
    sampling: str = chosen(names.SAMPLINGS, "parallel", "how own tokens are drawn")
    sampling_choice: str = chosen(names.SAMPLING_CHOICES, "argmax", "which token is the own one")
    sampling_unit: str = chosen(names.SAMPLING_UNITS, "token", "what is drawn together")
    director_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of rows whose Director reads what the model writes by itself, the others' reading gold; "
        "what the Writer is fed if not given",
    )
    passes: int = Field(
        1, ge=0, description="parallel sampling passes per step, at most; a large number runs until nothing changes"
    )
    metric: str | None = Field(None, description="metric that chooses the checkpoint; mse or accuracy if not given")
    patience: int = Field(3, ge=1, description="evaluations without progress before training stops")
    evals_per_epoch: int = Field(1, ge=1, description="validations per epoch")
    gradient_checkpointing: bool = Field(
        False, description="compute activations again in the backward pass: less memory, about a third more time"
    )
    precision: str = chosen(names.PRECISIONS, "float32", "mixed precision of training")
    device: str = chosen(names.DEVICES, "auto", "where to run")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of everything random")
    report_to: Names = Field((), description="Trainer integrations, such as tensorboard or wandb")


class RunConfig(_Settings):
    """Everything that decides a run."""

    data: DataSettings
    model: ModelSettings = Field(default_factory=ModelSettings)
    train: TrainSettings = Field(default_factory=TrainSettings)

    def changed(self, **settings: Any) -> "RunConfig":
        """Returns a checked copy with other values; this one stays as it is.

        Args:
            settings: values under names as `build_config` takes them, such as `**{"train.seed": 3}`. None puts a
                setting back to its default.

        Raises:
            ConfigError: values that are not allowed, all of them in one message.
            UnknownNameError: a name that is no setting.
        """
        sections = {name: dict(getattr(self, name)) for name in SECTIONS}
        for section, name, value in _settings_in(settings):
            if value is None:
                sections[section].pop(name, None)
            else:
                sections[section][name] = value
        return _checked(sections)


SECTIONS: dict[str, type[_Settings]] = {"data": DataSettings, "model": ModelSettings, "train": TrainSettings}


def section_of(key: str) -> tuple[str, str]:
    """Returns the section and the name of a setting; the section may be left out, as names are unique.

    Raises:
        UnknownNameError: no setting has this name.

    Example:
        >>> section_of("seed"), section_of("model.peft")
        (('train', 'seed'), ('model', 'peft'))
    """
    section, _, name = key.rpartition(".")
    for known, settings in SECTIONS.items():
        if name in settings.model_fields and section in ("", known):
            return known, name
    raise unknown_name("setting", key, [name for settings in SECTIONS.values() for name in settings.model_fields])


def _settings_in(layer: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Gives the section, the name and the value of each setting of a layer, which may hold whole sections."""
    for key, value in layer.items():
        if key in SECTIONS and (value is None or isinstance(value, Mapping)):
            for name, setting in (value or {}).items():
                yield *section_of(f"{key}.{name}"), setting
        else:
            yield *section_of(key), value


def merged_layers(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that layers give, unchecked, each under its section's and its own name; later ones win.

    Args:
        layers: as in `build_config`.

    Raises:
        UnknownNameError: a name that is no setting.
    """
    return {
        f"{section}.{name}": value
        for layer in layers
        for section, name, value in _settings_in(layer)
        if value is not None
    }


def build_config(*layers: Mapping[str, Any]) -> RunConfig:
    """Returns the checked settings; later layers win over earlier ones.

    Args:
        layers: each maps setting names (`seed` or `train.seed`) or whole sections to values. None means not given.

    Raises:
        ConfigError: values that are not allowed, all of them in one message.
        UnknownNameError: a name that is no setting.
    """
    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for path, value in merged_layers(*layers).items():
        section, _, name = path.partition(".")
        sections[section][name] = value
    return _checked(sections)


def _checked(sections: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """Returns the settings of some sections.

    Raises:
        ConfigError: values that are not allowed, all of them in one message.
    """
    try:
        return RunConfig.model_validate(sections)
    except ValidationError as error:
        faults = [_fault_line(fault) for fault in error.errors()]
        raise ConfigError("These settings are not right:\n" + "\n".join(faults)) from error


def _fault_line(fault: ErrorDetails) -> str:
    """Returns what is wrong with a setting, what was given, and the closest name where it must be one of a few."""
    name = ".".join(map(str, fault["loc"]))
    given = "" if fault["type"] == "missing" else f" (found {fault['input']!r})"
    hint = fault.get("ctx", {}).get("hint", "")
    if fault["type"] == "literal_error":
        hint = did_you_mean(str(fault["input"]), re.findall(r"'([^']*)'", fault["msg"]))
    return f"  {name}: {fault['msg']}{given}{hint}"


def read_config_file(path: str | Path) -> dict[str, Any]:
    """Returns the layer that a YAML file holds.

    Raises:
        ConfigError: the file cannot be read, or is no mapping.
    """
    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Expected a readable YAML file, found none at '{path}': {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"Expected YAML in '{path}', found a mistake: {error}.") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"Expected a mapping of settings in '{path}', found {type(loaded).__name__}.")
    return {str(key): value for key, value in loaded.items()}


def write_config(config: RunConfig, path: str | Path) -> None:
    """Writes the settings as YAML that `read_config_file` reads back."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    Path(path).write_text(text, encoding="utf-8")
