"""The paper's benchmark as one grid: what is run, what the paper reports, what it would take."""

from predgen.reproduction.planning import plan_reproduction
from predgen.reproduction.running import reproduce

__all__ = ["plan_reproduction", "reproduce"]
