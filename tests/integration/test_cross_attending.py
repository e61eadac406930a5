"""Encoder-decoders and encoders with a Writer: both roads equal unpadded rows, positions of trees, whole runs."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

import predgen
from predgen.adapters import apply_peft
from predgen.backbones import Memory, find_source, load_backbone
from predgen.backbones.backbone import Backbone
from predgen.backbones.cross_attending import CrossAttendingBackbone
from predgen.backbones.encoder_decoder import EncoderDecoderBackbone
from predgen.backbones.encoder_only import EncoderOnlyBackbone
from predgen.backbones.template import SEPARATOR
from predgen.codec.codec import Codec
from predgen.codec.trie import Trie
from predgen.errors import BackboneError, TargetError
from predgen.writing.sampling import Draws
from predgen.writing.scoring import score_all
from tests.helpers.shapes import (
    ENCODER_DECODERS,
    ENCODERS,
    TARGETS,
    VALUES,
    all_paths,
    assert_layers_equal_unpadded_rows,
    batch_for,
    bert_tokenizer,
    byte_level_tokenizer,
    checkpoint_activations,
    enlarged,
    path_of,
    ragged_prompts,
    relative_difference,
    save_model,
    tiny_encoder,
    tiny_encoder_decoder,
    tiny_method,
    with_vocabulary,
)
from tests.helpers.tables import reviews

FAMILIES = [*ENCODER_DECODERS, *ENCODERS]
# One of each way to set positions, for what does not depend on the family.
SOME = ["t5", "bart", "t5gemma", "bert", "roberta"]
TARGET_LENGTHS = (3, 1, 5, 2, 4)


def new_backbone(family: str, *, plain: bool = False) -> CrossAttendingBackbone:
    """Returns a tiny backbone whose Writer's weights are enlarged too."""
    if family in ENCODER_DECODERS:
        tokenizer = byte_level_tokenizer()
        model = tiny_encoder_decoder(family, tokenizer)
        backbone: CrossAttendingBackbone = EncoderDecoderBackbone(model, tokenizer, cached=not plain)
    else:
        tokenizer = bert_tokenizer()
        backbone = EncoderOnlyBackbone(tiny_encoder(family, tokenizer).base_model, tokenizer, cached=not plain)
        backbone.symbol_id("7")
        backbone.word_ids(["good", "film", "very bad"])
        enlarged(backbone.writer)
    backbone.eval().choose_path()
    return backbone


@cache
def backbone_of(family: str, plain: bool = False) -> CrossAttendingBackbone:
    return new_backbone(family, plain=plain)


def prompts_of(backbone: CrossAttendingBackbone) -> list[list[int]]:
    # Ids of special tokens stand first in the vocabulary; some families read their padding as such wherever it is.
    rows = ragged_prompts(len(backbone.tokenizer) - 8)
    return [[token + 8 for token in row] for row in rows]


def targets_of(backbone: CrossAttendingBackbone, lengths: tuple[int, ...] = TARGET_LENGTHS) -> tuple[Tensor, Tensor]:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    first = 2 if isinstance(backbone, EncoderOnlyBackbone) else 8
    generator = torch.Generator().manual_seed(1)
    return torch.randint(first, backbone.num_target_tokens, mask.shape, generator=generator), mask


def read(backbone: CrossAttendingBackbone) -> Memory:
    return backbone.read(*backbone.collate(prompts_of(backbone)))


