"""Decoding: every constrained answer is valid and equals the slow way, and beam search finds the likeliest."""

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from predgen.backbones import Memory
from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.codec.codec import Codec
from predgen.codec.kinds import is_enumerable
from predgen.codec.trie import Trie
from predgen.config import build_config
from predgen.methods import PredGen
from predgen.methods.generator import FREE_MARGIN_TOKENS
from predgen.models.building import answering_of
from predgen.targets.label import Label
from predgen.targets.number import Number
from predgen.targets.record import Target
from predgen.writing.decoding import beam, greedy, greedy_free, sample
from predgen.writing.scoring import score_all
from predgen.writing.symbols import SymbolModel
from tests.helpers.shapes import (
    FAMILIES,
    LABEL,
    NUMBER,
    ROADS,
    TARGETS,
    all_paths,
    answering_for,
    byte_level_tokenizer,
    count_forwards,
    path_of,
    ragged_prompts,
    relative_difference,
    run_alone,
    tiny_backbone,
    tiny_method,
    tiny_model,
    word_level_tokenizer,
    write_alone,
)

ODD_TARGETS: list[Target] = [
    Number(0.0, 9.99, decimals=2),
    Number(-1.0, 1.0, decimals=1),
    Number(3.0, 3.9, decimals=1),  # forced from the start
    Number(-120.0, 7.0, decimals=0),
    Number(99.95, 100.05, decimals=2),
    Label((True, False), ("true", "false")),
    Label((1, 2, 3), ("good", "good film", "good film very")),  # each a prefix of the next
]


@cache
def backbone_of(family: str, plain: bool = False, seed: int = 0) -> DecoderOnlyBackbone:
    return tiny_backbone(family, plain=plain, seed=seed)


def read(backbone: DecoderOnlyBackbone, prompts: list[list[int]]) -> Memory:
    return backbone.read(*backbone.collate(prompts))


# ---- greedy along the automaton


