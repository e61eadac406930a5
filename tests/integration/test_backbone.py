"""The backbone: both roads equal unpadded forwards, a memory never changes, padding changes nothing."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from predgen.backbones import Memory, linear_head
from predgen.backbones.base import dropout_off
from predgen.backbones.decoder_only import DecoderOnlyBackbone
from tests.helpers.shapes import (
    FAMILIES,
    ROADS,
    assert_layers_equal_unpadded_rows,
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
@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES, "mamba"])
@torch.no_grad()
def test_states_at_every_layer_equal_unpadded_forwards(family: str, plain: bool) -> None:
    backbone = tiny_backbone(family, plain=plain, std=0.1) if family == "mamba" else backbone_of(family, plain)
    vocab_size = backbone.model.config.vocab_size

    def alone(prompt: list[int], target: list[int]) -> tuple[list[Tensor], list[Tensor]]:
        row = torch.tensor([[*prompt, *target]])
        layers = backbone.model(input_ids=row, use_cache=False, output_hidden_states=True).hidden_states
        assert len(layers) == backbone.model.config.num_hidden_layers + 1
        return [one[0, : len(prompt)] for one in layers], [one[0, len(prompt) :] for one in layers]

    assert_layers_equal_unpadded_rows(backbone, ragged_prompts(vocab_size), *ragged_targets(vocab_size), alone)


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


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("plain", ROADS)
@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
def test_logits_of_some_tokens_equal_those_of_all(family: str, plain: bool, training: bool) -> None:
    backbone = tiny_backbone(family, plain=plain)
    backbone.choose_path()
    if training and not plain and getattr(backbone.model, "supports_gradient_checkpointing", False):
        checkpoint_activations(backbone.model)
    backbone.train(training)
    prompts = ragged_prompts(backbone.model.config.vocab_size)
    target, mask = ragged_targets(backbone.model.config.vocab_size)
    some = torch.tensor([3, 40, 7])
    gradients = []
    found = []
    for vocabulary in (None, some):
        backbone.zero_grad()
        memory = backbone.read(*backbone.collate(prompts), vocabulary)
        written = backbone.write(memory, target, mask)
        after = backbone.write(written.memory, target[:, :1], mask[:, :1])
        parts = [memory.logits, written.logits, after.logits]
        if vocabulary is None:
            parts = [part[..., some] for part in parts]
        found.append(torch.cat([part.reshape(-1, 3) for part in parts]))
        (found[-1] * torch.linspace(-1, 1, 3)).square().mean().backward()
        gradients.append(torch.cat([one.grad.flatten() for one in backbone.parameters() if one.grad is not None]))
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)
    assert relative_difference(*gradients) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shared", [0, 20])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_gradients_add_up_to_whole_ones(
    family: str, tied: bool, shared: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbone(family, tie_word_embeddings=tied)
    backbone.choose_path()
    backbone.model.to(dtype)
    vocab_size = backbone.model.config.vocab_size
    some = torch.tensor([3, 40, 7, 11])
    gradients = []
    for as_rows in (False, True):
        if not as_rows:
            monkeypatch.setattr(linear_head, "adds_rows", lambda model: False)
        backbone.zero_grad(set_to_none=True)
        for seed in (1, 2):  # two batches are added up
            prompts = [[9] * shared + prompt for prompt in ragged_prompts(vocab_size, seed=seed)]
            target, mask = ragged_targets(vocab_size)
            memory = backbone.read(*backbone.collate(prompts), some)
            first = backbone.write(memory, target, mask)
            second = backbone.write(first.memory, target[:, :2], mask[:, :2])
            (first.logits.float().square().mean() + second.states.float().square().mean()).backward()
        assert not any(one.grad.is_sparse for one in backbone.parameters() if one.grad is not None)
        gradients.append([one.grad.float() for one in backbone.parameters() if one.grad is not None])
        monkeypatch.undo()
    whole, rows = (torch.cat([one.flatten() for one in part]) for part in gradients)
    assert relative_difference(rows, whole) < {torch.float32: 1e-5}.get(dtype, 2e-2)
    nn.utils.clip_grad_norm_(backbone.parameters(), 1.0)
    torch.optim.AdamW(backbone.parameters(), lr=1e-3).step()


def test_a_write_over_a_memory_without_gradients_has_whole_ones() -> None:
    backbone = tiny_backbone("llama", tie_word_embeddings=True)
    backbone.choose_path()
    vocab_size = backbone.model.config.vocab_size
    target, mask = ragged_targets(vocab_size)
    memory = backbone.detach(backbone.read(*backbone.collate(ragged_prompts(vocab_size)), torch.tensor([3, 7])))
    backbone.write(memory, target, mask).logits.square().mean().backward()
    embeddings = backbone.model.get_input_embeddings()
    assert not embeddings.weight.grad.is_sparse
    assert embeddings.sparse is False


def test_a_head_is_linear_only_where_no_logits_say_otherwise() -> None:
    small = tiny_backbone("gemma2", std=0.001)  # far below the cap
    small.choose_path()
    assert small.model.config.final_logit_softcapping
    assert not small.capabilities.linear_head
    for family in FAMILIES:
        backbone = tiny_backbone(family)
        backbone.choose_path()
        assert backbone.capabilities.linear_head
        backbone.model.get_output_embeddings()._hf_hook = object()  # as a device map puts it there
        backbone.choose_path()
        assert not backbone.capabilities.linear_head


def test_dropout_is_drawn_for_each_row() -> None:
    backbone = tiny_backbone("gpt2", resid_pdrop=0.5, embd_pdrop=0.5)
    backbone.choose_path()
    tokens, mask = backbone.collate([[5] * 20 + [6], [5] * 20 + [7]])
    assert backbone.eval()._num_shared(tokens, mask) == 20
    assert backbone.train()._num_shared(tokens, mask) == 0
    states = backbone.prompt_states(tokens, mask)
    assert not torch.equal(states[0, :20], states[1, :20])


@pytest.mark.parametrize("num_shared", [16, 21])
@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
def test_what_all_prompts_begin_with_is_read_once(family: str, num_shared: int) -> None:
    backbone = tiny_backbone(family)
    backbone.choose_path()
    vocab_size = backbone.model.config.vocab_size
    start = ragged_prompts(vocab_size, (num_shared,), seed=5)[0]
    prompts = [[*start, *rest] for rest in ragged_prompts(vocab_size, seed=6)]
    prompts[1][num_shared] = (prompts[0][num_shared] + 1) % vocab_size  # they share no token more
    tokens, prompt_mask = backbone.collate(prompts)
    given: list[int] = []
    handle = backbone.model.register_forward_pre_hook(
        lambda _, __, arguments: given.append(arguments["input_ids"].numel()), with_kwargs=True
    )
    states = backbone.prompt_states(tokens, prompt_mask)
    handle.remove()
    if backbone.capabilities.pads_inside and backbone.capabilities.cached:
        assert given == [num_shared, tokens.numel() - num_shared * len(tokens)]
    else:
        assert given == [tokens.numel()]
    alone = [
        backbone.model(input_ids=torch.tensor([prompt]), use_cache=False, output_hidden_states=True).hidden_states[-1]
        for prompt in prompts
    ]
    expected = torch.cat([one[0] for one in alone])
    torch.testing.assert_close(states[prompt_mask], expected, atol=1e-4, rtol=1e-4)
    gradients = []
    for found in (states[prompt_mask], expected):
        backbone.zero_grad()
        (found * torch.linspace(-1, 1, found.shape[1])).sum().backward()
        gradients.append(torch.cat([one.grad.flatten() for one in backbone.parameters() if one.grad is not None]))
    assert relative_difference(*gradients) < 1e-4

    target, mask = ragged_targets(vocab_size)
    written = backbone.write(backbone.read(tokens, prompt_mask), target, mask)
    depths = torch.arange(1, target.shape[1] + 1).expand_as(target)
    chain = torch.ones(len(target), target.shape[1], target.shape[1]).tril().bool()
    tree = backbone.write_tree(written.memory, target, depths, chain)
    for row, prompt in enumerate(prompts):
        own = target[row, mask[row]].tolist()
        found, _ = run_alone(backbone.model, prompt, own)
        torch.testing.assert_close(written.states[row, : len(own) + 1], found, atol=1e-4, rtol=1e-4)
        found, _ = run_alone(backbone.model, [*prompt, *own], target[row].tolist())
        torch.testing.assert_close(tree.states[row], found[1:], atol=1e-4, rtol=1e-4)


def test_a_short_beginning_or_one_row_is_read_as_it_stands() -> None:
    backbone = tiny_backbone("llama")
    backbone.choose_path()
    for prompts in ([[5] * 30], [[5] * 15 + [6, 7], [5] * 15 + [8, 7]], [[5] * 16, [5] * 16], [[5] * 40, [6] * 40]):
        tokens, mask = backbone.collate(prompts)
        assert backbone._num_shared(tokens, mask) == 0
    tokens, mask = backbone.collate([[5] * 16 + [6] * 200, [5] * 16 + [7] * 200])
    assert backbone._num_shared(tokens, mask) == 0  # too small a part
    tokens, mask = backbone.collate([[5] * 17, [5] * 30])
    assert backbone._num_shared(tokens, mask) == 16


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
                layer.keys.zero_()
                layer.values.zero_()
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
    backbone.choose_path()
    assert not backbone.capabilities.cached
    prompts = ragged_prompts(250)
    with torch.no_grad():
        assert relative_difference(read(backbone, prompts).state, read(tiny_backbone(), prompts).state) < 1e-5


@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
def test_the_cached_road_is_chosen_where_it_is_exact(family: str) -> None:
    backbone = tiny_backbone(family)
    backbone.choose_path()
    assert backbone.capabilities.cached
    assert not backbone.model.training


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_a_recurrent_model_takes_the_plain_road(family: str) -> None:
    changes = {"mamba2": {"num_heads": 4, "head_dim": 8, "n_groups": 1}}.get(family, {})
    backbone = tiny_backbone(family, std=0.1, state_size=4, **changes)
    backbone.choose_path()
    assert not backbone.capabilities.cached
