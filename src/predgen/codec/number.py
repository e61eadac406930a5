"""The automaton of a number's texts, in characters: sign, digits and point, or the exponent first.

States that accept the same rest are one state, so that a wide range needs few.
"""

from collections.abc import Hashable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from predgen.codec.base import END, Paths, TargetVocabulary, explore
from predgen.targets.number import Number, written_value

# One run of numbers that share the digits written so far: digits still to come, the smallest and the largest
# remainder that stays in the range, and whether the point has been written.
_Run = tuple[int, int, int, bool]
_Runs = frozenset[_Run]


def _follow(runs: _Runs, decimals: int) -> dict[str, Hashable]:
    """Returns the runs after each character that may come next."""
    after: dict[str, set[_Run]] = {}
    for digits, first, last, pointed in runs:
        if digits == 0:
            after.setdefault(END, set())
        elif digits == decimals and not pointed:
            after.setdefault(".", set()).add((digits, first, last, True))
        else:
            unit = 10 ** (digits - 1)
            for digit in range(first // unit, last // unit + 1):
                rest = (max(first - digit * unit, 0), min(last - digit * unit, unit - 1))
                after.setdefault(str(digit), set()).add((digits - 1, *rest, pointed))
    return {character: frozenset(rest) for character, rest in after.items()}


def _fixed_rows(target: Number) -> list[dict[str, int]]:
    """Returns the automaton of the fixed form in characters."""
    low, high, decimals = target.low_units, target.high_units, target.decimals

    def start_runs(smallest: int, largest: int) -> _Runs:
        """Returns the runs of the magnitudes from smallest to largest, one for each number of digits."""
        runs = set()
        for digits in range(decimals + 1, len(str(largest)) + 1 if largest >= 10**decimals else decimals + 2):
            # The shortest form may begin with 0 (0.25); longer ones may not (no leading zeros).
            first = max(smallest, 0 if digits == decimals + 1 else 10 ** (digits - 1))
            last = min(largest, 10**digits - 1)
            if first <= last:
                runs.add((digits, first, last, False))
        return frozenset(runs)

    def step(key: Hashable) -> dict[str, Hashable]:
        if key != "start":
            return _follow(key, decimals)  # type: ignore[arg-type]
        first = _follow(start_runs(max(low, 0), high), decimals) if high >= 0 else {}
        if low < 0:  # magnitudes from 1: there is no −0
            first["-"] = start_runs(max(1, -high), -low)
        return first

    return explore("start", step)


# What may come before a mantissa, such as `e-5*` or its rest, and the runs of the mantissa after it; sorted.
_Beginnings = tuple[tuple[str, _Runs], ...]


def _scientific_rows(target: Number) -> list[dict[str, int]]:
    """Returns the automaton of the scientific form in characters.

    Exponents whose mantissas are the same share the states of the mantissa; so all do but those at the range's ends.
    """
    beginnings: dict[str, _Runs] = {}
    for sign, exponents in (("", target.positive_mantissas), ("-", target.negative_mantissas)):
        for exponent, first, last in exponents:
            beginnings[f"{sign}e{exponent}*"] = frozenset({(target.decimals + 1, first, last, False)})
    if target.low <= 0 <= target.high:
        beginnings["0"] = frozenset({(0, 0, 0, target.decimals > 0)})  # nothing is to come, as after a mantissa

    def step(key: _Beginnings | _Runs) -> dict[str, Hashable]:
        if isinstance(key, frozenset):
            return _follow(key, target.decimals)
        after: dict[str, list[tuple[str, _Runs]]] = {}
        for text, runs in key:
            after.setdefault(text[0], []).append((text[1:], runs))
        # A beginning that is written in full stands alone: none is the beginning of another.
        return {character: rest[0][1] if not rest[0][0] else tuple(rest) for character, rest in after.items()}

    return explore(tuple(sorted(beginnings.items(), key=lambda beginning: beginning[0])), step)


class NumberPaths(Paths[Number]):
    """The digit automaton of a number; states that accept the same remaining texts are merged."""

    # The mask of a tree grows with the square of its nodes.
    MOST_VALUES: ClassVar[int | None] = 10_000

    def __init__(self, field: Number, vocabulary: TargetVocabulary, end_id: int) -> None:
        super().__init__(field, vocabulary, end_id)
        rows = self.rows()
        # A character that the vocabulary lacks is added to it: always all of the form's, and in the same order.
        written = [character for row in rows for character in row if character != END]
        characters = dict.fromkeys([*written, *field.characters])
        self._tokens: dict[str, int] = {character: vocabulary.symbol_id(character) for character in characters} | {
            END: end_id
        }
        self._characters: dict[int, str] = {
            token: character for character, token in self._tokens.items() if character != END
        }
        self.arcs = [{self._tokens[character]: after for character, after in row.items()} for row in rows]

    def rows(self) -> list[dict[str, int]]:
        """Returns the automaton in characters, as `number_rows`."""
        return number_rows(self.field)

    def path(self, value: float) -> list[int]:
        """Returns the tokens of the nearest value that can be written."""
        return [*(self._tokens[character] for character in self.field.to_text(value)), self.end_id]

    def read(self, path: Sequence[int]) -> tuple[float, str]:
        """Returns the number and its text."""
        text = "".join(self._characters[token] for token in path[:-1])
        return self.number_of(text), text

    def number_of(self, text: str) -> float:
        """Returns the number of a text."""
        return written_value(text)

    def character(self, token: int) -> str:
        """Returns the character that a token writes; nothing for the end token."""
        return self._characters.get(token, "")

    def order(self, value: float) -> float | int:
        """Returns the number: they ascend."""
        return value

    def numbers(self, values: Sequence[float]) -> Float[Tensor, " value"]:
        """Returns the numbers."""
        return torch.tensor(values, dtype=torch.float64)


def number_rows(target: Number) -> list[dict[str, int]]:
    """Returns the state after each character of every state; the accepting state, after `END`, is the last."""
    return _scientific_rows(target) if target.form == "scientific" else _fixed_rows(target)


def likeness(text: str) -> Hashable:
    """Returns a key of a number's remaining text: of texts with equal keys, alphabetic order is order of magnitude.

    The key is the exponent and everything before it in scientific form; else the length and the sign.
    """
    before, star, _ = text.partition("*")
    return (len(text), before if star else text.startswith("-"))
