"""Labels as an automaton over a backbone's tokens: the trie of their words."""

from collections.abc import Sequence
from typing import Any, ClassVar

from predgen.codec.base import Paths, TargetVocabulary, word_paths
from predgen.targets.label import Label


class LabelPaths(Paths[Label]):
    """The trie of the labels' words."""

    MOST_VALUES: ClassVar[int | None] = None

    def __init__(self, field: Label, vocabulary: TargetVocabulary, end_id: int) -> None:
        """Builds the trie.

        Raises:
            TargetError: the tokens of two labels cannot be told apart.
        """
        super().__init__(field, vocabulary, end_id)
        words = word_paths(field.words, vocabulary, without=[end_id])
        self.arcs = _trie_arcs(words, end_id)
        self._paths = [[*word, end_id] for word in words]
        self._index_of_path = {tuple(path): index for index, path in enumerate(self._paths)}

    def path(self, value: Any) -> list[int]:
        """Returns the tokens of a label's word.

        Raises:
            TargetError: the label is not known.
        """
        index = self.field.index(value)
        if index is None:
            self.field.parse(value)
            raise AssertionError("parse refuses every value that has no index")
        return self._paths[index]

    def read(self, path: Sequence[int]) -> tuple[Any, str]:
        """Returns the label and its word."""
        index = self._index_of_path[tuple(path)]
        return self.field.values[index], self.field.words[index]

    def order(self, value: Any) -> float | int:
        """Returns the label's position: they stand in the target's order."""
        index = self.field.index(value)
        assert index is not None  # values of paths are known
        return index


def _trie_arcs(words: Sequence[Sequence[int]], end_id: int) -> list[dict[int, int]]:
    """Returns the trie of some words, each ended by the end token."""
    arcs: list[dict[int, int]] = [{}]
    last_states = []
    for word in words:
        state = 0
        for token in word:
            if token not in arcs[state]:
                arcs.append({})
                arcs[state][token] = len(arcs) - 1
            state = arcs[state][token]
        last_states.append(state)
    arcs.append({})
    for state in last_states:
        arcs[state][end_id] = len(arcs) - 1
    return arcs
