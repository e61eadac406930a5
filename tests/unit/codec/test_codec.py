"""The target automaton: every value has exactly one path, and nothing else has one."""

import itertools
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from predgen.codec import codec as codec_module
from predgen.codec.codec import Codec
from predgen.errors import TargetError
from predgen.targets.cells import LabelValue
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet
from predgen.targets.number import Number
from predgen.targets.record import Record, Target
from tests.unit.targets.test_targets import exact, listed_of, small_scientific, wide_scientific

PROPERTY = settings(max_examples=60)
VOCAB_SIZE = 160
CANONICAL = re.compile(r"(?!-0(\.0*)?$)-?(0|[1-9]\d*)(\.\d+)?")
SCIENTIFIC = re.compile(r"0|(-?)e(0|-?[1-9]\d*)\*([1-9](?:\.\d+)?)")


class Vocabulary:
    """A token for every ASCII character, in an order that is nobody's; the end token lies among them."""

    end_id = 77

    def symbol_id(self, character: str) -> int:
        return self.word_ids([character])[0][0]

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        ids = [[(37 * ord(character) + 5) % 151 for character in word] for word in words]
        return [[token + (token >= self.end_id) for token in word] for word in ids]


class Uncased(Vocabulary):
    """Capital letters are lost, and letters outside of ASCII altogether."""

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        return super().word_ids([word.lower().encode("ascii", "ignore").decode() for word in words])


class Ending(Vocabulary):
    """A `$` is taken for the end token."""

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        return [[self.end_id if one == "$" else self.symbol_id(one) for one in word] for word in words]

    def symbol_id(self, character: str) -> int:
        return super().word_ids([character])[0][0] if character != "$" else self.end_id


CHARACTER = {Vocabulary().symbol_id(chr(code)): chr(code) for code in range(128)}


@st.composite
def small_numbers(draw: st.DrawFn) -> Number:
    """Returns numbers of few enough values to list, of either form: negative, positive, or on both sides of zero."""
    if draw(st.booleans()):
        return draw(small_scientific(max_values=150))
    decimals = draw(st.integers(0, 4))
    start = draw(
        st.sampled_from([0, -1, 1, -50, 9, 95, -105, 995, -1005, 9990, 12345, -99999]) | st.integers(-300, 300)
    )
    low, high = start, start + draw(st.integers(1, 120))
    return Number(low / 10**decimals, high / 10**decimals, decimals)


@st.composite
def wide_numbers(draw: st.DrawFn) -> Number:
    decimals = draw(st.integers(0, 3))
    units = st.integers(-(10**12), 10**12) | st.sampled_from([0, 10**12, -(10**12), 10**11 - 1])
    low, high = sorted((draw(units), draw(units)))
    assume(low < high)
    return Number(low / 10**decimals, high / 10**decimals, decimals)


@st.composite
def labels(draw: st.DrawFn) -> Label:
    """Returns labels that share beginnings; many are the beginning of another."""
    words = draw(st.lists(st.text("ab", min_size=1, max_size=5), min_size=2, max_size=12, unique=True))
    values: list[LabelValue] = draw(st.sampled_from([list(words), list(range(len(words)))]))
    return Label(tuple(values), tuple(words))


