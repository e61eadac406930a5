"""How much of the answer is in a model's states: mutual information in nats, exact, estimated, and token by token."""

from predgen.information.bounds import BOUNDS
from predgen.information.estimators import ESTIMATORS, Estimate, Pairs, estimate, summary

__all__ = ["BOUNDS", "ESTIMATORS", "Estimate", "Pairs", "estimate", "summary"]
