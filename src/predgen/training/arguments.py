"""Our settings as those of Hugging Face's Trainer."""

import math
from pathlib import Path

import torch
from transformers import (
    TrainingArguments,
)
from transformers.integrations import get_reporting_integration_callbacks

from predgen.config import TrainSettings
from predgen.errors import ConfigError
from predgen.parallel.processes import num_processes

LOGS_PER_RUN = 50


def runs_on_cpu(settings: TrainSettings) -> bool:
    """Returns whether the settings and this machine mean training on the CPU."""
    return settings.device == "cpu" or (settings.device == "auto" and not torch.cuda.is_available())


def total_steps(settings: TrainSettings, num_rows: int, processes: int = 1) -> tuple[int, int]:
    """Returns the optimizer steps of the run and of one epoch."""
    batches = math.ceil(num_rows / (settings.batch_size * processes))
    per_epoch = math.ceil(batches / settings.accumulation)
    return settings.max_steps or max(1, math.ceil(settings.epochs * per_epoch)), per_epoch


def _warmup_steps(settings: TrainSettings, steps: int) -> int:
    """Returns for how many of the run's steps the learning rate rises."""
    return math.ceil(settings.warmup_fraction * steps) if settings.warmup_steps is None else settings.warmup_steps


def training_arguments(
    settings: TrainSettings, folder: Path, *, num_rows: int, learning_rate: float, metric: str, higher: bool
) -> TrainingArguments:
    """Returns the Trainer's arguments for a run.

    Args:
        settings: the run's settings.
        folder: where checkpoints go.
        num_rows: training rows.
        learning_rate: the default of the backbone's.
        metric: the metric that chooses the checkpoint.
        higher: whether a higher metric is better.

    Raises:
        ConfigError: the device or an integration is not there.
    """
    _check_installed(settings)
    steps, per_epoch = total_steps(settings, num_rows, num_processes())
    eval_steps = max(1, math.ceil(min(per_epoch, steps) / settings.evals_per_epoch))
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.eval_batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate or learning_rate,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        lr_scheduler_type="cosine",
        warmup_steps=_warmup_steps(settings, steps),
        eval_strategy="steps",
        eval_steps=eval_steps,
        save_strategy="steps",
        save_steps=eval_steps,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=metric,
        greater_is_better=higher,
        restore_callback_states_from_checkpoint=True,
        logging_strategy="steps",
        logging_steps=max(1, steps // LOGS_PER_RUN),
        logging_nan_inf_filter=False,
        report_to=list(settings.report_to) or "none",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["truth"],
        dataloader_pin_memory=False,
        bf16=settings.precision == "bf16",
        fp16=settings.precision == "fp16",
        use_cpu=runs_on_cpu(settings),
        seed=settings.seed,
    )
    # One process trains on one device; several devices are several processes (accelerate launch).
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _check_installed(settings: TrainSettings) -> None:
    """Refuses devices and integrations that are not there.

    Raises:
        ConfigError: one is not.
    """
    try:
        for callback in get_reporting_integration_callbacks(list(settings.report_to)):
            callback()  # it looks for its library here
    except (ImportError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"Expected Trainer integrations that are installed for report_to, found {', '.join(settings.report_to)}: "
            f"{error} Install it, or leave report_to out."
        ) from error
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("Expected a CUDA device, found none. Use --device cpu, or install torch with CUDA.")
    if settings.device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("Expected an MPS device, found none. Use --device cpu.")
