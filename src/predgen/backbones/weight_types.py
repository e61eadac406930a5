"""The type of weights that suits a machine: bfloat16 where its processor multiplies it faster than float32."""

import platform
import statistics
import time

import torch

from predgen.backbones.remembered import recall, remember

# A backbone of at least this width: of smaller ones products are a small part of the time.
WIDE = 512
# How much faster products must be, so that the rounding is worth it.
WORTH_IT = 1.3
# A product as a model of 135 million parameters has it: rows of tokens, inputs, outputs.
SHAPE = (1024, 576, 1536)
REPETITIONS = 7
MEASURED_FILE = "processors.json"


def speed_of_bfloat16() -> float:
    """Returns how many times as fast as float32's this processor's products of bfloat16 are.

    It is measured once, in about a second, and kept in the cache for this processor, this torch and these threads.
    """
    key = f"{processor_name()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    known = recall(MEASURED_FILE, key)
    if not isinstance(known, float):
        known = _measured()
        remember(MEASURED_FILE, key, known)
    return known


def _measured() -> float:
    """Returns the ratio of the median times, both types taken in turn."""
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    rows, inputs, outputs = SHAPE
    with torch.inference_mode():
        for _ in range(REPETITIONS):
            for dtype, times in seconds.items():
                left, right = torch.ones(rows, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
                torch.nn.functional.linear(left, right)  # the first one also prepares
                start = time.perf_counter()
                for _ in range(3):
                    torch.nn.functional.linear(left, right)
                times.append(time.perf_counter() - start)
    return statistics.median(seconds[torch.float32]) / statistics.median(seconds[torch.bfloat16])


def processor_name() -> str:
    """Returns the processor's name, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
