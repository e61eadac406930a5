"""From settings and parts to a method: the one place where a name becomes a class."""

from typing import Any

import torch

from predgen.adapters import apply_peft
from predgen.backbones import Backbone
from predgen.codec import Codec
from predgen.config import RunConfig
from predgen.distributions import ESTIMATE_OF_METRIC
from predgen.errors import ConfigError
from predgen.losses import TokenLoss
from predgen.methods import Generator, Method, PredGen, Predictor, Scale
from predgen.mixing import MIXES
from predgen.targets import Number, Target
from predgen.trie import MAX_NUMBERS, fits


def build_method(config: RunConfig, backbone: Backbone, codec: Codec, scale: Scale) -> Method:
    """Returns the method that the settings name, its PEFT update and its heads new.

    The heads are drawn from the run's seed alone.

    Args:
        config: the run's settings.
        backbone: the language model, without PEFT.
        codec: the target automaton over its vocabulary.
        scale: the standardization of numbers.

    Raises:
        ConfigError: as `check_method`.
    """
    check_method(config, codec.target)
    model, train = config.model, config.train
    full = model.writer_vocabulary == "full" or model.decoding == "free"
    torch.manual_seed(train.seed)
    apply_peft(backbone, model.peft, rank=model.lora_rank, writes=model.method != "predictor")
    if model.method == "predictor":
        return Predictor(backbone, codec, scale, pooling=model.pooling)
    writer: dict[str, Any] = {
        "full_vocabulary": full,
        "token_loss": TokenLoss(train.writer_loss, train.number_token_weight, train.digit_deviation),
        "decoding": model.decoding,
        "beam_width": model.beam_width,
        "estimate": estimate_of(config, codec.target),
    }
    if model.method == "generator":
        return Generator(backbone, codec, scale, **writer)
    return PredGen(
        backbone,
        codec,
        scale,
        **writer,
        mix=MIXES[model.predict_from],
        director=model.director,
        loss=train.loss,
        sharpness=train.loss_sharpness,
        passes=None if train.sampling == "sequential" else train.passes,
        reports_accuracy=train.schedule == "adaptive",
    )


def check_method(config: RunConfig, target: Target) -> None:
    """Refuses settings of a method that a target cannot have; it needs no backbone, so nothing is lost.

    Raises:
        ConfigError: the Writer's loss is one for numbers, and the target is none; or a setting needs the score of every
            number, and there are too many of them, or none is read.
    """
    model, train = config.model, config.train
    if model.method == "predictor":
        return
    if not isinstance(target, Number):
        if train.writer_loss != "cross_entropy":
            raise ConfigError(
                f"Expected a number to predict with writer_loss '{train.writer_loss}', found labels. Leave writer_loss "
                "out."
            )
        return
    if model.decoding == "free" and model.estimate not in ("auto", "text"):
        raise ConfigError(
            f"Expected the estimate text with free decoding, which reads what was written, found '{model.estimate}'. "
            "Leave estimate or decoding out."
        )
    needs_all = {
        "writer_loss": (train.writer_loss, train.writer_loss == "expected_value"),
        "decoding": (model.decoding, model.decoding == "trie"),
        "estimate": (model.estimate, model.estimate not in ("auto", "text", "mean")),
    }
    for setting, (value, needed) in needs_all.items():
        if needed and not fits(target):
            raise ConfigError(
                f"Expected at most {MAX_NUMBERS:,} numbers to predict with {setting} '{value}', found "
                f"{target.num_values:,}. Declare fewer decimals (--set decimals=…) or a smaller range."
            )


def estimate_of(config: RunConfig, target: Target) -> str:
    """Returns the point estimate that is meant; `auto` is the best for the metric where all numbers are scored."""
    name = config.model.estimate
    if name != "auto":
        return name
    metric = config.train.metric or target.default_metric
    return ESTIMATE_OF_METRIC.get(metric, "text") if fits(target) else "text"