@pytest.mark.parametrize("plain", ROADS)
@pytest.mark.parametrize("kind", ["number", "label"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_greedy_equals_one_full_forward_for_every_token(family: str, kind: str, plain: bool) -> None:
    for seed in range(3):
        backbone = backbone_of(family, plain, seed)
        codec = Codec(TARGETS[kind], backbone)
        paths = all_paths(backbone, codec.target)
        prompts = ragged_prompts(backbone.model.config.vocab_size, seed=seed)
        for with_states in (False, True):
            decoded = greedy(SymbolModel(backbone, codec), read(backbone, prompts), with_states=with_states)
            found = [codec.symbols[torch.tensor(path)].tolist() for path in decoded.paths()]
            assert found == [write_alone(backbone.model, prompt, paths) for prompt in prompts]


def limits() -> st.SearchStrategy[Number]:
    def number(decimals: int, units: tuple[int, int]) -> Number:
        low, high = sorted(units)
        return Number(low / 10**decimals, (high + 1) / 10**decimals, decimals)

    return st.builds(number, st.integers(0, 3), st.tuples(*[st.integers(-20000, 20000)] * 2))


def words() -> st.SearchStrategy[Label]:
    chosen = st.lists(st.text("abdo ", min_size=1, max_size=6).map(str.strip).filter(bool), min_size=2, max_size=6)
    return (
        chosen.map(lambda one: sorted(set(one)))
        .filter(lambda one: len(one) > 1)
        .map(lambda one: Label(tuple(one), tuple(one)))
    )


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=20)
@given(
    target=st.one_of(st.sampled_from(ODD_TARGETS), limits(), words()),
    seed=st.integers(0, 3),
    lengths=st.lists(st.integers(1, 10), min_size=1, max_size=5),
    how=st.sampled_from(["auto", "greedy", "trie", "beam"]),
)
@torch.no_grad()
def test_every_constrained_answer_is_valid(
    family: str, target: Target, seed: int, lengths: list[int], how: str
) -> None:
    backbone = backbone_of(family, False, seed)
    if how == "trie" and not is_enumerable(target):
        how = "greedy"
    method = tiny_method("generator", backbone, target)
    prompts = ragged_prompts(backbone.model.config.vocab_size, lengths, seed=seed)
    answers = method.answer(*backbone.collate(prompts), answering_for(method, how))
    assert len(answers.values) == len(answers.written) == len(prompts)
    for value, text in zip(answers.values, answers.written, strict=True):
        assert text is not None
        assert target.from_text(text) == value
        assert target.to_text(value) == text
        if isinstance(target, Number):
            assert target.low <= value <= target.high
            assert backbone.text_of([backbone.symbol_id(character) for character in text]) == text
        else:
            assert value in target.values


@pytest.mark.parametrize("plain", ROADS)
@pytest.mark.parametrize("kind", ["number", "label"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_states_of_decoding_are_those_of_training(family: str, kind: str, plain: bool) -> None:
    backbone = backbone_of(family, plain)
    codec = Codec(TARGETS[kind], backbone)
    prompts = ragged_prompts(250, range(1, 17), seed=6)
    memory = read(backbone, prompts)
    decoded = greedy(SymbolModel(backbone, codec), memory, with_states=True)
    assert decoded.states is not None
    assert decoded.states.shape[:2] == decoded.symbols.shape == decoded.mask.shape
    assert len({len(path) for path in decoded.paths()}) > 1, "rows of one length could not show wrong padding"
    # The same values as gold in training: another padding, one write instead of several.
    gold = codec.encode([(codec.read(path) or (None,))[0] for path in decoded.paths()])
    written = backbone.write(memory, codec.symbols[gold.symbols], gold.mask)
    for row, path in enumerate(decoded.paths()):
        found = decoded.states[row][decoded.mask[row]]
        assert relative_difference(found, written.states[row, 1 : 1 + len(path)]) < 1e-5
        alone, _ = run_alone(backbone.model, prompts[row], codec.symbols[torch.tensor(path)].tolist())
        assert relative_difference(found, alone[1:]) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_director_says_the_same_in_training_and_in_decoding(family: str) -> None:
    for kind, how in itertools.product(TARGETS, ("greedy", "trie", "beam")):
        target = TARGETS[kind]
        method = tiny_method("predgen", backbone_of(family), target)
        assert isinstance(method, PredGen)
        prompts = ragged_prompts(250, seed=2)
        memory = read(method.backbone, prompts)
        written = method.writer.write(memory, answering_for(method, how).decoding, with_states=True)
        decoded, values = written.decoded, written.values
        gold = method.codec.encode(values)
        written = method.backbone.write(memory, method.codec.symbols[gold.symbols], gold.mask)
        assert decoded.states is not None
        found = method.director(decoded.states, decoded.mask)
        torch.testing.assert_close(
            found, method.director(written.states[:, 1:], gold.mask), atol=1e-5, rtol=1e-5, msg=kind
        )


# ---- what it costs


@pytest.mark.parametrize(
    ("target", "without_states"),
    [
        # Three digits are decided; the point and the end token are written along: read, "d.", "d".
        pytest.param(Number(0.0, 9.99, decimals=2), 3, id="d.dd"),
        pytest.param(Number(3.0, 3.9, decimals=1), 2, id="3.d"),
        pytest.param(Number(10.0, 99.0, decimals=0), 2, id="dd"),
        # The first token tells the label; its tail and the end token follow by themselves.
        pytest.param(Label((0, 1), ("zzzzzz", "yyyyyy")), 1, id="zzzzzz or yyyyyy"),
    ],
)
@torch.no_grad()
def test_forced_tokens_cost_no_forward(target: Target, without_states: int) -> None:
    backbone = backbone_of("llama")
    codec = Codec(target, backbone)
    prompts = ragged_prompts(250)

    def run(with_states: bool) -> None:
        greedy(SymbolModel(backbone, codec), read(backbone, prompts), with_states=with_states)

    assert count_forwards(backbone.model, lambda: run(False)) == without_states
    # The Director needs the states of the last block too.
    assert count_forwards(backbone.model, lambda: run(True)) == without_states + 1


# ---- beam search


@pytest.mark.parametrize("plain", ROADS)
@pytest.mark.parametrize("kind", ["number", "label"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_beam_that_holds_every_prefix_finds_the_likeliest_target(family: str, kind: str, plain: bool) -> None:
    for seed in range(3):
        backbone = backbone_of(family, plain, seed)
        codec = Codec(TARGETS[kind], backbone)
        trie = Trie(codec)
        memory = read(backbone, ragged_prompts(250, seed=seed))
        found = beam(SymbolModel(backbone, codec), memory, width=200, with_states=True)
        expected = [tuple(codec.path(trie.values[best])) for best in score_all(backbone, memory, trie).argmax(dim=1)]
        assert [tuple(path) for path in found.paths()] == expected
        assert found.states is not None
        alone = [
            run_alone(backbone.model, prompt, codec.symbols[torch.tensor(path)].tolist())[0][1:]
            for prompt, path in zip(ragged_prompts(250, seed=seed), found.paths(), strict=True)
        ]
        for row, states in enumerate(alone):
            assert relative_difference(found.states[row][found.mask[row]], states) < 1e-4


@torch.no_grad()
def test_a_beam_of_one_is_greedy_and_wider_ones_are_never_less_likely() -> None:
    backbone = backbone_of("qwen2", False, 1)
    for target in ODD_TARGETS:
        codec = Codec(target, backbone)
        trie = Trie(codec)
        memory = read(backbone, ragged_prompts(250, seed=5))
        scores = score_all(backbone, memory, trie)
        columns = {codec.path(value): column for column, value in enumerate(trie.values)}
        one = beam(SymbolModel(backbone, codec), memory, width=1, with_states=False)
        assert one.paths() == greedy(SymbolModel(backbone, codec), memory, with_states=False).paths()
        assert one.states is None
        before = torch.full((len(scores),), float("-inf"))
        for width in (1, 3, 1000):
            paths = beam(SymbolModel(backbone, codec), memory, width=width, with_states=False).paths()
            now = torch.stack([scores[row, columns[tuple(path)]] for row, path in enumerate(paths)])
            if width != 3:  # a narrow beam may lose what a narrower one kept, but not to all prefixes
                assert bool((now >= before - 1e-4).all())
            before = now
        assert bool((before >= scores.max(dim=1).values - 1e-4).all())


# ---- draws, and what they share


def drawn_alone(
    backbone: DecoderOnlyBackbone, memory: Memory, codec: Codec, number: int
) -> list[list[tuple[int, ...]]]:
    """Returns what `sample` draws, every draw a row of its own that repeats the prompt."""
    generator = torch.Generator().manual_seed(0)
    now = backbone.take(memory, torch.arange(len(memory.state)).repeat_interleave(number))
    state = torch.zeros(len(now.state), dtype=torch.long)
    paths: list[list[int]] = [[] for _ in state]
    while bool((state != codec.accepting_state).any()):
        active = state != codec.accepting_state
        scores = codec.log_probabilities(now.logits, state, vocabulary=now.vocabulary)
        uniform = torch.rand(scores.shape, generator=generator).clamp(min=torch.finfo().tiny)
        symbol = (scores - (-uniform.log()).log()).argmax(dim=-1)
        for path, one, goes_on in zip(paths, symbol.tolist(), active.tolist(), strict=True):
            path += [one] * goes_on
        tokens = codec.symbols[symbol.masked_fill(~active, 0)]
        now = backbone.write(now, tokens.unsqueeze(1), active.unsqueeze(1)).memory
        state = torch.where(active, codec.transitions[state, symbol], state)
    return [[tuple(path) for path in paths[row : row + number]] for row in range(0, len(paths), number)]


@pytest.mark.parametrize("plain", ROADS)
@pytest.mark.parametrize("family", [*FAMILIES, "bloom", "mistral"])
@torch.no_grad()
def test_draws_are_those_of_rows_that_repeat_the_prompt(family: str, plain: bool) -> None:
    backbone = tiny_backbone(family, plain=plain, seed=2)
    backbone.choose_path()
    for target in ODD_TARGETS:
        codec = Codec(target, backbone)
        memory = read(backbone, ragged_prompts(250, seed=3))
        assert sample(SymbolModel(backbone, codec), memory, number=12) == drawn_alone(backbone, memory, codec, 12)


@torch.no_grad()
def test_what_draws_and_beams_share_is_written_once() -> None:
    backbone = backbone_of("llama", False, 0)
    codec = Codec(NUMBER, backbone)
    memory = read(backbone, ragged_prompts(250))
    written: list[int] = []
    handle = backbone.model.register_forward_pre_hook(
        lambda _, __, given: written.append(given["input_ids"].numel()), with_kwargs=True
    )
    try:
        paths = sample(SymbolModel(backbone, codec), memory, number=200)
        prefixes = [
            {path[:length] for path in row for length in range(1, len(path))} for row in paths
        ]  # the last symbol of a target is never written
        widest = [
            max(sum(len(one) == length for one in row) for row in prefixes) for length in range(1, len(written) + 1)
        ]
        assert written == [len(memory.state) * most for most in widest]
        written.clear()
        beam(SymbolModel(backbone, codec), memory, width=3, with_states=False)
        assert set(written) <= {len(memory.state) * places for places in (1, 2, 3)}
    finally:
        handle.remove()


# ---- free decoding


def taught(backbone: DecoderOnlyBackbone, next_token: dict[int, int], start: int) -> None:
    """Makes a model write a fixed chain of tokens, by replacing its logits."""

    def hook(_: object, __: object, keywords: dict[str, Any], output: Any) -> Any:
        tokens = keywords["input_ids"][:, -output.logits.shape[1] :]
        follow = torch.tensor([[next_token.get(int(token), start) for token in row] for row in tokens])
        output.logits = torch.nn.functional.one_hot(follow, output.logits.shape[-1]).float()
        return output

    backbone.model.register_forward_hook(hook, with_kwargs=True)


KNOWN_WORDS = Label((0, 1), ("bad", "good"))


@pytest.mark.parametrize(
    ("tokenizer", "target", "value"),
    [
        (byte_level_tokenizer, NUMBER, 10.5),
        (byte_level_tokenizer, NUMBER, -2.5),
        (byte_level_tokenizer, LABEL, "x"),
        (byte_level_tokenizer, LABEL, "y"),
        # Its text of 10.5 is "1 0 . 5".
        (word_level_tokenizer, NUMBER, 10.5),
        (word_level_tokenizer, NUMBER, -2.5),
        (word_level_tokenizer, KNOWN_WORDS, 1),
    ],
)
def test_a_freely_written_target_is_read_back(tokenizer: Callable[[], Any], target: Target, value: Any) -> None:
    """A model that writes exactly the gold tokens is right, whatever the tokenizer makes of them as text."""
    made = tokenizer()
    backbone = DecoderOnlyBackbone(tiny_model("llama", len(made)), made)
    method = tiny_method("generator", backbone, target, full=True)
    path = path_of(all_paths(backbone, target), value)
    assert len(set(path)) == len(path), "the chain below needs different tokens"
    taught(backbone, dict(itertools.pairwise(path)), start=path[0])
    prompt = next(token for token in range(len(made)) if token not in path)
    answers = method.answer(*backbone.collate([[prompt, prompt], [prompt]]), answering_for(method, "free"))
    assert answers.values == [value, value]
    assert answers.written == [target.to_text(value)] * 2


@pytest.mark.parametrize("kind", ["number", "label"])
@torch.no_grad()
def test_free_answers_of_an_untrained_model_are_counted_as_invalid(kind: str) -> None:
    backbone = backbone_of("llama")
    method = tiny_method("generator", backbone, TARGETS[kind], full=True)
    answers = method.answer(*backbone.collate(ragged_prompts(250, range(1, 9))), answering_for(method, "free"))
    assert len(answers.values) == len(answers.written) == 8
    assert all(text is not None for text in answers.written)
    assert answers.values.count(None) >= 7
    for value, text in zip(answers.values, answers.written, strict=True):
        assert value == TARGETS[kind].from_text(text or "")


@pytest.mark.parametrize(
    ("text", "value"), [("3.5", 3.5), ("03.50", 3.5), ("12.1", None), ("3.5 stars", None), ("", None), ("nan", None)]
)
def test_what_free_text_is_a_number(text: str, value: float | None) -> None:
    backbone = tiny_backbone()
    method = tiny_method("generator", backbone, NUMBER, full=True)
    tokens = [backbone.end_id]
    rows = [backbone.tokenizer(text, add_special_tokens=False)["input_ids"] + tokens]
    patched: Callable[..., Any] = lambda *_: (rows, torch.tensor([True]))  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("predgen.methods.generator.greedy_free", patched)
        answers = method.answer(*backbone.collate([[1, 2, 3]]), answering_for(method, "free"))
    assert answers.values == [value]
    assert answers.written == [text]


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_free_decoding_equals_one_full_forward_for_every_token(family: str) -> None:
    backbone = backbone_of(family)
    prompts = ragged_prompts(backbone.model.config.vocab_size)
    # A token that the model likes stands for the end token, so that rows end at different lengths.
    wanted = [run_alone(backbone.model, prompt, [])[1][-1].topk(2).indices.tolist() for prompt in prompts]
    for end_id in {wanted[0][0], wanted[1][1], backbone.end_id}:
        found, _ = greedy_free(backbone, read(backbone, prompts), end_id, max_tokens=7)
        for row, prompt in enumerate(prompts):
            expected: list[int] = []
            while len(expected) < 7 and (not expected or expected[-1] != end_id):
                expected.append(int(run_alone(backbone.model, prompt, expected)[1][-1].argmax()))
            assert found[row] == expected


@torch.no_grad()
def test_free_decoding_stops() -> None:
    backbone = tiny_backbone()
    method = tiny_method("generator", backbone, NUMBER, full=True)
    taught(backbone, {}, start=40)
    lengths: list[Tensor] = []
    run = lambda: lengths.append(torch.tensor(greedy_free(backbone, read(backbone, [[1]]), backbone.end_id, 6)[0]))  # noqa: E731
    assert count_forwards(backbone.model, run) == 6
    assert lengths[0].shape == (1, 6)
    limit = method.codec.max_length + FREE_MARGIN_TOKENS
    assert (
        count_forwards(backbone.model, lambda: method.answer(*backbone.collate([[1]]), answering_for(method, "free")))
        == limit
    )


def test_auto_is_greedy_for_the_director_and_by_cost_for_the_generator() -> None:
    backbone = backbone_of("llama")
    ratings, prices = Number(0.0, 5.0, decimals=1), Number(0.0, 99.99, decimals=2)
    chosen = {
        (name, target.high): tiny_method(name, backbone, target).cheapest_decoding()  # type: ignore[union-attr]
        for name in ("generator", "predgen")
        for target in (ratings, prices)
    }
    assert chosen == {
        ("generator", 5.0): "trie",
        ("generator", 99.99): "greedy",
        ("predgen", 5.0): "greedy",
        ("predgen", 99.99): "greedy",
    }
    config = build_config({"data.data": "x.csv", "data.target": "y"}, {"model.decoding": "trie"})
    assert answering_of(config, tiny_method("predgen", backbone, ratings)).decoding.name == "trie"