def output_alone(
    backbone: CrossAttendingBackbone, prompt: list[int], target: list[int]
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Returns the prompt's states at every layer, H[0..m] at every layer, and the logits that follow each.

    They come from Hugging Face's own forward of one unpadded row.
    """
    written = torch.tensor([[*backbone.start_ids, *target]])
    if isinstance(backbone, EncoderDecoderBackbone):
        output = backbone.model(
            input_ids=torch.tensor([prompt]), decoder_input_ids=written, use_cache=False, output_hidden_states=True
        )
        read, states = output.encoder_hidden_states, output.decoder_hidden_states
    else:
        assert isinstance(backbone, EncoderOnlyBackbone)
        read = backbone.model(input_ids=torch.tensor([prompt]), output_hidden_states=True).hidden_states
        output = backbone.writer(
            input_ids=written, encoder_hidden_states=read[-1], use_cache=False, output_hidden_states=True
        )
        states = output.hidden_states
    start = len(backbone.start_ids) - 1
    return [one[0] for one in read], [one[0, start:] for one in states], output.logits[0, start:]


def run_alone(backbone: CrossAttendingBackbone, prompt: list[int], target: list[int]) -> tuple[Tensor, Tensor]:
    """Returns H[0..m] and the logits that follow each."""
    _, states, logits = output_alone(backbone, prompt, target)
    return states[-1], logits


def frozen(memory: Memory) -> list[Tensor]:
    """Returns copies of all tensors that a memory holds."""
    caches = () if memory.cache is None else (memory.cache.self_attention_cache, memory.cache.cross_attention_cache)
    tensors = [memory.prompt_states, memory.prompt_mask, memory.state, memory.logits, memory.tokens, memory.mask]
    tensors += [part for cache in caches for layer in cache.layers for part in (layer.keys, layer.values)]
    return [one.clone() for one in tensors]


# ---- states and logits


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_states_at_every_layer_equal_unpadded_rows(family: str) -> None:
    backbone = backbone_of(family)

    def alone(prompt: list[int], target: list[int]) -> tuple[list[Tensor], list[Tensor]]:
        read, states, _ = output_alone(backbone, prompt, target)
        assert (len(read), len(states)) == ((3, 3) if family in ENCODER_DECODERS else (4, 3))
        return read, [one[1:] for one in states]

    assert_layers_equal_unpadded_rows(backbone, prompts_of(backbone), *targets_of(backbone), alone)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_states_and_logits_equal_unpadded_rows(family: str, plain: bool) -> None:
    backbone = backbone_of(family, plain)
    assert backbone.capabilities.cached is not plain
    memory, (tokens, mask) = read(backbone), targets_of(backbone)
    written = backbone.write(memory, tokens, mask)
    for row, prompt in enumerate(prompts_of(backbone)):
        length = TARGET_LENGTHS[row]
        states, logits = run_alone(backbone, prompt, tokens[row, :length].tolist())
        assert relative_difference(written.states[row, : length + 1], states) < 1e-5
        assert relative_difference(written.logits[row, : length + 1], logits) < 1e-5


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("family", SOME)
@pytest.mark.parametrize("cut", [1, 2, 4])
@torch.no_grad()
def test_two_writes_equal_one_where_rows_are_behind(family: str, plain: bool, cut: int) -> None:
    backbone = backbone_of(family, plain)
    memory, (tokens, mask) = read(backbone), targets_of(backbone)
    # In the second write every row goes on, also those that wrote less in the first.
    more, more_mask = targets_of(backbone, (2, 3, 1, 3, 2))
    before = frozen(memory)
    first = backbone.write(memory, tokens[:, :cut], mask[:, :cut])
    after_first = frozen(first.memory)
    second = backbone.write(first.memory, more, more_mask)
    third = backbone.write(second.memory, more, more_mask)
    assert all(map(torch.equal, frozen(memory), before))
    assert all(map(torch.equal, frozen(first.memory), after_first))
    for row, prompt in enumerate(prompts_of(backbone)):
        begun = tokens[row][: min(cut, TARGET_LENGTHS[row])].tolist()
        own = more[row][more_mask[row]].tolist()
        for written, start in ((second, begun), (third, [*begun, *own])):
            states, logits = run_alone(backbone, prompt, [*start, *own])
            length = len(own) + 1
            assert relative_difference(written.states[row, :length], states[len(start) :]) < 1e-5
            assert relative_difference(written.logits[row, :length], logits[len(start) :]) < 1e-5
            assert int(written.memory.mask[row].sum()) == len(backbone.start_ids) + len(start) + len(own)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("family", SOME)
@torch.no_grad()
def test_rows_that_are_taken_go_on_as_they_would_have(family: str, plain: bool) -> None:
    backbone = backbone_of(family, plain)
    memory = read(backbone)
    before = frozen(memory)
    rows = torch.tensor([3, 0, 3])
    tokens, mask = targets_of(backbone, (2, 2, 2))
    written = backbone.write(backbone.take(memory, rows), tokens, mask)
    for place, row in enumerate(rows.tolist()):
        states, _ = run_alone(backbone, prompts_of(backbone)[row], tokens[place].tolist())
        assert relative_difference(written.states[place], states) < 1e-5
    assert all(map(torch.equal, frozen(memory), before))


@pytest.mark.parametrize("family", SOME)
def test_several_writes_share_one_read_with_gradients(family: str) -> None:
    def gradients(shared: bool) -> list[Tensor]:
        backbone = new_backbone(family)
        tokens, mask = targets_of(backbone)
        total = torch.zeros(())
        memory = read(backbone)
        for order in (tokens, tokens.flip(0)):
            with torch.no_grad():
                backbone.write(backbone.detach(memory), tokens.flip(1), mask)
            written = backbone.write(memory, order, mask)
            total = total + written.states[:, 1:][mask].pow(2).sum() + written.logits[:, 0].pow(2).mean()
            if not shared:
                memory = read(backbone)
        total.backward()
        return [parameter.grad.clone() for parameter in backbone.parameters() if parameter.grad is not None]

    shared, apart = gradients(True), gradients(False)
    assert len(shared) > 20
    assert all(relative_difference(a, b) < 1e-4 for a, b in zip(shared, apart, strict=True) if float(b.norm()) > 1e-3)


@pytest.mark.parametrize("family", ["t5", "bart", "bert"])
def test_gradient_checkpointing_takes_the_plain_road_with_the_same_gradients(family: str) -> None:
    found = []
    for checkpointing in (False, True):
        backbone = new_backbone(family).train()
        for part in backbone.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        for module in backbone.modules():
            if isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
        if checkpointing:
            checkpoint_activations(backbone.model)
        memory, (tokens, mask) = read(backbone), targets_of(backbone)
        assert (memory.cache is None) is checkpointing
        backbone.write(memory, tokens, mask).logits[:, :-1][mask].pow(2).sum().backward()
        found.append([one.grad for one in backbone.parameters() if one.grad is not None])
    assert all(relative_difference(a, b) < 1e-4 for a, b in zip(*found, strict=True) if float(b.norm()) > 1e-3)


# ---- trees


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_tree_is_written_in_one_forward_where_its_positions_can_be_set(family: str) -> None:
    backbone = backbone_of(family)
    assert backbone.capabilities.masks_trees is (ENCODER_DECODERS[family][1] if family in ENCODER_DECODERS else True)
    # A chain that is longer than any window, with a branch at every step.
    tokens, mask = targets_of(backbone, (9,) * 5)
    begun = backbone.write(read(backbone), tokens[:, :3], mask[:, :3] & (torch.arange(5) != 2).unsqueeze(1)).memory
    depths = torch.tensor([1, 1, 2, 2, 3, 3, 4, 5, 6]).expand(5, -1)
    parents = [-1, -1, 0, 1, 2, 2, 4, 6, 7]
    ancestors = torch.eye(9, dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            ancestors[node] |= ancestors[parent]
    tree = (tokens, depths, ancestors.expand(5, -1, -1))
    found, expected = backbone.write_tree(begun, *tree), Backbone.write_tree(backbone, begun, *tree)
    assert relative_difference(found.states, expected.states) < 1e-4
    assert relative_difference(found.logits, expected.logits) < 1e-4
    some = torch.tensor([2, 0])
    assert torch.equal(backbone.write_tree(with_vocabulary(begun, some), *tree).logits, found.logits[..., some])
    first = backbone.write_tree(begun, tokens[:, :4], depths[:, :4], tree[2][:, :4, :4])
    rest = backbone.write_tree(begun, tokens[:, 4:], depths[:, 4:], tree[2][:, 4:], first.tree)
    grown = torch.cat([first.logits, rest.logits], dim=1)
    assert relative_difference(grown, expected.logits) < 1e-4


@pytest.mark.parametrize("kind", ["number", "label"])
@pytest.mark.parametrize("family", SOME)
@torch.no_grad()
def test_the_scores_of_all_targets_equal_one_by_one_unpadded_scores(family: str, kind: str) -> None:
    backbone = new_backbone(family)
    trie = Trie(Codec(TARGETS[kind], backbone))
    paths = all_paths(backbone, TARGETS[kind])
    scores = score_all(backbone, read(backbone), trie)
    torch.testing.assert_close(scores.exp().sum(dim=1), torch.ones(5), atol=1e-5, rtol=0)
    for row, prompt in enumerate(prompts_of(backbone)):
        for column in range(0, len(trie.values), 1 if kind == "label" else 29):
            path = path_of(paths, trie.values[column])
            _, logits = run_alone(backbone, prompt, path)
            expected = 0.0
            for position, token in enumerate(path):
                allowed = sorted({one[position] for one in paths if list(one[:position]) == path[:position]})
                expected += float(logits[position, token] - logits[position, allowed].logsumexp(dim=0))
            assert float(scores[row, column]) == pytest.approx(expected, abs=5e-4)


# ---- texts and symbols


def test_two_texts_stand_as_the_tokenizer_itself_joins_them() -> None:
    backbone = backbone_of("bert")
    own = backbone.tokenizer("a good film", "very bad")
    (ids, spans), (single, _) = backbone.tokenize_prompts([f"a good film{SEPARATOR}very bad", "film"])
    assert ids == own["input_ids"]
    assert single == backbone.tokenizer("film")["input_ids"]
    assert [(f"a good film{SEPARATOR}very bad")[start:end] for start, end in spans] == [
        "a",
        "good",
        "film",
        "very",
        "bad",
    ]
    assert isinstance(backbone, EncoderOnlyBackbone)
    tokens, mask = backbone.collate([ids, single])
    types = backbone._types_of(tokens, mask)
    assert types[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert types[1].tolist() == [0] * 8
    # Three texts have a separator between each.
    (three, _), *_ = backbone.tokenize_prompts([SEPARATOR.join(("a", "good", "film"))])
    separator = backbone.tokenizer.sep_token_id
    assert [token for token in three if token == separator] == [separator] * 3
    with torch.no_grad():
        encoded = backbone.model(**backbone.tokenizer("a good film", "very bad", return_tensors="pt"))
        assert relative_difference(backbone.prompt_states(tokens[:1], mask[:1]), encoded.last_hidden_state) < 1e-6


def test_the_name_of_a_special_token_in_a_text_is_text() -> None:
    backbone = backbone_of("bert")
    (ids, spans), *_ = backbone.tokenize_prompts([f"a [SEP] film{SEPARATOR}bad"])
    assert ids.count(backbone.tokenizer.sep_token_id) == 2
    assert isinstance(backbone, EncoderOnlyBackbone)
    tokens, mask = backbone.collate([ids])
    first = ids.index(backbone.tokenizer.sep_token_id)
    assert backbone._types_of(tokens, mask)[0].tolist() == [0] * (first + 1) + [1] * (len(ids) - first - 1)
    assert len(spans) == len(ids) - 3


def test_an_encoder_decoder_reads_what_its_tokenizer_ends_texts_with() -> None:
    backbone = backbone_of("t5")
    special_tokens = backbone.prompts.special_tokens
    # The byte-level tokenizer ends no texts.
    backbone.prompts.special_tokens = replace(special_tokens, suffix=[backbone.end_id])
    assert backbone.tokenize_prompts(["a film"])[0][0][-1] == backbone.end_id
    (joined, _), (broken, _) = backbone.tokenize_prompts([f"a{SEPARATOR}b", "a\nb"])
    assert joined == broken
    backbone.prompts.special_tokens = special_tokens


def test_the_writer_knows_the_symbols_of_its_target_alone() -> None:
    backbone = new_backbone("bert")
    assert isinstance(backbone, EncoderOnlyBackbone)
    before = backbone.num_target_tokens
    ids = [backbone.symbol_id(character) for character in "-13.4;"]
    assert len(set(ids)) == 6
    assert backbone.num_target_tokens == before + 6 == len(backbone.writer.get_input_embeddings().weight)
    assert backbone.symbol_id("3") == ids[2]
    assert backbone.text_of([*ids[:5], backbone.end_id, 5]) == "-13.4"
    words = backbone.word_ids(["very good", "bad"])
    assert backbone.text_of(words[0]) == "very good"
    embeddings = backbone.bare_model.get_input_embeddings().weight
    for row, piece in enumerate(backbone.target_tokens.pieces):
        if piece is not None:
            assert torch.equal(backbone.writer.get_input_embeddings().weight[row], embeddings[piece])
    assert backbone.target_tokens.pieces[ids[5]] is None  # this vocabulary has no semicolon


@pytest.mark.parametrize(
    ("family", "copied"), [("bert", True), ("mpnet", True), ("distilbert", True), ("albert", False)]
)
def test_the_writer_starts_from_the_encoders_last_layers(family: str, copied: bool) -> None:
    tokenizer = bert_tokenizer()
    encoder = tiny_encoder(family, tokenizer).base_model
    backbone = EncoderOnlyBackbone(encoder, tokenizer)
    first = backbone.writer.bert.encoder.layer[0]
    names = {"bert": "attention.self.query", "mpnet": "attention.attn.q", "distilbert": "attention.q_lin"}
    if copied:
        layers = encoder.transformer.layer if family == "distilbert" else encoder.encoder.layer
        source = layers[1].get_submodule(names[family]).weight  # three layers, the last two are copied
        assert torch.equal(first.attention.self.query.weight, source)
        assert torch.equal(first.crossattention.self.query.weight, source)
    fresh = {id(parameter) for parameter in backbone.new_parameters()}
    assert (id(first.attention.self.query.weight) in fresh) is not copied
    assert id(backbone.writer.cls.predictions.transform.dense.weight) in fresh
    # What is not copied follows torch's random state.
    dense = backbone.writer.cls.predictions.transform.dense.weight
    drawn = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        backbone.start_writer()
        drawn.append(dense.detach().clone())
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_a_target_that_is_too_long_to_be_written_is_refused() -> None:
    backbone = backbone_of("bart")
    assert backbone.longest_prompt(50) == backbone.max_positions
    with pytest.raises(TargetError, match=r"at most 1023 tokens, as many as BartForCond\w* can write, fou"):
        backbone.longest_prompt(1024)
    assert backbone_of("t5").longest_prompt(1024) == backbone_of("t5").max_positions  # its positions are relative


def test_a_tree_of_more_nodes_than_positions_is_written_row_by_row() -> None:
    tokenizer = byte_level_tokenizer()
    backbone = EncoderDecoderBackbone(tiny_encoder_decoder("bart", tokenizer, max_position_embeddings=20), tokenizer)
    backbone.eval().choose_path()
    trie = Trie(Codec(TARGETS["number"], backbone))
    assert backbone.capabilities.masks_trees
    assert trie.num_nodes > 20
    with torch.no_grad():
        scores = score_all(backbone, read(backbone), trie)
        backbone.capabilities = replace(backbone.capabilities, masks_trees=False)
        torch.testing.assert_close(scores, score_all(backbone, read(backbone), trie))


@pytest.mark.parametrize("family", ["roberta", "mpnet", "bert"])
def test_a_prompt_of_the_most_tokens_is_read(family: str) -> None:
    """Some families keep the first positions for padding."""
    backbone = new_backbone(family)
    longest = backbone.longest_prompt(3)
    assert longest == {"roberta": 95, "mpnet": 94, "bert": 96}[family]
    tokens = torch.full((1, longest), 9)
    with torch.no_grad():
        assert bool(torch.isfinite(backbone.read(tokens, torch.ones_like(tokens, dtype=torch.bool)).state).all())


# ---- training


@pytest.mark.parametrize("peft", ["none", "lora"])
@pytest.mark.parametrize("name", ["predictor", "generator", "predgen"])
@pytest.mark.parametrize("family", SOME)
def test_every_trainable_parameter_moves_and_no_frozen_one(family: str, name: str, peft: str) -> None:
    backbone = new_backbone(family)
    method = tiny_method(name, backbone, TARGETS["number"])
    apply_peft(backbone, peft, rank=2, writes=name != "predictor")  # type: ignore[arg-type]
    before = {key: (one.requires_grad, one.detach().clone()) for key, one in method.named_parameters()}
    trainable = [one for one in method.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-2, weight_decay=0.0)
    method.train()
    for step in range(4):
        batch = batch_for(method, prompts_of(backbone), VALUES["number"])
        own = torch.rand(batch.gold.symbols.shape, generator=torch.Generator().manual_seed(step)) < 0.5
        method(batch, draws=Draws(own))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    still = []
    for key, one in method.named_parameters():
        trains, old = before[key]
        assert bool(torch.isfinite(one).all()), key
        if trains and torch.equal(one, old):
            still.append(key)
        assert trains or torch.equal(one, old), f"{key} moved"
    assert still == []
    heads = {id(one) for one in method.heads()}
    parts = {key for key, one in method.named_parameters() if one.requires_grad and id(one) not in heads}
    assert parts
    if peft == "lora":
        assert all(".lora_" in key or ".writer." in key for key in parts)
    if name == "predictor":
        assert not any(".writer." in key or "decoder." in key for key in parts)


@pytest.mark.parametrize("family", ["t5", "bart", "t5gemma"])
def test_an_added_token_is_trained_wherever_it_is_read_or_written(family: str) -> None:
    backbone = new_backbone(family)
    token = backbone.add_token("@@new")
    apply_peft(backbone, "lora", rank=2, writes=True)
    prompt = torch.tensor([[token, 9, 10]])
    memory = backbone.read(prompt, torch.ones_like(prompt, dtype=torch.bool))
    written = backbone.write(memory, torch.tensor([[token, 9]]), torch.ones(1, 2, dtype=torch.bool))
    deltas = {name: one for name, one in backbone.named_parameters() if "trainable_tokens_delta" in name}
    assert len(deltas) == (3 if family == "t5gemma" else 1)  # the others tie encoder, decoder and output
    for part in (memory.prompt_states, written.states[:, 1:], written.logits[..., token]):
        gradients = torch.autograd.grad(part.pow(2).sum(), list(deltas.values()), retain_graph=True, allow_unused=True)
        assert any(one is not None and float(one.norm()) > 0 for one in gradients)


def test_a_writer_is_trained_in_float32_beside_an_encoder_of_16_bits(tmp_path: Path) -> None:
    name = save_family("bert", tmp_path / "base")
    model = predgen.fit(reviews(40), "stars", backbone=name, dtype="bfloat16", peft="lora", **SMALL)
    backbone = model.method.backbone
    assert isinstance(backbone, EncoderOnlyBackbone)
    assert backbone.bare_model.dtype == torch.bfloat16
    assert {one.dtype for one in model.method.parameters() if one.requires_grad} == {torch.float32}
    model.save(tmp_path / "model")
    again = predgen.load(tmp_path / "model", device="cpu")
    rows = reviews(25, seed=9)
    pd.testing.assert_frame_equal(model.predict(rows), again.predict(rows), check_exact=True)


# ---- from a folder to a prediction


def save_family(family: str, folder: Path) -> str:
    """Writes a model's folder, as a checkpoint of that family would be."""
    if family in ENCODER_DECODERS:
        tokenizer = byte_level_tokenizer()
        return save_model(folder, tiny_encoder_decoder(family, tokenizer), tokenizer)
    tokenizer = bert_tokenizer()
    return save_model(folder, tiny_encoder(family, tokenizer), tokenizer)


SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 3, "quiet": True, "device": "cpu"}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_fit_save_load_predict_is_equal_to_the_bit(tmp_path: Path, family: str) -> None:
    name = save_family(family, tmp_path / "base")
    kind = EncoderDecoderBackbone if family in ENCODER_DECODERS else EncoderOnlyBackbone
    assert type(load_backbone(find_source(name))) is kind
    rows = reviews(25, seed=9)
    for method, target, peft in (
        ("predictor", "stars", "lora"),
        ("generator", "mood", "lora"),
        ("predgen", "stars", "none"),
        ("predgen", "mood", "lora"),
    ):
        model = predgen.fit(reviews(40), target, backbone=name, method=method, peft=peft, **SMALL)
        assert model.record["trainable_parameters"] > 0
        model.save(tmp_path / "model", overwrite=True)
        again = predgen.load(tmp_path / "model", device="cpu")
        pd.testing.assert_frame_equal(model.predict(rows), again.predict(rows), check_exact=True)


