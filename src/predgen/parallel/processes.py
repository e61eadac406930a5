"""Several processes that train one model (torchrun, accelerate launch): who is first, waiting, means over all rows."""

import os
from typing import TypeVar

import torch
from accelerate import PartialState
from jaxtyping import Float
from torch import Tensor, distributed

Value = TypeVar("Value")


def join_processes(*, on_cpu: bool) -> None:
    """Makes the process group that the launcher asked for; does nothing where it started one process alone."""
    if num_processes() > 1:
        PartialState(cpu=on_cpu)


def num_processes() -> int:
    """Returns how many processes the launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Returns whether this process is the one that writes files and speaks."""
    return os.environ.get("RANK", "0") == "0"


def wait_for_all() -> None:
    """Returns when every process has come here."""
    if num_processes() > 1:
        distributed.barrier()


def from_first(value: Value) -> Value:
    """Returns the first process's value on every process; all must call it."""
    if num_processes() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def mean_over_processes(means: Float[Tensor, " part"], count: int) -> Float[Tensor, " part"]:
    """Returns the means over the examples of all processes, without gradients; every process must call it.

    Args:
        means: over this process's examples.
        count: how many these are.
    """
    means = means.detach()
    if num_processes() == 1:
        return means
    packed = torch.cat([means * count, means.new_tensor([float(count)])])
    distributed.all_reduce(packed)
    return packed[:-1] / packed[-1]
