"""The backbone: both roads equal unpadded forwards, a memory never changes, padding changes nothing."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from predgen.backbones import Memory
from predgen.backbones.base import dropout_off
from predgen.backbones.decoder_only import DecoderOnlyBackbone

from .shapes import (
    FAMILIES,
    ROADS,
    byte_level_tokenizer,
    checkpoint_activations,
    ragged_prompts,
    relative_difference,
    run_alone,
    tiny_backbone,
    tiny_model,
)

# Beside the three main shapes: windows, soft-capped logits, and positions that only the mask tells.
MORE_FAMILIES = ("mistral", "gemma2", "bloom")
TARGET_LENGTHS = (3, 1, 5, 2, 4)


@cache
def backbone_of(family: str, plain: bool) -> DecoderOnlyBackbone:
    return tiny_backbone(family, plain=plain)


def ragged_targets(vocab_size: int, lengths: tuple[int, ...] = TARGET_LENGTHS) -> tuple[Tensor, Tensor]:
    """Returns random target tokens, padded on the right, and their mask."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    generator = torch.Generator().manual_seed(1)
    return torch.randint(vocab_size, mask.shape, generator=generator), mask


def read(backbone: DecoderOnlyBackbone, prompts: list[list[int]]) -> Memory:
    return backbone.read(*backbone.collate(prompts))


