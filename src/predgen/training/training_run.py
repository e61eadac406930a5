"""One training run: a model made, trained on a prepared table, and left with the weights of its best validation."""

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainingArguments

from predgen.adapters import choose_by_magnitude
from predgen.adapters.adalora import ranks_of, tuner_of
from predgen.backbones import Source, find_source, width_of
from predgen.backbones.devices import choose_device
from predgen.backbones.weight_types import WIDE, WORTH_IT, speed_of_bfloat16
from predgen.codec.codec import Codec
from predgen.codec.kinds import is_enumerable
from predgen.config import RunConfig, TrainSettings
from predgen.errors import ConfigError
from predgen.measures.metrics import check_metric, higher_is_better
from predgen.methods import Batch, Generator, Method
from predgen.methods.heads import Scale, field_heads, scale_of, truth_of
from predgen.methods.prior import fill_prior
from predgen.models.building import (
    answering_of,
    build_method,
    load_as_it_is,
    load_base,
    writer_of,
)
from predgen.models.contents import Contents
from predgen.models.encoding import cut_warning, encode_prompts
from predgen.models.forms import with_form
from predgen.models.model import Model
from predgen.models.random_states import random_states_kept
from predgen.names import PEFT_METHODS
from predgen.parallel.processes import from_first, is_first
from predgen.targets.record import Target, field_values
from predgen.training.arguments import runs_on_cpu, training_arguments
from predgen.training.batches import Collator, Examples
from predgen.training.checkpoints import CHECKPOINTS, newest_whole
from predgen.training.frozen_states import keep_frozen_states
from predgen.training.memory import BATCH_SETTINGS, batches_in, with_smaller_batches
from predgen.training.preparing import Prepared
from predgen.training.progress import TrainingProgress
from predgen.training.trainer import PredGenTrainer
from predgen.training.validating import Validation
from predgen.warning_kinds import warn

log = logging.getLogger("predgen")

# Training prompts that RoCoFT's magnitudes are measured on.
SCORED_PROMPTS = 16
# Training rows by which the Writer's prior learns what the language model believes.
PRIOR_ROWS = 64


