"""Values to target tokens and back: the target automaton, held as device tables.

Every value of a target has exactly one path through the automaton. A path is a row of *symbols*, positions in the
codec's own small alphabet (the tokens that some value needs, the end token last). `symbols` maps them to the
backbone's token ids. A label set is a trie; a number is a small automaton over digits, sign and point.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.codec.numbers import END, likeness, number_rows
from predgen.codec.words import COMMA, TargetVocabulary, label_arcs, set_arcs
from predgen.errors import TargetError
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet
from predgen.targets.number import Number, written_value
from predgen.targets.record import SEMICOLON, Record, Target

# Dense tables of more cells than this would not fit beside a model; no label set of a sane size comes near.
MAX_TABLE_CELLS = 200_000_000


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
        label_paths: the path of each label, in the target's order; empty for other targets.
        field_of_state: the place of the field whose symbols are chosen in each state; 0 for a target that is no record.
        max_length: tokens of the longest path, the end token included.
    """

    symbols: Int[Tensor, " symbol"]
    digits: Float[Tensor, " symbol"]
    transitions: Int[Tensor, "state symbol"]
    field_of_state: Int[Tensor, " state"]

    def __init__(self, target: Target, vocabulary: TargetVocabulary, *, end_id: int | None = None) -> None:
        """Builds the automaton.

        Args:
            target: what is predicted.
            vocabulary: the backbone's tokens.
            end_id: the token that ends a path; the vocabulary's own if not given. A field of a record ends with the
                semicolon, the last one with the end token.

        Raises:
            TargetError: the tokens of two labels cannot be told apart, or there are too many states.
        """
        super().__init__()
        self.target = target
        end_id = vocabulary.end_id if end_id is None else end_id
        self._fields = nn.ModuleList()
        arcs: list[dict[int, int]]
        paths: list[list[int]] = []
        fields: list[int] = []
        if isinstance(target, Record):
            ends = [vocabulary.symbol_id(SEMICOLON)] * (len(target.fields) - 1) + [end_id]
            self._fields.extend(
                Codec(field, vocabulary, end_id=end) for field, end in zip(target.fields.values(), ends, strict=True)
            )
            arcs, fields = _record_arcs(self.parts)
        elif isinstance(target, Number):
            arcs, _ = _number_arcs(target, vocabulary, end_id)
        elif isinstance(target, LabelSet):
            arcs, paths = set_arcs(target, vocabulary, end_id)
        else:
            arcs, paths = label_arcs(target, vocabulary, end_id)
        tokens = sorted({token for step in arcs for token in step if token != end_id})
        tokens.append(end_id)
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
        # Of a set: its labels' words and the empty one, which are no paths.
        words = [tuple(position[token] for token in path) for path in paths]
        self._place_of_word = {path: place for place, path in enumerate(words)}
        self._words = words
        self._comma = position.get(vocabulary.symbol_id(COMMA), -1) if isinstance(target, LabelSet) else -1
        self.label_paths = words if isinstance(target, Label) else []
        self.register_buffer("field_of_state", torch.tensor(fields or [0] * len(arcs)), persistent=False)
        own = self.parts if isinstance(target, Record) else []
        self._own_symbols = [[position[token] for token in part.symbols.tolist()] for part in own]
        self._characters: dict[int, str] = {}
        if isinstance(target, Number):
            for character in target.characters:
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

    @property
    def parts(self) -> "list[Codec]":
        """The codec of each field, over its own symbols; itself for a target that is no record."""
        return [part for part in self._fields if isinstance(part, Codec)] or [self]

    def path(self, value: Any) -> tuple[int, ...]:
        """Returns the one path of a value.

        Raises:
            TargetError: the value is no value of the target.
        """
        target = self.target
        if isinstance(target, Record):
            pairs = zip(target.fields, self.parts, self._own_symbols, strict=True)
            return tuple(own[symbol] for name, part, own in pairs for symbol in part.path(value[name]))
        if isinstance(target, Number):
            text = target.to_text(value)
            return (*(self._symbol_of_character[character] for character in text), self.end_symbol)
        if isinstance(target, LabelSet):
            words = [self._words[place] for place in target.positions(target.parse(value))] or [self._words[-1]]
            return (*words[0], *(symbol for word in words[1:] for symbol in (self._comma, *word)), self.end_symbol)
        index = target.index(value)
        if index is None:
            target.parse(value)
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
        ends = [written_value(start + rest) for rest in self._extreme_rests[self.state_after(prefix)]]
        return min(ends), max(ends)

    @cached_property
    def _extreme_rests(self) -> dict[int, list[str]]:
        """The texts that a number may go on with at least, for every state: the first and the last of those alike."""
        rests: dict[int, list[str]] = {self.accepting_state: [""]}
        for state in self._backwards:
            alike: dict[Hashable, list[str]] = {}
            for symbol, after in self.rows[state].items():
                for rest in rests[after]:
                    text = self._characters.get(symbol, "") + rest
                    alike.setdefault(likeness(text), []).append(text)
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
        target = self.target
        if isinstance(target, Record):
            found = [part.value_and_text(own) for part, own in zip(self.parts, self.spans(path), strict=True)]
            values = {name: value for name, (value, _) in zip(target.fields, found, strict=True)}
            return values, "; ".join(text for _, text in found)
        if isinstance(target, Number):
            text = "".join(self._characters[symbol] for symbol in path[:-1])
            return written_value(text), text
        if isinstance(target, LabelSet):
            words: list[list[int]] = [[]]
            for symbol in path[:-1]:
                if symbol == self._comma:
                    words.append([])
                else:
                    words[-1].append(symbol)
            places = [self._place_of_word[tuple(word)] for word in words]
            value = tuple(target.values[place] for place in places if place < len(target.values))
            return value, target.to_text(value)
        index = self._place_of_word[tuple(path)]
        return target.values[index], target.words[index]

    def spans(self, path: Sequence[int]) -> list[tuple[int, ...]]:
        """Returns each field's own path, in its own symbols, from a record's path."""
        found: list[list[int]] = [[] for _ in self.parts]
        state = 0
        fields = self._host_fields
        for symbol in path:
            found[fields[state]].append(symbol)
            state = self.rows[state][symbol]
        if not self._own_symbols:
            return [tuple(found[0])]
        return [tuple(own.index(symbol) for symbol in span) for own, span in zip(self._own_symbols, found, strict=True)]

    @cached_property
    def _host_fields(self) -> list[int]:
        fields: list[int] = self.field_of_state.tolist()
        return fields

    def to_whole(self, place: int, symbols: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
        """Returns a field's own symbols as those of the whole target."""
        if not self._own_symbols:
            return symbols
        return torch.tensor(self._own_symbols[place], device=symbols.device)[symbols]

    def fields_along(
        self, symbols: Int[Tensor, "batch target"], mask: Bool[Tensor, "batch target"]
    ) -> Int[Tensor, "batch target"]:
        """Returns the place of the field that each symbol of some paths belongs to.

        Args:
            symbols: paths of values.
            mask: which positions belong to them.
        """
        if not self._own_symbols:
            return torch.zeros_like(symbols)
        state = torch.zeros(len(symbols), dtype=torch.long, device=symbols.device)
        columns = []
        for step in range(symbols.shape[1]):
            columns.append(self.field_of_state[state])
            state = torch.where(mask[:, step], self.transitions[state, symbols[:, step]], state)
        return torch.stack(columns, dim=1)

    def value_of(self, path: Sequence[int]) -> Any:
        """Returns the value of a path that is known to be one."""
        return self.value_and_text(path)[0]

    def value_and_text(self, path: Sequence[int]) -> tuple[Any, str]:
        """Returns the value and the text of a path that is known to be one."""
        answer = self.read(path)
        assert answer is not None
        return answer

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
        self,
        logits: Float[Tensor, "*batch kept"],
        states: Int[Tensor, "*batch"],
        *,
        full: bool = False,
        vocabulary: Int[Tensor, " kept"] | None = None,
    ) -> Float[Tensor, "*batch symbol"]:
        """Returns the Writer's log-probability of each symbol, −inf where it is not allowed.

        Args:
            logits: the backbone's logits over its whole vocabulary, or over the tokens of `vocabulary`.
            states: the automaton's state of each row.
            full: normalize over the whole vocabulary (the paper's form) instead of over the allowed symbols. Then
                the probabilities of all targets sum to less than 1, by the mass that falls on other tokens.
            vocabulary: the tokens that the logits are of, all symbols among them; None for the whole vocabulary.
        """
        allowed = self.allowed(states)
        # An accepting state allows nothing: all of its row would be −inf, and its gradient NaN.
        closed = ~allowed.any(dim=-1, keepdim=True)
        if full:
            assert vocabulary is None  # the softmax needs all logits
            scores = torch.log_softmax(logits.float(), dim=-1)[..., self.symbols]
        else:
            own = logits if vocabulary is self.symbols else logits[..., self._columns(vocabulary)]
            scores = own.float().masked_fill(~(allowed | closed), float("-inf"))
            scores = torch.log_softmax(scores, dim=-1)
        return scores.masked_fill(~allowed & ~closed, float("-inf"))

    def _columns(self, vocabulary: Int[Tensor, " kept"] | None) -> Int[Tensor, " symbol"]:
        """Returns where each symbol's logits are among those of some tokens."""
        if vocabulary is None:
            return self.symbols
        return (self.symbols.unsqueeze(1) == vocabulary).to(torch.int8).argmax(dim=1)

    def forced(self, states: Int[Tensor, "*batch"]) -> Bool[Tensor, "*batch"]:
        """Returns in which states exactly one symbol is allowed."""
        return self.allowed(states).sum(dim=-1) == 1


def _record_arcs(parts: Sequence[Codec]) -> tuple[list[dict[int, int]], list[int]]:
    """Returns the automata of a record's fields one after the other, in token ids, and each state's field."""
    arcs: list[dict[int, int]] = []
    fields: list[int] = []
    for place, part in enumerate(parts):
        tokens = part.symbols.tolist()
        # Where a field's automaton accepts, the next one's begins.
        arcs += [{tokens[symbol]: after + len(fields) for symbol, after in row.items()} for row in part.rows[:-1]]
        fields += [place] * (part.num_states - 1)
    return [*arcs, {}], [*fields, len(parts) - 1]


def _number_arcs(
    target: Number, vocabulary: TargetVocabulary, end_id: int
) -> tuple[list[dict[int, int]], list[list[int]]]:
    """Returns the digit automaton of a number in token ids; states that accept the same rest are one state."""
    characters = number_rows(target)
    arcs = [
        {(end_id if character == END else vocabulary.symbol_id(character)): after for character, after in one.items()}
        for one in characters
    ]
    return arcs, []


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
