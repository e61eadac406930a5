"""Records and sets of labels: field by field exact, from training to the saved model and the command line."""

import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import predgen
from predgen.methods import Generator, Method, PredGen, Writer
from predgen.methods.heads import truth_of
from predgen.models.answer_columns import output_names
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet
from predgen.targets.number import Number
from predgen.targets.record import Record
from tests.helpers.commands import refused, run
from tests.helpers.shapes import LABEL, answering_for, batch_for, ragged_prompts, run_alone, tiny_backbone, tiny_method
from tests.helpers.tables import reviews

TAGS = LabelSet(("p", "q"), ("good", "film"))
COUNT = Number(0.0, 12.0, decimals=0)
RECORD = Record({"mood": LABEL, "count": COUNT, "tags": TAGS})
VALUES: list[Any] = [
    {"mood": "y", "count": 3.0, "tags": ("p",)},
    {"mood": "x", "count": 11.0, "tags": ()},
    {"mood": "w", "count": 0.0, "tags": ("p", "q")},
    {"mood": "z", "count": 12.0, "tags": ("q",)},
    {"mood": "x", "count": 10.0, "tags": ("p", "q")},
]
METHODS = ("predictor", "generator", "predgen")
SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 3, "quiet": True, "device": "cpu"}


@cache
def method_of(name: str) -> Method:
    return tiny_method(name, tiny_backbone(), RECORD, loss="sum").eval()


def prompts_of(method: Method) -> list[list[int]]:
    return ragged_prompts(method.backbone.model.config.vocab_size)


def answer(method: Method, decoding: str = "greedy", **asked: bool) -> Any:
    answering = answering_for(method, decoding, ["text", "mean", "thresholds"])
    return method.answer(*method.backbone.collate(prompts_of(method)), answering, **asked)


def paths_of(method: Method) -> dict[tuple[int, ...], Any]:
    """Returns the token ids of every record, and the record, from its words alone."""
    backbone = method.backbone
    end, comma, semicolon = backbone.end_id, backbone.symbol_id(","), backbone.symbol_id(";")
    labels = dict(zip(LABEL.values, backbone.word_ids(LABEL.words), strict=True))
    counts = {float(one): [backbone.symbol_id(digit) for digit in str(one)] for one in range(13)}
    good, film, none = backbone.word_ids([*TAGS.words, "none"])
    tags = {(): none, ("p",): good, ("q",): film, ("p", "q"): [*good, comma, *film]}
    return {
        (*labels[mood], semicolon, *counts[count], semicolon, *tags[tag], end): {
            "mood": mood,
            "count": count,
            "tags": tag,
        }
        for mood, count, tag in itertools.product(labels, counts, tags)
    }


@cache
def probabilities_alone(name: str) -> list[dict[tuple[int, ...], float]]:
    """Returns each record's probability for each prompt, from one full unpadded forward for every record."""
    method = method_of(name)
    paths = paths_of(method)
    followers: dict[tuple[int, ...], list[int]] = {}
    for path in paths:
        for position in range(len(path)):
            followers.setdefault(path[:position], []).append(path[position])
    found = []
    for prompt in prompts_of(method):
        row = {}
        for path in paths:
            logits = run_alone(method.backbone.model, prompt, path)[1]
            total = sum(
                float(logits[place, token] - logits[place, sorted(set(followers[path[:place]]))].logsumexp(0))
                for place, token in enumerate(path)
            )
            row[path] = float(np.exp(total))
        found.append(row)
    return found


def marginal(name: str, row: int, said: dict[str, Any], field: str) -> dict[Any, float]:
    """Returns the probability of each value of a field among the records that hold what was said."""
    paths = paths_of(method_of(name))
    found: dict[Any, float] = {}
    for path, probability in probabilities_alone(name)[row].items():
        value = paths[path]
        if all(value[key] == one for key, one in said.items()):
            found[value[field]] = found.get(value[field], 0.0) + probability
    total = sum(found.values())
    return {value: one / total for value, one in found.items()}


# ---- the Writer


