"""Attributions by leaving words out: how the score changes when a word is not in its cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from predgen.backbones.base import dropout_off
from predgen.explaining.scores import Question, Scores, scores_of
from predgen.explaining.texts import Span, without
from predgen.methods.buckets import run_in_buckets
from predgen.models.encoding import encode_prompts
from predgen.models.model import Model
from predgen.models.one_at_a_time import one_at_a_time


@dataclass(frozen=True)
class LeftOut:
    """The attributions of one row.

    Attributes:
        words: score of the row − score of the row without the words, for each run of words.
        score: of the row.
        probabilities: of the row's labels, NaN of numbers.
        passes: how many forwards of one prompt it took.
    """

    words: Float[Tensor, "question run"]
    score: Float[Tensor, " question"]
    probabilities: Float[Tensor, " question"]
    passes: int


def leave_out(
    model: Model,
    rows: Sequence[Mapping[str, Any]],
    runs: Sequence[Sequence[Span]],
    questions: Sequence[Sequence[Question]],
) -> list[LeftOut]:
    """Returns the attributions of some rows' runs of words: a forward for each run, and one for the row.

    Args:
        model: the model.
        rows: the input cells of each row by column.
        runs: what is left out of each row, one after the other.
        questions: the scores of each row, as many for each.

    Raises:
        TrainingError: a single row does not fit into memory.
    """
    texts, asked = list[dict[str, Any]](), list[Sequence[Question]]()
    for row, of_row, of_questions in zip(rows, runs, questions, strict=True):
        texts += [dict(row), *(without(row, [run]) for run in of_row)]
        asked += [of_questions] * (len(of_row) + 1)
    scores = scores_of_texts(model, texts, asked)
    found, start = [], 0
    for of_row in runs:
        end = start + len(of_row) + 1
        values = scores.values[start:end]
        found.append(LeftOut((values[:1] - values[1:]).T, values[0], scores.probabilities[start], end - start))
        start = end
    return found


def scores_of_texts(model: Model, rows: Sequence[Mapping[str, Any]], questions: Sequence[Sequence[Question]]) -> Scores:
    """Returns the scores of rows, whose cells may be empty.

    Args:
        model: the model.
        rows: the input cells of each row by column.
        questions: the scores of each row, as many for each.
    """
    prompts, _ = encode_prompts(model.method, model.contents, pd.DataFrame(list(rows), dtype=object))

    def run(indexes: list[int]) -> Scores:
        tokens, mask = model.method.backbone.collate([prompts[index] for index in indexes])
        device = model.method.device
        scores = scores_of(model, tokens.to(device), mask.to(device), [questions[index] for index in indexes])
        return Scores(scores.values.cpu(), scores.probabilities)

    with one_at_a_time(model.method.device), dropout_off(model.method), torch.no_grad():
        batches, order = run_in_buckets([len(prompt) for prompt in prompts], model.limits, run)
    back = torch.argsort(torch.tensor(order))
    return Scores(*(torch.cat([getattr(one, name) for one in batches])[back] for name in ("values", "probabilities")))
