"""Information in fitted models: no gold answer is seen, all are measured on the same rows, and people can read it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import predgen
from predgen.errors import ConfigError, DataError, UnknownNameError
from predgen.information import estimators
from predgen.information.measuring import Parts, rows_of
from predgen.information.states import prompts_of, sources_of, states_of, written_freely
from predgen.information.tokens import words_of
from predgen.methods import Generator, PredGen
from predgen.models.artifact import read_run
from predgen.report.information import information_markdown
from predgen.report.information_pictures import heat_map_page, information_page, save_heat_map
from tests.helpers.commands import refused, run
from tests.helpers.shapes import bert_tokenizer, byte_level_tokenizer, save_model, tiny_encoder, tiny_encoder_decoder
from tests.helpers.tables import reviews

METHODS = ("predictor", "generator", "predgen")
SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 2, "quiet": True, "device": "cpu"}


@pytest.fixture(scope="module", autouse=True)
def _few_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimators, "MAX_STEPS", 20)
        patch.setattr(estimators, "BOOTSTRAP_DRAWS", 20)
        yield


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "reviews.csv"
    reviews(420).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def runs(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for target in ("mood", "stars"):
        predgen.compare(
            table, target, methods=METHODS, max_train_rows=40, split=(0.7, 0.1, 0.2), models=folder / target, **SMALL
        )
    return {
        f"{target} {method}": folder / target / f"{method}-seed0" for target in ("mood", "stars") for method in METHODS
    }


@pytest.fixture(scope="module")
def found(runs: dict[str, Path]) -> dict[str, Any]:
    chosen = [runs["mood predictor"], runs["mood predgen"]]
    return predgen.measure_information(chosen, seeds=2, estimators=["mine", "infonce", "neighbours"], device="cpu")


@pytest.fixture(scope="module")
def words(runs: dict[str, Path]) -> dict[str, Any]:
    model = predgen.load(runs["mood predgen"], device="cpu")
    return predgen.token_information(
        model, [{"review": "A <b>fine</b> day & a\nbad night."}, {"review": "Bad."}], seeds=2
    )


@pytest.mark.slow
@pytest.mark.parametrize("target", ["mood", "stars"])
@pytest.mark.parametrize("method", METHODS)
def test_states_are_read_without_the_answer(runs: dict[str, Path], method: str, target: str) -> None:
    model = predgen.load(runs[f"{target} {method}"], device="cpu")
    rows = reviews(12)
    sources = sources_of(method)
    plain = states_of(model, prompts_of(model, rows), sources, layers=True)
    wrong = rows.assign(**{target: rows[target].iloc[::-1].tolist()})  # answers of other rows
    for other in (wrong, rows.drop(columns=[target])):
        again = states_of(model, prompts_of(model, other), sources, layers=True)
        for source in sources:
            assert all(torch.equal(a, b) for a, b in zip(plain.last[source], again.last[source], strict=True))
    assert set(sources) == ({"pooled", "prompt"} if method == "predictor" else set(plain.last))
    for source, layers in plain.layers.items():
        assert len(layers) == model.method.backbone.model.config.num_hidden_layers + 1
        for one, last in zip(layers[-1], plain.last[source], strict=True):
            torch.testing.assert_close(one, last, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["generator", "predgen"])
def test_written_states_are_those_of_what_the_model_answers(
    runs: dict[str, Path], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = predgen.load(runs[f"stars {method}"], device="cpu")
    assert isinstance(model.method, Generator | PredGen)
    rows = reviews(6)
    fed: list[Tensor] = []
    write = model.method.backbone.write

    def seen(memory: Any, tokens: Tensor, mask: Tensor) -> Any:
        fed.append(tokens)
        return write(memory, tokens, mask)

    prompts = model.encode(rows[["review"]]).prompts
    tokens, mask = model.method.backbone.collate(prompts)
    with torch.no_grad():
        monkeypatch.setattr(model.method.backbone, "write", seen)
        written, kept, states = written_freely(model, tokens, mask)
        monkeypatch.undo()
        # What was written is what `predict` writes, and nothing else was fed.
        shown = [
            model.method.backbone.text_of([t for t in row[own].tolist() if t != model.method.backbone.end_id])
            for row, own in zip(written, kept, strict=True)
        ]
        assert [text.strip() for text in shown] == [text.strip() for text in model.predict(rows[["review"]])["written"]]
        # Row by row: token after token, or the chosen path as a whole.
        once = torch.cat(fed, dim=1)[:, : written.shape[1]]
        for row, (one, path, own) in enumerate(zip(once, written, kept, strict=True)):
            assert one[own[: len(one)]].tolist() == path[own][: int(own[: len(one)].sum())].tolist(), row
        assert once.shape[1] >= written.shape[1] - 1
        again = model.method.backbone.write(model.method.writer.symbols.read(tokens, mask), written, kept).states[:, 1:]
    torch.testing.assert_close(states[kept], again[kept], atol=1e-4, rtol=1e-4)
    gathered = states_of(model, prompts_of(model, rows), ["written", "written_mean"])
    for row, (one, mean) in enumerate(zip(gathered.last["written"], gathered.last["written_mean"], strict=True)):
        torch.testing.assert_close(one, states[row][kept[row]], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(mean, one.mean(dim=0, keepdim=True), atol=1e-5, rtol=1e-5)


def test_critics_learn_from_rows_that_no_model_saw(runs: dict[str, Path], table: Path) -> None:
    prepared = rows_of({"a": read_run(runs["mood predgen"])}, None)
    parts = Parts(prepared, None, 1_000)
    seen = set(prepared.splits.train.index) | set(prepared.splits.validation.index)
    assert len(parts.learn) == 420 - 84 - 42 - 40
    assert not seen & set(parts.learn.index)
    assert not (seen | set(parts.learn.index)) & set(parts.held_out.index)
    assert len(Parts(prepared, None, 101).learn) == 101
    shares = prepared.splits.test["mood"].value_counts(normalize=True).to_numpy()  # type: ignore[union-attr]
    assert parts.answer_entropy() == pytest.approx(-(shares * np.log(shares)).sum())


def test_without_rows_left_half_of_the_test_rows_teach(tmp_path: Path) -> None:
    rows = reviews(420)
    rows["writer"] = [row // 4 for row in range(len(rows))]
    settings: dict[str, Any] = {**SMALL, "group": "writer", "split": (0.3, 0.1, 0.6)}
    predgen.fit(rows, "mood", out=tmp_path / "m", method="predictor", **settings)
    run_ = {"m": read_run(tmp_path / "m")}
    with pytest.raises(ConfigError, match="Expected the data that the models were fitted on"):
        rows_of(run_, None)
    prepared = rows_of(run_, rows)
    parts = Parts(prepared, "writer", 1_000)
    assert parts.learned_from == "half of the test rows"
    assert abs(len(parts.learn) - len(parts.held_out)) <= 4
    assert len(parts.learn) + len(parts.held_out) == len(prepared.splits.test)  # type: ignore[arg-type]
    assert not set(parts.learn["writer"]) & set(parts.held_out["writer"])
    with pytest.raises(DataError, match="at least 100 rows to learn from, found 50"):
        Parts(prepared, "writer", 50)


def test_rows_of_writers_that_the_model_knows_teach_no_critic(tmp_path: Path) -> None:
    rows = reviews(600)
    rows["writer"] = [row // 2 for row in range(len(rows))]
    settings: dict[str, Any] = {**SMALL, "group": "writer", "max_train_rows": 41}
    predgen.fit(rows, "mood", out=tmp_path / "m", method="predictor", **settings)
    prepared = rows_of({"m": read_run(tmp_path / "m")}, rows)
    parts = Parts(prepared, "writer", 1_000)
    assert parts.learned_from == "training rows that the models did not see"
    assert not set(parts.learn["writer"]) & set(prepared.splits.train["writer"])
    assert len(parts.learn) == len(prepared.splits.unused) - 1  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_json_has_measures_controls_and_layers(found: dict[str, Any]) -> None:
    json.dumps(found, allow_nan=False)
    assert [run["method"] for run in found["runs"]] == ["predictor", "predgen"]
    assert {one["source"] for one in found["runs"][0]["measures"]} == {"pooled"}
    assert {one["source"] for one in found["runs"][1]["measures"]} == {"pooled", "written", "written_mean"}
    for run_ in found["runs"]:
        for one in run_["measures"]:
            assert len(one["seeds"]) == len(one["control"]["seeds"]) == 2
            assert one["value"] == pytest.approx(np.mean(one["seeds"]))
            assert (one["curves"][0] == []) == (one["estimator"] == "neighbours")
        assert {len(layers) for layers in run_["layers"].values()} == {7}
    assert 0 < found["entropy"] <= np.log(3)
    assert found["rows"] == {"learn": 254, "estimate": 84, "dropped": 0}


@pytest.mark.slow
def test_people_get_a_table_a_picture_and_a_page(found: dict[str, Any]) -> None:
    text = information_markdown(found)
    assert "| predgen-seed0 | written tokens |" in text
    assert text.count("control |") == 4
    assert "254 rows (training rows that the models did not see)" in text
    page = information_page(found)
    assert page.count('src="data:image/png;base64,') == 1
    assert "<table>" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.slow
def test_words_are_sums_of_their_tokens(words: dict[str, Any]) -> None:
    json.dumps(words, allow_nan=False)
    first = words["texts"][0]
    assert [word["text"] for word in first["words"]] == [
        "<s>",
        "A",
        "<b>fine</b>",
        "day",
        "&",
        "a",
        "bad",
        "night.",
        "mood:",
    ]
    assert first["answer"] in {"good", "bad"}
    assert first["written"].strip() == first["answer"]
    page = heat_map_page(words)
    assert "&lt;b&gt;fine&lt;/b&gt;" in page
    assert "<b>fine" not in page
    assert words_of([" a", "b", " c", "\n", "d"], [1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 0.0, 1.0, 1.0, 2.0]) == [
        {"text": "ab", "value": 3.0, "control": 0.0, "tokens": 2},
        {"text": "c", "value": 3.0, "control": 1.0, "tokens": 1},
        {"text": "d", "value": 5.0, "control": 2.0, "tokens": 1},
    ]


@pytest.mark.slow
def test_the_commands_write_their_files(runs: dict[str, Path], tmp_path: Path) -> None:
    names = [str(runs[f"stars {method}"]) for method in ("predictor", "generator")]
    files = {name: tmp_path / f"a.{name}" for name in ("json", "markdown", "plot", "html")}
    given = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    done = run("information", *names, "--seeds", "1", "--estimators", "smile,neighbours", "--no-layers", *given)
    assert done.code == 0, done
    assert "written tokens" in done.stdout
    assert json.loads(files["json"].read_text())["runs"][1]["layers"] == {}
    assert files["plot"].read_bytes().startswith(b"\x89PNG")
    assert files["html"].read_text().startswith("<!doctype html>")
    given = [part for name, path in files.items() if name != "markdown" for part in (f"--{name}", str(path))]
    done = run("heatmap", str(runs["stars predictor"]), "--text", "A fine day.", "--seeds", "1", *given)
    assert done.code == 0, done
    assert "fine" in done.stdout
    assert [word["text"] for word in json.loads(files["json"].read_text())["texts"][0]["words"]][:3] == [
        "<s>",
        "A",
        "fine",
    ]
    assert files["plot"].read_bytes().startswith(b"\x89PNG")


def test_wrong_requests_are_refused(runs: dict[str, Path], table: Path, tmp_path: Path) -> None:
    predictor = runs["mood predictor"]
    with pytest.raises(UnknownNameError, match="estimator"):
        predgen.measure_information([predictor], estimators=["mime"])
    with pytest.raises(ConfigError, match="each once"):
        predgen.measure_information([predictor], sources=["pooled", "pooled"])
    with pytest.raises(ConfigError, match="each artifact once"):
        predgen.measure_information([predictor, predictor])
    with pytest.raises(ConfigError, match="the same rows"):
        predgen.measure_information([predictor, runs["stars predictor"]])
    with pytest.raises(DataError, match=r"rows that .* was fitted with, found others"):
        predgen.measure_information([predictor], reviews(350))
    with pytest.raises(DataError, match="at least one row"):
        predgen.token_information(predgen.load(predictor, device="cpu"), pd.DataFrame({"review": []}))
    assert "Expected" in refused("information", str(tmp_path / "none"))
    assert "at least 100 rows" in refused("information", str(predictor), "--rows", "9", "--no-layers")
    assert "a source that 'predictor-seed0' has (pooled, prompt)" in refused(
        "information", str(predictor), "--sources", "written"
    )
    assert "--text" in refused("heatmap", str(predictor))


@pytest.mark.filterwarnings("ignore:Glyph")  # the picture's font lacks them; the page has them
@pytest.mark.slow
def test_characters_of_several_tokens_and_formulas_are_shown_as_they_are(runs: dict[str, Path], tmp_path: Path) -> None:
    model = predgen.load(runs["stars predgen"], device="cpu")
    found = predgen.token_information(model, [{"review": r"A café 😀 日本 $x_$ day."}], seeds=1)
    assert [word["text"] for word in found["texts"][0]["words"]][:7] == [
        "<s>",
        "A",
        "café",
        "😀",
        "日本",
        "$x_$",
        "day.",
    ]
    save_heat_map(found, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_answer_of_a_word_is_what_was_written(runs: dict[str, Path]) -> None:
    model = predgen.load(runs["stars predgen"], device="cpu")
    text = {"review": "The 7 film was dull and cold."}
    found = predgen.token_information(model, [text], seeds=1)["texts"][0]
    answered = model.predict([text])
    assert found["written"] == answered["written"].iloc[0]
    assert found["answer"] == float(found["written"])
    assert found["answer"] != answered["prediction"].iloc[0]  # which is the Director's


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "t5"])
def test_other_kinds_of_models_are_measured_too(tmp_path: Path, family: str) -> None:
    if family == "bert":
        tokenizer = bert_tokenizer()
        base = save_model(tmp_path / "base", tiny_encoder(family, tokenizer), tokenizer)
    else:
        tokenizer = byte_level_tokenizer()
        base = save_model(tmp_path / "base", tiny_encoder_decoder(family, tokenizer), tokenizer)
    rows = reviews(300)
    predgen.compare(
        rows,
        "mood",
        methods=("predictor", "predgen"),
        backbone=base,
        max_train_rows=20,
        models=tmp_path / "models",
        **SMALL,
    )
    models = sorted((tmp_path / "models").iterdir())
    found = predgen.measure_information(models, rows, seeds=1, estimators=["infonce"], device="cpu")
    assert [set(run_["layers"]) for run_ in found["runs"]] == [{"pooled", "written"}, {"pooled"}]
    model = predgen.load(models[0], device="cpu")
    words = predgen.token_information(model, [{"review": "A day."}], rows, seeds=1)["texts"][0]["words"]
    # Tokens of white space alone, such as line breaks, are in no word.
    num_tokens = len(model.encode([{"review": "A day."}]).prompts[0])
    assert num_tokens - 3 <= sum(word["tokens"] for word in words) <= num_tokens
