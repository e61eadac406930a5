"""Which words drove an answer: the public function, from rows to explanations."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from predgen.backbones.template import TracedPrompt
from predgen.errors import ConfigError, DataError
from predgen.explaining.explanation import Explanation, Word
from predgen.explaining.gradients import Integrated, integrate
from predgen.explaining.leaving_out import LeftOut, leave_out
from predgen.explaining.scores import Question, check_smooth, questions_for
from predgen.explaining.texts import Span, runs_of, word_of_token, word_spans
from predgen.models.encoding import cut_warning, trace_prompts
from predgen.models.loading import load
from predgen.models.model import Model
from predgen.names import EXPLANATIONS
from predgen.tables.reading import TableLike, read_table, row_numbers
from predgen.warning_kinds import AttributionGapWarning, warn

STEPS = 32
MOST_WORDS = 256
# Of a larger gap, as a fraction of the attributions' sizes, it is warned.
MOST_GAP = 0.05


def explain(
    model: Model | str | Path,
    rows: TableLike,
    *,
    method: str = "gradients",
    label: str | None = None,
    steps: int = STEPS,
    max_words: int = MOST_WORDS,
) -> list[Explanation]:
    """Returns which words of the input columns drove a model's answers: what each adds to a score.

    The score of a label is its log-odds, log P / (1 − P) in nats, of the answered label if no other is named; each
    label of a set has one. The score of a number is the mean of what is predicted, in the target's unit and not clipped
    to its range. Probabilities are the calibrated ones where the model is calibrated. A record has a score, or several,
    for each field, after what was written for the fields before it.

    Args:
        model: the model, or where it was saved.
        rows: as `Model.predict` takes them.
        method: `gradients` integrates the gradient from a baseline to the row, over the embeddings of the input
            columns' tokens; the template's are kept. The baseline is the mean embedding of the vocabulary. What the
            model writes is held. The attributions add up to score − baseline score. `words` leaves out one word after
            the other, and lets the model answer anew; its attributions need not add up.
        label: explain this label instead of the answered one.
        steps: of `gradients`, the points of the integral's sum, each a forward and a backward of a row.
        max_words: of `words`, the most forwards of a row beside its own; of more words, runs of neighbors are left out
            together.

    Raises:
        ConfigError: a label of a model of numbers, fewer than one step or word, or gradients of a model that writes
            more values than can be scored.
        DataError: there is no row, or an input is missing.
        TrainingError: a single row does not fit into memory.
        UnknownNameError: an input column, the label or the method is not known.
    """
    EXPLANATIONS.check(method)
    if steps < 1 or max_words < 1:
        raise ConfigError(f"Expected steps and max_words, found {steps} and {max_words}. Give at least 1 of each.")
    model = model if isinstance(model, Model) else load(model)
    if label is not None:
        questions_for(model, [None] * len(model.target.fields), label)  # refused before any work
    if method == "gradients":
        check_smooth(model)
    if isinstance(rows, pd.DataFrame | list | tuple) and not len(rows):
        raise DataError("Expected rows to explain, found none. Give at least one.")
    encoded = model.encode(read_table(rows))
    table = encoded.table
    cells = [dict(zip(model.inputs, row, strict=True)) for row in table.loc[:, list(model.inputs)].to_numpy(object)]
    prompts = trace_prompts(model.method, model.contents, table)
    if encoded.num_cut:
        warn(cut_warning(model.method, model.contents, encoded.num_cut, len(cells)), about=len(cells))
    answers = model.answers(encoded)
    asked = [
        questions_for(model, [field.values[row] for field in answers.by_field], label) for row in range(len(cells))
    ]
    spans = [word_spans(row) for row in cells]
    found: Sequence[Integrated | LeftOut]
    if method == "gradients":
        found = integrate(model, prompts, asked, steps)
    else:
        pairs = list(zip(spans, prompts, strict=True))
        runs = [runs_of([span for span in row if _is_read(span, prompt)], max_words) for row, prompt in pairs]
        found = leave_out(model, cells, runs, asked)
        cut = [[span for span in row if not _is_read(span, prompt)] for row, prompt in pairs]
        spans = [_in_order(*both) for both in zip(runs, cut, strict=True)]
    explained = [
        _Row(method, number, cells[place], spans[place], prompts[place], found[place])
        for place, number in enumerate(row_numbers(table))
    ]
    explanations = [
        one.explanation(index, question, answers.by_field[question.field_index].values[row])
        for row, one in enumerate(explained)
        for index, question in enumerate(asked[row])
    ]
    _warn_of_gaps(explanations, steps)
    return explanations


@dataclass(frozen=True)
class _Row:
    """What is known of a row.

    Attributes:
        method: of the explanation.
        number: the row's.
        cells: by column.
        spans: of its words, or runs of words.
        prompt: what the model reads.
        found: the attributions.
    """

    method: str
    number: int
    cells: Mapping[str, Any]
    spans: Sequence[Span]
    prompt: TracedPrompt
    found: Integrated | LeftOut

    def explanation(self, index: int, question: Question, answer: Any) -> Explanation:
        """Returns the explanation of one score.

        Args:
            index: the score's among those of the row.
            question: the score.
            answer: the model's in the score's field.
        """
        found, baseline, gap = self.found, None, None
        values: list[float | None]
        if isinstance(found, Integrated):
            tokens = found.tokens[index].tolist()
            values = _of_words(tokens, self.spans, self.prompt)
            baseline = float(found.baseline_score[index])
            gap = float(found.score[index]) - baseline - math.fsum(tokens)
        else:
            left_out = iter(found.words[index].tolist())
            values = [next(left_out) if _is_read(span, self.prompt) else None for span in self.spans]
        probability = float(found.probabilities[index])
        return Explanation(
            row=self.number,
            field=question.field,
            answer=sorted(answer, key=str) if isinstance(answer, set | frozenset) else answer,
            label=question.label,
            unit="number" if question.label is None else "log-odds",
            method=self.method,
            score=float(found.score[index]),
            baseline_score=baseline,
            gap=gap,
            probability=None if math.isnan(probability) else probability,
            words=tuple(
                Word(str(self.cells[column])[start:end], column, start, end, value)
                for (column, start, end), value in zip(self.spans, values, strict=True)
            ),
            passes=found.passes,
        )


def _is_read(span: Span, prompt: TracedPrompt) -> bool:
    """Returns whether the model reads a word, or its beginning."""
    return span[1] < prompt.kept[span[0]]


def _in_order(runs: Sequence[Span], cut: Sequence[Span]) -> list[Span]:
    """Returns the runs of each column and then its words that were cut away."""
    columns = list(dict.fromkeys(column for column, _, _ in [*runs, *cut]))
    return sorted([*runs, *cut], key=lambda span: (columns.index(span[0]), span[1]))


def _of_words(tokens: Sequence[float], spans: Sequence[Span], prompt: TracedPrompt) -> list[float | None]:
    """Returns the sum of each word's tokens; None of a word that the prompt was cut before."""
    sums = np.zeros(len(spans))
    for value, place in zip(tokens, prompt.places, strict=True):
        if place is not None:
            sums[word_of_token(place, spans)] += value
    return [float(value) if _is_read(span, prompt) else None for value, span in zip(sums, spans, strict=True)]


def _warn_of_gaps(explanations: Sequence[Explanation], steps: int) -> None:
    """Warns of integrals that are too coarse."""
    far = [one for one in explanations if (one.gap_fraction or 0.0) > MOST_GAP]
    if far:
        most = max(one.gap_fraction or 0.0 for one in far)
        warn(
            AttributionGapWarning(
                f"In {len(far)} of {len(explanations)} explanations the attributions miss score − baseline score by "
                f"more than {MOST_GAP:.0%} of their sizes, at most by {most:.0%}: {steps} steps are too few for the "
                f"integral. Take more, such as steps={4 * steps}."
            )
        )
