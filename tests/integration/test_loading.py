"""Loading a backbone: what is refused and how, tokens that had to be added."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from predgen.backbones import find_source, load_backbone
from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.backbones.encoder_only import EncoderOnlyBackbone
from predgen.codec.codec import Codec
from predgen.errors import BackboneError
from predgen.targets.number import Number
from tests.helpers.shapes import (
    FAMILIES,
    byte_level_tokenizer,
    ragged_prompts,
    relative_difference,
    run_alone,
    save_model,
    tiny_model,
    word_level_tokenizer,
)


def load(folder: Path) -> DecoderOnlyBackbone:
    return load_backbone(find_source(str(folder)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_gives_the_model_it_holds(tmp_path: Path, family: str) -> None:
    tokenizer = byte_level_tokenizer()
    model = tiny_model(family, len(tokenizer))
    save_model(tmp_path / family, model, tokenizer)
    backbone = load(tmp_path / family)
    assert backbone.capabilities.cached
    assert not backbone.training
    assert not any(part.training for part in backbone.modules())
    assert backbone.hidden_size == 16
    assert backbone.end_id == tokenizer.eos_token_id
    assert backbone.added_token_ids == []
    prompt = ragged_prompts(250, [8])[0]
    with torch.no_grad():
        found = backbone.read(*backbone.collate([prompt]))
        assert relative_difference(found.state[0], run_alone(model, prompt, [])[0][0]) < 1e-6


def test_nano_reads_and_writes() -> None:
    source = find_source("builtin:nano")
    assert source.name == "builtin:nano@2"
    assert find_source("builtin:nano@2") == source
    backbone = load_backbone(source)
    assert backbone.capabilities.cached
    assert backbone.added_token_ids == []
    assert backbone.max_positions == 512
    text = "The film was directed by"
    tokens = backbone.tokenize_prompts([text])[0][0]
    with torch.no_grad():
        memory = backbone.read(*backbone.collate([tokens]))
        written: list[int] = []
        for _ in range(12):
            written.append(int(memory.logits.argmax()))
            token = torch.tensor([[written[-1]]])
            memory = backbone.write(memory, token, torch.ones_like(token, dtype=torch.bool)).memory
        generated = backbone.model.generate(torch.tensor([tokens]), max_new_tokens=12, do_sample=False)
        # It has learned English: it finds this sentence far likelier than the same words in another order.
        words = ["the", "man", "went", "to", "the", "house", "and", "said", "that", "he", "was", "not", "there"]
        likely = [
            float(backbone.model(input_ids=ids, labels=ids).loss)
            for order in (words, words[::-1])
            for ids in [torch.tensor([backbone.tokenize_prompts([" ".join(order)])[0][0]])]
        ]
    assert generated[0, len(tokens) :].tolist() == written
    assert backbone.text_of(written).isprintable()
    assert likely[0] < likely[1] - 0.5


def test_bfloat16_is_loaded_and_checked(llama: Path) -> None:
    backbone = load_backbone(find_source(str(llama)), dtype="bfloat16")
    assert next(backbone.model.parameters()).dtype == torch.bfloat16


# ---- what is refused


def no_bytes(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def one_tensor_missing(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def another_shape(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def not_finite(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def unknown_kind(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "newer-than-this"}))


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_bytes, "readable weights and a tokenizer in .*found damage"),
        (cut_short, "readable weights and a tokenizer in .*found damage .*copy the model again"),
        (one_tensor_missing, r"all weights of the model in .*1 missing, such as 'model\.layers\.1\.mlp\.up_proj"),
        (another_shape, "readable weights and a tokenizer in .*found damage"),
        (not_finite, "Expected a causal language model whose states"),
        (no_weights, r"Expected weights \(\*\.safetensors or .*found none"),
        (no_tokenizer, "a tokenizer in"),
        (broken_tokenizer, "readable weights and a tokenizer in .*found damage"),
        (broken_config, "that this version of transformers knows"),
        (unknown_kind, "that this version of transformers knows"),
        (no_config, r"a model folder with a config\.json, found none"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_damaged_folder_is_refused(llama: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(llama)
    with pytest.raises(BackboneError, match=message):
        load(llama)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path, family: str) -> None:
    """Some tokenizer classes make an empty vocabulary of no file at all."""
    save_model(tmp_path / family, tiny_model(family, 300), None)
    with pytest.raises(BackboneError, match="a tokenizer in"):
        load(tmp_path / family)


def test_a_bert_is_an_encoder_or_a_decoder_as_its_config_says(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    for is_decoder, kind in ((False, EncoderOnlyBackbone), (True, DecoderOnlyBackbone)):
        model = tiny_model("bert", len(tokenizer), is_decoder=is_decoder)
        name = save_model(tmp_path / f"bert-{is_decoder}", model.bert if not is_decoder else model, tokenizer)
        backbone = load_backbone(find_source(name))
        assert type(backbone) is kind
        assert backbone.capabilities.cached


def test_the_same_files_are_tried_once_and_changed_ones_again(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    original = DecoderOnlyBackbone.choose_path

    def counted(backbone: DecoderOnlyBackbone) -> None:
        tried.append(1)
        original(backbone)

    monkeypatch.setattr(DecoderOnlyBackbone, "choose_path", counted)
    first, second = load(llama), load(llama)
    assert len(tried) == 1
    assert second.capabilities == first.capabilities
    assert (second.hidden_size, second.prompt_size) == (first.hidden_size, first.prompt_size)
    load_backbone(find_source(str(llama)), dtype="bfloat16")
    assert len(tried) == 2
    weights = load_file(llama / "model.safetensors")
    save_file(weights, llama / "model.safetensors", metadata={"format": "pt"})
    load(llama)
    assert len(tried) == 3


def test_a_model_that_sees_later_tokens_is_no_decoder(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    backbone = DecoderOnlyBackbone(tiny_model("bert", len(tokenizer), is_decoder=False), tokenizer)
    with pytest.raises(BackboneError, match=r"do not depend on padding or on later tokens.*BertLMHeadModel"):
        backbone.choose_path()


def test_a_model_that_counts_positions_from_another_number_takes_the_plain_road(tmp_path: Path) -> None:
    """RoBERTa's first position is 2: with ours it would run, and be worse than it is."""
    tokenizer = byte_level_tokenizer()
    model = tiny_model("roberta", len(tokenizer), is_decoder=True, pad_token_id=1)
    save_model(tmp_path / "roberta", model, tokenizer)
    assert not load(tmp_path / "roberta").capabilities.cached


