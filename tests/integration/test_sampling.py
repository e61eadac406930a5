"""Scheduled sampling: parallel passes equal sampling one token after the other."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from predgen.backbones import Memory
from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.codec.codec import Codec, EncodedTargets
from predgen.methods import PredGen, Sampling
from predgen.targets.label import Label
from predgen.targets.number import Number
from predgen.training.batches import Collator, Examples
from predgen.training.validating import exposure
from predgen.writing.sampling import Draws, draw, sample_parallel, sample_sequential
from predgen.writing.symbols import SymbolModel
from predgen.writing.targets import Decoding
from tests.helpers.shapes import (
    FAMILIES,
    NUMBER,
    TARGETS,
    VALUES,
    all_paths,
    batch_for,
    may_follow,
    path_of,
    ragged_prompts,
    relative_difference,
    run_alone,
    tiny_backbone,
    tiny_method,
    writer_loss_alone,
)

# Targets of up to ten tokens, so that a wrong token early has far to go.
LONG_NUMBER = Number(-99999.0, 99999.0, decimals=3)
LONG_LABEL = Label(
    tuple("abcdef"),
    ("bbbbbbbb", "bbbbcccc", "bcbcbcbc", "very very very bad", "very very good", "ccc"),
)
SAMPLED = {**TARGETS, "long number": LONG_NUMBER, "long label": LONG_LABEL}


@cache
def parts(family: str, kind: str) -> tuple[DecoderOnlyBackbone, Codec]:
    backbone = tiny_backbone(family)
    return backbone, Codec(SAMPLED[kind], backbone)


def values_of(kind: str) -> st.SearchStrategy[object]:
    target = SAMPLED[kind]
    if isinstance(target, Label):
        return st.sampled_from(target.values)
    return st.floats(target.low, target.high, allow_nan=False).map(lambda value: round(value, 3))


def read(backbone: DecoderOnlyBackbone, prompts: list[list[int]]) -> Memory:
    return backbone.read(*backbone.collate(prompts))


def drawn_noise(gold: EncodedTargets, codec: Codec, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = draw(gold.mask, probability=1.0, generator=generator, num_symbols=codec.num_symbols).noise
    assert noise is not None
    return noise


@pytest.mark.parametrize("kind", sorted(SAMPLED))
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=12)
@given(
    data=st.data(),
    probability=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]),
    seed=st.integers(0, 10**6),
    soft=st.booleans(),
)
@torch.no_grad()
def test_parallel_passes_equal_sequential_sampling(
    family: str, kind: str, data: st.DataObject, probability: float, seed: int, soft: bool
) -> None:
    backbone, codec = parts(family, kind)
    symbols, whole = SymbolModel(backbone, codec), SymbolModel(backbone, codec, full=True)
    lengths = data.draw(st.lists(st.integers(1, 10), min_size=1, max_size=4), label="prompt lengths")
    gold = codec.encode([data.draw(values_of(kind)) for _ in lengths])
    memory = read(backbone, ragged_prompts(backbone.model.config.vocab_size, lengths, seed=seed))
    own = torch.rand(gold.symbols.shape, generator=torch.Generator().manual_seed(seed)) < probability
    noise = drawn_noise(gold, codec, seed) if soft else None
    expected = sample_sequential(symbols, memory, gold, own, noise=noise)
    num_tokens = gold.symbols.shape[1]
    for passes in range(num_tokens + 2):
        fed = sample_parallel(symbols, memory, gold, own, passes=passes, noise=noise)
        assert torch.equal(fed[:, :passes], expected[:, :passes])
        if passes >= int((own & gold.mask).sum(dim=1).max()):
            assert torch.equal(fed, expected), "the fixed point comes within the largest number of own tokens"
    assert torch.equal(expected[~own], gold.symbols[~own])
    assert torch.equal(expected[~gold.mask], gold.symbols[~gold.mask])
    for row, column in (own & gold.mask).nonzero().tolist():
        assert bool(codec.allowed(gold.states[row, column])[expected[row, column]])
    assert torch.equal(sample_sequential(whole, memory, gold, own, noise=noise), expected)
    full = sample_parallel(whole, memory, gold, own, passes=num_tokens, noise=noise)
    assert torch.equal(full, expected)


@pytest.mark.parametrize("kind", ["number", "label"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_sequential_sampling_equals_full_forwards(family: str, kind: str) -> None:
    backbone, codec = parts(family, kind)
    prompts = ragged_prompts(backbone.model.config.vocab_size)
    paths = all_paths(backbone, codec.target)
    gold = codec.encode(VALUES[kind])
    own = torch.rand(gold.symbols.shape, generator=torch.Generator().manual_seed(2)) < 0.6
    found = codec.symbols[sample_sequential(SymbolModel(backbone, codec), read(backbone, prompts), gold, own)]
    changed = 0
    for row, (prompt, value) in enumerate(zip(prompts, VALUES[kind], strict=True)):
        path = path_of(paths, value)
        fed: list[int] = []
        for position, token in enumerate(path):
            if own[row, position]:
                logits = run_alone(backbone.model, prompt, fed)[1][-1]
                token = max(may_follow(paths, path[:position]), key=lambda one: float(logits[one]))
            fed.append(token)
        assert found[row, : len(fed)].tolist() == fed
        changed += fed != path
    assert changed, "a model that chooses gold everywhere could not show anything"


@torch.no_grad()
def test_one_pass_is_not_enough_in_general() -> None:
    """The equality above would be empty if the choices did not depend on what is fed."""
    backbone, codec = parts("llama", "long number")
    symbols = SymbolModel(backbone, codec)
    gold = codec.encode([0.001 * 7919 * row for row in range(1, 17)])
    memory = read(backbone, ragged_prompts(backbone.model.config.vocab_size, range(1, 17)))
    own = torch.ones_like(gold.mask)
    expected = sample_sequential(symbols, memory, gold, own)
    differing = [
        int((sample_parallel(symbols, memory, gold, own, passes=passes) != expected).sum())
        for passes in (0, 1, 2, gold.symbols.shape[1])
    ]
    assert differing[0] > differing[1] > differing[2] > differing[3] == 0


def test_dropout_is_off_in_sampling_and_training_flags_come_back() -> None:
    backbone = tiny_backbone("gpt2", embd_pdrop=0.5, attn_pdrop=0.5, resid_pdrop=0.5)
    codec = Codec(LONG_NUMBER, backbone)
    symbols = SymbolModel(backbone, codec)
    with torch.no_grad():
        memory = read(backbone, ragged_prompts(250))
    gold = codec.encode([12.5, -3.0, 99.125, 10000.0, 0.0])
    own = torch.ones_like(gold.mask)
    calm = sample_sequential(symbols, memory, gold, own)
    backbone.train()
    backbone.model.transformer.h[1].eval()
    before = {name: part.training for name, part in backbone.named_modules()}
    torch.manual_seed(0)
    for _ in range(3):
        assert torch.equal(sample_parallel(symbols, memory, gold, own, passes=gold.symbols.shape[1]), calm)
        assert torch.equal(sample_sequential(symbols, memory, gold, own), calm)
    assert {name: part.training for name, part in backbone.named_modules()} == before
    assert any(before.values())
    with pytest.raises(IndexError):
        sample_parallel(symbols, memory, EncodedTargets(gold.symbols + 10**6, gold.mask, gold.states), own, passes=1)
    assert {name: part.training for name, part in backbone.named_modules()} == before


@pytest.mark.parametrize("passes", [1, 2, None])
def test_no_gradient_flows_through_sampling(passes: int | None) -> None:
    """The gradients are those of one write of the fed tokens, as if these had been given from outside."""
    method = tiny_method("predgen", tiny_backbone(), NUMBER, sampling=Sampling(passes), loss="sum")
    assert isinstance(method, PredGen)
    backbone, codec, symbols = method.backbone, method.codec, method.writer.symbols
    batch = batch_for(method, ragged_prompts(250), VALUES["number"])
    own = torch.rand(batch.gold.symbols.shape, generator=torch.Generator().manual_seed(5)) < 0.7
    grad_enabled = []
    usual_write = backbone.write

    def spy(memory: Memory, tokens: Tensor, mask: Tensor):  # type: ignore[no-untyped-def]
        grad_enabled.append(torch.is_grad_enabled())
        return usual_write(memory, tokens, mask)

    backbone.write = spy  # type: ignore[method-assign]
    method(batch, draws=Draws(own))["loss"].backward()
    assert grad_enabled[-1]
    assert grad_enabled[:-1]
    assert not any(grad_enabled[:-1])
    found = [parameter.grad.clone() for parameter in method.parameters() if parameter.grad is not None]

    method.zero_grad()
    memory = backbone.read(batch.prompt, batch.prompt_mask)
    gold = batch.gold
    if passes is None:
        fed = sample_sequential(symbols, backbone.detach(memory), gold, own)
    else:
        fed = sample_parallel(symbols, backbone.detach(memory), gold, own, passes=passes)
    assert not torch.equal(fed, gold.symbols)
    written = usual_write(memory, codec.symbols[fed], gold.mask)
    loss = method.writer.loss(memory, written.logits[:, :-1], gold, batch.truth).mean()
    (loss + method.head_loss(method.director(written.states[:, 1:], gold.mask), batch.truth).mean()).backward()
    expected = [parameter.grad for parameter in method.parameters() if parameter.grad is not None]
    assert all(relative_difference(a, b) < 1e-5 for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("passes", [1, None])
def test_gold_stays_the_label_where_own_tokens_are_fed(passes: int | None) -> None:
    """L_W is the cross-entropy of the gold tokens, at their positions, after the fed tokens."""
    method = tiny_method("predgen", tiny_backbone(), NUMBER, sampling=Sampling(passes))
    assert isinstance(method, PredGen)
    prompts, values = ragged_prompts(250), VALUES["number"]
    batch = batch_for(method, prompts, values)
    own = torch.rand(batch.gold.symbols.shape, generator=torch.Generator().manual_seed(5)) < 0.7
    gold = batch.gold
    with torch.no_grad():
        memory = method.backbone.read(batch.prompt, batch.prompt_mask)
        args = (method.writer.symbols, memory, gold, own)
        fed = sample_sequential(*args) if passes is None else sample_parallel(*args, passes=passes)
        found = method(batch, draws=Draws(own))["writer_loss"]
        paths = all_paths(method.backbone, NUMBER)
        losses = []
        for row, (prompt, value) in enumerate(zip(prompts, values, strict=True)):
            path = path_of(paths, value)
            tokens = method.codec.symbols[fed[row, : len(path)]].tolist()
            losses.append(writer_loss_alone(method.backbone.model, prompt, path, paths, fed=tokens))
    assert float(found) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)


# ---- what is drawn


@pytest.mark.parametrize(("unit", "different"), [("token", 600), ("row", 200), ("batch", 1)])
def test_a_unit_is_drawn_together(unit: str, different: int) -> None:
    mask = torch.ones(200, 3, dtype=torch.bool)
    shares = []
    for seed in range(200):
        own = draw(mask, probability=0.3, generator=torch.Generator().manual_seed(seed), unit=unit).sampled
        assert own is not None
        if unit != "token":
            assert bool((own == own[:, :1]).all())
        if unit == "batch":
            assert bool((own == own[0, 0]).all())
        shares.append(float(own.float().mean()))
    mean = sum(shares) / len(shares)
    assert mean == pytest.approx(0.3, abs=5 * (0.21 / (200 * different)) ** 0.5)


def test_nothing_is_drawn_at_probability_zero_and_draws_repeat() -> None:
    mask = torch.ones(4, 3, dtype=torch.bool)
    nothing = draw(mask, probability=0.0, generator=torch.Generator().manual_seed(0), num_symbols=5)
    assert nothing == Draws(None, None, None)
    first, second = (
        draw(mask, probability=0.5, generator=torch.Generator().manual_seed(1), num_symbols=5, director_share=0.5)
        for _ in range(2)
    )
    for name in ("sampled", "noise", "director_own"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_noise_draws_from_the_softmax() -> None:
    scores = torch.tensor([0.5, 0.3, 0.15, 0.05, 0.0]).log()
    mask = torch.ones(40_000, 1, dtype=torch.bool)
    noise = draw(mask, probability=1.0, generator=torch.Generator().manual_seed(0), num_symbols=5).noise
    assert noise is not None
    shares = torch.bincount((scores + noise[:, 0]).argmax(dim=-1), minlength=5) / 40_000
    assert shares.tolist() == pytest.approx(scores.exp().tolist(), abs=0.012)
    assert shares[4] == 0


# ---- the Director's own share


@pytest.mark.parametrize("kind", ["number", "label"])
def test_the_director_reads_its_own_writing_or_gold(kind: str) -> None:
    method = tiny_method("predgen", tiny_backbone(), TARGETS[kind], loss="sum")
    assert isinstance(method, PredGen)
    batch = batch_for(method, ragged_prompts(250), VALUES[kind])
    truth = batch.truth
    rows = torch.tensor([True, False, True, False, True])
    with torch.no_grad():
        usual = method(batch)
        memory = method.backbone.read(batch.prompt, batch.prompt_mask)
        decoded = method.writer.write(memory, Decoding(), with_states=True).decoded
        assert decoded.states is not None
        own = method.director(decoded.states, decoded.mask)  # the states that `answer` reads
        states = method.backbone.write(memory, method.codec.symbols[batch.gold.symbols], batch.gold.mask).states
        gold = method.director(states[:, 1:], batch.gold.mask)
        for director_own in (rows, ~rows, rows | True, rows & False):
            found = method(batch, draws=Draws(director_own=director_own))
            expected = method.head_loss(torch.where(director_own.unsqueeze(1), own, gold), truth).mean()
            assert float(found["director_loss"]) == pytest.approx(float(expected), rel=1e-5)
            assert float(found["writer_loss"]) == pytest.approx(float(usual["writer_loss"]), rel=1e-6)
        assert float(found["director_loss"]) == pytest.approx(float(usual["director_loss"]), rel=1e-5)


def test_gradients_reach_the_prompt_through_the_directors_own_writing() -> None:
    method = tiny_method("predgen", tiny_backbone(), NUMBER, loss="sum")
    batch = batch_for(method, ragged_prompts(250), VALUES["number"])
    draws = Draws(director_own=torch.ones(5, dtype=torch.bool))
    method(batch, draws=draws)["director_loss"].backward()
    moved = {name for name, one in method.named_parameters() if one.grad is not None and bool((one.grad != 0).any())}
    assert any("layers.0" in name for name in moved)
    assert any(name.startswith("director.") for name in moved)


# ---- exposure


@pytest.mark.parametrize("kind", ["number", "label"])
@pytest.mark.parametrize("name", ["generator", "predgen"])
@torch.no_grad()
def test_exposure_compares_gold_prefixes_with_own_ones(name: str, kind: str) -> None:
    method = tiny_method(name, tiny_backbone(), TARGETS[kind])
    prompts, values = ragged_prompts(250), VALUES[kind]
    found = method.exposure(batch_for(method, prompts, values), Decoding())
    paths = all_paths(method.backbone, method.target)
    after_gold, after_own = [], []
    for prompt, value in zip(prompts, values, strict=True):
        path = path_of(paths, value)
        own: list[int] = []
        while len(own) < max(map(len, paths)) and (following := may_follow(paths, own)):
            logits = run_alone(method.backbone.model, prompt, own)[1][-1]
            own.append(max(following, key=lambda one: float(logits[one])))
        hits, own_hits = [], []
        for position, token in enumerate(path):
            following = may_follow(paths, path[:position])
            if len(following) > 1:
                logits = run_alone(method.backbone.model, prompt, path[:position])[1][-1]
                hits.append(max(following, key=lambda one: float(logits[one])) == token)
                own_hits.append(position < len(own) and own[position] == token)
        after_gold.append(sum(hits) / len(hits))
        after_own.append(sum(own_hits) / len(own_hits))
    assert float(found["writer_accuracy_gold"]) == pytest.approx(sum(after_gold) / len(after_gold))
    assert float(found["writer_accuracy_own"]) == pytest.approx(sum(after_own) / len(after_own))
    if name == "generator":
        assert found.keys() == {"writer_accuracy_gold", "writer_accuracy_own"}
        return
    batch = batch_for(method, prompts, values)
    with torch.no_grad():
        gold = method(batch)["director_loss"]
        own_loss = method(batch, draws=Draws(director_own=torch.ones(5, dtype=torch.bool)))["director_loss"]
    assert float(found["director_loss_gold"]) == pytest.approx(float(gold), rel=1e-5)
    assert float(found["director_loss_own"]) == pytest.approx(float(own_loss), rel=1e-5)


@torch.no_grad()
def test_exposure_of_many_rows_is_the_mean_over_them() -> None:
    method = tiny_method("predgen", tiny_backbone(), NUMBER)
    prompts = ragged_prompts(250, [3, 9, 4, 12, 7, 2, 5])
    values = [1.0, 2.25, 0.5, 3.75, 2.0, 1.25, 4.0]
    truth = batch_for(method, prompts, values).truth
    rows = Collator(Examples(prompts, values, truth), method.backbone, method.codec)
    found = exposure(method, rows, Decoding(), batch_size=3)
    whole = {
        name: float(value) for name, value in method.exposure(batch_for(method, prompts, values), Decoding()).items()
    }
    assert found.pop("exposure_gap") == pytest.approx(whole["writer_accuracy_gold"] - whole["writer_accuracy_own"])
    assert found == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("passes", [0, 1, None])
@torch.no_grad()
def test_the_reported_accuracy_is_the_one_after_gold(sampled: bool, passes: int | None) -> None:
    method = tiny_method("predgen", tiny_backbone(), NUMBER, sampling=Sampling(passes, reports_accuracy=True))
    batch = batch_for(method, ragged_prompts(250), VALUES["number"])
    draws = Draws(torch.ones_like(batch.gold.mask)) if sampled else Draws()
    found = method(batch, draws=draws)
    expected = method.exposure(batch, Decoding())["writer_accuracy_gold"]
    assert float(found["writer_accuracy"]) == pytest.approx(float(expected))
    silent = tiny_method("predgen", tiny_backbone(), NUMBER, sampling=Sampling(passes))(batch, draws=draws)
    assert "writer_accuracy" not in silent
    assert float(silent["loss"].detach()) == pytest.approx(float(found["loss"].detach()), rel=1e-6)
