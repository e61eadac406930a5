"""One answer at a time in a process, whichever thread asks for it, and right answers or an error after a fork.

While a model answers, it is not as it was: pre-packed weights stand in for its layers', dropout is off, layers hand on
states that were kept, and draws go on in torch's one random state. Another thread may not come between. A process that
forks waits for the answer in the making, so that its child has whole models.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from predgen.errors import BackboneError
from predgen.parallel.threads import keep_threads

_lock = threading.RLock()
_forked = False


@contextmanager
def one_at_a_time(device: torch.device) -> Iterator[None]:
    """Lets one thread of the process in; a thread that is in may enter again.

    In a forked process torch computes with one thread from then on: the parent's other threads, for which it would
    wait, are not there.

    Args:
        device: where the model is.

    Raises:
        BackboneError: the process was forked, and the model is on a device that a forked process cannot use.
    """
    global _forked
    with _lock:
        if _forked:
            if device.type != "cpu":
                raise BackboneError(
                    f"Expected a process that loaded the model itself, found one forked after that, and a model on "
                    f"'{device}', which a forked process cannot use. Load the model in the new process, or start "
                    "processes by spawn (multiprocessing.set_start_method('spawn'))."
                )
            keep_threads()
            torch.set_num_threads(1)
            _forked = False
        yield


def _in_child() -> None:
    global _forked
    _forked = True
    _lock.release()


if hasattr(os, "register_at_fork"):  # not on Windows, which forks no processes
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_in_child)
