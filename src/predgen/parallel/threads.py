"""How many threads torch computes with: no more than the machine has idle cores.

torch's threads wait for each other after each product. Where another program keeps one of their cores busy, they wait
for that one's turn, again and again. A training step of SmolLM2-135M on two cores, one of them busy, took 1.6 s with
one thread, and with two more than 8 s; with both idle 1.4 and 1.2 s.
"""

import logging
import os
import time
from dataclasses import dataclass, field

import psutil
import torch

log = logging.getLogger(__name__)

# Seconds between two looks at the other programs, and how long the first look lasts.
INTERVAL = 5.0
FIRST = 0.2
# How the number of threads is fixed from outside.
FIXED_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class _Look:
    """When the counters were read, and the seconds of all cores that programs and this process had used by then."""

    time: float
    all: float
    own: float


@dataclass
class _Follower:
    """Follows the load of the machine.

    Attributes:
        most: threads on an idle machine.
        now: threads that were set last.
        last: the last look.
        stopped: whether the number is somebody else's to choose.
    """

    most: int = field(default_factory=lambda: torch.get_num_threads())
    now: int = field(default_factory=lambda: torch.get_num_threads())
    last: _Look | None = None
    stopped: bool = field(default_factory=lambda: any(name in os.environ for name in FIXED_BY))

    def follow(self) -> None:
        if self.stopped or self.most == 1:
            return
        if torch.get_num_threads() != self.now:
            self.stopped = True
            return
        if self.last is None:
            self.last = _look()
            time.sleep(FIRST)
        elif time.monotonic() - self.last.time < INTERVAL:
            return
        before, self.last = self.last, _look()
        wanted = self._threads_beside(_busy_cores(before, self.last))
        if wanted != self.now:
            log.info(
                "Other programs keep cores busy: computing with %d threads instead of %d. Numbers can differ in their "
                "last digits; OMP_NUM_THREADS fixes the number of threads.",
                wanted,
                self.now,
            )
            torch.set_num_threads(wanted)
            self.now = wanted

    def _threads_beside(self, busy: float) -> int:
        """Returns the number of threads that leave the cores of others alone."""
        return min(self.most, max(1, round((psutil.cpu_count() or self.most) - busy)))


def _look() -> _Look:
    times = psutil.cpu_times()
    used = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
    own = psutil.Process().cpu_times()
    return _Look(time.monotonic(), used, own.user + own.system)


def _busy_cores(before: _Look, after: _Look) -> float:
    """Returns how many cores other programs used between two looks."""
    return max(((after.all - before.all) - (after.own - before.own)) / max(after.time - before.time, 1e-9), 0.0)


_follower = _Follower()


def follow_load() -> None:
    """Sets torch's threads to the cores that are idle, at most once in some seconds.

    Does nothing where the number was chosen: by OMP_NUM_THREADS or MKL_NUM_THREADS, by `torch.set_num_threads`, or by
    `keep_threads`.
    """
    _follower.follow()


def keep_threads() -> None:
    """Leaves the number of threads as it is from now on, whatever other programs do."""
    _follower.stopped = True
