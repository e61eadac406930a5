"""The three methods behind one interface: losses for a batch, answers for prompts."""

from predgen.methods.base import Answers, Method, Scale
from predgen.methods.generator import Generator, Writer
from predgen.methods.predgen import PredGen
from predgen.methods.predictor import Predictor

__all__ = ["Answers", "Generator", "Method", "PredGen", "Predictor", "Scale", "Writer"]
