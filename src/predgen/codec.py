"""Values to target tokens and back: the target automaton, held as device tables.

Every value of a target has exactly one path through the automaton. A path is a row of *symbols*, positions in the
codec's own small alphabet (the tokens that some value needs, the end token last). `symbols` maps them to the
backbone's token ids. A label set is a trie; a number is a small automaton over digits, sign and point.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.errors import TargetError
from predgen.targets import Label, Number, Target

END = "<end>"
# Dense tables of more cells than this would not fit beside a model; no label set of a sane size comes near.
MAX_TABLE_CELLS = 200_000_000


@runtime_checkable
class TargetVocabulary(Protocol):
    """What a codec needs to know of a backbone's tokens."""

    end_id: int

    def symbol_id(self, character: str) -> int:
        """Returns the one token of a digit, a sign or a point."""
        ...

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        """Returns the tokens of each label's word, all in one manner (with or without a leading space)."""
        ...


@dataclass(frozen=True)
class EncodedTargets:
    """A batch of target paths, padded on the right.

    Attributes:
        symbols: the path's symbols; 0 where `mask` is false.
        mask: which positions belong to the path.
        states: the automaton's state in which each symbol is chosen.
    """

    symbols: Int[Tensor, "batch target"]
    mask: Bool[Tensor, "batch target"]
    states: Int[Tensor, "batch target"]


