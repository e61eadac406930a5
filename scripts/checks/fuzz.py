"""Tries predgen on drawn inputs: each is refused with a PredGenError, or answered rightly.

    python -m scripts.checks.fuzz --inputs 1000 --seed 1 --kinds tables,settings,artifacts,commands

The law is that of `scripts/checks/fuzzing/law.py`. Hypothesis draws the inputs, the same ones for the same seed, and
looks for the smallest of those that break the law. Each kind has a line with its counts, and each fault a line with
that input; the exit code is 1 where there is one. `--inputs` is the number for each kind.
"""

import argparse
import logging
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

if __name__ == "__main__":  # before anything is imported that reads them; nothing may be downloaded
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ |= {"PREDGEN_BACKBONE": "builtin:nano", "COLUMNS": "200"}

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.strategies import SearchStrategy

from predgen.errors import PredGenError
from predgen.names import load
from scripts.checks.fuzzing.law import in_time, outcome_of, place_of

# For each kind the strategy of its inputs, and the function that tries one and returns what became of it.
KINDS = {
    "tables": "scripts.checks.fuzzing.tables:tables",
    "settings": "scripts.checks.fuzzing.settings:requests",
    "artifacts": "scripts.checks.fuzzing.artifacts:artifacts",
    "commands": "scripts.checks.fuzzing.commands:command_lines",
}
# Inputs that hypothesis draws at once; it keeps all of them in mind.
PER_ROUND = 500
# Finds of one kind after which no others are looked for.
MOST_FINDS = 30


@dataclass
class Tally:
    """What became of the inputs of one kind.

    Attributes:
        outcomes: how many inputs were refused, and how many answered.
        finds: for each fault where it is, what it says and its smallest input.
        seconds: of all of them.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    finds: dict[str, tuple[str, str]] = field(default_factory=dict)
    seconds: float = 0.0

    def lines(self, kind: str) -> list[str]:
        """Returns the counts, and the faults."""
        count = self.outcomes.total()
        shares = ", ".join(f"{name} {number}" for name, number in sorted(self.outcomes.items()))
        answered = count - self.outcomes["refused"]
        first = (
            f"{kind}: {count} inputs ({shares}), {100 * answered / max(count, 1):.0f} % not refused, "
            f"{self.seconds:.0f} s, {len(self.finds)} finds"
        )
        finds = [f"find in {kind}: {place}: {said[:300]} | {found}" for place, (said, found) in self.finds.items()]
        return [first, *finds]


class FoundError(Exception):
    """Hands a fault of any type to hypothesis."""


def fuzz(strategy: SearchStrategy[Any], check: Callable[[Any], str], inputs: int, first_seed: int) -> Tally:
    """Returns what became of some inputs.

    Args:
        strategy: draws them.
        check: tries one.
        inputs: how many.
        first_seed: the same inputs for the same seed.
    """
    tally = Tally()
    begun = time.perf_counter()
    number = 0
    while tally.outcomes.total() < inputs and len(tally.finds) < MOST_FINDS:
        number += 1
        _round(strategy, check, tally, min(PER_ROUND, inputs - tally.outcomes.total()), first_seed * 1_000_003 + number)
    tally.seconds = time.perf_counter() - begun
    return tally


def _round(
    strategy: SearchStrategy[Any], check: Callable[[Any], str], tally: Tally, inputs: int, round_seed: int
) -> None:
    """Tries some inputs up to the first new fault, whose smallest input is looked for then."""
    found: dict[str, tuple[str, str]] = {}

    @seed(round_seed)
    @settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
    )
    @given(strategy)
    def one(value: Any) -> None:
        try:
            with in_time():
                outcome = check(value)
        except KeyboardInterrupt:
            raise
        except PredGenError as error:
            outcome = outcome_of(error)
        except BaseException as error:  # some libraries' faults are no Exception
            place = place_of(error)
            if place not in tally.finds and (not found or place in found):
                found[place] = (" ".join(f"{error}".split()), repr(value))
                raise FoundError(place) from error
            outcome = "known finds"
        if not found:
            tally.outcomes[outcome] += 1

    try:
        one()
    except Exception:
        if not found:
            raise
        tally.outcomes["finds"] += 1
    tally.finds |= found


def main(arguments: list[str] | None = None) -> int:
    """Tries inputs of each kind, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=500, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args(arguments)
    faults = 0
    warnings.simplefilter("ignore")
    logging.getLogger("predgen").setLevel(logging.CRITICAL)
    for kind in options.kinds.split(","):
        strategy, check = load(KINDS[kind])()
        tally = fuzz(strategy, check, options.inputs, options.seed)
        print("\n".join(tally.lines(kind)), flush=True)
        faults += len(tally.finds)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
