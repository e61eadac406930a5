"""Interleaved timing: every repetition runs all cases once, so that changes of the machine's speed affect all cases."""

import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from predgen.backbones.weight_types import processor_name

# Runs before the first that counts.
WARM_UP = 1
# Side of the square matrices whose product gives the machine's rate.
MATRIX_SIDE = 2048
MATRIX_RUNS = 5


def time_cases(
    cases: Mapping[str, Callable[[], object]], repetitions: int, device: torch.device
) -> dict[str, list[float]]:
    """Returns the seconds of every case in each repetition, whose order is drawn anew each time.

    Args:
        cases: what is timed, by name.
        repetitions: how many count.
        device: where they run.
    """
    draw = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for repetition in range(-WARM_UP, repetitions):
        for name in draw.sample(sorted(cases), len(cases)):
            _wait(device)
            start = time.perf_counter()
            cases[name]()
            _wait(device)
            if repetition >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(over: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Returns the ratio of two cases' medians, and the quartiles of the repetitions' own ratios."""
    low, high = np.percentile(np.array(over) / np.array(base), [25, 75])
    middle = statistics.median(over) / statistics.median(base)
    return {"ratio": middle, "lower_quartile": float(low), "upper_quartile": float(high)}


def matrix_rate(dtype: torch.dtype, device: torch.device, side: int = MATRIX_SIDE) -> float:
    """Returns the floating-point operations per second of large matrix products, the median of some.

    Args:
        dtype: of the matrices.
        device: where they are multiplied.
        side: of the square matrices.
    """
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = time_cases({"product": lambda: left @ right}, MATRIX_RUNS, device)["product"]
    return 2 * side**3 / statistics.median(seconds)


def count_flops(run: Callable[[], object]) -> int:
    """Returns the floating-point operations of the matrix products and attentions that a case runs."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def count_tokens(model: Any, run: Callable[[], object]) -> int:
    """Returns how many tokens a case gives to a model, padding included, in all of its forwards.

    Args:
        model: the Hugging Face model.
        run: the case.
    """
    given: list[int] = []
    handle = model.register_forward_pre_hook(
        lambda _, __, arguments: given.append(arguments["input_ids"].numel()), with_kwargs=True
    )
    try:
        run()
    finally:
        handle.remove()
    return sum(given)


def machine(device: torch.device) -> dict[str, Any]:
    """Returns the facts of the machine that the figures were measured on."""
    facts: dict[str, Any] = {
        "device": device.type,
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
