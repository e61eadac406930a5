"""The paper's benchmark as one grid: what is run, what the paper reports, what it would take."""

from predgen.experiments.reproduction.planning import plan_reproduction
from predgen.experiments.reproduction.running import reproduce

__all__ = ["plan_reproduction", "reproduce"]