class Codec(nn.Module):
    """The target automaton of one target over one backbone's vocabulary.

    Attributes:
        target: what is predicted.
        symbols: token id of each symbol, shape (symbol,). The last symbol is the end token.
        transitions: the state after a symbol, −1 where it is not allowed, shape (state, symbol). State 0 is the
            start; the last state is the accepting one, where nothing is allowed any more.
        digits: the value of each symbol that is a digit, NaN for the others, shape (symbol,).
        rows: the same on the host: for each state, the state after each symbol that may follow.
        label_paths: the path of each label, in the target's order; empty for a number.
        max_length: tokens of the longest path, the end token included.
    """

    symbols: Int[Tensor, " symbol"]
    digits: Float[Tensor, " symbol"]
    transitions: Int[Tensor, "state symbol"]

    def __init__(self, target: Target, vocabulary: TargetVocabulary) -> None:
        super().__init__()
        self.target = target
        arcs, paths = (
            _number_arcs(target, vocabulary) if isinstance(target, Number) else _label_arcs(target, vocabulary)
        )
        tokens = sorted({token for step in arcs for token in step if token != vocabulary.end_id})
        tokens.append(vocabulary.end_id)
        if len(arcs) * len(tokens) > MAX_TABLE_CELLS:
            raise TargetError(
                f"Expected a target automaton of at most {MAX_TABLE_CELLS:,} cells, found {len(arcs)} states and "
                f"{len(tokens)} tokens. Use fewer or shorter label words (--label-text)."
            )
        position = {token: symbol for symbol, token in enumerate(tokens)}
        transitions = torch.full((len(arcs), len(tokens)), -1, dtype=torch.long)
        for state, step in enumerate(arcs):
            for token, after in step.items():
                transitions[state, position[token]] = after
        self.register_buffer("symbols", torch.tensor(tokens, dtype=torch.long), persistent=False)
        self.register_buffer("transitions", transitions, persistent=False)
        # Symbols are chosen on the device; paths are built and read back on the host.
        self.rows: list[dict[int, int]] = [{position[token]: after for token, after in step.items()} for step in arcs]
        self.label_paths = [tuple(position[token] for token in path) for path in paths]
        self._label_of_path = {path: index for index, path in enumerate(self.label_paths)}
        self._characters: dict[int, str] = {}
        if isinstance(target, Number):
            for character in "0123456789.-":
                symbol = position.get(vocabulary.symbol_id(character))
                if symbol is not None:
                    self._characters[symbol] = character
        digits = torch.full((len(tokens),), float("nan"))
        for symbol, character in self._characters.items():
            if character.isdecimal():
                digits[symbol] = float(character)
        self.register_buffer("digits", digits, persistent=False)
        self._symbol_of_character = {character: symbol for symbol, character in self._characters.items()}
        self._backwards = _backwards(self.rows)
        self.max_length = self._longest_path()

    @property
    def num_symbols(self) -> int:
        """The size of the target's own alphabet."""
        return len(self.symbols)

    @property
    def num_states(self) -> int:
        """The number of the automaton's states."""
        return len(self.rows)

    @property
    def num_targets(self) -> int:
        """The number of values, each of which has one path."""
        counts = dict.fromkeys([self.accepting_state], 1)
        for state in self._backwards:
            counts[state] = sum(counts[after] for after in self.rows[state].values())
        return counts[0]

    def _longest_path(self) -> int:
        """Returns the number of symbols of the longest path."""
        longest = {self.accepting_state: 0}
        for state in self._backwards:
            longest[state] = 1 + max(longest[after] for after in self.rows[state].values())
        return longest[0]

    @property
    def num_decisions(self) -> int:
        """The most symbols of a path that had a choice."""
        decisions = {self.accepting_state: 0}
        for state in self._backwards:
            row = self.rows[state]
            decisions[state] = (len(row) > 1) + max(decisions[after] for after in row.values())
        return decisions[0]

    def states_that_decide(self, *, full: bool) -> list[bool]:
        """Returns for each state whether its symbol, or one further on, is a decision.

        Args:
            full: count forced symbols as decisions, as the softmax over the whole vocabulary makes them.
        """
        decides = [False] * self.num_states
        for state in self._backwards:
            row = self.rows[state]
            decides[state] = full or len(row) > 1 or any(decides[after] for after in row.values())
        return decides

    @property
    def end_symbol(self) -> int:
        """The symbol that ends every path."""
        return self.num_symbols - 1

    @property
    def accepting_state(self) -> int:
        """The state after the end symbol."""
        return self.num_states - 1

    def path(self, value: Any) -> tuple[int, ...]:
        """Returns the one path of a value.

        Raises:
            TargetError: the value is no label of the target.
        """
        if isinstance(self.target, Number):
            text = self.target.to_text(value)
            return (*(self._symbol_of_character[character] for character in text), self.end_symbol)
        index = self.target.index(value)
        if index is None:
            self.target.parse(value)
            raise AssertionError("parse refuses every value that has no index")
        return self.label_paths[index]

    def settle(self, prefix: Sequence[int]) -> tuple[int, ...]:
        """Returns a prefix with all that is forced after it; a path, if everything is."""
        settled = list(prefix)
        state = self.state_after(settled)
        while len(self.rows[state]) == 1:
            (symbol,) = self.rows[state]
            settled.append(symbol)
            state = self.rows[state][symbol]
        return tuple(settled)

    def range_of(self, prefix: Sequence[int]) -> tuple[float, float]:
        """Returns the smallest and the largest number that begin with a prefix."""
        start = "".join(self._characters[symbol] for symbol in prefix)
        ends = [float(start + rest) for rest in self._extreme_rests[self.state_after(prefix)]]
        return min(ends), max(ends)

    @cached_property
    def _extreme_rests(self) -> dict[int, list[str]]:
        """The first and the last text of each length and sign that a number may go on with, for every state."""
        rests: dict[int, list[str]] = {self.accepting_state: [""]}
        for state in self._backwards:
            alike: dict[tuple[int, bool], list[str]] = {}
            for symbol, after in self.rows[state].items():
                for rest in rests[after]:
                    text = self._characters.get(symbol, "") + rest
                    alike.setdefault((len(text), text.startswith("-")), []).append(text)
            rests[state] = [one for texts in alike.values() for one in {min(texts), max(texts)}]
        return rests

    def state_after(self, prefix: Sequence[int]) -> int:
        """Returns the state after a prefix, −1 if it leads nowhere."""
        state = 0
        for symbol in prefix:
            state = self.rows[state].get(symbol, -1)
            if state < 0:
                break
        return state

    def read(self, path: Sequence[int]) -> tuple[Any, str] | None:
        """Returns the value and the text of a path, or None if the path is no value's.

        Args:
            path: symbols, the end symbol included.
        """
        if self.state_after(path) != self.accepting_state:
            return None
        if isinstance(self.target, Number):
            text = "".join(self._characters[symbol] for symbol in path[:-1])
            return float(text), text
        index = self._label_of_path[tuple(path)]
        return self.target.values[index], self.target.words[index]

    def value_of(self, path: Sequence[int]) -> Any:
        """Returns the value of a path that is known to be one."""
        answer = self.read(path)
        assert answer is not None
        return answer[0]

    def encode(self, values: Sequence[Any]) -> EncodedTargets:
        """Returns the paths of a batch of values, on the codec's device."""
        paths = [self.path(value) for value in values]
        length = max((len(path) for path in paths), default=0)
        symbols = torch.zeros(len(paths), length, dtype=torch.long)
        mask = torch.zeros(len(paths), length, dtype=torch.bool)
        states = torch.full((len(paths), length), self.accepting_state, dtype=torch.long)
        for row, path in enumerate(paths):
            state = 0
            for position, symbol in enumerate(path):
                symbols[row, position], mask[row, position], states[row, position] = symbol, True, state
                state = self.rows[state][symbol]
        device = self.symbols.device
        return EncodedTargets(symbols.to(device), mask.to(device), states.to(device))

    def allowed(self, states: Int[Tensor, "*batch"]) -> Bool[Tensor, "*batch symbol"]:
        """Returns which symbols may follow each state."""
        return self.transitions[states] >= 0

    def log_probabilities(
        self, logits: Float[Tensor, "*batch vocab"], states: Int[Tensor, "*batch"], *, full: bool = False
    ) -> Float[Tensor, "*batch symbol"]:
        """Returns the Writer's log-probability of each symbol, −inf where it is not allowed.

        Args:
            logits: the backbone's logits over its whole vocabulary.
            states: the automaton's state of each row.
            full: normalize over the whole vocabulary (the paper's form) instead of over the allowed symbols. Then
                the probabilities of all targets sum to less than 1, by the mass that falls on other tokens.
        """
        allowed = self.allowed(states)
        # An accepting state allows nothing: all of its row would be −inf, and its gradient NaN.
        closed = ~allowed.any(dim=-1, keepdim=True)
        if full:
            scores = torch.log_softmax(logits.float(), dim=-1)[..., self.symbols]
        else:
            scores = logits[..., self.symbols].float().masked_fill(~(allowed | closed), float("-inf"))
            scores = torch.log_softmax(scores, dim=-1)
        return scores.masked_fill(~allowed & ~closed, float("-inf"))

    def forced(self, states: Int[Tensor, "*batch"]) -> Bool[Tensor, "*batch"]:
        """Returns in which states exactly one symbol is allowed."""
        return self.allowed(states).sum(dim=-1) == 1


