"""Labels of a declared order as an automaton: they are written as labels are."""

from predgen.codec.label import LabelPaths


class OrdinalPaths(LabelPaths):
    """The trie of the labels' words; the scores of a tree stand in their declared order."""
