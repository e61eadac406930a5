"""AdaLoRA (arXiv 2303.10512) around our Trainer: its schedule, its allocation of ranks, its penalty, its state.

peft's `AdaLoraModel` allocates ranks; this module does what peft leaves to the training program.
"""

from typing import Any

import torch
from peft import AdaLoraModel
from peft.tuners.adalora.layer import RankAllocator
from torch import Tensor, nn

from predgen.errors import ConfigError

# The fractions of the steps before the first rank is taken away, and after the last. (The paper tunes both for each
# task.)
INITIAL_FRACTION, FINAL_FRACTION = 0.1, 0.3
# The learning rate of the first step is zero, so that no importance can be measured; the second measures it; the third
# takes ranks away.
LEAST_STEPS = 3
# The most times that ranks are allocated.
ALLOCATIONS = 100
_AVERAGES = ("exp_avg_ipt", "exp_avg_unc")
_PATTERN = "rank_pattern"


def tuner_of(model: Any) -> AdaLoraModel | None:
    """Returns the part of a model that allocates its ranks, or None if the model is not trained with AdaLoRA."""
    tuner = getattr(model, "base_model", None)
    return tuner if isinstance(tuner, AdaLoraModel) else None


def begin_allocation(tuner: AdaLoraModel) -> None:
    """Starts the allocation with the ranks of all layers that are trained."""
    for key, parameter in tuner.model.named_parameters():
        if ".ranknum." in key:  # a constant, which peft 0.21 makes trainable as it casts it from 16 bits
            parameter.requires_grad_(False)
    name = tuner.trainable_adapter_name
    tuner.rankallocator = RankAllocator(tuner.model, tuner.peft_config[name], name)


def plan_ranks(tuner: AdaLoraModel, total_steps: int) -> None:
    """Sets when ranks are taken away in a run of some optimizer steps.

    Raises:
        ConfigError: the run is too short to measure the importance of ranks.
    """
    if total_steps < LEAST_STEPS:
        raise ConfigError(
            f"Expected at least {LEAST_STEPS} optimizer steps to allocate ranks with --peft adalora, found "
            f"{total_steps}. Train longer, or use --peft lora."
        )
    config = tuner.peft_config[tuner.trainable_adapter_name]
    config.tinit = max(1, int(INITIAL_FRACTION * total_steps))
    config.tfinal = int(FINAL_FRACTION * total_steps)
    config.deltaT = max(1, total_steps // ALLOCATIONS)
    config.total_step = total_steps


@torch.no_grad()
def allocate_ranks(tuner: AdaLoraModel, step: int) -> None:
    """Updates the importance of each rank from the step's gradients, and takes ranks away as the schedule says.

    Args:
        tuner: as `tuner_of` returns it.
        step: optimizer steps that are done, the current step included; its gradients must still be there.
    """
    for name, parameter in tuner.model.named_parameters():
        if "lora_" in name and parameter.grad is None:  # peft multiplies by the gradient without a check
            parameter.grad = torch.zeros_like(parameter)
    tuner.update_and_allocate(step)


def orthogonality_penalty(tuner: AdaLoraModel) -> Tensor:
    """Returns the weighted mean of ‖A Aᵀ − I‖ and ‖Bᵀ B − I‖ over all updates, in Frobenius norms (its equation 4).

    peft adds this form to a loss that the model itself computes; our losses are computed outside the model. The paper
    squares the norms.
    """
    distances = []
    for name, parameter in tuner.model.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            products = parameter @ parameter.T if ".lora_A." in name else parameter.T @ parameter
            identity = torch.eye(len(products), dtype=products.dtype, device=products.device)
            distances.append(torch.linalg.norm(products - identity))
    weight: float = tuner.peft_config[tuner.trainable_adapter_name].orth_reg_weight
    return weight * torch.stack(distances).mean()


def ranks_of(tuner: AdaLoraModel) -> dict[str, int]:
    """Returns the rank of each update: how many of its singular values are not zero."""
    return {
        name.partition(".lora_E.")[0]: int(parameter.count_nonzero())
        for name, parameter in tuner.model.named_parameters()
        if ".lora_E." in name
    }


def allocation_state(tuner: AdaLoraModel) -> dict[str, Tensor]:
    """Returns the importances and the allocated ranks so far, for a checkpoint."""
    state = {
        f"{kind}/{name}": values.detach().cpu().contiguous()
        for kind in _AVERAGES
        for name, values in getattr(tuner.rankallocator, kind).items()
    }
    pattern = tuner.peft_config[tuner.trainable_adapter_name].rank_pattern or {}
    return state | {f"{_PATTERN}/{name}": torch.tensor(kept) for name, kept in pattern.items()}


def restore_allocation(tuner: AdaLoraModel, state: dict[str, Tensor]) -> None:
    """Puts back what `allocation_state` returned."""
    parameters: dict[str, nn.Parameter] = dict(tuner.model.named_parameters())
    allocator, config = tuner.rankallocator, tuner.peft_config[tuner.trainable_adapter_name]
    allocator.reset_ipt()
    pattern: dict[str, list[bool]] = {}
    for key, values in state.items():
        kind, _, name = key.partition("/")
        if kind == _PATTERN:
            pattern[name] = values.tolist()
        else:
            getattr(allocator, kind)[name] = values.to(parameters[name].device)
            allocator.ipt[name] = torch.zeros_like(parameters[name])  # or the allocator would reset every average
    config.rank_pattern = pattern or None