@torch.no_grad()
def test_the_probabilities_of_all_records_sum_to_one() -> None:
    for row in probabilities_alone("generator"):
        assert sum(row.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("decoding", ["greedy", "trie", "beam"])
@torch.no_grad()
def test_a_fields_probabilities_follow_what_was_written_before_it(decoding: str) -> None:
    found = answer(method_of("generator"), decoding, probabilities=True)
    mood, count, tags = found.fields
    for row, text in enumerate(found.written):
        said = RECORD.from_text(text)
        assert said is not None
        of_mood = marginal("generator", row, {}, "mood")
        assert mood.probabilities[row].tolist() == pytest.approx([of_mood[one] for one in LABEL.values], abs=1e-4)
        assert mood.values[row] == said["mood"]
        of_count = marginal("generator", row, {"mood": said["mood"]}, "count")
        assert count.values[row] == pytest.approx(sum(one * weight for one, weight in of_count.items()), abs=1e-3)
        of_tags = marginal("generator", row, {"mood": said["mood"], "count": said["count"]}, "tags")
        held = [sum(weight for value, weight in of_tags.items() if one in value) for one in TAGS.values]
        assert tags.probabilities[row].tolist() == pytest.approx(held, abs=1e-4)
        assert tags.values[row] == tuple(one for one, weight in zip(TAGS.values, held, strict=True) if weight >= 0.5)
        if decoding == "trie":  # the likeliest value of each field after those before it
            assert said["mood"] == max(of_mood, key=of_mood.__getitem__)
            assert said["count"] == max(of_count, key=of_count.__getitem__)
            assert said["tags"] == max(of_tags, key=of_tags.__getitem__)
        assert found.values[row] == {"mood": mood.values[row], "count": count.values[row], "tags": tags.values[row]}


def assert_marginals(found: Any, tolerance: float) -> None:
    mood, count, tags = found.fields
    for row in range(len(found.values)):
        of_mood, of_count, of_tags = (marginal("generator", row, {}, name) for name in RECORD.fields)
        assert mood.probabilities[row].tolist() == pytest.approx([of_mood[one] for one in LABEL.values], abs=tolerance)
        mean = sum(one * weight for one, weight in of_count.items())
        assert count.values[row] == pytest.approx(mean, abs=12 * tolerance)
        held = [sum(weight for value, weight in of_tags.items() if one in value) for one in TAGS.values]
        assert tags.probabilities[row].tolist() == pytest.approx(held, abs=tolerance)
        assert mood.values[row] == LABEL.values[int(mood.probabilities[row].argmax())]


@torch.no_grad()
def test_marginals_are_sums_over_all_records() -> None:
    method = method_of("generator")
    assert isinstance(method, Generator)
    assert method.writer.marginals_are_exact
    assert_marginals(answer(method, probabilities=True, marginal=True), 1e-4)


@torch.no_grad()
def test_drawn_marginals_lie_within_their_stated_error(monkeypatch: pytest.MonkeyPatch) -> None:
    method = method_of("generator")
    monkeypatch.setattr(Writer, "marginals_are_exact", False)
    found = answer(method, probabilities=True, marginal=True)
    assert_marginals(found, 4 * 0.5 / 256**0.5)
    again = answer(method, probabilities=True, marginal=True)
    assert torch.equal(found.fields[0].probabilities, again.fields[0].probabilities)


@torch.no_grad()
def test_free_writing_of_a_record_is_read_as_it_stands_whatever_else_is_asked() -> None:
    method = method_of("generator")
    plain, spread = answer(method, "free"), answer(method, "free", probabilities=True)
    assert plain.values == spread.values
    assert plain.written == spread.written
    for one, other in zip(plain.fields, spread.fields, strict=True):
        assert one.values == other.values
    assert spread.fields[1].deviations is not None


# ---- the Director and the heads


def reference_outputs(method: PredGen, prompt: list[int], spans: list[list[int]]) -> Tensor:
    """Returns the Director's outputs from one unpadded forward; each field reads the states of its own tokens."""
    states = run_alone(method.backbone.model, prompt, [token for span in spans for token in span])[0][1:]
    outputs, start = [], 0
    for one, span in zip(method.fields, spans, strict=True):
        own = states[start : start + len(span)].unsqueeze(0)
        outputs.append(method.director(own, torch.ones(1, len(span), dtype=torch.bool))[:, one.outputs])
        start += len(span)
    return torch.cat(outputs, dim=1)


def spans_of(method: Method, value: Any) -> list[list[int]]:
    codec = method.codec
    return [
        part.symbols[list(span)].tolist()
        for part, span in zip(codec.field_codecs, codec.spans(codec.path(value)), strict=True)
    ]


@torch.no_grad()
def test_the_director_reads_each_fields_own_tokens() -> None:
    method = method_of("predgen")
    assert isinstance(method, PredGen)
    prompts = prompts_of(method)
    spans = [spans_of(method, value) for value in VALUES]
    assert [len(one) for one in spans[0]] == [len(method.backbone.word_ids(LABEL.words)[1]) + 1, 2, 2]
    outputs = torch.cat([reference_outputs(method, *pair) for pair in zip(prompts, spans, strict=True)])
    losses = method(batch_for(method, prompts, VALUES))
    truth = truth_of(RECORD, VALUES, [one.scale for one in method.fields])
    assert float(losses["director_loss"]) == pytest.approx(float(method.head_loss(outputs, truth).mean()), rel=1e-4)
    found = answer(method, probabilities=True)
    written = [spans_of(method, RECORD.from_text(text)) for text in found.written]
    outputs = torch.cat([reference_outputs(method, *pair) for pair in zip(prompts, written, strict=True)])
    mood, count, tags = method.head_predictions(outputs)
    torch.testing.assert_close(found.fields[0].probabilities, mood, atol=1e-4, rtol=1e-4)
    assert found.fields[1].values == [pytest.approx(COUNT.clip(one), rel=1e-4) for one in count.tolist()]
    torch.testing.assert_close(found.fields[2].probabilities, tags, atol=1e-4, rtol=1e-4)


def test_a_records_loss_is_the_mean_of_its_fields_shares() -> None:
    method = tiny_method("predictor", tiny_backbone(), RECORD)
    truth = truth_of(RECORD, VALUES, [one.scale for one in method.fields])
    assert truth.shape == (5, 1 + 1 + 2)
    outputs = torch.randn(5, method.num_outputs, generator=torch.Generator().manual_seed(0))
    logits, number, members = outputs[:, :4], outputs[:, 4], outputs[:, 5:]
    mood = torch.tensor([LABEL.values.index(value["mood"]) for value in VALUES])
    count = (torch.tensor([value["count"] for value in VALUES]) - 2.0) / 3.0
    tags = torch.tensor([[1.0, 0], [0, 0], [1, 1], [0, 1], [1, 1]])
    expected = [
        torch.nn.functional.cross_entropy(logits, mood),
        ((number - count) ** 2).mean(),
        torch.nn.functional.binary_cross_entropy(members.sigmoid(), tags),
    ]
    assert float(method.head_loss(outputs, truth).mean()) == pytest.approx(
        float(torch.stack(expected).mean()), rel=1e-5
    )
    constants = [2.0, 4.0, 0.5]
    scales = [
        type(one.scale)(one.scale.mean, one.scale.deviation, c) for one, c in zip(method.fields, constants, strict=True)
    ]
    divided = tiny_method("predictor", method.backbone, RECORD, scales=scales)
    shares = [loss / constant for loss, constant in zip(expected, constants, strict=True)]
    found = float(divided.head_loss(outputs, truth).mean())
    assert found == pytest.approx(float(torch.stack(shares).mean()), rel=1e-5)


# ---- the main job


def tagged(num_rows: int, seed: int = 0) -> pd.DataFrame:
    """Returns reviews with a column of sets: the words of praise and of blame that stand in each."""
    rows = reviews(num_rows, seed)
    words = ("lovely", "cold", "warm")
    rows["tags"] = ["|".join(word for word in words if word in text) or "none" for text in rows["review"]]
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_record_is_fitted_saved_loaded_and_answers_to_the_bit(tmp_path: Path, method: str) -> None:
    settings = {**SMALL, "method": method, "calibration": 0.25}
    model = predgen.fit(tagged(80), ["mood", "stars", "tags"], out=tmp_path / "model", **settings)
    again = predgen.load(tmp_path / "model", device="cpu")
    assert again.target == model.target
    rows = tagged(25, seed=9)
    asked: dict[str, Any] = {"probabilities": True, "interval": 0.8, "std": method != "predictor"}
    found = again.predict(rows, **asked)
    pd.testing.assert_frame_equal(model.predict(rows, **asked), found, check_exact=True)
    spread = ["std_stars"] if method != "predictor" else []
    assert list(found.columns) == [
        *rows.columns,
        *("prediction_mood", "prediction_stars", "prediction_tags", "written", "invalid"),
        *("probability_mood_bad", "probability_mood_good", "set_mood"),
        *(*spread, "low_stars", "high_stars"),
        *(f"probability_tags_{word}" for word in ("cold", "lovely", "warm")),
    ]
    assert set(found["prediction_mood"]) <= {"bad", "good"}
    assert found["prediction_stars"].between(again.target.fields["stars"].low, again.target.fields["stars"].high).all()  # type: ignore[union-attr]
    np.testing.assert_allclose(found[["probability_mood_bad", "probability_mood_good"]].sum(axis=1), 1, atol=1e-5)
    thresholds = again.contents.answering.thresholds[2]
    assert thresholds is not None
    expected = [
        "|".join(
            word
            for word, cut in zip(("cold", "lovely", "warm"), thresholds.tolist(), strict=True)
            if row[f"probability_tags_{word}"] >= cut
        )
        or "none"
        for _, row in found.iterrows()
    ]
    assert list(found["prediction_tags"]) == expected
    evaluation, before = again.evaluate(rows, interval=0.8), model.evaluate(rows, interval=0.8)
    assert evaluation.metrics == before.metrics
    assert {"relative_error", "mood.accuracy", "stars.mse", "tags.micro_f1", "stars.coverage"} <= set(
        evaluation.metrics
    )
    assert evaluation.metrics["mood.accuracy"] == (found["prediction_mood"] == rows["mood"]).mean()
    assert evaluation.metrics["tags.exact_match"] == (found["prediction_tags"] == rows["tags"]).mean()
    json.dumps(evaluation.to_json(), allow_nan=False)
    assert {line["field"] for line in evaluation.reliability} == {"mood"}


@pytest.mark.parametrize("method", METHODS)
def test_sets_alone(tmp_path: Path, method: str) -> None:
    model = predgen.fit(tagged(60), "tags", **{**SMALL, "method": method, "metric": "label_log_loss"})
    assert model.target == LabelSet(("cold", "lovely", "warm"), ("cold", "lovely", "warm"))
    rows = tagged(12, seed=9).drop(columns="tags")
    found = model.predict(rows, probabilities=True)
    assert all(set(cell.split("|")) <= {"cold", "lovely", "warm", "none"} for cell in found["prediction"])
    unseen = tagged(12, seed=9)
    unseen.loc[3, "tags"] = "cold|green"
    evaluation = model.evaluate(unseen)
    assert "1 rows have labels that were never seen in training ('cold|green')" in evaluation.warnings[0]
    with pytest.raises(predgen.ConfigError, match="whose thresholds are tuned on the validation part"):
        model.calibrate(tagged(20))
    with pytest.raises(predgen.ConfigError, match="without calibration"):
        model.predict(rows, interval=0.8)


def test_the_baselines_take_sets_of_one_label() -> None:
    rows = tagged(60)
    rows["tags"] = ["cold" if "cold" in text else "none" for text in rows["review"]]
    found = predgen.compare(rows, "tags", methods=["predictor"], **{**SMALL, "kind": "set", "max_steps": 1}).to_json()
    assert found["methods"]["tfidf_linear"]["metrics"]["micro_f1"] > 0.7


def test_names_that_make_one_column_twice_are_refused() -> None:
    fields = {"a": Label(("b_c", "z"), ("b_c", "z")), "a_b": Label(("c", "q"), ("c", "q"))}
    with pytest.raises(predgen.ConfigError, match="found 'probability_a_b_c' for two"):
        output_names(Record(fields), {}, probabilities=True, std=False, interval=False)
    assert len(output_names(Record(fields), {}, probabilities=False, std=False, interval=False)) == 4


def test_a_geometric_mean_wants_numbers_above_zero() -> None:
    with pytest.raises(predgen.ConfigError, match="above 0 for the estimate geometric_mean, found a range from 0"):
        predgen.fit(reviews(40), "stars", **{**SMALL, "method": "generator", "estimate": "geometric_mean"})


def test_answers_from_the_writer_and_the_stack_of_a_record(tmp_path: Path) -> None:
    model = predgen.fit(
        tagged(80),
        "mood,stars,tags",
        out=tmp_path / "m",
        **{**SMALL, "predict_from": "stack", "fields": {"stars": {"low": 0.0, "high": 5.0, "decimals": 0}}},
    )
    assert isinstance(model.method, PredGen)
    assert len(model.contents.answering.mixes) == 3
    rows = tagged(10, seed=9)
    writer = predgen.load(tmp_path / "m", device="cpu", predict_from="writer")
    assert model.contents.answering.thresholds[2] is not None
    assert writer.contents.answering.thresholds == (None, None, None)  # those of the stack are not the Writer's
    exact = writer.predict(rows, probabilities=True, std=True, marginal=True)
    conditional = writer.predict(rows, probabilities=True, std=True)
    first = ["probability_mood_bad", "probability_mood_good"]
    np.testing.assert_allclose(exact[first], conditional[first], atol=1e-5)  # nothing is written before it
    assert not np.allclose(exact["std_stars"], conditional["std_stars"], atol=1e-4)
    with pytest.raises(predgen.ConfigError, match="Add --predict-from writer"):
        model.predict(rows, marginal=True)
    with pytest.raises(predgen.ConfigError, match="Expected a record for marginal answers"):
        predgen.fit(tagged(40), "mood", **{**SMALL, "method": "generator"}).predict(rows, marginal=True)


@pytest.mark.slow
def test_a_comparison_of_a_record_tests_every_field(tmp_path: Path) -> None:
    found = predgen.compare(
        tagged(80), "mood,stars,tags", runs=tmp_path / "runs", methods=["predictor", "predgen"], **SMALL
    ).to_json()
    for name in ("mean_or_majority", "tfidf_linear", "predictor", "predgen"):
        metrics = found["methods"][name]["metrics"]
        assert {"relative_error", "mood.accuracy", "stars.pearson", "tags.jaccard"} <= set(metrics)
    assert {test["metric"] for test in found["tests"]} >= {"mood.accuracy", "stars.mse", "tags.jaccard"}
    again = predgen.compare(
        tagged(80), "mood,stars,tags", runs=tmp_path / "runs", resume=True, methods=["predictor", "predgen"], **SMALL
    ).to_json()
    assert again["methods"]["predgen"]["metrics"] == found["methods"]["predgen"]["metrics"]
    assert found["methods"]["tfidf_linear"]["metrics"]["tags.micro_f1"] > 0.8


@pytest.mark.slow
def test_the_command_line_fits_evaluates_and_predicts_a_record(tmp_path: Path) -> None:
    tagged(80).to_csv(tmp_path / "rows.csv", index=False)
    data, model = str(tmp_path / "rows.csv"), str(tmp_path / "model")
    options = ["--inputs", "review", "--set", "max_steps=2", "--set", "device=cpu", "--quiet"]
    declared = ["--set", "fields={stars: {low: 0, high: 5, decimals: 1}}"]
    done = run("fit", data, "--target", "mood,stars", "--out", model, "--method", "predgen", *options, *declared)
    assert done.code == 0, done
    done = run("evaluate", model, data, "--quiet")
    assert "stars.mse" in done.stdout
    assert "mood.accuracy" in done.stdout
    done = run("predict", model, data, "--out", str(tmp_path / "a.csv"), "--probabilities", "--std", "--quiet")
    assert done.code == 0, done
    assert {"prediction_mood", "std_stars"} <= set(pd.read_csv(tmp_path / "a.csv").columns)
    done = run("predict", model, "--text", "A bright film.", "--std", "--quiet")
    assert done.stdout.startswith("mood=")
    assert "  stars=" in done.stdout
    assert "  std_stars=" in done.stdout
    taken = ["fit", data, "--out", str(tmp_path / "x"), *options, "--target"]
    assert "column of the target 'star'" in refused(*taken, "mood,stars", "--set", "fields={star: {low: 0}}")
    assert "in the setting fields, found kind outside it" in refused(*taken, "mood,stars", "--kind", "label")
    assert "every column of the target once" in refused(*taken, "mood,mood")
    assert "Did you mean 'stars'?" in refused(*taken, "mood,star")
    assert "metric of the record 'accuracy'" in refused(*taken, "mood,stars", "--set", "metric=accuracy")
    assert "found a record" in refused(*taken, "mood,stars", "--set", "writer_loss=number_token")


@pytest.mark.slow
def test_logarithmic_numbers_are_learned_as_logarithms(tmp_path: Path) -> None:
    rows = reviews(80)
    rows["price"] = [10.0 ** (2 * stars - 4) for stars in rows["stars"]]
    for method in METHODS:
        settings = {**SMALL, "method": method, "calibration": 0.25}
        model = predgen.fit(rows, "price", out=tmp_path / method, **settings)
        assert isinstance(model.target, Number)
        assert (model.target.form, model.target.logarithmic) == ("scientific", True)
        found = predgen.load(tmp_path / method, device="cpu").predict(rows.drop(columns="price"), interval=0.8)
        assert bool((found["prediction"] > 0).all())
        up, down = found["high"] / found["prediction"], found["prediction"] / found["low"]
        np.testing.assert_allclose(up, down, rtol=1e-6)
        metrics = model.evaluate(rows).metrics
        errors = np.log10(found["prediction"].astype(float)) - np.log10(rows["price"].astype(float))
        assert metrics["mse_log10"] == pytest.approx(float((errors**2).mean()), rel=1e-6)
    compared = predgen.compare(rows, "price", methods=["predictor"], **SMALL).to_json()["methods"]
    assert compared["tfidf_linear"]["metrics"]["mse_log10"] < compared["mean_or_majority"]["metrics"]["mse_log10"] / 4
