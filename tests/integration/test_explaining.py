"""Explanations of fitted models: attributions add up, differences are those of predictions, wrong input is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import predgen
from predgen.backbones.stand_ins import FIRST, stand_ins
from predgen.backbones.template import TracedPrompt
from predgen.explaining import gradients
from predgen.explaining.scores import Question, Scores
from predgen.models.model import Model
from predgen.report.explanations import explanation_page
from tests.helpers.commands import refused, run
from tests.helpers.shapes import bert_tokenizer, byte_level_tokenizer, save_model, tiny_encoder, tiny_encoder_decoder
from tests.helpers.tables import reviews

ROWS = [{"title": "  A  dull 🙂", "review": "The film was not lovely, ünd warm."}, {"title": "Ok", "review": "Sad."}]


def table(rows: int) -> pd.DataFrame:
    made = reviews(rows).assign(title=[f"title {row}" for row in range(rows)])
    return made.assign(tags=["a;b" if mood == "good" else "b" for mood in made["mood"]])


def fitted(target: str, method: str, backbone: Any = "builtin:nano", **settings: Any) -> Model:
    return predgen.fit(
        table(24),
        target=target,
        inputs=["title", "review"],
        backbone=backbone,
        method=method,
        max_steps=2,
        batch_size=8,
        quiet=True,
        **settings,
    )


@pytest.fixture(scope="module")
def model() -> Model:
    return fitted("mood", "predictor")


@pytest.fixture(scope="module")
def saved(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explaining") / "model"
    model.save(folder)
    return folder


# ── Gradients ────────────────────────────────────────────────────────────────────────────────────────────────


def test_gradients_of_a_linear_score_are_exact_with_one_step(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    # f = w · Σ of the embeddings: each token's attribution is w · (its embedding − the baseline's).
    embeddings = model.method.backbone.prompt_embeddings
    torch.manual_seed(0)
    weights = torch.randn(model.method.backbone.hidden_size)

    def linear(_: Any, tokens: Any, mask: Any, questions: Any, held: Any) -> Scores:
        values = ((embeddings(tokens) @ weights) * mask).sum(dim=1, keepdim=True)
        return Scores(values, torch.full_like(values, torch.nan))

    monkeypatch.setattr(gradients, "scores_of", linear)
    prompt = TracedPrompt([9, 5, 7, 5], [None, ("a", 0, 1), ("a", 1, 2), None], {"a": 2}, False)
    (found,) = gradients.integrate(model, [prompt], [[Question(0, "", None, 0)]], 1)
    with torch.no_grad():
        steps = embeddings(torch.tensor([[9, 5, 7, 5]]))[0].double() - gradients.baseline_of(model)
    expected = (steps @ weights.double()) * torch.tensor([0, 1, 1, 0])
    torch.testing.assert_close(found.tokens[0], expected, rtol=1e-5, atol=1e-6)
    assert float(found.score - found.baseline_score) == pytest.approx(float(expected.sum()), abs=1e-4)


@pytest.mark.parametrize(
    ("target", "method", "settings"),
    [
        ("mood", "predictor", {}),
        ("stars", "predictor", {}),
        ("mood", "generator", {"label_text": {"good": "really very good", "bad": "bad indeed"}}),
        ("stars", "generator", {"decimals": 0}),
        ("mood", "predgen", {}),
        ("stars", "predgen", {"director_form": "states", "predict_from": "mean", "decimals": 0}),
        ("mood,stars", "predgen", {"fields": {"stars": {"decimals": 0}}}),
        ("tags", "generator", {"kind": "set"}),
        ("mood", "predictor", {"kind": "ordinal", "labels": "bad,good"}),
    ],
)
def test_gradients_add_up_in_every_method_and_kind(target: str, method: str, settings: dict[str, Any]) -> None:
    model = fitted(target, method, **settings)
    model.method.backbone.double()  # heads compute in float32
    found = predgen.explain(model, ROWS[:1], steps=64)
    expected = {"tags": 2, "mood,stars": 2}.get(target, 1)
    assert len(found) == expected
    for one in found:
        assert one.baseline_score is not None
        total = sum(word.attribution or 0.0 for word in one.words)
        assert one.gap == pytest.approx(one.score - one.baseline_score - total, abs=1e-9)
        assert any(word.attribution for word in one.words)
        assert one.gap_fraction is not None
        assert one.gap_fraction < 1e-2
        assert sum(one.columns.values()) == pytest.approx(total)
        for word in one.words:
            assert ROWS[0][word.column][word.start : word.end] == word.text


@pytest.mark.parametrize("family", ["bert", "t5", "bart"])
def test_gradients_add_up_over_encoders_and_encoder_decoders(family: str, tmp_path: Path) -> None:
    tokenizer = bert_tokenizer() if family == "bert" else byte_level_tokenizer()
    base = tiny_encoder(family, tokenizer) if family == "bert" else tiny_encoder_decoder(family, tokenizer)
    save_model(tmp_path / "base", base, tokenizer)
    model = fitted("mood", "predgen", str(tmp_path / "base"))
    model.method.backbone.double()  # heads compute in float32
    (one,) = predgen.explain(model, ROWS[:1], steps=64)
    assert one.gap_fraction is not None
    assert one.gap_fraction < 1e-2
    assert any(abs(word.attribution or 0.0) > 1e-9 for word in one.words)
    (other,) = predgen.explain(model, ROWS[:1], method="words")
    assert other.score == pytest.approx(one.score, abs=1e-6)


def test_stand_ins_with_the_real_embeddings_change_nothing(model: Model) -> None:
    backbone = model.method.backbone
    tokens = torch.arange(3, 11).unsqueeze(0)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    with torch.no_grad():
        expected = backbone.prompt_states(tokens, mask)
        vectors = backbone.prompt_embeddings(tokens)[0, 2:5]
        stood = tokens.clone()
        stood[0, 2:5] = FIRST + torch.arange(3)
        with stand_ins(backbone, tokens[0, 2:5], vectors):
            torch.testing.assert_close(backbone.prompt_states(stood, mask), expected)
        assert not backbone.prompt_embeddings._forward_hooks


def test_coarse_integrals_are_warned_of(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predgen.explaining.explaining.MOST_GAP", 1e-12)
    with pytest.warns(predgen.AttributionGapWarning, match=r"1 steps are too few .* steps=4"):
        predgen.explain(model, ROWS[:1], steps=1)


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────


def log_odds(model: Model, row: dict[str, str], label: str) -> float:
    shares = model.predict([row], probabilities=True).iloc[0]
    probability = float(shares[f"probability_{label}"])
    return math.log(probability / (1 - probability))


def test_differences_of_words_are_those_of_predictions_of_the_edited_texts(model: Model) -> None:
    (one,) = predgen.explain(model, ROWS[:1], method="words", label="bad")
    assert one.score == pytest.approx(log_odds(model, ROWS[0], "bad"), abs=1e-4)
    assert one.passes == len(one.words) + 1
    assert [word.text for word in one.words] == [*ROWS[0]["title"].split(), *ROWS[0]["review"].split()]
    for word in one.words:
        left = [text for text in ROWS[0][word.column].split() if text != word.text]
        before, behind = ROWS[0][word.column][: word.start], ROWS[0][word.column][word.end :].lstrip()
        cell = before + behind if behind else before.rstrip()
        assert cell.split() == left
        expected = one.score - log_odds(model, {**ROWS[0], word.column: cell}, "bad")
        assert word.attribution == pytest.approx(expected, abs=1e-4)


def test_a_number_is_the_predicted_one_and_long_texts_lose_runs_of_words() -> None:
    model = fitted("stars", "predgen", decimals=0)
    found = predgen.explain(model, ROWS, method="words", max_words=3)
    predicted = model.predict(ROWS)["prediction"]
    assert [one.score for one in found] == pytest.approx(list(predicted), abs=1e-4)
    assert all(one.unit == "number" and one.label is None and one.passes <= 4 for one in found)
    assert [word.text for word in found[0].words] == ["A  dull 🙂", "The film was not", "lovely, ünd warm."]


def test_words_that_were_cut_away_are_said(model: Model) -> None:
    row = {"title": "Ok", "review": "word " * 2000 + "last"}
    for method in ("gradients", "words"):
        with pytest.warns(predgen.CutPromptsWarning):
            (one,) = predgen.explain(model, [row], method=method, steps=1, max_words=2)
        assert one.words[-1].text == "last"
        assert one.words[-1].attribution is None
        assert one.num_cut > 100
        assert one.words[0].attribution is not None


# ── The command, and wrong input ─────────────────────────────────────────────────────────────────────────────


def test_the_command_prints_words_and_writes_json_and_a_page(saved: Path, tmp_path: Path) -> None:
    page, out = tmp_path / "page.html", tmp_path / "words.json"
    row = {"title": "<b>Ok</b>", "review": "dull & sad"}
    pd.DataFrame([*ROWS, row]).to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    done = run("explain", saved, tmp_path / "rows.jsonl", "--row", "3", "--html", page, "--out", out, "--steps", "4")
    assert done.code == 0, done
    (one,) = json.loads(out.read_text())
    assert one["row"] == 3
    assert [word["text"] for word in one["words"]] == ["<b>Ok</b>", "dull", "&", "sad"]
    assert set(one["columns"]) == {"title", "review"}
    for word in one["words"]:
        assert f"{word['attribution']:+z.3f}" in done.stdout
    shown = page.read_text()
    assert "<b>Ok" not in shown
    assert "&lt;b&gt;Ok&lt;/b&gt;" in shown
    assert "<svg" in shown
    assert "http-equiv" not in shown


def test_a_page_tells_signs_by_text(model: Model) -> None:
    one = predgen.explain(model, ROWS[1:], method="words")[0].to_json()
    one["words"][0]["attribution"], one["words"][1]["attribution"] = 0.5, -0.25
    page = explanation_page([one])
    assert "<sub>+0.50</sub>" in page
    assert "<sub>−0.25</sub>" in page


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--text", "title=a", "--text", "review=b", "--label", "worse"], "Unknown label 'worse'"),
        (["rows.csv", "--row", "4"], "Expected a row from 1 to 3"),
        (["rows.csv", "--row", "0"], "Expected a row from 1 to 3"),
        (["rows.csv", "--row", "3"], "in row 3, column 'title', found"),
        (["other.csv"], "Unknown column 'title'"),
        (["--text", "title=a"], "Expected --text review="),
        (["--text", "title=a", "--text", "review= "], "Expected input text"),
        (["rows.csv", "--method", "gradient"], "Unknown method of explaining 'gradient'. Did you mean 'gradients'?"),
        (["rows.csv", "--steps", "0"], "Expected steps and max_words, found 0"),
        ([], "Expected either DATA or --text"),
    ],
)
def test_wrong_input_is_refused(
    given: list[str], message: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pd.DataFrame([*ROWS, {"title": None, "review": "b"}]).to_csv("rows.csv", index=False)
    pd.DataFrame([{"review": "b"}]).to_csv("other.csv", index=False)
    assert message in refused("explain", saved, *given, "--out", "words.json")
    assert not Path("words.json").exists()


def test_a_label_of_numbers_and_too_many_values_for_gradients_are_refused() -> None:
    numbers = fitted("stars", "generator", low=0, high=100000, decimals=0)
    with pytest.raises(predgen.ConfigError, match="Expected a model of labels"):
        predgen.explain(numbers, ROWS, label="good")
    with pytest.raises(predgen.ConfigError, match="method 'words'"):
        predgen.explain(numbers, ROWS)
    with pytest.raises(predgen.DataError, match="Expected rows to explain"):
        predgen.explain(numbers, [], method="words")
