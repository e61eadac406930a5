"""How values of one kind of field become paths through an automaton, and back: the interface of every kind."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from predgen.errors import TargetError
from predgen.targets.field import Field

FieldKind = TypeVar("FieldKind", bound=Field)
# Stands for the token that ends a path while an automaton is explored.
END = "<end>"


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


class Paths(ABC, Generic[FieldKind]):
    """The automaton of one field over a backbone's tokens, and the one path of each of its values, in token ids.

    Args:
        field: what is predicted.
        vocabulary: the backbone's tokens.
        end_id: the token that ends a path.

    Attributes:
        arcs: for each state the state after each token that may follow; state 0 is the start, the last one accepts.
        MOST_VALUES: a field of more values is not unrolled into a tree of all of them; None for no limit.
    """

    MOST_VALUES: ClassVar[int | None]

    arcs: list[dict[int, int]]

    def __init__(self, field: FieldKind, vocabulary: TargetVocabulary, end_id: int) -> None:
        self.field = field
        self.end_id = end_id

    @abstractmethod
    def path(self, value: Any) -> list[int]:
        """Returns the tokens of a value, the end token included.

        Raises:
            TargetError: the value is no value of the field.
        """

    @abstractmethod
    def read(self, path: Sequence[int]) -> tuple[Any, str]:
        """Returns the value and the text of a value's tokens, the end token included."""

    def character(self, token: int) -> str:
        """Returns the character that a token of a number writes; nothing for tokens of other kinds and the end."""
        return ""

    def number_of(self, text: str) -> float:
        """Returns the number of a value's text, for numbers only."""
        return 0.0

    def order(self, value: Any) -> float | int:
        """Returns a sort key of a value; values with equal keys stay in the order of the automaton."""
        return 0.0

    def numbers(self, values: Sequence[Any]) -> Float[Tensor, " value"]:
        """Returns the values if they are numbers; nothing for other kinds."""
        return torch.zeros(0, dtype=torch.float64)

    def members(self, values: Sequence[Any]) -> Float[Tensor, "value label"]:
        """Returns which labels each value holds, if it is a set; no columns for other kinds."""
        return torch.zeros(len(values), 0, dtype=torch.float64)


def word_paths(words: Sequence[str], vocabulary: TargetVocabulary, *, without: Sequence[int]) -> list[list[int]]:
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


def explore(start: Hashable, step: Callable[[Any], dict[Any, Hashable]]) -> list[dict[Any, int]]:
    """Returns the automaton reachable from `start`, its accepting state last."""
    number = {start: 0}
    queue: list[Hashable] = [start]
    rows: list[dict[Any, int]] = []
    while len(rows) < len(queue):
        row: dict[Any, int] = {}
        for character, key in step(queue[len(rows)]).items():
            if character == END:
                row[END] = -1
                continue
            if key not in number:
                number[key] = len(queue)
                queue.append(key)
            row[character] = number[key]
        rows.append(row)
    accepting = len(rows)
    for row in rows:
        if END in row:
            row[END] = accepting
    return [*rows, {}]
