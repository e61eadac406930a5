"""From settings and parts to a method: the one place where a name becomes a class."""

from collections.abc import Sequence
from typing import Any

import torch

from predgen.adapters import apply_peft, initial_rank_of
from predgen.backbones import Backbone, Source, load_backbone
from predgen.codec.codec import Codec
from predgen.codec.kinds import is_enumerable, most_values, num_values
from predgen.config import RunConfig
from predgen.errors import ConfigError
from predgen.measures.kinds import measure_of
from predgen.methods import (
    Answering,
    Generator,
    Method,
    PooledHead,
    PredGen,
    Predictor,
    Sampling,
    Scale,
    Writer,
)
from predgen.methods.base import num_outputs_of
from predgen.methods.exact import ExactPredGen, PrefixDirector
from predgen.methods.heads import Head, field_heads
from predgen.methods.losses import TokenLoss, join_of
from predgen.methods.predgen import AUTO_DECODING
from predgen.models.forms import default_form, with_form
from predgen.models.thresholds import FROM_PROBABILITIES, check_threshold
from predgen.names import DIRECTOR_FORMS, JOINS, METHODS, PEFT_METHODS, SCHEDULES, WRITER_LOSSES, in_a_sentence
from predgen.targets.field import ALONE
from predgen.targets.record import Target
from predgen.writing.symbols import SymbolModel
from predgen.writing.targets import Decoding


def load_base(config: RunConfig, source: Source, tokenizer: Any | None = None) -> Backbone:
    """Returns the language model that the settings name, loaded as they say.

    Args:
        config: the settings.
        source: where its files are.
        tokenizer: its tokenizer; that among its files if not given.

    Raises:
        BackboneError: it cannot be loaded.
        ConfigError: it cannot be loaded so on this machine, or its weights are to be trained and cannot be.
    """
    model = config.model
    updates = [name for name in PEFT_METHODS if name != "none"]
    if model.quantization is not None and model.peft == "none":
        raise ConfigError(
            f"Expected --peft {in_a_sentence(updates)} with quantization '{model.quantization}', whose weights "
            f"cannot be trained, found '{model.peft}'. Leave quantization or peft out."
        )
    return load_as_it_is(config, source, tokenizer)