def test_several_inputs_are_texts_of_their_own_for_an_encoder(tmp_path: Path) -> None:
    name = save_family("bert", tmp_path / "base")
    table = reviews(40).assign(title=lambda rows: rows["review"].str[:10])
    settings = {**SMALL, "inputs": ["title", "review"]}
    model = predgen.fit(table, "stars", backbone=name, **settings)
    assert model.contents.template.text == "{title}<sep>{review}"
    model.save(tmp_path / "model")
    again = predgen.load(tmp_path / "model", device="cpu")
    pd.testing.assert_frame_equal(model.predict(table), again.predict(table), check_exact=True)
    own = predgen.fit(
        table, "stars", backbone=name, template="{title}<sep>{review}<sep>stars", **SMALL | {"inputs": None}
    )
    assert own.contents.template.fields == ("title", "review")


def test_free_writing_stays_within_what_the_decoder_can_write(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    short = tiny_encoder_decoder("bart", tokenizer, max_position_embeddings=12)
    name = save_model(tmp_path / "base", short, tokenizer)
    settings = {**SMALL, "backbone": name, "method": "generator", "max_prompt_tokens": 12, "template": "{review}"}
    settings["inputs"] = None
    assert predgen.fit(reviews(40), "stars", **settings).predict(reviews(3))["prediction"].notna().all()
    with pytest.raises(predgen.TargetError, match="a target of at most 11 tokens"):
        predgen.fit(reviews(40), "stars", decoding="free", **settings)


def test_a_kind_that_is_no_language_model_is_refused(tmp_path: Path) -> None:
    name = save_family("bert", tmp_path / "base")
    (tmp_path / "base" / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(BackboneError, match=r"a language model, found the kind 'vit'.*a BERT"):
        load_backbone(find_source(name))