def _label_arcs(target: Label, vocabulary: TargetVocabulary) -> tuple[list[dict[int, int]], list[list[int]]]:
    """Returns the trie of the labels' tokens and each label's path, both in token ids."""
    paths = [[*ids, vocabulary.end_id] for ids in vocabulary.word_ids(target.words)]
    seen: dict[tuple[int, ...], int] = {}
    for index, path in enumerate(paths):
        other = seen.setdefault(tuple(path), index)
        if other != index:
            raise TargetError(
                f"Expected different tokens for every label, found the same ones for '{target.words[other]}' and "
                f"'{target.words[index]}' with this backbone's tokenizer. Give other words with --label-text, or "
                "letter codes with --set label_codes=true."
            )
        if len(path) == 1:
            raise TargetError(
                f"Expected at least one token for the label word '{target.words[index]}', found none with this "
                "backbone's tokenizer. Give another word with --label-text."
            )
    arcs: list[dict[int, int]] = [{}]
    ends = []
    for path in paths:
        state = 0
        for token in path[:-1]:
            if token == vocabulary.end_id:
                raise TargetError("Expected label words without the end token. Give other words with --label-text.")
            if token not in arcs[state]:
                arcs.append({})
                arcs[state][token] = len(arcs) - 1
            state = arcs[state][token]
        ends.append(state)
    arcs.append({})
    for state in ends:
        arcs[state][vocabulary.end_id] = len(arcs) - 1
    return arcs, paths


# One run of numbers that share the digits written so far: digits still to come, the smallest and the largest
# remainder that stays in the range, and whether the point has been written.
_Run = tuple[int, int, int, bool]


def _number_arcs(target: Number, vocabulary: TargetVocabulary) -> tuple[list[dict[int, int]], list[list[int]]]:
    """Returns the digit automaton of a number in token ids; states that accept the same rest are one state."""
    low, high, decimals = target.low_units, target.high_units, target.decimals

    def start_runs(smallest: int, largest: int) -> frozenset[_Run]:
        """Returns the runs of the magnitudes from smallest to largest, one for each number of digits."""
        runs = set()
        for digits in range(decimals + 1, len(str(largest)) + 1 if largest >= 10**decimals else decimals + 2):
            # The shortest form may begin with 0 (0.25); longer ones may not (no leading zeros).
            first = max(smallest, 0 if digits == decimals + 1 else 10 ** (digits - 1))
            last = min(largest, 10**digits - 1)
            if first <= last:
                runs.add((digits, first, last, False))
        return frozenset(runs)

    def follow(runs: frozenset[_Run]) -> dict[str, frozenset[_Run]]:
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

    def step(key: Hashable) -> dict[str, Hashable]:
        if key != "start":
            return dict(follow(key))  # type: ignore[arg-type]
        first: dict[str, Hashable] = dict(follow(start_runs(max(low, 0), high))) if high >= 0 else {}
        if low < 0:  # magnitudes from 1: there is no −0
            first["-"] = start_runs(max(1, -high), -low)
        return first

    characters = _explore("start", step)
    arcs = [
        {
            (vocabulary.end_id if character == END else vocabulary.symbol_id(character)): after
            for character, after in one.items()
        }
        for one in characters
    ]
    return arcs, []


def _explore(start: Hashable, step: Callable[[Any], dict[str, Hashable]]) -> list[dict[str, int]]:
    """Returns the automaton reachable from `start`, its accepting state last."""
    number = {start: 0}
    queue: list[Hashable] = [start]
    rows: list[dict[str, int]] = []
    while len(rows) < len(queue):
        row: dict[str, int] = {}
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


def _backwards(rows: list[dict[int, int]]) -> list[int]:
    """Returns the states but the accepting one, each after all that may follow it; the automaton has no cycles."""
    done = {len(rows) - 1}
    order: list[int] = []
    stack = [0]
    while stack:
        missing = [after for after in rows[stack[-1]].values() if after not in done]
        if missing:
            stack.extend(missing)
            continue
        state = stack.pop()
        if state not in done:
            done.add(state)
            order.append(state)
    return order
