"""What was written, token by token: the product of the probabilities is that of the whole text."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import predgen
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 3, "quiet": True, "device": "cpu"}
ROWS = reviews(12, seed=9)


def tokens_of(found: pd.DataFrame) -> list[list[dict[str, Any]] | None]:
    return [None if cell is None else json.loads(cell) for cell in found["written_tokens"]]


def products(found: pd.DataFrame) -> list[float]:
    return [math.prod(item["probability"] for item in of_row or [{"probability": 0}]) for of_row in tokens_of(found)]


@pytest.mark.parametrize("method", ["generator", "predgen"])
def test_the_product_of_a_labels_tokens_is_its_probability(method: str) -> None:
    table = reviews(40).assign(mood=lambda rows: rows["mood"].map({"good": "a lovely one", "bad": "a dull one"}))
    model = predgen.fit(table, "mood", method=method, predict_from="writer", **SMALL)
    asked = {"probabilities": True, "written_tokens": True}
    plain, found = model.predict(ROWS, probabilities=True), model.predict(ROWS, **asked)
    assert list(found.columns) == [*plain.columns, "written_tokens"]
    pd.testing.assert_frame_equal(found[plain.columns], plain, check_exact=True)
    wanted = [row[f"probability_{row['written']}"] for row in found.to_dict("records")]
    np.testing.assert_allclose(products(found), wanted, rtol=1e-4)
    end = model.method.backbone.tokenizer.eos_token
    for row, of_row in zip(found["written"], tokens_of(found), strict=True):
        assert of_row is not None
        assert of_row[-1]["token"] == end
        assert "".join(item["token"] for item in of_row[:-1]).strip() == row


@pytest.mark.parametrize("target", ["stars", ["mood", "stars"]])
def test_numbers_and_records_are_written_token_by_token(target: Any) -> None:
    model = predgen.fit(reviews(40), target, method="generator", **SMALL)
    found = model.predict(ROWS, written_tokens=True)
    symbols = model.method.writer.symbols  # type: ignore[union-attr]
    for prompt, text, product in zip(model.encode(ROWS).prompts, found["written"], products(found), strict=True):
        path = symbols.codec.path(model.target.from_text(text))
        state, likelihood = 0, 1.0
        for position, symbol in enumerate(path):  # one after the other, each prefix read anew
            tokens = [*prompt, *symbols.codec.symbols[list(path[:position])].tolist()]
            with torch.no_grad():
                memory = symbols.read(torch.tensor([tokens]), torch.ones(1, len(tokens)).bool())
                likelihood *= float(symbols.scores(memory, memory.logits, torch.tensor([state]))[0, symbol].exp())
            state = symbols.codec.rows[state][symbol]
        assert product == pytest.approx(likelihood, rel=1e-3)


@pytest.mark.parametrize("kind", ["set", "distribution", "ordinal"])
def test_every_other_kind_has_its_tokens(kind: str) -> None:
    table, settings = reviews(40), dict[str, Any](kind=kind)
    if kind == "set":
        table["mood"] = [text if number % 3 else f"{text}|odd" for number, text in enumerate(table["mood"])]
    elif kind == "distribution":
        table["mood"] = [
            json.dumps({"good": 0.7, "bad": 0.3} if text == "good" else {"bad": 1}) for text in table["mood"]
        ]
    else:
        settings["labels"] = ["bad", "good"]
    model = predgen.fit(table, "mood", method="generator", **SMALL, **settings)
    found = model.predict(ROWS, written_tokens=True)
    assert all(0 < product <= 1 for product in products(found))


def test_what_is_no_value_has_no_tokens_and_the_predictor_writes_none() -> None:
    free = predgen.fit(reviews(40), "stars", method="generator", decoding="free", **SMALL | {"max_steps": 1})
    found = free.predict(ROWS, written_tokens=True)
    assert [of_row is None for of_row in tokens_of(found)] == found["invalid"].tolist()
    assert found["invalid"].any()
    pooled = predgen.fit(reviews(40), "mood", method="predictor", **SMALL)
    with pytest.raises(predgen.ConfigError, match=r"the predictor, which writes none. Fit the generator or predgen"):
        pooled.predict(ROWS, written_tokens=True)
    with pytest.raises(predgen.DataError, match="a column 'written_tokens'"):
        free.predict(ROWS.assign(written_tokens="x"), written_tokens=True)
