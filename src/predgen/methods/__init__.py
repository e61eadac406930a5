"""The three methods behind one interface: losses for a batch, answers for prompts."""

from predgen.methods.answering import Answering
from predgen.methods.answers import Answers
from predgen.methods.base import Method
from predgen.methods.batch import Batch
from predgen.methods.generator import Generator
from predgen.methods.heads import Scale
from predgen.methods.poolings import PooledHead
from predgen.methods.predgen import PredGen, Sampling
from predgen.methods.predictor import Predictor
from predgen.methods.writer import Writer

__all__ = [
    "Answering",
    "Answers",
    "Batch",
    "Generator",
    "Method",
    "PooledHead",
    "PredGen",
    "Predictor",
    "Sampling",
    "Scale",
    "Writer",
]