@st.composite
def label_sets(draw: st.DrawFn) -> LabelSet:
    """Returns sets of up to four labels that share beginnings, with each other and with the word of the empty set."""
    words = draw(st.lists(st.text("abn", min_size=1, max_size=4), min_size=1, max_size=4, unique=True))
    empty = draw(st.sampled_from(["none", "n", "a"]))
    assume(empty not in words)
    return LabelSet(tuple(words), tuple(words), empty=empty)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Returns records of two or three fields with few values each."""
    few = labels().filter(lambda label: len(label.values) <= 4) | label_sets().filter(lambda one: len(one.values) <= 2)
    fields = draw(st.lists(few | small_scientific(max_values=6), min_size=2, max_size=3))
    return Record({f"field {place}": field for place, field in enumerate(fields)})


def targets() -> st.SearchStrategy[Target]:
    return small_numbers() | labels() | label_sets() | records()


def written(text: str) -> str:
    """Returns what is written for a text that people read: no spaces between labels or fields."""
    return text.replace(", ", ",").replace("; ", ";")


def values_of(target: Target) -> list[tuple[Any, str]]:
    """Returns every value and its text, without the target's own help."""
    if isinstance(target, Record):
        rows = itertools.product(*(values_of(field) for field in target.fields.values()))
        return [
            (
                {name: value for name, (value, _) in zip(target.fields, row, strict=True)},
                "; ".join(one for _, one in row),
            )
            for row in rows
        ]
    if isinstance(target, LabelSet):
        pairs = list(zip(target.values, target.words, strict=True))
        chosen = [one for size in range(len(pairs) + 1) for one in itertools.combinations(pairs, size)]
        return [
            (tuple(value for value, _ in one), ", ".join(word for _, word in one) or target.empty) for one in chosen
        ]
    if isinstance(target, Label):
        return list(zip(target.values, target.words, strict=True))
    if target.form == "scientific":
        return [(float(value), text) for value, text in listed_of(target)]
    unit = Decimal(1).scaleb(-target.decimals)
    first, last = (int(Decimal(repr(end)) / unit) for end in (target.low, target.high))
    texts = [f"{units * unit:.{target.decimals}f}" for units in range(first, last + 1)]
    return [(float(text), text) for text in texts]


def walk(codec: Codec) -> list[tuple[int, ...]]:
    """Returns every path from the start to the accepting state, by the table of transitions alone."""
    transitions = codec.transitions.tolist()
    found, open_paths = [], [(0, ())]
    while open_paths:
        state, path = open_paths.pop()
        if state == len(transitions) - 1:
            found.append(path)
        open_paths += [(after, (*path, symbol)) for symbol, after in enumerate(transitions[state]) if after >= 0]
    return found


def text_of(codec: Codec, path: Sequence[int]) -> str:
    """Returns a path's text by its tokens; the end token must come last."""
    tokens = codec.symbols[list(path)].tolist()
    assert tokens[-1] == Vocabulary.end_id
    return "".join(CHARACTER[token] for token in tokens[:-1])


def logits_of_prefixes(codec: Codec, paths: Sequence[tuple[int, ...]], seed: int) -> Tensor:
    """Returns random logits for each position of each path: the same where the symbols before are the same."""
    generator = torch.Generator().manual_seed(seed)
    of_prefix: dict[tuple[int, ...], Tensor] = {}
    logits = torch.zeros(len(paths), codec.max_length, VOCAB_SIZE)
    for row, path in enumerate(paths):
        for position in range(len(path)):
            if path[:position] not in of_prefix:
                of_prefix[path[:position]] = 4 * torch.randn(VOCAB_SIZE, generator=generator)
            logits[row, position] = of_prefix[path[:position]]
    return logits


# ── Paths ────────────────────────────────────────────────────────────────────────────────────────────────────


@PROPERTY
@given(targets())
def test_the_paths_are_the_values(target: Target) -> None:
    codec = Codec(target, Vocabulary())
    paths, values = walk(codec), values_of(target)
    # As lists: a second path of one value would show.
    assert sorted(text_of(codec, path) for path in paths) == sorted(written(text) for _, text in values)
    assert codec.max_length == max(map(len, paths))
    for value, text in values:
        path = codec.path(value)
        assert text_of(codec, path) == written(text)
        assert codec.read(path) == (value, text)
        assert target.from_text(text) == value
        assert target.to_text(value) == text