@dataclass(frozen=True)
class TrainingRecord:
    """How training went, as values that JSON can hold.

    Attributes:
        train_rows: training rows.
        validation_rows: validation rows.
        cut_prompts: training prompts that were cut to fit the model.
        learning_rate: of the backbone's update.
        batches: the batch sizes that the run came down to, by the setting's name.
        trainable_parameters: how many weights were trained.
        metric: the metric that chose the checkpoint.
        train_seconds: seconds of training, validation included.
        resumed: whether the run was gone on with.
        ranks: of each of AdaLoRA's matrices; None without AdaLoRA.
        steps: optimizer steps that were taken.
        max_steps: steps that were planned.
        best_step: the step of the best validation.
        best_metric: the metric there; None where it is not defined.
        history: what was logged, step by step.
    """

    train_rows: int
    validation_rows: int
    cut_prompts: int
    learning_rate: float
    batches: dict[str, int]
    trainable_parameters: int
    metric: str
    train_seconds: float
    resumed: bool
    ranks: Any
    steps: int
    max_steps: int
    best_step: int | None
    best_metric: float | None
    history: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, the batch sizes among the others."""
        record: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if name == "batches":
                record |= value
            elif name != "ranks" or value is not None:
                record[name] = value
        return record


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        config: its settings.
        prepared: the table.
        folder: where checkpoints go.
        resume: go on from the last whole checkpoint there.
        quiet: show no progress.
        callbacks: what the Trainer calls besides.
    """

    config: RunConfig
    prepared: Prepared
    folder: Path
    resume: bool = False
    quiet: bool = False
    callbacks: tuple[TrainerCallback, ...] = ()

    @property
    def metric(self) -> str:
        """The metric that chooses the checkpoint."""
        return self.config.train.metric or self.prepared.target.default_metric

    def trained(self) -> "tuple[Model, Validation]":
        """Returns the trained model and its validation rows, with batches as small as memory wants them.

        Raises:
            UnknownNameError: the target has no such metric.
            TrainingError: a single row does not fit into memory, or the loss is not finite.
        """
        check_metric(self.prepared.target, self.metric)
        settings = batches_in(self.folder, self.config.train) if self.resume else self.config.train
        return with_smaller_batches(self.folder, settings, self.attempt)

    def attempt(self, settings: TrainSettings) -> "tuple[Model, Validation]":
        """Returns the model, trained with some batch sizes, and its validation rows.

        Args:
            settings: the run's training settings, with these batch sizes.

        Raises:
            RuntimeError: memory lacks.
        """
        model = new_model(self.config, self.prepared)
        method = model.method
        if settings.gradient_checkpointing:
            method.backbone.checkpoint_activations()
        keep_frozen_states(model, self.config, self.prepared)
        prompts, num_cut = encode_prompts(method, model.contents, self.prepared.splits.train)
        if num_cut:
            cut = cut_warning(method, model.contents, num_cut, len(prompts), "training")
            warn(cut, about=("training", len(prompts)))
        values = self.prepared.train_values
        truth = truth_of(method.target, values, [head.scale for head in method.fields])
        weights = self.prepared.train_weights
        examples = Examples(prompts, values, truth, None if weights is None else torch.from_numpy(weights).float())
        arguments = self._arguments(settings, method, len(examples))
        if self.config.model.peft == "rocoft" and self.config.model.rocoft_selection == "magnitude":
            method.to(arguments.device)  # where it is trained, and the pass is fast
            choose_by_magnitude(method.backbone, prompts[:SCORED_PROMPTS], writes=method.writes)
        collator = Collator(examples, method.backbone, method.codec)
        if method.codec.prior is not None:
            method.to(arguments.device)
            fill_prior(
                method, method.codec.encode(values), _first_batches(collator, settings.batch_size, method.device)
            )
        validation = Validation(model, self.prepared, self.metric, settings)
        trainer = PredGenTrainer(method, arguments, settings, collator, validation.metrics)
        seconds = self._train(trainer)
        tuner = tuner_of(method.backbone.model)
        record = TrainingRecord(
            train_rows=len(examples),
            validation_rows=len(self.prepared.splits.validation),
            cut_prompts=num_cut,
            learning_rate=arguments.learning_rate,
            batches={name: getattr(settings, name) for name in BATCH_SETTINGS},
            trainable_parameters=sum(weights.numel() for weights in method.parameters() if weights.requires_grad),
            metric=self.metric,
            train_seconds=seconds,
            resumed=self.resume,
            ranks=None if tuner is None else ranks_of(tuner),
            steps=trainer.state.global_step,
            max_steps=trainer.state.max_steps,
            best_step=trainer.state.best_global_step,
            best_metric=_finite(trainer.state.best_metric),
            history=[{name: _finite(value) for name, value in line.items()} for line in trainer.state.log_history],
        )
        model.contents = replace(model.contents, record={**model.contents.record, **record.to_json()})
        return model, validation

    def _arguments(self, settings: TrainSettings, method: Method, num_rows: int) -> TrainingArguments:
        """Returns the Trainer's arguments."""
        model = self.config.model
        return training_arguments(
            settings,
            self.folder / CHECKPOINTS,
            num_rows=num_rows,
            learning_rate=PEFT_METHODS[model.peft].learning_rate(method.backbone.hidden_size, model.method),
            metric=self.metric,
            higher=higher_is_better(self.metric),
        )

    def _train(self, trainer: PredGenTrainer) -> float:
        """Trains, leaves the method with the weights of the best validation, and returns the seconds."""
        progress = TrainingProgress(self.metric)
        if not self.quiet:
            trainer.add_callback(progress)
        for callback in self.callbacks:
            trainer.add_callback(callback)
        start = time.perf_counter()
        try:
            trainer.train(resume_from_checkpoint=_checkpoint_in(self.folder / CHECKPOINTS) if self.resume else None)
        finally:
            if progress.progress is not None:
                progress.progress.stop()  # or an interrupted run leaves the terminal without its cursor
        return time.perf_counter() - start


