"""Prompts become tokens with special tokens around them, and padded batches."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from predgen.backbones.backbone import Backbone
from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.backbones.encoder_decoder import EncoderDecoderBackbone
from predgen.backbones.encoder_only import EncoderOnlyBackbone
from predgen.backbones.prompts import PromptTokens, SpecialTokens
from predgen.backbones.template import SEPARATOR
from tests.helpers.shapes import bert_tokenizer, byte_level_tokenizer, tiny_encoder, tiny_encoder_decoder, tiny_model


def test_special_tokens_survive_json() -> None:
    special = SpecialTokens([2], [3], [4, 5], splits_specials=True)
    values = json.loads(json.dumps(special.to_json()))
    assert values == {"prefix": [2], "joint": [3], "suffix": [4, 5], "splits_specials": True, "plain": False}
    assert SpecialTokens.from_json({**values, "start": [0]}) == special  # an artifact keeps more beside them
    values.pop("plain")
    assert SpecialTokens.from_json(values) == special  # as 0.6.0 wrote them


def test_special_tokens_are_those_that_a_tokenizer_puts_around_texts() -> None:
    tokenizer = bert_tokenizer()
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert SpecialTokens.around_texts(tokenizer) == SpecialTokens([cls], [sep], [sep], plain=True)
    assert SpecialTokens.around_texts(byte_level_tokenizer()) == SpecialTokens([], [], [], plain=True)


def unigram_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer whose own vocabulary holds the names of its control tokens, as a T5's does."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz</>|_[]"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", bos_token=None
    )


def sentence_bpe_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a BPE over blanks marked in the text, as a Llama's or a Gemma's, with its names in the vocabulary."""
    letters = "▁abcdefghijklmnopqrstuvwxyz</>|_[]"
    pieces = ["<unk>", "<s>", "</s>", *letters, "</", "s>"]
    merges = [("<", "/"), ("s", ">")]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level BPE": byte_level_tokenizer,
    "WordPiece": bert_tokenizer,
    "unigram": unigram_tokenizer,
    "sentence BPE": sentence_bpe_tokenizer,
}
MARKERS = ("<|im_start|>", "<|im_end|>", "<think>", "[INST]")


def with_markers(name: str) -> PreTrainedTokenizerFast:
    """Returns a tokenizer to which chat markers were added, some of them as plain tokens."""
    tokenizer = TOKENIZERS[name]()
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKERS[:2])})
    tokenizer.add_tokens(list(MARKERS[2:]))
    return tokenizer


NAMES_OF_CONTROLS = [*MARKERS, "<s>", "</s>", "<pad>", "<unk>", "[CLS]", "[SEP]", "[PAD]", "[UNK]"]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(st.lists(st.sampled_from([*NAMES_OF_CONTROLS, "a ", " b", "<", "/s>", "\n", "é"]), min_size=1, max_size=6))
def test_any_text_gives_the_tokens_of_plain_text(name: str, parts: list[str]) -> None:
    tokenizer = with_markers(name)
    controls = {tokenizer.convert_tokens_to_ids(control) for control in NAMES_OF_CONTROLS}
    controls = controls & set(tokenizer.get_vocab().values()) - {tokenizer.unk_token_id}
    prompts = PromptTokens(tokenizer, SpecialTokens([], [], [], plain=True), pad_id=0, pads_left=True)
    text = "".join(parts)
    ((ids, spans),) = prompts.tokenize([text])
    assert not controls & set(ids), tokenizer.convert_ids_to_tokens(ids)
    assert len(ids) == len(spans)
    held = {place for first, last in spans for place in range(first, last)}
    assert all(place in held for place, letter in enumerate(text) if not letter.isspace())


@pytest.mark.parametrize("name", TOKENIZERS)
def test_texts_without_such_names_are_read_as_ever(name: str) -> None:
    tokenizer = with_markers(name)
    texts = ["a good film", "", "very bad  and <b>s</b> [x]", "a\nb"]
    plain, before = (
        PromptTokens(tokenizer, SpecialTokens(plain=plain), pad_id=0, pads_left=True).tokenize(texts)
        for plain in (True, False)
    )
    assert plain == before


