"""The random states of the whole process, which belong to the caller."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Puts the states of torch (every device), of numpy and of `random` back to what they were.

    Heads are drawn, and trainers seed themselves, from the process's own states. Without this a caller's draws after a
    fit or a load would be the same each time.
    """
    plain, of_numpy, of_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    has_devices = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    of_devices = torch.cuda.get_rng_state_all() if has_devices else None
    try:
        yield
    finally:
        random.setstate(plain)
        np.random.set_state(of_numpy)
        torch.set_rng_state(of_torch)
        if of_devices is not None:
            torch.cuda.set_rng_state_all(of_devices)
