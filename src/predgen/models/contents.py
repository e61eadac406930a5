"""The settings and fitted values that an artifact holds beside a method's weights."""

from dataclasses import dataclass, field
from typing import Any

from predgen.backbones.template import Template
from predgen.config import RunConfig
from predgen.measures.calibration import Calibration
from predgen.methods import Answering


@dataclass(frozen=True)
class Contents:
    """What an artifact holds beside the weights.

    Attributes:
        config: the run's settings.
        template: how a row becomes a prompt.
        answering: how answers are chosen.
        base_name: the backbone's id.
        base_revision: its hub commit, if any.
        base_hash: SHA-256 of its files.
        record: the training record: the rows that were read, and the course of training.
        calibrations: the calibration of each field by its name; sets and fields without one are missing.
    """

    config: RunConfig
    template: Template
    answering: Answering
    base_name: str
    base_revision: str | None
    base_hash: str
    record: dict[str, Any]
    calibrations: dict[str, Calibration] = field(default_factory=dict)
