"""What an artifact says of itself in `predgen.json`: one schema, whole and with bounds, checked before anything else.

A file that a stranger wrote, or that was damaged, is refused here with what is wrong in it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from predgen.backbones.template import Template
from predgen.config import RunConfig, build_config
from predgen.errors import ArtifactError
from predgen.measures.choices import MIXES
from predgen.targets.field import ALONE
from predgen.targets.kinds import target_from_json
from predgen.targets.record import Target
from predgen.version import __version__

# 2: targets of several fields.
FORMAT = 2
DESCRIPTION_FILE = "predgen.json"
# Targets are written with digits, signs and one end: 17 tokens at most.
MOST_ADDED_TOKENS = 64
LONGEST_NAME, LONGEST_FRAME, LONGEST_TOKEN = 4096, 10_000, 256
# Temperatures are sought between 0.01 and 100.
LEAST_TEMPERATURE, MOST_TEMPERATURE = 1e-3, 1e3
# Faults that one message names.
MOST_FAULTS = 5

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Token = Annotated[int, Field(ge=0)]
Tokens = Annotated[list[Token], Field(max_length=LONGEST_FRAME)]
Share = Annotated[float, Field(ge=0, le=1)]
Distance = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# What belongs to the weights: other values of these would be another model. Older hashes are over these alone.
MEANING = ("target", "template", "base", "scales", "thresholds", "mixes")
# What answers follow from; of the settings all but where and in what batches rows are answered.
SEALED = (*MEANING, "calibrations", "config")
FREE_SETTINGS = ("device", "eval_batch_size", "eval_batch_tokens")


class Part(BaseModel):
    """A part of the description. Types are exact; what an older or newer release has beside it is passed over."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class TemplatePart(Part):
    """How a row becomes a prompt."""

    text: str
    fields: list[str] = Field(min_length=1)

    @property
    def template(self) -> Template:
        """The template itself."""
        return Template.parse(self.text, self.fields)


class FramePart(Part):
    """The special tokens around prompts, as `predgen.backbones.prompts.SpecialTokens`."""

    prefix: Tokens
    joint: Tokens | None
    suffix: Tokens
    splits_specials: bool
    plain: bool = False  # what 0.6.0 did not write
    start: Tokens | None = None  # what a decoder sees before a target; only backbones with a cross-attention have it

    @property
    def largest(self) -> int:
        """The largest token of a prompt."""
        return max([*self.prefix, *(self.joint or ()), *self.suffix], default=0)


class BasePart(Part):
    """The base model: which files, and what was added to its tokenizer."""

    name: str = Field(min_length=1, max_length=LONGEST_NAME, pattern=r"^[^\x00-\x1f\x7f]+$")
    revision: str | None = Field(max_length=LONGEST_NAME)
    sha256: Sha256
    added_tokens: list[Annotated[str, Field(min_length=1, max_length=LONGEST_TOKEN)]] = Field(
        max_length=MOST_ADDED_TOKENS
    )
    frame: FramePart | None = None  # older artifacts have none


class ScalePart(Part):
    """What the training values said of a field's head, as `predgen.methods.heads.Scale`."""

    mean: FiniteFloat = 0.0
    deviation: float = Field(1.0, gt=0, allow_inf_nan=False)
    constant_loss: float = Field(1.0, ge=0, allow_inf_nan=False)
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None


class MixPart(Part):
    """How Director and Writer are mixed, as `predgen.measures.choices.Mix`."""

    director: FiniteFloat
    writer: FiniteFloat
    intercept: FiniteFloat = 0.0


class CalibrationPart(Part):
    """A field's temperature, and how far off its answers were, None for infinitely far."""

    temperature: float = Field(ge=LEAST_TEMPERATURE, le=MOST_TEMPERATURE)
    scores: list[Distance | None]
    uniform_fraction: Share = 0.0  # those of 0.6.0 have none
    sureness: list[FiniteFloat | None] = []  # as those of 0.7.0
    errors: list[Distance | None] = []

    @model_validator(mode="after")
    def _has_pairs(self) -> "CalibrationPart":
        """Refuses an error without its sureness."""
        if len(self.sureness) != len(self.errors):
            raise ValueError(f"errors: one for each of {len(self.sureness)} rows (found {len(self.errors)})")
        return self