def backbone_of(kind: str, tokenizer: PreTrainedTokenizerFast) -> Backbone:
    if kind == "decoder":
        return DecoderOnlyBackbone(tiny_model("llama", len(tokenizer)), tokenizer)
    if kind == "encoder":
        return EncoderOnlyBackbone(tiny_encoder("bert", tokenizer), tokenizer)
    return EncoderDecoderBackbone(tiny_encoder_decoder("t5", tokenizer), tokenizer)


@pytest.mark.parametrize("kind", ["decoder", "encoder", "encoder-decoder"])
@pytest.mark.parametrize("chat", [False, True])
def test_every_kind_of_backbone_reads_and_writes_plain_text(kind: str, chat: bool) -> None:
    tokenizer = with_markers("byte-level BPE" if kind != "encoder" else "WordPiece")
    backbone = backbone_of(kind, tokenizer)
    if chat:
        tokenizer.chat_template = "<|im_start|>{{ messages[0]['content'] }}<|im_end|>"
        backbone.prompts.use_chat_template()
    around = backbone.special_tokens["prefix"] + backbone.special_tokens["suffix"]
    controls = {tokenizer.convert_tokens_to_ids(name) for name in NAMES_OF_CONTROLS} - {tokenizer.unk_token_id, None}
    for name in NAMES_OF_CONTROLS:
        ((ids, _),) = backbone.tokenize_prompts([f"x {name} y"])
        assert [token for token in ids if token in controls] == [token for token in around if token in controls], name
        assert not controls & set(backbone.target_tokens._ids_of(f" {name}"))


def test_what_0_6_0_read_as_control_tokens_stays_so_in_its_artifacts() -> None:
    tokenizer = byte_level_tokenizer()
    old = SpecialTokens.from_json({"prefix": [], "joint": None, "suffix": [], "splits_specials": False})
    ((ids, _),) = PromptTokens(tokenizer, old, pad_id=0, pads_left=True).tokenize(["x </s> y"])
    assert tokenizer.eos_token_id in ids
    ((ids, _),) = PromptTokens(tokenizer, replace(old, plain=True), pad_id=0, pads_left=True).tokenize(["x </s> y"])
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids) == "x </s> y"


def test_a_text_of_many_names_is_read_in_a_few_rounds() -> None:
    tokenizer = with_markers("unigram")
    prompts = PromptTokens(tokenizer, SpecialTokens(plain=True), pad_id=0, pads_left=True)
    ((ids, spans),) = prompts.tokenize(["</s><think>" * 3000])
    assert len(ids) == len(spans) > 3000
    assert tokenizer.eos_token_id not in ids


@pytest.mark.parametrize("joint", [None, [], [7, 8]])
def test_spans_are_those_of_the_text_whatever_stands_between_its_pieces(joint: list[int] | None) -> None:
    prompts = PromptTokens(byte_level_tokenizer(), SpecialTokens([5], joint, [6]), pad_id=0, pads_left=True)
    text = f"a film{SEPARATOR}very bad"
    ((ids, spans),) = prompts.tokenize([text])
    assert (ids[0], ids[-1]) == (5, 6)
    covered = "".join(text[start:end] for start, end in spans)
    assert covered == (text if joint is None else text.replace(SEPARATOR, ""))
    assert len(ids) == len(spans) + 2 + len(joint or [])
    assert prompts.tokenize([]) == []


@pytest.mark.parametrize("pads_left", [False, True])
def test_padding_stands_on_the_side_that_the_model_wants(pads_left: bool) -> None:
    prompts = PromptTokens(byte_level_tokenizer(), SpecialTokens(), pad_id=9, pads_left=pads_left)
    tokens, mask = prompts.collate([[1, 2, 3], [4]])
    assert tokens.tolist() == [[1, 2, 3], [9, 9, 4] if pads_left else [4, 9, 9]]
    assert torch.equal(mask, tokens != 9)
