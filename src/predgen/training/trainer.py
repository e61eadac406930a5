"""Training on Hugging Face's Trainer: the hooks in which it departs from the default."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import EvalLoopOutput

from predgen.adapters import TUNED_HEAD_LEARNING_RATE
from predgen.adapters.adalora import (
    allocate_ranks,
    allocation_state,
    orthogonality_penalty,
    plan_ranks,
    restore_allocation,
    tuner_of,
)
from predgen.config import TrainSettings
from predgen.errors import DivergenceError, TrainingError
from predgen.files import write_text
from predgen.methods import Batch, Method
from predgen.methods.weights import load_trainable_weights, trainable_weights
from predgen.parallel.processes import mean_over_processes, wait_for_all
from predgen.parallel.threads import follow_load
from predgen.training.batches import BucketSampler, Collator, Examples
from predgen.training.checkpoints import seal, what_is_kept
from predgen.training.schedules import follow_accuracy, sampling_probability
from predgen.writing.sampling import Draws, draw

WEIGHTS_FILE = "model.safetensors"
SAMPLING_FILE = "sampling.json"
RANKS_FILE = "ranks.safetensors"
# Returns the metrics of the validation rows, the one that chooses the checkpoint among them.
Validate = Callable[[], dict[str, float]]


class PredGenTrainer(Trainer):  # type: ignore[misc]
    """The Trainer for a method.

    Args:
        method: what is trained.
        arguments: from `training_arguments`.
        settings: the run's training settings.
        collator: makes batches of the training examples.
        validate: free-running validation of the method.
    """

    optimizer: Any

    def __init__(
        self,
        method: Method,
        arguments: TrainingArguments,
        settings: TrainSettings,
        collator: Collator,
        validate: Validate,
    ) -> None:
        # No hook may run before these are there.
        self.settings = settings
        self.validate = validate
        self._micro_step = (-1, 0)
        self._accuracy = 0.0
        self._losses: dict[str, float] = {}
        self._num_losses = 0
        self._had_ended = False
        super().__init__(
            model=method,
            args=arguments,
            data_collator=collator,
            train_dataset=collator.examples,
            eval_dataset=collator.examples,  # `evaluation_loop` reads none of it; `evaluate` wants one
            callbacks=[_Epochs(), _AllocateRanks(), _EvaluateAtEnd(), EarlyStoppingCallback(settings.patience)],
        )
        self.remove_callback(PrinterCallback)
        if method.backbone.is_placed:  # on several devices, perhaps, but never copied to each of them
            self.args._n_gpu = min(self.args.n_gpu, 1)
        # The loss is a mean over the examples of the whole accumulated batch already.
        self.loss_is_scaled_for_ga = True

    # ---- order of the rows

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        """Returns length buckets whose order depends on seed and epoch alone, so that a resumed run repeats it.

        A bucket is the batch of all processes, which accelerate deals out among them in pieces of `batch_size` rows: a
        step has the rows that it has in one process with the big batch.
        """
        examples: Examples = self.data_collator.examples
        size = self.args.train_batch_size * self.args.world_size
        self.sampler = BucketSampler(examples.lengths, size, self.args.seed)
        return self.sampler

    # ---- losses

    @property
    def sampling_probability(self) -> float:
        """The probability p of feeding the model its own token at this step; 0 for a method that never is."""
        if not self.accelerator.unwrap_model(self.model).samples:
            return 0.0
        steps = self.settings.sampling_steps
        return sampling_probability(
            self.settings.schedule,
            progress=self.state.global_step / max(steps or self.state.max_steps, 1),
            start=self.settings.sampling_start,
            end=self.settings.sampling_end,
            fraction=1.0 if steps else self.settings.sampling_fraction,
            accuracy=self._accuracy,
        )

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | None:
        """Returns the number of examples of the accumulated batch over all processes."""
        if not batch_samples:
            return None
        rows = torch.tensor(sum(len(inputs["batch"]) for inputs in batch_samples), device=device)
        gathered: Tensor = self.accelerator.gather(rows.reshape(1)).sum()
        return gathered

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Batch], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Returns the micro-batch's share of the accumulated batch's mean loss.

        Raises:
            DivergenceError: the loss is not finite.
        """
        batch = inputs["batch"]
        losses = model(batch, self._draws(batch.gold.mask))
        loss = losses["loss"]
        tuner = tuner_of(self.accelerator.unwrap_model(model).backbone.model)
        if tuner is not None:
            # A step averages the losses of its micro-batches, so the penalty in each of them counts once a step.
            losses["orthogonality"] = orthogonality_penalty(tuner)
            loss = loss + losses["orthogonality"]
        if not bool(torch.isfinite(loss)):
            raise _diverged("loss", float(loss.detach()), self.state.global_step, self.args.output_dir)
        for name, value in losses.items():
            self._losses[name] = self._losses.get(name, 0.0) + float(value.detach())
        self._num_losses += 1
        if "writer_accuracy" in losses:
            accuracy = mean_over_processes(losses["writer_accuracy"].reshape(1), len(batch))
            self._accuracy = follow_accuracy(self._accuracy, float(accuracy))
        if num_items_in_batch is not None:
            # DDP averages gradients over the processes; the sum over them is what is meant.
            loss = loss * (len(batch) * self.accelerator.num_processes / num_items_in_batch)
        return (loss, losses) if return_outputs else loss

    def _draws(self, mask: Tensor) -> Draws | None:
        """Returns draws from (seed, step, micro-step, process) alone: evaluation does not disturb them."""
        method = self.accelerator.unwrap_model(self.model)
        if not method.samples:
            return None
        step, micro_step = self._micro_step
        # Counted anew in every step: the last one of an epoch may have fewer micro-batches than the others.
        micro_step = micro_step + 1 if step == self.state.global_step else 0
        self._micro_step = (self.state.global_step, micro_step)
        key = 0
        # A batch that is drawn as one is so on all processes.
        process = 0 if self.settings.sampling_unit == "batch" else self.args.process_index
        for number in (self.args.seed, *self._micro_step, process):
            key = (key * 1_000_003 + number + 1) % (2**63 - 1)
        return draw(
            mask,
            probability=self.sampling_probability,
            generator=torch.Generator().manual_seed(key),
            unit=self.settings.sampling_unit,
            num_symbols=method.codec.num_symbols if self.settings.sampling_choice == "softmax" else None,
            director_share=self.settings.director_share,
        )

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Clips, and stops the run before a step with gradients that are not finite."""
        norm = super()._clip_grad_norm(model)
        # With fp16 the loss scaler skips such steps by itself and lowers its scale.
        if norm is not None and self.args.fp16 is False and not math.isfinite(float(norm)):
            raise _diverged("gradient", float(norm), self.state.global_step, self.args.output_dir)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds L_W, L_D (means since the last log) and p to the Trainer's log entry."""
        if "loss" in logs and self._num_losses:
            for name in ("writer_loss", "director_loss", "writer_accuracy", "orthogonality"):
                if name in self._losses:
                    logs[name] = self._losses[name] / self._num_losses
            if self.accelerator.unwrap_model(self.model).samples:
                logs["sampling_probability"] = self.sampling_probability
            self._losses, self._num_losses = {}, 0
        super().log(logs, start_time)

    # ---- optimizer

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Returns AdamW with the heads at their own learning rate; vectors are not decayed."""
        optimizer: torch.optim.Optimizer | None = self.optimizer
        if optimizer is None:
            heads = {id(parameter) for parameter in self.model.heads()}
            groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    groups.setdefault((id(parameter) in heads, parameter.dim() > 1), []).append(parameter)
            rate = self.settings.head_learning_rate or TUNED_HEAD_LEARNING_RATE
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = optimizer = optimizer_class(
                [
                    {
                        "params": parameters,
                        "lr": rate if is_head else self.args.learning_rate,
                        "weight_decay": self.args.weight_decay if decays else 0.0,
                    }
                    for (is_head, decays), parameters in groups.items()
                ],
                **options,
            )
        return optimizer

    # ---- free-running validation

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Returns the task's metrics over free-running answers, instead of teacher-forced losses."""
        metrics = self.validate()
        return EvalLoopOutput(
            predictions=None,
            label_ids=None,
            metrics={f"{metric_key_prefix}_{name}": value for name, value in metrics.items()},
            num_samples=len(self.eval_dataset),
        )

    # ---- checkpoints

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Saves and seals a checkpoint, or leaves none.

        Raises:
            TrainingError: it could not be written.
        """
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            wait_for_all()
            if self.args.should_save:
                seal(folder)
        except (OSError, SafetensorError, RuntimeError) as error:  # what the system, safetensors and torch raise
            shutil.rmtree(folder, ignore_errors=True)
            raise TrainingError(
                f"Expected to write the checkpoint '{folder}', found a fault: {error}. Make room on the disk or choose "
                f"another folder. {what_is_kept(folder.parent)}"
            ) from error

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Saves the trainable weights alone, and AdaLoRA's state; tied weights could not be saved whole."""
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        method = self.accelerator.unwrap_model(self.model)
        save_file(trainable_weights(method), folder / WEIGHTS_FILE)
        tuner = tuner_of(method.backbone.model)
        if tuner is not None:
            save_file(allocation_state(tuner), folder / RANKS_FILE)
        write_text(folder / SAMPLING_FILE, json.dumps({"writer_accuracy": self._accuracy}) + "\n")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Loads the trainable weights, the accuracy that the adaptive schedule follows, and AdaLoRA's ranks."""
        followed = json.loads((Path(resume_from_checkpoint) / SAMPLING_FILE).read_text(encoding="utf-8"))
        self._accuracy = float(followed["writer_accuracy"])
        weights = load_file(Path(resume_from_checkpoint) / WEIGHTS_FILE)
        method = self.accelerator.unwrap_model(model if model is not None else self.model)
        load_trainable_weights(method, weights)
        tuner = tuner_of(method.backbone.model)
        if tuner is not None:
            restore_allocation(tuner, load_file(Path(resume_from_checkpoint) / RANKS_FILE))

    def _load_callback_state(self) -> None:
        """Restores the callbacks, and whether the run had ended when the checkpoint was written."""
        super()._load_callback_state()
        control = self.state.stateful_callbacks.get("TrainerControl", {})
        self._had_ended = bool(control.get("args", {}).get("should_training_stop"))

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Runs an epoch; Hugging Face's takes a step more where the run had ended, by early stopping or its steps."""
        if self._had_ended:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def _load_best_model(self) -> None:
        """Loads the weights of the best validation, wherever the run's folder is by now."""
        self._load_from_checkpoint(str(Path(self.args.output_dir) / Path(self.state.best_model_checkpoint).name))


