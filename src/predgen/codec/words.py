"""Labels as automata over a backbone's tokens: the trie of their words, and sets of them."""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, runtime_checkable

from predgen.codec.numbers import END, explore
from predgen.errors import TargetError
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet

# What is written between the labels of a set.
COMMA = ","


@runtime_checkable
class TargetVocabulary(Protocol):
    """What a codec needs to know of a backbone's tokens."""

    end_id: int

    def symbol_id(self, character: str) -> int:
        """Returns the one token of a character that numbers, sets and records are written with."""
        ...

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        """Returns the tokens of each label's word, all in one manner (with or without a leading space)."""
        ...


def _word_paths(words: Sequence[str], vocabulary: TargetVocabulary, *, without: Sequence[int]) -> list[list[int]]:
    """Returns the tokens of each word.

    Raises:
        TargetError: two words have the same tokens, a word has none, or it holds one that ends it.
    """
    paths = vocabulary.word_ids(words)
    seen: dict[tuple[int, ...], int] = {}
    for index, path in enumerate(paths):
        other = seen.setdefault(tuple(path), index)
        if other != index:
            raise TargetError(
                f"Expected different tokens for every label, found the same ones for '{words[other]}' and "
                f"'{words[index]}' with this backbone's tokenizer. Give other words with --label-text, or "
                "letter codes with --set label_codes=true."
            )
        if not path:
            raise TargetError(
                f"Expected at least one token for the label word '{words[index]}', found none with this "
                "backbone's tokenizer. Give another word with --label-text."
            )
        if set(path) & set(without):
            raise TargetError(
                "Expected label words without the tokens that end them (the end token, commas in sets, semicolons in "
                f"records), found '{words[index]}'. Give other words with --label-text."
            )
    return paths


def label_arcs(
    target: Label, vocabulary: TargetVocabulary, end_id: int
) -> tuple[list[dict[int, int]], list[list[int]]]:
    """Returns the trie of the labels' tokens and each label's path, both in token ids."""
    paths = _word_paths(target.words, vocabulary, without=[end_id])
    arcs: list[dict[int, int]] = [{}]
    ends = []
    for path in paths:
        state = 0
        for token in path:
            if token not in arcs[state]:
                arcs.append({})
                arcs[state][token] = len(arcs) - 1
            state = arcs[state][token]
        ends.append(state)
    arcs.append({})
    for state in ends:
        arcs[state][end_id] = len(arcs) - 1
    return arcs, [[*path, end_id] for path in paths]


def set_arcs(
    target: LabelSet, vocabulary: TargetVocabulary, end_id: int
) -> tuple[list[dict[int, int]], list[list[int]]]:
    """Returns the automaton of the sets and the tokens of each label's word, the empty set's last, in token ids.

    A state is the first label that may still be written, and what is written of one.
    """
    comma = vocabulary.symbol_id(COMMA)
    words = _word_paths((*target.words, target.empty), vocabulary, without=[end_id, comma])
    num_labels = len(target.words)

    def step(key: tuple[int, tuple[int, ...]]) -> dict[Any, Hashable]:
        first, prefix = key
        after: dict[Any, Hashable] = {}
        places = [*range(first, num_labels), *([num_labels] if first == 0 else [])]
        for place in places:
            word = tuple(words[place])
            if word[: len(prefix)] != prefix:
                continue
            if word != prefix:
                after[word[len(prefix)]] = (first, (*prefix, word[len(prefix)]))
                continue
            after[END] = None
            if place + 1 < num_labels:
                after[comma] = (place + 1, ())
        return after

    rows = explore((0, ()), step)
    return [{end_id if token == END else token: after for token, after in row.items()} for row in rows], words
