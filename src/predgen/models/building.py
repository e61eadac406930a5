"""From settings and parts to a method: the one place where a name becomes a class."""

from collections.abc import Sequence
from typing import Any

import torch

from predgen.adapters import apply_peft, initial_rank_of
from predgen.backbones import Backbone, Source, load_backbone
from predgen.codec.codec import Codec
from predgen.codec.kinds import fits, most_values, num_values
from predgen.config import RunConfig
from predgen.errors import ConfigError
from predgen.measures.choices import MIXES
from predgen.measures.kinds import measure_of
from predgen.methods import Generator, Method, PredGen, Predictor, Scale
from predgen.methods.losses import TokenLoss
from predgen.targets.record import ALONE, Target, fields_of


def load_base(config: RunConfig, source: Source) -> Backbone:
    """Returns the language model that the settings name, loaded as they say.

    Raises:
        BackboneError: it cannot be loaded.
        ConfigError: it cannot be loaded so on this machine, or its weights are to be trained and cannot be.
    """
    model = config.model
    if model.quantization is not None and model.peft == "none":
        raise ConfigError(
            f"Expected --peft lora, dora, adalora or rocoft with quantization '{model.quantization}', whose weights "
            "cannot be trained, found 'none'. Leave quantization or peft out."
        )
    return load_backbone(
        source,
        dtype=model.dtype,
        device_map=model.device_map,
        quantization=model.quantization,
        chat_template=model.chat_template,
    )


def build_method(config: RunConfig, backbone: Backbone, codec: Codec, scales: Sequence[Scale]) -> Method:
    """Returns the method that the settings name, its PEFT update and its heads new.

    The heads are drawn from the run's seed alone.

    Args:
        config: the run's settings.
        backbone: the language model, without PEFT.
        codec: the target automaton over its vocabulary.
        scales: what the training values say, for each field.

    Raises:
        ConfigError: as `check_method`.
    """
    check_method(config, codec.target)
    model, train = config.model, config.train
    full = model.writer_vocabulary == "full" or model.decoding == "free"
    torch.manual_seed(train.seed)
    backbone.start_writer()
    apply_peft(
        backbone,
        model.peft,
        rank=model.rocoft_rank if model.peft == "rocoft" else model.lora_rank,
        writes=model.method != "predictor",
        initial_rank=model.adalora_initial_rank,
        orthogonality=model.adalora_orthogonality,
        axis=model.rocoft_axis,
        selection=model.rocoft_selection,
        biases=model.rocoft_biases,
        seed=train.seed,
    )
    if model.method == "predictor":
        return Predictor(backbone, codec, scales, pooling=model.pooling)
    writer: dict[str, Any] = {
        "full_vocabulary": full,
        "token_loss": TokenLoss(train.writer_loss, train.number_token_weight, train.digit_deviation),
        "decoding": model.decoding,
        "beam_width": model.beam_width,
        "estimates": estimates_of(config, codec.target),
        "trie_mass": model.trie_mass,
    }
    if model.method == "generator":
        return Generator(backbone, codec, scales, **writer)
    return PredGen(
        backbone,
        codec,
        scales,
        **writer,
        mixes=[MIXES[model.predict_from]] * len(scales),
        director=model.director,
        loss=train.loss,
        sharpness=train.loss_sharpness,
        passes=None if train.sampling == "sequential" else train.passes,
        reports_accuracy=train.schedule == "adaptive",
    )


def check_method(config: RunConfig, target: Target) -> None:
    """Refuses settings that do not go together, or that a target cannot have; it needs no backbone, so nothing is lost.

    Raises:
        ConfigError: AdaLoRA begins with no more ranks than it ends with; the Writer's loss is one for numbers, and the
            target is none; or a setting needs the score of every number, and there are too many of them, or none is
            read.
    """
    model, train = config.model, config.train
    initial = initial_rank_of(model.lora_rank, model.adalora_initial_rank)
    if model.peft == "adalora" and initial <= model.lora_rank:
        raise ConfigError(
            f"Expected adalora_initial_rank above lora_rank {model.lora_rank}, the mean rank at the end, found "
            f"{initial}. Leave it out, or lower lora_rank."
        )
    if model.method == "predictor":
        return
    if model.trie_mass < 1 and (model.writer_vocabulary == "full" or model.decoding == "free"):
        raise ConfigError(
            "Expected trie_mass 1 with the softmax over the whole vocabulary, where forced symbols have a share too, "
            f"found {model.trie_mass:g}. Leave trie_mass or writer_vocabulary and decoding out."
        )
    fields = fields_of(target)
    numeric = any(field.numeric for field in fields.values())
    if train.writer_loss != "cross_entropy" and not (numeric and len(fields) == 1):
        raise ConfigError(
            f"Expected a number to predict with writer_loss '{train.writer_loss}', found {target.nouns}. Leave "
            "writer_loss out."
        )
    if not numeric and model.decoding != "trie":
        return
    if model.decoding == "free" and model.estimate not in ("auto", "text"):
        raise ConfigError(
            f"Expected the estimate text with free decoding, which reads what was written, found '{model.estimate}'. "
            "Leave estimate or decoding out."
        )
    for field in fields.values():
        measure_of(field).check_estimate(model.estimate)
    needs_all = {
        "writer_loss": (train.writer_loss, train.writer_loss == "expected_value"),
        "decoding": (model.decoding, model.decoding == "trie"),
        "estimate": (model.estimate, model.estimate not in ("auto", "text", "mean")),
    }
    for name, field in fields.items():
        for setting, (value, needed) in needs_all.items():
            if fits(field) or not needed or (setting == "estimate" and not field.numeric):
                continue
            where = f" in the field '{name}'" if name != ALONE else ""
            raise ConfigError(
                f"Expected at most {most_values(field):,} {field.nouns} to predict with {setting} '{value}', found "
                f"{num_values(field):,}{where}. {field.fewer_values}"
            )


def estimates_of(config: RunConfig, target: Target) -> list[str]:
    """Returns the Writer's estimate of each field; `auto` is the best for the metric where all values are scored.

    A record's metric names one of its fields, whose metric it is; the others have that of their kind.
    """
    metric = config.train.metric or target.default_metric
    return [
        measure_of(field).estimate(config.model.estimate, metric.removeprefix(f"{name}."), enumerable=fits(field))
        for name, field in fields_of(target).items()
    ]