def load_as_it_is(config: RunConfig, source: Source, tokenizer: Any | None = None) -> Backbone:
    """Returns the language model that the settings name, of which nothing need be trained.

    Args:
        config: the settings.
        source: where its files are.
        tokenizer: its tokenizer; that among its files if not given.

    Raises:
        BackboneError: it cannot be loaded.
        ConfigError: it cannot be loaded so on this machine.
    """
    model = config.model
    return load_backbone(
        source,
        dtype=model.weights_type,
        device_map=model.device_map,
        quantization=model.quantization,
        chat_template=model.chat_template,
        tokenizer=tokenizer,
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
    config = with_form(config, codec.target)
    model, train = config.model, config.train
    torch.manual_seed(train.seed)
    backbone.start_writer()
    apply_peft(
        backbone,
        model.peft,
        rank=getattr(model, PEFT_METHODS[model.peft].rank_setting or "lora_rank"),
        writes=METHODS[model.method].writes,
        initial_rank=model.adalora_initial_rank,
        orthogonality=model.adalora_orthogonality,
        axis=model.rocoft_axis,
        selection=model.rocoft_selection,
        biases=model.rocoft_biases,
        seed=train.seed,
        layers=model.trained_layers,
    )
    fields = field_heads(codec.target, scales, train.number_loss)
    if model.method == "predictor":
        pooling = backbone.pooling if model.pooling == "auto" else model.pooling
        head = PooledHead.of(pooling, backbone.prompt_size, num_outputs_of(fields), head=model.predictor_head)
        return Predictor(backbone, codec, fields, head)
    if model.writer_prior:
        codec.add_prior()
    writer = writer_of(config, backbone, codec, fields)
    if model.method == "generator":
        return Generator(writer)
    squared_error = len(fields) == 1 and fields[0].squared_error
    assert train.loss is not None  # `with_form` said it
    assert train.writer_weight is not None
    join = join_of(
        train.loss, squared_error=squared_error, sharpness=train.loss_sharpness, writer_weight=train.writer_weight
    )
    linear = JOINS[train.loss].is_linear
    assert model.director_form is not None
    if DIRECTOR_FORMS[model.director_form].scores_all:
        adds, trie = model.director_form == "correction", writer.trie_of(0)
        assert trie is not None  # `check_method` refused others
        director = PrefixDirector(
            backbone.hidden_size, num_outputs_of(fields), has_prefixes=trie.num_nodes > 0, starts_at_zero=adds
        )
        return ExactPredGen(writer, director, join, adds_writer=adds, joins_linearly=linear)
    return PredGen(
        writer,
        PooledHead.of(
            model.director,
            backbone.hidden_size,
            num_outputs_of(fields),
            reads_start=model.director_form == "states+start",
        ),
        join,
        Sampling(
            passes=None if train.sampling == "sequential" else train.passes,
            reports_accuracy=SCHEDULES[train.schedule].follows_accuracy,
            decoding=_decoding(config, auto=AUTO_DECODING),
        ),
        joins_linearly=linear,
    )


def writer_of(config: RunConfig, backbone: Backbone, codec: Codec, fields: Sequence[Head[Any]]) -> Writer:
    """Returns the Writer that the settings name, over a backbone as it is.

    Args:
        config: the run's settings.
        backbone: the language model.
        codec: the target automaton over its vocabulary.
        fields: what heads mean by each field.
    """
    model, train = config.model, config.train
    symbols = SymbolModel(backbone, codec, full=model.writer_vocabulary == "full" or model.decoding == "free")
    return Writer(symbols, TokenLoss(train.writer_loss, train.number_token_weight, train.digit_deviation), fields)


def answering_of(config: RunConfig, method: Method) -> Answering:
    """Returns how the settings let a method answer, before anything is chosen on validation rows."""
    model = config.model
    return Answering.of(
        _decoding(config, auto=method.cheapest_decoding()),
        len(method.fields),
        estimates=estimates_of(config, method.target) if method.writes else None,
        source=(model.predict_from or "director") if model.method == "predgen" else "director",
    )


def _decoding(config: RunConfig, *, auto: str) -> Decoding:
    """Returns how targets are written; `auto` as is said."""
    model = config.model
    name = auto if model.decoding == "auto" else model.decoding
    return Decoding(name, model.beam_width, model.trie_mass)


def check_method(config: RunConfig, target: Target) -> None:
    """Refuses settings that do not go together, or that a target cannot have; it needs no backbone, so nothing is lost.

    Raises:
        ConfigError: AdaLoRA begins with no more ranks than it ends with; the Writer's loss is one for numbers, and the
            target is none; or a setting needs the score of every number, and there are too many of them, or none is
            read.
    """
    model, train = config.model, config.train
    check_threshold(config, target)
    initial = initial_rank_of(model.lora_rank, model.adalora_initial_rank)
    if model.peft == "adalora" and initial <= model.lora_rank:
        raise ConfigError(
            f"Expected adalora_initial_rank above lora_rank {model.lora_rank}, the mean rank at the end, found "
            f"{initial}. Leave it out, or lower lora_rank."
        )
    fields = target.fields
    numeric = any(field.numeric for field in fields.values())
    _check_losses_of_numbers(config, target, is_number=numeric and len(fields) == 1, is_numeric=numeric)
    if any(field.soft for field in fields.values()):
        _check_distribution(config, target)
    if model.method == "predictor":
        return
    if model.trie_mass < 1 and (model.writer_vocabulary == "full" or model.decoding == "free"):
        raise ConfigError(
            "Expected trie_mass 1 with the softmax over the whole vocabulary, where forced symbols have a share too, "
            f"found {model.trie_mass:g}. Leave trie_mass or writer_vocabulary and decoding out."
        )
    if model.writer_prior and (len(fields) > 1 or model.writer_vocabulary == "full" or model.decoding == "free"):
        raise ConfigError(
            "Expected one field, written along its automaton with the softmax over the allowed tokens, with "
            f"writer_prior, found {target.nouns} with writer_vocabulary '{model.writer_vocabulary}' and decoding "
            f"'{model.decoding}'. Leave writer_prior out."
        )
    form = None if model.director_form is None else DIRECTOR_FORMS[model.director_form]
    is_exact = model.method == "predgen" and form is not None and form.scores_all
    if is_exact and not (len(fields) == 1 and all(map(is_enumerable, fields.values()))):
        raise ConfigError(
            "Expected one field, few enough of whose values to score them all, with director_form "
            f"'{model.director_form}', found {target.nouns}. Leave director_form out."
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
        "writer_loss": (train.writer_loss, WRITER_LOSSES[train.writer_loss].scores_all),
        "decoding": (model.decoding, model.decoding == "trie"),
        "estimate": (model.estimate, model.estimate not in ("auto", "text", "mean")),
    }
    for name, field in fields.items():
        for setting, (value, needed) in needs_all.items():
            if is_enumerable(field) or not needed or (setting == "estimate" and not field.numeric):
                continue
            where = f" in the field '{name}'" if name != ALONE else ""
            raise ConfigError(
                f"Expected at most {most_values(field):,} {field.nouns} to predict with {setting} '{value}', found "
                f"{num_values(field):,}{where}. {field.fewer_values}"
            )


def _check_losses_of_numbers(config: RunConfig, target: Target, *, is_number: bool, is_numeric: bool) -> None:
    """Refuses losses of numbers for other targets; a head's may be that of a record's number, the Writer's not."""
    train = config.train
    of_writer = config.model.method != "predictor" and WRITER_LOSSES[train.writer_loss].for_numbers
    for setting, name, is_asked, is_there in (
        ("number_loss", train.number_loss, train.number_loss != "squared_error", is_numeric),
        ("writer_loss", train.writer_loss, of_writer, is_number),
    ):
        if is_asked and not is_there:
            raise ConfigError(
                f"Expected a number to predict with {setting} '{name}', found {target.nouns}. Leave {setting} out."
            )


def _check_distribution(config: RunConfig, target: Target) -> None:
    """Refuses what a distribution over labels cannot be learned with: what reads the path of one label as the truth.

    Raises:
        ConfigError: it is a field of a record; or the Writer has a prior, or predgen's Director reads a gold path.
    """
    model = config.model
    if len(target.fields) > 1:
        raise ConfigError(
            "Expected a distribution over labels as the only target, found one in a record. Fit a model for each, or "
            "declare the columns as another kind."
        )
    if model.method != "predictor" and model.writer_prior:
        raise ConfigError("Expected no writer_prior with a distribution over labels, found it. Leave writer_prior out.")
    form = model.director_form or default_form(config, target)
    if model.method == "predgen" and not DIRECTOR_FORMS[form].scores_all:
        raise ConfigError(
            "Expected a form of predgen that scores all labels, expectation or correction, with a distribution over "
            f"labels, found '{form}', whose Director reads the tokens of one label. Leave director_form, and the "
            "settings of schedule, sampling and director that ask for it, out."
        )


def estimates_of(config: RunConfig, target: Target) -> list[str]:
    """Returns the Writer's estimate of each field; `auto` is the best for the metric where all values are scored.

    A record's metric names one of its fields, which is estimated for it; other fields have their kind's default metric.
    """
    metric = config.train.metric or target.default_metric
    if config.model.threshold != "none":  # of a single field of labels, which must not be read from the text
        return [FROM_PROBABILITIES]
    return [
        measure_of(field).estimate(
            config.model.estimate, metric.removeprefix(f"{name}."), enumerable=is_enumerable(field)
        )
        for name, field in target.fields.items()
    ]
