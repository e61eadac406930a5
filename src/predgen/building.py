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
from predgen.targets import Number
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
        ConfigError: the Writer's loss is one for numbers, or for few numbers, and the target is none.
    """
    model, train = config.model, config.train
    full = model.writer_vocabulary == "full" or model.decoding == "free"
    torch.manual_seed(train.seed)
    apply_peft(backbone, model.peft, rank=model.lora_rank, writes=model.method != "predictor")
    if model.method == "predictor":
        return Predictor(backbone, codec, scale, pooling=model.pooling)
    if train.writer_loss != "cross_entropy" and not isinstance(codec.target, Number):
        raise ConfigError(
            f"Expected a number to predict with writer_loss '{train.writer_loss}', found labels. Leave writer_loss out."
        )
    needs_all = {"writer_loss": train.writer_loss == "expected_value", "decoding": model.decoding == "trie"}
    for setting in (name for name, needed in needs_all.items() if needed and not fits(codec)):
        value = {"writer_loss": train.writer_loss, "decoding": model.decoding}[setting]
        raise ConfigError(
            f"Expected at most {MAX_NUMBERS:,} numbers to predict with {setting} '{value}', found "
            f"{codec.num_targets:,}. Declare fewer decimals (--set decimals=…) or a smaller range."
        )
    writer: dict[str, Any] = {
        "full_vocabulary": full,
        "token_loss": TokenLoss(train.writer_loss, train.number_token_weight, train.digit_deviation),
        "decoding": model.decoding,
        "beam_width": model.beam_width,
        "estimate": estimate_of(model.estimate, train.metric or codec.target.default_metric),
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


def estimate_of(name: str, metric: str) -> str:
    """Returns the point estimate that a name means; `auto` is the best answer to the metric."""
    return ESTIMATE_OF_METRIC.get(metric, "text") if name == "auto" else name