@pytest.mark.parametrize(
    ("number", "texts"),
    [
        (Number(-1.0, 1.0, 0), ["-1", "0", "1"]),
        (Number(-0.2, 0.1, 1), ["-0.1", "-0.2", "0.0", "0.1"]),
        (Number(-11.0, -9.0, 0), ["-10", "-11", "-9"]),
        (Number(9.9, 10.1, 1), ["10.0", "10.1", "9.9"]),
        (Number(0.5, 1.4, 0), ["1"]),
        (Number(-0.4, 0.4, 0), ["0"]),
        (Number(0.0, 0.02, 2), ["0.00", "0.01", "0.02"]),
        (Number(8.0, 20.0, 0, form="scientific"), ["e0*8", "e0*9", "e1*1", "e1*2"]),
        (Number(0.98, 1.1, 1, form="scientific"), ["e-1*9.8", "e-1*9.9", "e0*1.0", "e0*1.1"]),
        (
            Number(-0.8, 9.0, 0, form="scientific", smallest=0.7),
            ["-e-1*7", "-e-1*8", "0", "e-1*7", "e-1*8", "e-1*9"] + [f"e0*{digit}" for digit in range(1, 10)],
        ),
        (Number(-2e-9, 0.0, 0, form="scientific", smallest=1e-9), ["-e-9*1", "-e-9*2", "0"]),
    ],
)
def test_known_numbers(number: Number, texts: list[str]) -> None:
    codec = Codec(number, Vocabulary())
    assert sorted(text_of(codec, path) for path in walk(codec)) == texts


def random_path(codec: Codec, generator: torch.Generator) -> list[int]:
    """Returns the symbols of a walk from the start to the accepting state, each drawn from those that may follow."""
    state, written = 0, []
    while state != codec.accepting_state:
        choices = (codec.transitions[state] >= 0).nonzero().flatten()
        written.append(int(choices[torch.randint(len(choices), (1,), generator=generator)]))
        state = int(codec.transitions[state, written[-1]])
    return written


@PROPERTY
@given(number=wide_numbers(), seed=st.integers(0, 10**6))
def test_wide_numbers_keep_to_their_range_and_form(number: Number, seed: int) -> None:
    codec = Codec(number, Vocabulary())
    generator = torch.Generator().manual_seed(seed)
    for _ in range(5):
        written = random_path(codec, generator)
        text = text_of(codec, written)
        assert CANONICAL.fullmatch(text)
        assert Decimal(repr(number.low)) <= Decimal(text) <= Decimal(repr(number.high))
        assert len(text.partition(".")[2]) == number.decimals
        assert codec.read(written) == (float(text), text)
        assert codec.path(float(text)) == tuple(written)


@PROPERTY
@given(number=wide_scientific(), seed=st.integers(0, 10**6))
def test_wide_scientific_numbers_keep_to_their_range_and_form(number: Number, seed: int) -> None:
    codec = Codec(number, Vocabulary())
    generator = torch.Generator().manual_seed(seed)
    for _ in range(5):
        written = random_path(codec, generator)
        text = text_of(codec, written)
        found = SCIENTIFIC.fullmatch(text)
        assert found
        sign, exponent, mantissa = found.groups()
        value = Decimal(0) if exponent is None else Decimal(f"{sign}{mantissa}e{exponent}")
        assert exact(number.low) <= value <= exact(number.high)
        assert value == 0 or abs(value) >= exact(number.smallest)
        assert value == 0 or len(mantissa.partition(".")[2]) == number.decimals
        assert codec.read(written) == (float(value), text)
        assert codec.path(float(value)) == tuple(written)


@PROPERTY
@given(number=wide_scientific(), share=st.floats(0, 1))
def test_every_value_of_a_wide_scientific_number_has_its_path(number: Number, share: float) -> None:
    codec = Codec(number, Vocabulary())
    for value in (number.low + share * (number.high - number.low), number.low, number.high, number.smallest):
        text = number.to_text(value)
        path = codec.path(value)
        assert text_of(codec, path) == text
        read = codec.read(path)
        assert read is not None
        assert read[1] == text
        assert codec.path(read[0]) == path
    assert codec.num_targets == number.num_values
    assert codec.num_states <= 250


