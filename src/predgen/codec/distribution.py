"""Distributions over labels as an automaton: the labels are written, each a value that has the whole share."""

from collections.abc import Sequence
from typing import Any

from predgen.codec.label import LabelPaths
from predgen.targets.distribution import Distribution


class DistributionPaths(LabelPaths):
    """The trie of the labels' words; the path of a value is that of the label with the largest share."""

    def read(self, path: Sequence[int]) -> tuple[Any, str]:
        """Returns the value that has the whole share on the label, and its word."""
        assert isinstance(self.field, Distribution)
        index = self._index_of_path[tuple(path)]
        return self.field.one_hot(index), self.field.words[index]