def _first_batches(collator: Collator, batch_size: int, device: torch.device) -> Iterator[Batch]:
    """Yields some of the training rows, in the order of the table."""
    rows = range(min(PRIOR_ROWS, len(collator.examples)))
    for start in range(0, len(rows), batch_size):
        yield collator(rows[start : start + batch_size])["batch"].to(device)


def settled(config: RunConfig) -> RunConfig:
    """Returns the settings of a run with a type of weights, chosen for this machine and said if they have none.

    Raises:
        BackboneError: the backbone is not there.
    """
    model = config.model
    if model.dtype is not None:
        return config
    is_frozen = model.peft != "none" and model.quantization is None and model.device_map is None
    dtype = "float32"
    if is_frozen and runs_on_cpu(config.train) and width_of(source_of(config)) >= WIDE:
        speed = speed_of_bfloat16()
        dtype = "bfloat16" if speed >= WORTH_IT else dtype
        log.info(
            "Weights are in %s: on this processor products of bfloat16 take 1/%.1f of float32's time. --set dtype=… "
            "sets another.",
            dtype,
            speed,
        )
    return config.changed(**{"model.dtype": dtype})


def source_of(config: RunConfig) -> Source:
    """Returns where the files of the run's backbone are."""
    model = config.model
    return find_source(model.backbone, model.revision, trust_remote_code=model.trust_remote_code)


def new_model(config: RunConfig, prepared: Prepared) -> Model:
    """Returns the model before training, its heads drawn from the seed.

    Raises:
        ConfigError: nothing of it would be trained.
    """
    source, target = source_of(config), prepared.target
    config = with_form(config, target)
    backbone = load_base(config, source)
    scales = [
        scale_of(field, field_values(target, prepared.train_values, name), standardize=config.train.standardize)
        for name, field in target.fields.items()
    ]
    method = build_method(config, backbone, Codec(target, backbone), scales)
    if not any(weights.requires_grad for weights in method.parameters()):
        raise ConfigError(
            f"Expected something to train, found --peft {config.model.peft} with --method {config.model.method}, which "
            "has no head. Choose another PEFT method, or another method."
        )
    return _with_contents(config, prepared, source, method)


def untrained_config(config: RunConfig, target: Target) -> RunConfig:
    """Returns the settings of the generator that only asks the language model, whatever is trained elsewhere.

    Every value is scored where they are few enough; else the generator writes as it does by itself.
    """
    decoding = "trie" if is_enumerable(target) else "auto"
    settings = {"model.method": "generator", "model.decoding": decoding, "model.peft": "none"}
    return config.changed(**settings, **{"train.writer_loss": None})


@random_states_kept()
def untrained_model(config: RunConfig, prepared: Prepared) -> Model:
    """Returns the generator over the language model as it is, on its device: nothing is added, drawn or trained.

    Args:
        config: as `untrained_config` returns it.
        prepared: the table.

    Raises:
        BackboneError: the language model cannot be loaded.
        ConfigError: it cannot be loaded so on this machine.
    """
    source = source_of(config)
    backbone = load_as_it_is(config, source)
    codec = Codec(prepared.target, backbone)
    fields = field_heads(prepared.target, [Scale()] * len(prepared.target.fields))
    method = Generator(writer_of(config, backbone, codec, fields))
    # What was placed when it was loaded stays there; the rest goes where its first layer is.
    where = backbone.device if backbone.is_placed else choose_device(config.train.device)
    return _with_contents(config, prepared, source, method.to(where).eval())


def _with_contents(config: RunConfig, prepared: Prepared, source: Source, method: Method) -> Model:
    """Returns a model before training."""
    # Which rows the model saw: a table, its split and its order can be told from others by these.
    seen = {"split_seed": prepared.split_seed, "rows_sha256": prepared.fingerprint()}
    answering = answering_of(config, method)
    base_hash = source.content_hash()
    contents = Contents(config, prepared.template, answering, source.name, source.revision, base_hash, seen)
    return Model(method, contents)


def _checkpoint_in(folder: Path) -> str | None:
    """Returns the checkpoint that every process goes on from, found by the first."""
    newest = newest_whole(folder) if is_first() else None
    return from_first(None if newest is None else str(newest))


def _finite(value: Any) -> Any:
    """Returns a value that JSON can hold."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