class Description(Part):
    """All that `predgen.json` holds; the keys are explained in docs/reference/artifact.md."""

    format: Literal[2]
    versions: dict[str, str]
    target: dict[str, Any]
    template: TemplatePart
    base: BasePart
    scales: list[ScalePart]
    thresholds: list[list[Share] | None]
    mixes: list[MixPart] | None
    config: dict[str, Any]
    calibrations: dict[str, CalibrationPart]
    record: dict[str, Any]
    files: dict[str, Sha256] | None = None  # those of 0.6.0 have no hashes
    sha256: Sha256 | None = None

    @property
    def fields_of_target(self) -> Target:
        """The target itself."""
        return target_from_json(self.target)

    @property
    def settings(self) -> RunConfig:
        """The settings themselves."""
        return build_config(self.config)

    @model_validator(mode="after")
    def _fits_together(self) -> "Description":
        """Refuses parts that are right alone and not together."""
        fields, method = self.fields_of_target.fields, self.settings.model.method
        if set(self.template.template.fields) != set(self.template.fields):
            raise ValueError(
                f"template.fields: names columns that its text does not read (found {self.template.fields})"
            )
        for name, entries in (("scales", self.scales), ("thresholds", self.thresholds), ("mixes", self.mixes)):
            if entries is not None and len(entries) != len(fields):
                raise ValueError(f"{name}: one for each of {len(fields)} fields is needed (found {len(entries)})")
        if (self.mixes is None) == (method == "predgen"):
            raise ValueError(f"mixes: they belong to the method predgen alone (found the method {method})")
        for threshold, field in zip(self.thresholds, fields.values(), strict=True):
            if threshold is not None and len(threshold) != len(field.labels):
                raise ValueError(f"thresholds: one for each of {len(field.labels)} labels (found {len(threshold)})")
        unknown = sorted(set(self.calibrations) - set(fields))
        if unknown:
            raise ValueError(f"calibrations: of a field that the target has (found '{unknown[0]}')")
        return self


def read_description(path: Path) -> Description:
    """Returns an artifact's description, checked.

    Args:
        path: the artifact's directory.

    Raises:
        ArtifactError: it is missing, damaged, or of a newer format.
    """
    file = path / DESCRIPTION_FILE
    if not file.is_file():
        raise ArtifactError(
            f"Expected a PredGen artifact with a {DESCRIPTION_FILE}, found none at '{path}'. Check the path; a model "
            "is there when its fit is done."
        )
    with damage_in(file):
        saved = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
        saved_format = _format_of(saved)
    if saved_format > FORMAT:
        raise ArtifactError(
            f"Expected an artifact of format {FORMAT} or older, found format {saved_format} in '{path}'. Update "
            f"predgen: pip install --upgrade predgen (this is {__version__})."
        )
    with damage_in(file):
        description = _checked(_upgraded(saved, saved_format))
        sealed = description.sha256
        if sealed is not None and sealed not in (meaning_hash(saved), meaning_hash(saved, MEANING)):
            raise ValueError(f"one of {', '.join(SEALED)} is not what was saved")
        return description


def meaning_hash(description: Mapping[str, Any], parts: Sequence[str] = SEALED) -> str:
    """Returns a SHA-256 over the parts that answers follow from: none of them can change alone.

    Args:
        description: what `predgen.json` holds.
        parts: which ones.
    """
    sealed = {name: description[name] for name in parts}
    if "config" in parts:
        train = description["config"].get("train", {})
        bound = {name: value for name, value in train.items() if name not in FREE_SETTINGS}
        sealed["config"] = {**description["config"], "train": bound}
    return hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()


def _format_of(saved: Any) -> int:
    if not isinstance(saved, dict):
        raise ValueError(f"expected an object, found a {type(saved).__name__}")
    saved_format = saved["format"]
    if type(saved_format) is not int or saved_format < 1:
        raise ValueError(f"format: a number from 1 to {FORMAT} is needed (found {saved_format!r})")
    return saved_format


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number that JSON has")


def _checked(saved: Mapping[str, Any]) -> Description:
    """Returns a description that its schema takes.

    Raises:
        ValueError: it does not; the message names the keys.
    """
    try:
        return Description.model_validate(saved)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']} (found {str(fault['input'])[:60]!r})"
            if fault["loc"]
            else str(fault["ctx"]["error"])
            for fault in error.errors()
        ]
        more = f"; and {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
        raise ValueError("; ".join(faults[:MOST_FAULTS]) + more) from error


def _upgraded(saved: Mapping[str, Any], saved_format: int) -> dict[str, Any]:
    """Returns a description in the present form; what was saved stays as it was, as the hash is over it."""
    model = saved["config"]["model"]
    is_predgen = model["method"] == "predgen"
    if is_predgen:  # the only form before 0.7.0
        saved = {**saved, "config": {**saved["config"], "model": {"director_form": "states", **model}}}
    if saved_format == FORMAT:
        return dict(saved)
    mix, calibration = saved.get("mix"), saved.get("calibration")  # of targets of one field
    director = asdict(MIXES["director"])
    return {
        **saved,
        "format": FORMAT,
        "scales": [saved["scale"]],
        "thresholds": [None],
        "mixes": [mix or director] if is_predgen else None,
        "calibrations": {} if calibration is None else {ALONE: calibration},
    }


@contextmanager
def damage_in(file: Path) -> Iterator[None]:
    """Names the file of an artifact that cannot be read; its readers raise nearly any exception on damaged files."""
    try:
        yield
    except Exception as error:
        raise ArtifactError(
            f"Expected a readable {file.name} in the artifact, found damage in '{file}' ({type(error).__name__}: "
            f"{error}). Copy the artifact again, or fit again."
        ) from error
