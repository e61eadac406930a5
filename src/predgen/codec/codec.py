"""Values to target tokens and back: the target automaton, held as device tables.

Every value of a target has exactly one path through the automaton. A path is a row of *symbols*, positions in the
codec's own small alphabet (the tokens that some value needs, the end token last). `symbols` maps them to the
backbone's token ids. What the automaton of one field is, its kind says (`predgen.codec.kinds.PATHS`).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.codec.automaton import Automaton
from predgen.codec.base import Paths, TargetVocabulary
from predgen.codec.kinds import paths_of
from predgen.codec.number import likeness
from predgen.errors import TargetError
from predgen.targets.record import SEMICOLON, Target

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
        automaton: its states and symbols on the host, where paths are built and read back.
        symbols: token id of each symbol, shape (symbol,). The last symbol is the end token.
        transitions: the state after a symbol, −1 where it is not allowed, shape (state, symbol). State 0 is the
            start; the last state is the accepting one, where nothing is allowed any more.
        digits: the value of each symbol that is a digit, NaN for the others, shape (symbol,).
        field_of_state: the index of the field whose symbols are chosen in each state; 0 for a target that is no record.
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
        fields = list(target.fields.values())
        self._fields = nn.ModuleList()
        self._paths: Paths[Any] | None = None
        if len(fields) == 1:
            self._paths = paths_of(fields[0], vocabulary, end_id)
            arcs, field_of_state = self._paths.arcs, [0] * len(self._paths.arcs)
        else:
            ends = [vocabulary.symbol_id(SEMICOLON)] * (len(fields) - 1) + [end_id]
            self._fields.extend(Codec(field, vocabulary, end_id=end) for field, end in zip(fields, ends, strict=True))
            arcs, field_of_state = _record_arcs(self.field_codecs)
        tokens = sorted({token for step in arcs for token in step if token != end_id})
        tokens.append(end_id)
        if len(arcs) * len(tokens) > MAX_TABLE_CELLS:
            raise TargetError(
                f"Expected a target automaton of at most {MAX_TABLE_CELLS:,} cells, found {len(arcs)} states and "
                f"{len(tokens)} tokens. Use fewer or shorter label words (--label-text)."
            )
        self._tokens = tokens
        self._symbol_of_token = {token: symbol for symbol, token in enumerate(tokens)}
        self.automaton = Automaton(
            [{self._symbol_of_token[token]: after for token, after in step.items()} for step in arcs]
        )
        self.max_length = self.automaton.longest_path
        self.register_buffer("symbols", torch.tensor(tokens, dtype=torch.long), persistent=False)
        self.register_buffer("transitions", self._transition_table(), persistent=False)
        self.register_buffer("digits", self._digit_values(), persistent=False)
        self.register_buffer("field_of_state", torch.tensor(field_of_state), persistent=False)
        self.prior: nn.Parameter | None = None

    def add_prior(self) -> None:
        """Adds a table to the logits of each symbol in each state: zeros, to be filled and trained."""
        self.prior = nn.Parameter(torch.zeros(self.num_states, self.num_symbols, device=self.symbols.device))

    def _transition_table(self) -> Int[Tensor, "state symbol"]:
        """Returns the state after each symbol of each state, −1 where it is not allowed."""
        transitions = torch.full((self.num_states, len(self._tokens)), -1, dtype=torch.long)
        for state, row in enumerate(self.rows):
            for symbol, after in row.items():
                transitions[state, symbol] = after
        return transitions

    def _digit_values(self) -> Float[Tensor, " symbol"]:
        """Returns the value of each symbol that is a number's digit, NaN for the others."""
        digits = torch.full((len(self._tokens),), float("nan"))
        for symbol in range(len(self._tokens)):
            character = self._character(symbol)
            if character.isdecimal():
                digits[symbol] = float(character)
        return digits

    def _character(self, symbol: int) -> str:
        """Returns the character that a symbol of a number writes; nothing for other symbols."""
        return "" if self._paths is None else self._paths.character(self._tokens[symbol])

    @property
    def rows(self) -> Sequence[dict[int, int]]:
        """For each state, the state after each symbol that may follow."""
        return self.automaton.rows  # type: ignore[return-value]

    @property
    def num_symbols(self) -> int:
        """The size of the target's own alphabet."""
        return len(self._tokens)

    @property
    def num_states(self) -> int:
        """The number of the automaton's states."""
        return self.automaton.num_states

    @property
    def num_targets(self) -> int:
        """The number of values, each of which has one path."""
        return self.automaton.num_paths

    @property
    def num_decisions(self) -> int:
        """The most symbols of a path that had a choice."""
        return self.automaton.num_decisions

    @property
    def end_symbol(self) -> int:
        """The symbol that ends every path."""
        return self.num_symbols - 1

    @property
    def accepting_state(self) -> int:
        """The state after the end symbol."""
        return self.automaton.accepting_state

    @property
    def field_codecs(self) -> "list[Codec]":
        """The codec of each field, over its own symbols; itself for a target that is no record."""
        return [field for field in self._fields if isinstance(field, Codec)] or [self]

    @property
    def num_fields(self) -> int:
        """How many fields the target has."""
        return max(1, len(self._fields))

    @property
    def paths(self) -> Paths[Any]:
        """The paths of the only field; of a record, only its fields have paths."""
        assert self._paths is not None
        return self._paths

    def path(self, value: Any) -> tuple[int, ...]:
        """Returns the one path of a value.

        Raises:
            TargetError: the value is no value of the target.
        """
        if self._paths is not None:
            return tuple(self._symbol_of_token[token] for token in self._paths.path(value))
        fields = zip(self.target.fields, self.field_codecs, self._symbols_of_fields, strict=True)
        return tuple(
            symbols[symbol] for name, field_codec, symbols in fields for symbol in field_codec.path(value[name])
        )

    def settle(self, prefix: Sequence[int]) -> tuple[int, ...]:
        """Returns a prefix extended by the forced symbols; a whole path, if all remaining symbols are forced."""
        return self.automaton.settle(prefix)

    def state_after(self, prefix: Sequence[int]) -> int:
        """Returns the state after a prefix, −1 if it leads nowhere."""
        return self.automaton.state_after(prefix)

    def range_of(self, prefix: Sequence[int]) -> tuple[float, float]:
        """Returns the smallest and the largest number that begin with a prefix."""
        start = "".join(map(self._character, prefix))
        ends = [self.paths.number_of(start + rest) for rest in self._extreme_rests[self.state_after(prefix)]]
        return min(ends), max(ends)

    @cached_property
    def _extreme_rests(self) -> dict[int, list[str]]:
        """The texts that a number may go on with at least, for every state: the first and the last of those alike."""
        rests: dict[int, list[str]] = {self.accepting_state: [""]}
        for state in self.automaton.backwards:
            alike: dict[Hashable, list[str]] = {}
            for symbol, after in self.rows[state].items():
                for rest in rests[after]:
                    text = self._character(symbol) + rest
                    alike.setdefault(likeness(text), []).append(text)
            rests[state] = [text for texts in alike.values() for text in {min(texts), max(texts)}]
        return rests

    def read(self, path: Sequence[int]) -> tuple[Any, str] | None:
        """Returns the value and the text of a path, or None if the path is no value's.

        Args:
            path: symbols, the end symbol included.
        """
        if self.state_after(path) != self.accepting_state:
            return None
        if self._paths is not None:
            return self._paths.read([self._tokens[symbol] for symbol in path])
        answers = [
            field_codec.value_and_text(span)
            for field_codec, span in zip(self.field_codecs, self.spans(path), strict=True)
        ]
        values = {name: value for name, (value, _) in zip(self.target.fields, answers, strict=True)}
        return values, "; ".join(text for _, text in answers)

    def spans(self, path: Sequence[int]) -> list[tuple[int, ...]]:
        """Returns each field's own path, in its own symbols, from a record's path."""
        if self._paths is not None:
            return [tuple(path)]
        spans: list[list[int]] = [[] for _ in self.field_codecs]
        state = 0
        for symbol in path:
            spans[self._host_fields[state]].append(symbol)
            state = self.rows[state][symbol]
        pairs = zip(self._symbols_of_fields, spans, strict=True)
        return [tuple(symbols.index(symbol) for symbol in span) for symbols, span in pairs]

    @cached_property
    def _symbols_of_fields(self) -> list[list[int]]:
        """The whole target's symbol of each field's own symbols; nothing for a target that is no record."""
        if self._paths is not None:
            return []
        return [
            [self._symbol_of_token[token] for token in field_codec.symbols.tolist()]
            for field_codec in self.field_codecs
        ]

    @cached_property
    def _host_fields(self) -> list[int]:
        fields: list[int] = self.field_of_state.tolist()
        return fields

    def to_whole(self, field_index: int, symbols: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
        """Returns a field's own symbols as those of the whole target."""
        if not self._symbols_of_fields:
            return symbols
        return torch.tensor(self._symbols_of_fields[field_index], device=symbols.device)[symbols]

    def fields_along(
        self, symbols: Int[Tensor, "batch target"], mask: Bool[Tensor, "batch target"]
    ) -> Int[Tensor, "batch target"]:
        """Returns the index of the field that each symbol of some paths belongs to.

        Args:
            symbols: paths of values.
            mask: which positions belong to them.
        """
        if not self._symbols_of_fields:
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
            symbol_logits = logits if vocabulary is self.symbols else logits[..., self._columns(vocabulary)]
            known = symbol_logits.float() if self.prior is None else symbol_logits.float() + self.prior[states]
            scores = known.masked_fill(~(allowed | closed), float("-inf"))
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


def _record_arcs(field_codecs: Sequence[Codec]) -> tuple[list[dict[int, int]], list[int]]:
    """Returns the automata of a record's fields one after the other, in token ids, and each state's field."""
    arcs: list[dict[int, int]] = []
    fields: list[int] = []
    for field_index, field_codec in enumerate(field_codecs):
        tokens = field_codec.symbols.tolist()
        # Where a field's automaton accepts, the next one's begins.
        arcs += [
            {tokens[symbol]: after + len(fields) for symbol, after in row.items()} for row in field_codec.rows[:-1]
        ]
        fields += [field_index] * (field_codec.num_states - 1)
    return [*arcs, {}], [*fields, len(field_codecs) - 1]