@pytest.mark.parametrize("plain", ROADS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_rows_that_are_taken_go_on_as_they_would_have(family: str, plain: bool) -> None:
    backbone = tiny_backbone(family, plain=plain)
    prompts = ragged_prompts(backbone.model.config.vocab_size)
    memory = read(backbone, prompts)
    before = frozen(memory)
    rows = torch.tensor([3, 0, 3])
    taken = backbone.take(memory, rows)
    tokens = torch.arange(6).reshape(3, 2)
    mask = torch.ones(3, 2, dtype=torch.bool)
    written = backbone.write(taken, tokens, mask)
    alone = backbone.write(read(backbone, [prompts[row] for row in rows.tolist()]), tokens, mask)
    torch.testing.assert_close(written.states, alone.states, atol=1e-4, rtol=1e-4)
    assert all(map(torch.equal, frozen(memory), before))


@pytest.mark.parametrize("plain", ROADS)
@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
def test_states_and_logits_equal_unpadded_forwards(family: str, plain: bool) -> None:
    backbone = backbone_of(family, plain)
    prompts = ragged_prompts(backbone.model.config.vocab_size)
    tokens, mask = ragged_targets(backbone.model.config.vocab_size)
    with torch.no_grad():
        written = backbone.write(read(backbone, prompts), tokens, mask)
        for row, prompt in enumerate(prompts):
            length = TARGET_LENGTHS[row]
            states, logits = run_alone(backbone.model, prompt, tokens[row, :length].tolist())
            assert relative_difference(written.states[row, : length + 1], states) < 1e-5
            assert relative_difference(written.logits[row, : length + 1], logits) < 1e-5


@pytest.mark.parametrize("plain", ROADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_prompt_states_are_finite_everywhere_and_right_at_the_prompt(family: str, plain: bool) -> None:
    backbone = backbone_of(family, plain)
    prompts = ragged_prompts(backbone.model.config.vocab_size)
    with torch.no_grad():
        memory = read(backbone, prompts)
        # A head that pools with zero weights would still be poisoned by one NaN at the padding.
        assert bool(torch.isfinite(memory.prompt_states).all())
        for row, prompt in enumerate(prompts):
            model = backbone.model(input_ids=torch.tensor([prompt]), output_hidden_states=True)
            found = memory.prompt_states[row][memory.prompt_mask[row]]
            assert relative_difference(found, model.hidden_states[-1][0]) < 1e-5
    assert torch.equal(memory.state, memory.prompt_states[:, -1])


def frozen(memory: Memory) -> list[Tensor]:
    """Returns copies of all tensors that a memory holds."""
    layers = memory.cache.layers if memory.cache is not None else []
    tensors = [memory.prompt_states, memory.prompt_mask, memory.state, memory.logits, memory.tokens, memory.mask]
    return [one.clone() for one in tensors + [part for layer in layers for part in (layer.keys, layer.values)]]


@pytest.mark.parametrize("plain", ROADS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_write_leaves_its_memory_as_it_was(family: str, plain: bool) -> None:
    backbone = backbone_of(family, plain)
    prompts = ragged_prompts(backbone.model.config.vocab_size)
    tokens, mask = ragged_targets(backbone.model.config.vocab_size)
    memory = read(backbone, prompts)
    before = frozen(memory)
    first = backbone.write(memory, tokens, mask)
    after_first = frozen(first.memory)
    backbone.write(memory, tokens.flip(1), torch.ones_like(mask))
    backbone.write(first.memory, tokens, mask)
    assert all(map(torch.equal, frozen(memory), before))
    assert all(map(torch.equal, frozen(first.memory), after_first))
    again = backbone.write(memory, tokens, mask)
    assert torch.equal(again.states, first.states)
    assert torch.equal(again.logits, first.logits)
    if not plain:
        assert memory.cache.get_seq_length() == max(map(len, prompts))
        assert first.memory.cache.get_seq_length() == max(map(len, prompts)) + max(TARGET_LENGTHS)


@pytest.mark.parametrize("plain", ROADS)
@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
@pytest.mark.parametrize("cut", [1, 2, 4])
@torch.no_grad()
def test_two_writes_equal_one(family: str, plain: bool, cut: int) -> None:
    backbone = backbone_of(family, plain)
    memory = read(backbone, ragged_prompts(backbone.model.config.vocab_size))
    tokens, mask = ragged_targets(backbone.model.config.vocab_size)
    whole = backbone.write(memory, tokens, mask)
    first = backbone.write(memory, tokens[:, :cut], mask[:, :cut])
    second = backbone.write(first.memory, tokens[:, cut:], mask[:, cut:])
    states = torch.cat([first.states, second.states[:, 1:]], dim=1)
    logits = torch.cat([first.logits, second.logits[:, 1:]], dim=1)
    kept = torch.cat([torch.ones(len(mask), 1, dtype=torch.bool), mask], dim=1)
    assert relative_difference(states[kept], whole.states[kept]) < 1e-5
    assert relative_difference(logits[kept], whole.logits[kept]) < 1e-5
    # What comes next follows each row's last token, wherever its padding begins.
    assert torch.equal(second.states[:, 0], first.states[torch.arange(len(mask)), mask[:, :cut].sum(dim=1)])
    assert torch.equal(second.memory.mask, whole.memory.mask)


def pad_more(memory_tokens: Tensor, mask: Tensor, amount: int, token: int) -> tuple[Tensor, Tensor]:
    """Returns prompts with more padding on the left, all of it one token."""
    filled = torch.where(mask, memory_tokens, torch.full_like(memory_tokens, token))
    left = torch.full((len(mask), amount), token)
    return torch.cat([left, filled], dim=1), torch.cat([torch.zeros_like(left, dtype=torch.bool), mask], dim=1)


@pytest.mark.parametrize("plain", ROADS)
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=8)
@given(
    amount=st.integers(0, 20),
    more_target=st.integers(0, 4),
    token=st.integers(0, 250),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
)
@torch.no_grad()
def test_padding_changes_no_answer(
    family: str, plain: bool, amount: int, more_target: int, token: int, lengths: list[int]
) -> None:
    backbone = backbone_of(family, plain)
    vocab_size = backbone.model.config.vocab_size
    prompt, prompt_mask = backbone.collate(ragged_prompts(vocab_size, lengths))
    tokens, mask = ragged_targets(vocab_size, tuple(1 + length % 4 for length in lengths))
    usual = backbone.write(backbone.read(prompt, prompt_mask), tokens, mask)
    right = torch.full((len(mask), more_target), token)
    padded = backbone.write(
        backbone.read(*pad_more(prompt, prompt_mask, amount, token)),
        torch.cat([torch.where(mask, tokens, token), right], dim=1),
        torch.cat([mask, torch.zeros_like(right, dtype=torch.bool)], dim=1),
    )
    kept = torch.cat([torch.ones(len(mask), 1, dtype=torch.bool), mask], dim=1)
    width = kept.shape[1]
    assert relative_difference(padded.states[:, :width][kept], usual.states[kept]) < 1e-5
    assert relative_difference(padded.logits[:, :width][kept], usual.logits[kept]) < 1e-5


def test_padding_and_end_are_kept_apart() -> None:
    tokenizer = byte_level_tokenizer(eos="</s>", pad="</s>")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    for family in FAMILIES:
        backbone = DecoderOnlyBackbone(tiny_model(family, len(tokenizer)), tokenizer)
        assert backbone.end_id == tokenizer.eos_token_id
        assert backbone.pad_id != backbone.end_id
        # A prompt and a target that hold the end token many times are read as they are.
        prompts = [[backbone.end_id, 5, backbone.end_id], [7, 8, 9, backbone.end_id, 11]]
        tokens = torch.tensor([[backbone.end_id, 5, 6], [7, backbone.end_id, backbone.end_id]])
        with torch.no_grad():
            written = backbone.write(read(backbone, prompts), tokens, torch.ones_like(tokens, dtype=torch.bool))
            for row, prompt in enumerate(prompts):
                states, _ = run_alone(backbone.model, prompt, tokens[row].tolist())
                assert relative_difference(written.states[row], states) < 1e-5


@pytest.mark.parametrize(("eos", "pad"), [("</s>", "<pad>"), ("</s>", "</s>"), ("</s>", None), (None, None)])
def test_the_padding_token_is_never_the_end_token(eos: str | None, pad: str | None) -> None:
    tokenizer = byte_level_tokenizer(eos=eos, pad=pad)
    backbone = DecoderOnlyBackbone(tiny_model("llama", len(tokenizer)), tokenizer)
    assert backbone.pad_id != backbone.end_id
    assert 0 <= backbone.pad_id < backbone.model.get_input_embeddings().num_embeddings
    assert 0 <= backbone.end_id < backbone.model.get_input_embeddings().num_embeddings


def test_collate_pads_on_the_left() -> None:
    tokens, mask = backbone_of("llama", False).collate([[5, 6, 7], [8]])
    assert mask.tolist() == [[True, True, True], [False, False, True]]
    assert tokens[mask].tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("plain", ROADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_detached_memory_is_the_same_without_gradients(family: str, plain: bool) -> None:
    backbone = backbone_of(family, plain)
    memory = read(backbone, ragged_prompts(backbone.model.config.vocab_size))
    detached = backbone.detach(memory)
    assert memory.state.requires_grad
    assert all(map(torch.equal, frozen(memory), frozen(detached)))
    assert not any(one.requires_grad for one in frozen(detached))
    assert memory.state.requires_grad
    if not plain:
        assert all(layer.keys.requires_grad for layer in memory.cache.layers)


def test_several_writes_share_one_read_with_gradients() -> None:
    """Two writes over one memory, and a sampling-like write between them, give the gradients of two separate runs."""
    prompts, (tokens, mask) = ragged_prompts(250), ragged_targets(250)

    def gradients(backbone: DecoderOnlyBackbone, shared: bool) -> list[Tensor]:
        backbone.zero_grad()
        total = torch.zeros(())
        memory = read(backbone, prompts)
        for order in (tokens, tokens.flip(0)):
            with torch.no_grad():
                backbone.write(backbone.detach(memory), tokens.flip(1), mask)
            written = backbone.write(memory, order, mask)
            total = total + written.states[:, 1:][mask].pow(2).sum() + written.logits[:, 0].pow(2).mean()
            if not shared:
                memory = read(backbone, prompts)
        total.backward()
        return [parameter.grad.clone() for parameter in backbone.parameters() if parameter.grad is not None]

    shared, apart = (gradients(tiny_backbone("llama"), shared) for shared in (True, False))
    assert all(relative_difference(a, b) < 1e-4 for a, b in zip(shared, apart, strict=True))


# ---- tokens


def test_digits_are_one_token_each_and_a_prompt_is_not_cut() -> None:
    backbone = backbone_of("llama", False)
    ids = [backbone.symbol_id(character) for character in "-0123456789."]
    assert len(set(ids)) == 12
    assert backbone.text_of([*(backbone.symbol_id(character) for character in "13.4"), backbone.end_id, 5]) == "13.4"
    backbone.tokenizer.model_max_length = 8
    (tokens, spans), *_ = backbone.tokenize_prompts(["a film " * 40])
    assert len(tokens) == len(spans) > 40
    backbone.tokenizer.model_max_length = 10**30


def test_the_begin_token_stands_before_prompts_where_the_model_knows_one() -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    backbone = DecoderOnlyBackbone(tiny_model("llama", len(tokenizer)), tokenizer)
    assert backbone.tokenize_prompts(["a", "b"])[1][0][0] == tokenizer.bos_token_id
    # GPT-2 names its end token as begin token and never writes it before a text.
    tokenizer = byte_level_tokenizer()
    tokenizer.bos_token = tokenizer.eos_token
    backbone = DecoderOnlyBackbone(tiny_model("gpt2", len(tokenizer)), tokenizer)
    assert tokenizer.eos_token_id not in backbone.tokenize_prompts(["a"])[0][0]


def test_the_smallest_limit_of_positions_counts() -> None:
    tokenizer = byte_level_tokenizer()
    assert DecoderOnlyBackbone(tiny_model("gpt2", len(tokenizer)), tokenizer).max_positions == 96
    tokenizer.model_max_length = 50
    assert DecoderOnlyBackbone(tiny_model("llama", len(tokenizer)), tokenizer).max_positions == 50
    assert tiny_backbone("bloom", max_position_embeddings=None).max_positions >= 1_000_000


# ---- which road


@pytest.fixture
def checkpointing() -> DecoderOnlyBackbone:
    backbone = tiny_backbone("llama")
    checkpoint_activations(backbone.model)
    return backbone


def test_gradient_checkpointing_takes_the_plain_road_in_training_only(checkpointing: DecoderOnlyBackbone) -> None:
    prompts = ragged_prompts(250)
    assert read(checkpointing.train(), prompts).cache is None
    assert read(checkpointing.eval(), prompts).cache is not None


def test_dropout_off_puts_every_part_back_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(), nn.Dropout()), nn.Dropout())
    module.train()
    module[1][0].eval()
    module[2].eval()
    before = {name: part.training for name, part in module.named_modules()}
    with dropout_off(module):
        assert not any(part.training for part in module.modules())
    assert {name: part.training for name, part in module.named_modules()} == before
    with pytest.raises(RuntimeError, match="inside"), dropout_off(module):
        raise RuntimeError("inside")
    assert {name: part.training for name, part in module.named_modules()} == before


class ForgetfulBackbone(DecoderOnlyBackbone):
    """A backbone whose cached road forgets the prompt, as with families that keep another kind of memory."""

    def write(self, memory: Memory, tokens: Tensor, mask: Tensor):  # type: ignore[no-untyped-def]
        if memory.cache is not None:
            for layer in memory.cache.layers:
                layer.keys, layer.values = torch.zeros_like(layer.keys), torch.zeros_like(layer.values)
        return super().write(memory, tokens, mask)


class CachelessBackbone(DecoderOnlyBackbone):
    """A backbone whose model breaks when it is given this kind of cache."""

    def write(self, memory: Memory, tokens: Tensor, mask: Tensor):  # type: ignore[no-untyped-def]
        if memory.cache is not None:
            raise RuntimeError("The size of tensor a must match the size of tensor b")
        return super().write(memory, tokens, mask)


@pytest.mark.parametrize("kind", [ForgetfulBackbone, CachelessBackbone])
def test_a_cache_that_does_not_work_gives_the_plain_road(kind: type[DecoderOnlyBackbone]) -> None:
    tokenizer = byte_level_tokenizer()
    backbone = kind(tiny_model("llama", len(tokenizer)), tokenizer)
    backbone.choose_road()
    assert backbone.plain
    prompts = ragged_prompts(250)
    with torch.no_grad():
        assert relative_difference(read(backbone, prompts).state, read(tiny_backbone(), prompts).state) < 1e-5


@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
def test_the_cached_road_is_chosen_where_it_is_exact(family: str) -> None:
    backbone = tiny_backbone(family)
    backbone.choose_road()
    assert not backbone.plain
    assert not backbone.model.training


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_a_recurrent_model_takes_the_plain_road(family: str) -> None:
    changes = {"mamba2": {"num_heads": 4, "head_dim": 8, "n_groups": 1}}.get(family, {})
    backbone = tiny_backbone(family, std=0.1, state_size=4, **changes)
    backbone.choose_road()
    assert backbone.plain