class _Epochs(TrainerCallback):  # type: ignore[misc]
    """Tells the sampler its epoch, also when a run goes on in the middle of one; each step leaves busy cores alone."""

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        loader = kwargs["train_dataloader"]
        _sampler_of(loader).set_epoch(int(state.epoch or 0))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        follow_load()


class _AllocateRanks(TrainerCallback):  # type: ignore[misc]
    """Moves AdaLoRA's ranks to where they help, after every optimizer step and before its gradients are gone."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        tuner = _tuner_in(kwargs["model"])
        if tuner is not None:
            plan_ranks(tuner, state.max_steps)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        tuner = _tuner_in(kwargs["model"])
        if tuner is None:
            return
        if getattr(kwargs["optimizer"], "step_was_skipped", False):
            kwargs["model"].zero_grad()  # with fp16: they are not finite, and nothing is learned from them
        allocate_ranks(tuner, state.global_step + 1)


class _EvaluateAtEnd(TrainerCallback):  # type: ignore[misc]
    """Evaluates after the last step, wherever it falls, so that the last weights can be the best ones."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True
            control.should_save = True


def _tuner_in(model: Any) -> Any:
    """Returns what allocates the ranks of a method, which several processes have wrapped; None without AdaLoRA."""
    return tuner_of(getattr(model, "module", model).backbone.model)


def _sampler_of(loader: Any) -> BucketSampler:
    """Returns the bucket sampler under the layers that accelerate puts around it."""
    batch_sampler = loader.batch_sampler
    while not isinstance(getattr(batch_sampler, "sampler", None), BucketSampler):
        batch_sampler = batch_sampler.batch_sampler
    sampler: BucketSampler = batch_sampler.sampler
    return sampler


def _diverged(what: str, value: float, step: int, folder: str) -> DivergenceError:
    return DivergenceError(
        f"Expected a finite {what}, found {value} at step {step + 1}. The run stopped. {what_is_kept(Path(folder))} "
        "Lower the learning rate (--learning-rate), or train in float32."
    )
