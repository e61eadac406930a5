"""Prompts become tokens with special tokens around them, and padded batches."""

import json

import pytest
import torch

from predgen.backbones.prompts import PromptTokens, SpecialTokens
from predgen.backbones.template import SEPARATOR
from tests.helpers.shapes import bert_tokenizer, byte_level_tokenizer


def test_special_tokens_survive_json() -> None:
    special = SpecialTokens([2], [3], [4, 5], splits_specials=True)
    values = json.loads(json.dumps(special.to_json()))
    assert values == {"prefix": [2], "joint": [3], "suffix": [4, 5], "splits_specials": True}
    assert SpecialTokens.from_json({**values, "start": [0]}) == special  # an artifact keeps more beside them


def test_special_tokens_are_those_that_a_tokenizer_puts_around_texts() -> None:
    tokenizer = bert_tokenizer()
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert SpecialTokens.around_texts(tokenizer) == SpecialTokens([cls], [sep], [sep])
    assert SpecialTokens.around_texts(byte_level_tokenizer()) == SpecialTokens([], [], [])


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
