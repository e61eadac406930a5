"""The settings: a class for each section, a field for each setting with its default, its bounds and its words."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from predgen import names
from predgen.config.values import (
    ClassWeights,
    Costs,
    Estimate,
    LabelText,
    Names,
    RangeEnd,
    Share,
    TargetNames,
    split_shares,
    table_or_share,
)
from predgen.errors import did_you_mean

# No model has layers so wide.
MOST_RANK = 2**16
MOST_EPOCHS = 1e6
# The settings' name of the data where a task finds its rows by itself.
TASK_ROWS = "<rows of the task>"


def chosen(choices: names.Choices[Any], default: str | None, description: str) -> Any:
    """Returns the field of a setting that is a name of a table, whose names its description explains."""
    description = f"{description}: {choices.explained}"
    return Field(default, description=description, json_schema_extra={"enum": list(choices)})


class Settings(BaseModel):
    """A section of settings, frozen: unknown names and values outside of their tables are refused."""

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


class FieldSettings(Settings):
    """What is declared of a column to predict."""

    kind: str | None = chosen(names.KINDS, None, "what a column holds; inferred, and said, if not given")
    label_text: LabelText = Field(default_factory=dict, description="words to write for labels: 0=negative,1=positive")
    label_codes: bool = Field(False, description="write letters A, B, C … for the labels")
    labels: Names | None = Field(
        None,
        description="declared labels A,B, those that no training row has among them; others are refused; of an ordinal "
        "from the lowest to the highest",
    )
    positive: str | None = Field(
        None,
        description="of two labels the one that average_precision and a threshold are of; the rarer one of the "
        "training rows if not given",
    )
    low: RangeEnd | None = Field(
        None, description="declared low end of a number, or of a date such as 2021-03-01; values outside are refused"
    )
    high: RangeEnd | None = Field(None, description="declared high end of a number or a date")
    decimals: int | None = Field(None, ge=0, le=14, description="declared digits after the point, or of a mantissa")
    number_form: Literal["fixed", "scientific"] | None = Field(
        None, description="how a number is written: fixed, or scientific with its exponent first; inferred if not given"
    )
    number_format: str | None = chosen(
        names.NUMBER_FORMATS, None, "how the column's cells write numbers; plain ones such as 1234.5 if not given"
    )
    date_format: str | None = Field(
        None, description="how the column's cells write dates, such as %d.%m.%Y (strptime); ISO 8601 if not given"
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
    columns: str | None = chosen(
        names.TARGET_COLUMNS,
        None,
        "what the target's columns hold; record, or shares with kind=distribution, if not given",
    )
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
    weight: str | None = Field(
        None, description="a column of numbers of at least 0 that each training row's losses are multiplied by"
    )
    class_weights: ClassWeights = Field(
        "none",
        description=f"weights of labels: {names.CLASS_WEIGHTS.explained}, or a number for each: a=3,b=1; they multiply "
        "the losses of their rows",
    )
    max_train_rows: int | None = Field(None, ge=1, description="first rows of the training part to use")
    max_eval_rows: int | None = Field(None, ge=1, description="first rows of validation and test to use")


class ModelSettings(Settings):
    """Which backbone, which method, which parts."""

    backbone: str = Field(
        default_factory=names.default_backbone,
        description="hub id, local folder, GGUF file, builtin:smollm2, builtin:gemma3-270m or builtin:nano; "
        "PREDGEN_BACKBONE if not given, else builtin:smollm2 where it is installed, else builtin:nano",
    )
    revision: str | None = Field(None, description="hub revision of the backbone")
    method: str = chosen(names.FIT_METHODS, "predgen", "the method")
    peft: str = chosen(names.PEFT_METHODS, "lora", "what is trained of the backbone")
    lora_rank: int = Field(
        16, ge=1, le=MOST_RANK, description="rank of the update of lora and dora; the mean rank that adalora ends with"
    )
    trained_layers: int | None = Field(
        None, ge=1, description="how many of the backbone's last layers are trained, in each stack; all if not given"
    )
    adalora_initial_rank: int | None = Field(
        None,
        ge=2,
        le=MOST_RANK,
        description="rank that adalora begins with; half as much again as lora_rank if not given",
    )
    adalora_orthogonality: float = Field(
        0.1, ge=0, description="weight of adalora's penalty on singular vectors that are not orthogonal"
    )
    rocoft_axis: str = chosen(names.ROCOFT_AXES, "rows", "what rocoft trains of each matrix")
    rocoft_rank: int = Field(3, ge=1, le=MOST_RANK, description="how many rows or columns rocoft trains")
    rocoft_selection: str = chosen(names.ROCOFT_SELECTIONS, "first", "which ones rocoft trains")
    rocoft_biases: bool = Field(False, description="rocoft trains biases too")
    pooling: str = chosen(names.POOLINGS, "auto", "predictor: which state of the prompt its head reads")
    predictor_head: str = chosen(names.PREDICTOR_HEADS, "mlp", "predictor: what maps the pooled state to its outputs")
    predict_from: str | None = chosen(
        names.ANSWER_SOURCES,
        None,
        "where predgen's answers come from; director with director_form=states, else stack, if not given",
    )
    director_form: str | None = chosen(
        names.DIRECTOR_FORMS,
        None,
        "predgen: what the Director is; expectation where all values can be scored and no setting of states alone is "
        "given, else states, if not given",
    )
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
    threshold: str = chosen(
        names.THRESHOLDS,
        "none",
        "from which probability on the positive one of two labels is answered, as the validation rows say",
    )
    cost: Costs = Field(
        None, description="with threshold=cost: costs of a false positive and a false negative, such as 1,5"
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


class TrainSettings(Settings):
    """How it is trained."""

    epochs: float = Field(3.0, gt=0, le=MOST_EPOCHS, description="passes over the training rows")
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
    loss: str | None = chosen(
        names.JOINS,
        None,
        "how L_W and L_D are joined; wdal_stable with director_form=states, else sum, if not given",
    )
    number_loss: str = chosen(names.NUMBER_LOSSES, "squared_error", "what heads of numbers learn")
    standardize: bool = Field(True, description="heads of numbers learn standardized ones")
    loss_sharpness: float = Field(1.0, gt=0, description="of wdal_smooth: the larger, the closer to wdal")
    writer_weight: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="of L_W in loss=sum; 1 with director_form=states, else 0.1, if not given",
    )
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
    state_cache: float = Field(
        4.0,
        ge=0,
        allow_inf_nan=False,
        description="most GiB of temporary files for what frozen first layers make of the prompts, so that they read "
        "each prompt once; 0 keeps nothing",
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations again in the backward pass: less memory, about a third more time"
    )
    precision: str = chosen(names.PRECISIONS, "float32", "mixed precision of training")
    device: str = chosen(names.DEVICES, "auto", "where to run")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of everything random")
    report_to: Names = Field((), description="Trainer integrations, such as tensorboard or wandb")