@PROPERTY
@given(small_numbers())
def test_the_range_of_a_prefix_is_that_of_the_numbers_that_begin_with_it(number: Number) -> None:
    codec = Codec(number, Vocabulary())
    beginning: dict[tuple[int, ...], list[float]] = {}
    for path in walk(codec):
        for length in range(len(path)):
            beginning.setdefault(path[:length], []).append(codec.value_of(path))
    for prefix, values in beginning.items():
        assert codec.range_of(prefix) == (min(values), max(values))


def test_the_range_of_a_prefix_whose_exponent_is_open() -> None:
    codec = Codec(Number(-1e12, 1e12, 1, form="scientific", smallest=1e-9), Vocabulary())

    def range_of(text: str) -> tuple[float, float]:
        return codec.range_of([codec.symbols.tolist().index(Vocabulary().symbol_id(one)) for one in text])

    assert range_of("") == (-1e12, 1e12)
    assert range_of("-") == (-1e12, -1e-9)
    assert range_of("e") == (1e-9, 1e12)
    assert range_of("e-") == (1e-9, 0.99)
    assert range_of("-e-") == (-0.99, -1e-9)
    assert range_of("e-9") == (1e-9, 9.9e-9)
    assert range_of("e1") == (10.0, 1e12)
    assert range_of("e12") == (1e12, 1e12)
    assert range_of("e0*") == (1.0, 9.9)
    assert range_of("-e1*3") == (-39.0, -30.0)
    assert range_of("-e1*3.4") == (-34.0, -34.0)
    assert range_of("0") == (0.0, 0.0)


@PROPERTY
@given(number=wide_numbers(), share=st.floats(0, 1))
def test_every_value_of_a_wide_number_has_its_path(number: Number, share: float) -> None:
    codec = Codec(number, Vocabulary())
    units = round(number.low_units + share * (number.high_units - number.low_units))
    for one in (units, number.low_units, number.high_units):
        text = f"{Decimal(one).scaleb(-number.decimals):.{number.decimals}f}"
        path = codec.path(float(text))
        assert text_of(codec, path) == text
        assert codec.read(path) == (float(text), text)
    ends = [len(number.to_text(end)) for end in (number.low, number.high)]
    assert codec.max_length == max(ends) + 1
    assert codec.num_states <= 200


def test_a_wide_number_needs_few_states() -> None:
    assert Codec(Number(0.0, 1e12, 2), Vocabulary()).num_states == 32
    assert Codec(Number(-1e12, 1e12, 2), Vocabulary()).num_states == 36
    assert Codec(Number(1e-9, 1e12, 14, form="scientific"), Vocabulary()).num_states == 40
    both = Number(-1e12, 1e12, 14, form="scientific", smallest=1e-9)
    assert Codec(both, Vocabulary()).num_states == 41
    odd = Number(-3.14159265358979e12, 2.71828182845904e12, 14, form="scientific", smallest=1.23456789012345e-9)
    assert Codec(odd, Vocabulary()).num_states == 76
    most = Number(-9e300, 9e300, 14, form="scientific", smallest=1e-300)
    assert Codec(most, Vocabulary()).num_states == 46


def test_only_the_scientific_form_has_its_characters() -> None:
    asked: set[str] = set()

    class Asking(Vocabulary):
        def symbol_id(self, character: str) -> int:
            asked.add(character)
            return super().symbol_id(character)

    Codec(Number(0.0, 9.0, 1), Asking())
    assert asked <= set("0123456789.-")
    codec = Codec(Number(1.0, 9e5, 1, form="scientific"), Asking())
    assert asked == set("0123456789.-e*")
    assert {CHARACTER[token] for token in codec.symbols[:-1].tolist()} == set("0123456789.e*")


