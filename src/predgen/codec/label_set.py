"""Sets of labels as an automaton: their words in the declared order, with commas between them."""

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from predgen.codec.base import END, Paths, TargetVocabulary, explore, word_paths
from predgen.targets.label_set import LabelSet, SetValue

# What is written between the labels of a set.
COMMA = ","


class LabelSetPaths(Paths[LabelSet]):
    """A state is the first label that may still be written, and the prefix of a label that was begun."""

    # Trees of sets are larger than those of numbers.
    MOST_VALUES: ClassVar[int | None] = 256

    def __init__(self, field: LabelSet, vocabulary: TargetVocabulary, end_id: int) -> None:
        """Builds the automaton.

        Raises:
            TargetError: the tokens of two labels cannot be told apart.
        """
        super().__init__(field, vocabulary, end_id)
        self._comma = vocabulary.symbol_id(COMMA)
        # The empty set's word is the last.
        self._words = word_paths((*field.words, field.empty), vocabulary, without=[end_id, self._comma])
        self._index_of_word = {tuple(word): index for index, word in enumerate(self._words)}
        rows = explore((0, ()), self._step)
        self.arcs = [{end_id if token == END else token: after for token, after in row.items()} for row in rows]

    def _step(self, state: tuple[int, tuple[int, ...]]) -> dict[Any, Hashable]:
        """Returns the states after each token that may follow a state."""
        first, prefix = state
        num_labels = len(self.field.words)
        after: dict[Any, Hashable] = {}
        for index in [*range(first, num_labels), *([num_labels] if first == 0 else [])]:
            word = tuple(self._words[index])
            if word[: len(prefix)] != prefix:
                continue
            if word != prefix:
                after[word[len(prefix)]] = (first, (*prefix, word[len(prefix)]))
                continue
            after[END] = None
            if index + 1 < num_labels:
                after[self._comma] = (index + 1, ())
        return after

    def path(self, value: SetValue) -> list[int]:
        """Returns the tokens of a set's labels.

        Raises:
            TargetError: a label is not known.
        """
        positions = self.field.positions(self.field.parse(value))
        words = [self._words[position] for position in positions] or [self._words[-1]]
        return [*words[0], *(token for word in words[1:] for token in (self._comma, *word)), self.end_id]

    def read(self, path: Sequence[int]) -> tuple[SetValue, str]:
        """Returns the set and its text."""
        words: list[list[int]] = [[]]
        for token in path[:-1]:
            if token == self._comma:
                words.append([])
            else:
                words[-1].append(token)
        indexes = [self._index_of_word[tuple(word)] for word in words]
        value = tuple(self.field.values[index] for index in indexes if index < len(self.field.values))
        return value, self.field.to_text(value)

    def members(self, values: Sequence[SetValue]) -> Float[Tensor, "value label"]:
        """Returns which labels each set holds."""
        members = torch.zeros(len(values), len(self.field.values), dtype=torch.float64)
        for index, value in enumerate(values):
            members[index, self.field.positions(value)] = 1.0
        return members
