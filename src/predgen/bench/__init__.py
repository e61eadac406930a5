"""The benchmark: what training and prediction cost next to a pooled head, plain fine-tuning and the paper's program."""

from predgen.bench.real import run_real_bench
from predgen.bench.running import GOALS, run_bench
from predgen.bench.shapes import SHAPES, TARGETS, Cell, grid_of

__all__ = ["GOALS", "SHAPES", "TARGETS", "Cell", "grid_of", "run_bench", "run_real_bench"]
