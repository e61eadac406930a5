"""Bits per byte: each token predicted once, and the figures those of a plain computation."""

import json
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts.nano import measure_nano as measure
from tests.helpers.shapes import save_model, tiny_model


@given(st.integers(0, 60), st.integers(1, 20))
def test_windows_predict_every_token_after_the_first_once(num_tokens: int, length: int) -> None:
    ids = list(range(num_tokens))
    pieces = list(measure.windows(ids, length))
    assert [token for piece in pieces for token in piece[1:]] == ids[1:]
    assert all(2 <= len(piece) <= length + 1 and piece[0] == piece[1] - 1 for piece in pieces)


def test_texts_are_different_sorted_and_limited(tmp_path: Path) -> None:
    texts = [f"text {number % 30:02}" for number in range(17, 77)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"field": one}) + "\n" for one in texts))
    assert measure.read_texts(tmp_path / "texts.jsonl", "field", 7) == [f"text {number:02}" for number in range(7)]
    assert len(measure.read_texts(tmp_path / "texts.jsonl", "field", None)) == 30


def nats_alone(model: Any, context: Sequence[int], token: int) -> float:
    with torch.no_grad():
        return -float(model(torch.tensor([list(context)])).logits[0, -1].double().log_softmax(-1)[token])


def test_the_nats_of_a_ragged_batch_are_those_of_its_rows() -> None:
    model = tiny_model("llama", 40)
    draw = random.Random(0)
    pieces = [[draw.randrange(40) for _ in range(draw.randint(1, 12))] for _ in range(measure.ROWS_AT_ONCE + 9)]
    expected = sum(nats_alone(model, piece[:end], piece[end]) for piece in pieces for end in range(1, len(piece)))
    assert measure.total_nats(model, pieces) == pytest.approx(expected, rel=1e-5)


def test_bits_per_byte_are_those_of_a_plain_computation(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(text / "tokenizer")
    folder = save_model(tmp_path / "model", tiny_model("llama", len(tokenizer), std=0.2), tokenizer)
    texts = {
        "boolq": (
            "validation",
            "passage",
            ["the cow has 4 legs", "a hen: naïve", "a hen: naïve", "the third is left out"],
        ),
        "gsm8k": ("test", "question", ["How many legs have 12 cows?"]),
        "sst2": ("test", "sentence", ["lovely", "a dull film 🙂"]),
    }
    for name, (part, field, rows) in texts.items():
        (tmp_path / name).mkdir()
        lines = [json.dumps({field: one, "other": number}) + "\n" for number, one in enumerate(rows)]
        (tmp_path / name / f"{part}.jsonl").write_text("".join(lines))
    shortened = [(*one[:3], 2 if one[3] else None) for one in measure.TEXTS]
    monkeypatch.setattr(measure, "TEXTS", shortened)
    found = measure.bits_per_byte(folder, tmp_path, window=5)

    model, expected = AutoModelForCausalLM.from_pretrained(folder), []
    for _, _, rows in texts.values():
        nats = 0.0
        for one in sorted(set(rows))[:2]:
            ids = [1, *tokenizer(one)["input_ids"], 2]
            for end in range(1, len(ids)):
                nats += nats_alone(model, ids[(end - 1) // 5 * 5 : end], ids[end])
        expected.append((nats / math.log(2), sum(len(one.encode()) for one in sorted(set(rows))[:2])))
    each, together = list(found.values())[:-1], found[measure.TOGETHER]
    assert each == pytest.approx([bits / num_bytes for bits, num_bytes in expected], rel=1e-5)
    assert together == pytest.approx(sum(bits for bits, _ in expected) / sum(one for _, one in expected), rel=1e-5)


def test_the_last_model_is_compared_with_the_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "bits_per_byte", lambda model, *_: {"a text": float(len(model))})
    monkeypatch.setattr(sys, "argv", ["measure_nano.py", "data", "four", "sixsix", "one"])
    measure.main()
    header, _, row = capsys.readouterr().out.splitlines()
    assert header == "| bits per byte | four | sixsix | one | last against first |"
    assert row == "| a text | 4.000 | 6.000 | 3.000 | -25.0% |"
