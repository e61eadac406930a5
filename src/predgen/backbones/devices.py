"""Where a model runs."""

import re

import torch

from predgen.errors import ConfigError
from predgen.names import DEVICES

# How accelerate spreads a model's layers over devices.
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


def choose_device(name: str) -> torch.device:
    """Returns the device of a name; `auto` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: the device is not there.
        UnknownNameError: no device is named so.
    """
    DEVICES.check(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("Expected a CUDA device, found none. Use --device cpu, or install torch with CUDA.")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("Expected an MPS device, found none. Use --device cpu.")
    return torch.device(name)


def check_device_map(name: str) -> None:
    """Refuses a device map that accelerate does not know, or of a device that is not there.

    Raises:
        ConfigError: it is one.
    """
    device = re.fullmatch(r"(cpu|cuda|mps|xpu)(:\d+)?", name)
    if device is None and name not in DEVICE_MAPS:
        raise ConfigError(
            f"Expected a device map among {', '.join(DEVICE_MAPS)}, or one device such as cuda:0, found '{name}'. "
            "Correct device_map, or leave it out."
        )
    missing = device is not None and (
        (device[1] == "cuda" and not torch.cuda.is_available())
        or (device[1] == "mps" and not torch.backends.mps.is_available())
    )
    if missing:
        raise ConfigError(
            f"Expected a device that this machine has for device_map, found '{name}'. Use another, or --device cpu for "
            "a fitted model."
        )