# ---- tokens that the vocabulary lacks


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_missing_digits_and_end_get_tokens_of_their_own(tmp_path: Path, family: str, tied: bool) -> None:
    tokenizer = word_level_tokenizer()
    assert tokenizer.eos_token_id is None
    save_model(tmp_path / family, tiny_model(family, len(tokenizer), tie_word_embeddings=tied), tokenizer)
    backbone = load(tmp_path / family)
    assert backbone.added_token_ids == [backbone.end_id]
    assert backbone.pad_id != backbone.end_id
    codec = Codec(Number(-1.0, 9.9, 1), backbone)
    ids = [backbone.symbol_id(character) for character in "0123456789.-"]
    assert len({*ids, backbone.end_id}) == 13
    # "1" and "2" were there.
    assert sorted({*ids, backbone.end_id} - {backbone.symbol_id("1"), backbone.symbol_id("2")}) == sorted(
        backbone.added_token_ids
    )
    assert len(backbone.model.get_input_embeddings().weight) == len(backbone.tokenizer)
    before = list(backbone.added_token_ids)
    Codec(Number(-1.0, 9.9, 1), backbone)
    assert backbone.added_token_ids == before
    gold = codec.encode([-0.5, 9.9])
    with torch.no_grad():
        memory = backbone.read(*backbone.collate([[1, 2, 3], [4]]))
        written = backbone.write(memory, codec.symbols[gold.symbols], gold.mask)
    assert written.logits.shape[-1] == len(backbone.tokenizer)
    assert bool(torch.isfinite(written.logits).all())


def test_the_rows_of_added_tokens_depend_on_nothing_random() -> None:
    def rows(seed: int) -> list[Any]:
        tokenizer = word_level_tokenizer()
        model = tiny_model("llama", len(tokenizer))
        torch.manual_seed(seed)
        backbone = DecoderOnlyBackbone(model, tokenizer)
        Codec(Number(0.0, 9.0, 0), backbone)
        draw = torch.rand(1)
        return [model.get_input_embeddings().weight.detach(), model.get_output_embeddings().weight.detach(), draw]

    first, second = rows(1), rows(2)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[2], second[2]), "the random state of the caller is left alone"
    assert len({tuple(row.tolist()) for row in first[0]}) == len(first[0]), "no two tokens are the same"


def test_special_tokens_that_the_model_has_no_row_for(tmp_path: Path) -> None:
    """The usual recipe adds a pad token to the tokenizer and forgets the model."""
    tokenizer = byte_level_tokenizer(pad=None)
    model = tiny_model("gpt2", len(tokenizer))
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    save_model(tmp_path / "gpt2", model, tokenizer)
    backbone = load(tmp_path / "gpt2")
    assert backbone.pad_id < len(model.get_input_embeddings().weight)
    assert backbone.added_token_ids == []

    tokenizer = byte_level_tokenizer(eos=None)
    model = tiny_model("llama", len(tokenizer))
    tokenizer.add_special_tokens({"eos_token": "[END]"})
    save_model(tmp_path / "llama", model, tokenizer)
    backbone = load(tmp_path / "llama")
    assert backbone.added_token_ids == [backbone.end_id] == [tokenizer.eos_token_id]
    assert backbone.end_id < len(backbone.model.get_input_embeddings().weight)
