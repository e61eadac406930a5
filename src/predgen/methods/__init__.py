"""The three methods behind one interface: losses for a batch, answers for prompts."""

from predgen.methods.answers import Answers
from predgen.methods.base import Method
from predgen.methods.generator import Generator
from predgen.methods.heads import Scale
from predgen.methods.predgen import PredGen
from predgen.methods.predictor import Predictor
from predgen.methods.writer import Writer

__all__ = ["Answers", "Generator", "Method", "PredGen", "Predictor", "Scale", "Writer"]
