"""Where a model runs."""

import torch

from predgen.errors import ConfigError
from predgen.names import DEVICES


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