@PROPERTY
@given(target=targets(), data=st.data())
def test_what_is_no_path_has_no_value(target: Target, data: st.DataObject) -> None:
    codec = Codec(target, Vocabulary())
    paths = set(walk(codec))
    path = data.draw(st.sampled_from(sorted(paths)))
    symbol = st.integers(0, codec.num_symbols - 1)
    place = data.draw(st.integers(0, len(path) - 1))
    changed = (*path[:place], data.draw(symbol), *path[place + 1 :])
    for other in ((), path[:-1], (*path, codec.end_symbol), (*path, data.draw(symbol)), changed):
        assert (codec.read(other) is not None) == (other in paths)


def test_an_unknown_label_has_no_path() -> None:
    codec = Codec(Label((0, 1), ("no", "yes")), Vocabulary())
    with pytest.raises(TargetError, match="Expected one of the labels 0, 1, found '2'"):
        codec.path(2)


# ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────


@PROPERTY
@given(targets())
def test_encoded_targets_follow_the_transitions(target: Target) -> None:
    codec = Codec(target, Vocabulary())
    values = [value for value, _ in values_of(target)]
    encoded = codec.encode(values)
    assert encoded.symbols.shape == (len(values), codec.max_length)
    for row, value in enumerate(values):
        length = len(codec.path(value))
        assert encoded.mask[row].tolist() == [True] * length + [False] * (codec.max_length - length)
        assert tuple(encoded.symbols[row, :length].tolist()) == codec.path(value)
        assert encoded.symbols[row, length:].eq(0).all()
        state = 0
        for position in range(length):
            assert int(encoded.states[row, position]) == state
            state = int(codec.transitions[state, encoded.symbols[row, position]])
        assert state == codec.accepting_state
        assert encoded.states[row, length:].eq(codec.accepting_state).all()


@PROPERTY
@given(targets())
def test_every_state_leads_on_and_the_last_one_nowhere(target: Target) -> None:
    codec = Codec(target, Vocabulary())
    states = torch.arange(codec.num_states)
    allowed = codec.allowed(states)
    assert torch.equal(allowed, codec.transitions >= 0)
    assert torch.equal(allowed.any(dim=1), states != codec.accepting_state)
    # The end symbol, and it alone, leads to the accepting state.
    ends = codec.transitions == codec.accepting_state
    assert torch.equal(ends.any(dim=0), torch.arange(codec.num_symbols) == codec.end_symbol)
    assert torch.equal(codec.forced(states), torch.tensor([sum(row) == 1 for row in allowed.tolist()]))
    assert codec.symbols.tolist() == [*sorted(codec.symbols[:-1].tolist()), Vocabulary.end_id]


def test_shapes_of_batches_are_kept() -> None:
    codec = Codec(Number(0.0, 9.0, 0), Vocabulary())
    states = torch.tensor([[0, 1, 2], [1, 2, 0]])
    assert codec.allowed(states).shape == (2, 3, 11)
    assert codec.forced(states).tolist() == [[False, True, False], [True, False, False]]


def test_tables_are_no_weights() -> None:
    codec = Codec(Number(0.0, 9.0, 0), Vocabulary())
    assert not codec.state_dict()
    assert dict(codec.named_buffers()).keys() == {"symbols", "transitions", "digits", "field_of_state"}
    for digit in range(10):
        assert codec.symbols[codec.digits == digit].tolist() == [Vocabulary().symbol_id(str(digit))]
    assert bool(codec.digits[-1].isnan())  # the end token
    empty = codec.encode([])
    assert empty.symbols.shape == (0, 0)


# ── Probabilities ────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=30)
@given(target=targets(), seed=st.integers(0, 10**6))
def test_the_probabilities_of_all_targets_sum_to_one(target: Target, seed: int) -> None:
    codec = Codec(target, Vocabulary())
    values = [value for value, _ in values_of(target)]
    encoded = codec.encode(values)
    logits = logits_of_prefixes(codec, [codec.path(value) for value in values], seed)

    def of_paths(full: bool) -> Tensor:
        scores = codec.log_probabilities(logits, encoded.states, full=full)
        gold = scores.gather(-1, encoded.symbols.unsqueeze(-1)).squeeze(-1)
        return gold.masked_fill(~encoded.mask, 0).double().sum(dim=1)

    restricted, full = of_paths(full=False), of_paths(full=True)
    assert float(restricted.logsumexp(0)) == pytest.approx(0, abs=1e-4)
    assert float(full.logsumexp(0)) < 0
    tokens = codec.symbols[encoded.symbols]
    expected = logits.double().log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(full, expected.masked_fill(~encoded.mask, 0).sum(dim=1), rtol=1e-4, atol=1e-4)
    assert (full <= restricted + 1e-4).all()


@pytest.mark.parametrize("full", [False, True])
def test_only_what_is_allowed_has_a_probability(full: bool) -> None:
    codec = Codec(Number(-12.5, 30.0, 1), Vocabulary())
    states = torch.arange(codec.num_states - 1)
    logits = torch.randn(len(states), VOCAB_SIZE, generator=torch.Generator().manual_seed(0))
    found = codec.log_probabilities(logits, states, full=full)
    assert torch.equal(found.isfinite(), codec.allowed(states))
    for state in states.tolist():
        tokens = codec.symbols[codec.allowed(states)[state]]
        normalizer = logits[state].logsumexp(0) if full else logits[state, tokens].logsumexp(0)
        expected = (logits[state, tokens] - normalizer).tolist()
        assert found[state][codec.allowed(states)[state]].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("full", [False, True])
def test_padding_spoils_no_gradient(full: bool) -> None:
    codec = Codec(Label(("a", "b"), ("a", "abba")), Vocabulary())
    encoded = codec.encode(["a", "b"])
    assert not encoded.mask.all()
    logits = torch.randn(2, codec.max_length, VOCAB_SIZE, requires_grad=True)
    scores = codec.log_probabilities(logits, encoded.states, full=full)
    gold = scores.gather(-1, encoded.symbols.unsqueeze(-1)).squeeze(-1)
    torch.where(encoded.mask, gold, 0.0).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[1, 0].ne(0).any() == full  # both begin with a: no choice but over the whole vocabulary
    assert logits.grad[0, 1].ne(0).any()
    assert logits.grad[~encoded.mask].eq(0).all()


def test_half_precision_is_normalized_in_float32() -> None:
    codec = Codec(Number(0.0, 9.0, 0), Vocabulary())
    logits = torch.randn(1, VOCAB_SIZE).bfloat16()
    found = codec.log_probabilities(logits, torch.tensor([0]))
    assert found.dtype == torch.float32
    assert float(found.exp().sum()) == pytest.approx(1, abs=1e-6)


# ── Labels that cannot be written ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("vocabulary", "words", "message"),
    [
        (Uncased(), ("Yes", "no", "yes"), r"different tokens for every label, found the same ones for 'Yes' and 'yes'"),
        (Uncased(), ("Yes", "yes"), r"letter codes with --set label_codes=true"),
        (Uncased(), ("yes", "да"), r"at least one token for the label word 'да', found none"),
        (
            Ending(),
            ("yes", "n$o"),
            r"label words without the tokens that end them .* with --label-text",
        ),
    ],
)
def test_words_that_the_tokenizer_cannot_tell_apart(
    vocabulary: Vocabulary, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(TargetError, match=message):
        Codec(Label(tuple(range(len(words))), words), vocabulary)


def test_a_table_that_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_module, "MAX_TABLE_CELLS", 20)
    assert Codec(Label((0, 1), ("a", "b")), Vocabulary()).num_states == 4
    with pytest.raises(TargetError, match=r"at most 20 cells, found 7 states and 3 tokens.*shorter label words"):
        Codec(Label((0, 1), ("aaa", "bb")), Vocabulary())
