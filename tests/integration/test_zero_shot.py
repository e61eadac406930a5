"""The language model as it is, beside the methods: exact, the same whatever is trained, left out with a reason."""

import gc
import json
import random
import weakref
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import predgen
from predgen.backbones import Backbone
from predgen.config import RunConfig
from predgen.experiments import baseline_rows, results, zero_shot
from predgen.experiments.comparing import Bench
from predgen.experiments.reproduction import running
from predgen.measures.distributions import NumberDistribution
from predgen.measures.statistics import bootstrap
from predgen.methods import Generator
from predgen.models import building
from predgen.models.encoding import encode_rows
from predgen.models.evaluating import timed_answers
from predgen.models.model import Model
from predgen.names import DEFAULT_BASELINES
from predgen.training.fitting import prepared_for
from predgen.training.preparing import run_of
from predgen.training.runs import Finished
from predgen.training.training_run import new_model
from tests.helpers.shapes import (
    all_paths,
    bert_tokenizer,
    byte_level_tokenizer,
    may_follow,
    run_alone,
    save_model,
    tiny_encoder,
    tiny_encoder_decoder,
    tiny_model,
    word_level_tokenizer,
)

BOTH = ("zero_shot", "zero_shot_calibrated")
QUICK: dict[str, Any] = {"inputs": ["text"], "device": "cpu"}
# Some begin alike, and one is the beginning of another.
MOODS = ("good", "very good", "good grief", "bad")
NUMBER: dict[str, Any] = {"low": 0.0, "high": 3.0, "decimals": 1}
CHAT = "{% for one in messages %}<|user|>{{ one['content'] }}{% endfor %}{% if add_generation_prompt %}!{% endif %}"


def films(num_rows: int, seed: int) -> pd.DataFrame:
    """Returns short texts with a label, a number and a set of labels."""
    draw = random.Random(seed)
    rows = [
        {
            "text": " ".join(draw.choices(("a", "good", "very", "bad", "film", "grief"), k=draw.randint(1, 5))),
            "mood": draw.choice(MOODS),
            "stars": draw.randint(0, 30) / 10,
            "tags": draw.choice(("long", "loud", "long|loud", "none")),
        }
        for _ in range(num_rows)
    ]
    return pd.DataFrame(rows).astype(object)


# No seed splits them.
PARTS = {"train": films(20, 1), "validation": films(6, 2), "test": films(5, 3)}


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    # The intervals of 1,000 resamples take longer than the rest of a comparison.
    monkeypatch.setattr(results, "bootstrap", partial(bootstrap, resamples=5))


def bench_of(backbone: Path | str, target: str | list[str], folder: Path | None = None, **settings: Any) -> Any:
    """Returns the settings of a comparison and its bench."""
    config, data = run_of(PARTS, target, {**QUICK, "backbone": str(backbone), **settings}, None)
    prepared = prepared_for(config, data)
    return config, Bench.of(prepared, seed=config.train.seed, finished=Finished(folder), quiet=True)


def rows_of(backbone: Path | str, target: str | list[str], *names: str, **settings: Any) -> dict[str, Any]:
    """Returns the answers of some baselines as JSON holds them, those that were not left out."""
    config, bench = bench_of(backbone, target, **settings)
    return {name: result.scored[0].to_json() for name, result in bench.baselines(names or BOTH, config).items()}


# ---- what it answers, computed slowly


def slow_scores(folder: Path, target: Any, texts: Sequence[str], name: str, *, full: bool = False) -> Any:
    """Returns log P of every value after each text's prompt, one full forward for each, and the values.

    Args:
        folder: the model's.
        target: what is predicted.
        texts: the inputs.
        name: the target's column, which ends the prompt.
        full: take the softmax over the whole vocabulary.
    """
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    symbols: Any = _SlowSymbols(tokenizer)
    paths = all_paths(symbols, target)
    scores: list[list[float]] = []
    with torch.no_grad():
        for text in texts:
            prompt = tokenizer(f"{text}\n{name}:", add_special_tokens=False)["input_ids"]
            scores.append([])
            for path in paths:
                logits = run_alone(model, prompt, path)[1].double()
                allowed = [slice(None) if full else may_follow(paths, path[:place]) for place in range(len(path))]
                steps = [
                    logits[place, token] - logits[place, allowed[place]].logsumexp(dim=0)
                    for place, token in enumerate(path)
                ]
                scores[-1].append(float(sum(steps)))
    return np.array(scores), list(paths.values())


class _SlowSymbols:
    """The tokens of targets, by the tokenizer alone."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.end_id = tokenizer.eos_token_id

    def symbol_id(self, character: str) -> int:
        (token,) = self.tokenizer(character, add_special_tokens=False)["input_ids"]
        return int(token)

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        spaced, bare = ([self.tokenizer(space + word)["input_ids"] for word in words] for space in (" ", ""))
        return spaced if sum(map(len, spaced)) <= sum(map(len, bare)) else bare


def shares(scores: np.ndarray) -> np.ndarray:
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("vocabulary", ["target", "full"])
@pytest.mark.parametrize("kind", ["label", "ordinal"])
def test_labels_have_the_probabilities_of_their_tokens(llama: Path, kind: str, vocabulary: str) -> None:
    settings = {"kind": kind, "labels": ["very good", "good", "bad", "good grief"], "writer_vocabulary": vocabulary}
    _, bench = bench_of(llama, "mood", **settings)
    target = bench.prepared.target
    assert target.kind == kind
    full = vocabulary == "full"
    scores, values = slow_scores(llama, target, bench.table["text"], "mood", full=full)
    assert values == list(target.values)
    if not full:
        np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1)
    without, _ = slow_scores(llama, target, [""], "mood", full=full)
    found = rows_of(llama, "mood", **settings)
    for name, expected in (("zero_shot", shares(scores)), ("zero_shot_calibrated", shares(scores - without))):
        np.testing.assert_allclose(found[name]["probabilities"], expected, atol=2e-5)
        np.testing.assert_array_equal(found[name]["predicted"], expected.argmax(axis=1))
    assert not np.allclose(
        found["zero_shot"]["probabilities"], found["zero_shot_calibrated"]["probabilities"], atol=0.1
    )


@pytest.mark.parametrize(
    ("settings", "estimate"),
    [
        ({}, "mean"),
        ({"metric": "mae"}, "median"),
        ({"metric": "exact_match"}, "mode"),
        ({"estimate": 0.8}, "0.8"),
        ({"estimate": "text", "decoding": "greedy"}, "mode"),
    ],
)
def test_numbers_are_the_estimates_of_the_distribution_over_all(
    llama: Path, settings: dict[str, Any], estimate: str
) -> None:
    _, bench = bench_of(llama, "stars", **NUMBER, **settings)
    scores, values = slow_scores(llama, bench.prepared.target, bench.table["text"], "stars")
    assert values == [number / 10 for number in range(31)]
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1)
    without, _ = slow_scores(llama, bench.prepared.target, [""], "stars")
    found = rows_of(llama, "stars", **NUMBER, **settings)
    for name, expected in (("zero_shot", scores), ("zero_shot_calibrated", scores - without)):
        distribution = NumberDistribution.of_all(torch.from_numpy(expected), torch.tensor(values, dtype=torch.float64))
        np.testing.assert_allclose(found[name]["predicted"], distribution.estimate(estimate).numpy(), atol=2e-4)
        assert found[name]["probabilities"] is None


# ---- the generator before training


def untrained_generator(config: RunConfig, bench: Bench, **changes: Any) -> Model:
    model = new_model(config.changed(**{"model.method": "generator"}, **changes), bench.prepared)
    model.method.eval()
    return model


SHAPES: list[Any] = [
    ("label", "mood", {}),
    ("number", "stars", NUMBER),
    pytest.param("cut", "mood", {"max_prompt_tokens": 8}, id="cut"),
    pytest.param("chat", "mood", {"chat_template": True}, id="chat"),
    pytest.param("own", "mood", {"template": "Film: {text} is {{", "inputs": None}, id="template"),
]


@pytest.mark.parametrize(("name", "target", "settings"), SHAPES)
def test_it_is_what_the_generator_reads_and_answers_before_training(
    llama: Path, name: str, target: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(llama)
    config, bench = bench_of(llama, target, **settings)
    model = untrained_generator(config, bench, decoding="trie")
    expected, _ = timed_answers(model, bench.table)
    prompts = encode_rows(model.method, model.contents, bench.table).prompts
    read: list[Any] = []
    original = zero_shot.encode_rows

    def spy(*arguments: Any) -> Any:
        read.append(original(*arguments))
        return read[-1]

    monkeypatch.setattr(zero_shot, "encode_rows", spy)
    found = bench.baselines(BOTH, config)
    assert [one.prompts for one in read] == [prompts, prompts]
    assert max(map(len, prompts)) <= config.model.max_prompt_tokens
    (field,) = found["zero_shot"].scored[0].fields.values()
    np.testing.assert_array_equal(field.predicted, field.measure.as_array(expected.values))
    if field.probabilities is not None:
        assert expected.probabilities is not None
        np.testing.assert_allclose(field.probabilities, expected.probabilities.numpy(), rtol=1e-5)
    assert found["zero_shot"].train_seconds == 0
    assert all(result.predict_examples_per_second > 0 for result in found.values())


@pytest.mark.parametrize("changes", [{}, {"estimate": "text"}])
def test_numbers_that_cannot_all_be_scored_are_written_as_the_generator_does(
    llama: Path, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    many = {"low": 0.0, "high": 9.0, "decimals": 5}
    config, bench = bench_of(llama, "stars", **many, **changes)
    expected, _ = timed_answers(untrained_generator(config, bench), bench.table)
    found = bench.baselines(BOTH, config)
    assert list(found) == ["zero_shot"]
    assert found["zero_shot"].scored[0].to_json()["predicted"] == expected.values
    assert caplog.messages == [
        "Left out the baseline 'zero_shot_calibrated': it needs the score of every value, and scores at most 10,000 "
        "numbers, not 900,001. Declare fewer decimals (--set decimals=…) or a smaller range."
    ]


def test_an_encoder_decoder_answers_too(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    folder = save_model(tmp_path / "t5", tiny_encoder_decoder("t5", tokenizer), tokenizer)
    config, bench = bench_of(folder, "mood")
    expected, _ = timed_answers(untrained_generator(config, bench, decoding="trie"), bench.table)
    found = bench.baselines(BOTH, config)
    assert expected.probabilities is not None
    np.testing.assert_allclose(
        found["zero_shot"].scored[0].to_json()["probabilities"], expected.probabilities.numpy(), rtol=1e-5
    )
    assert list(found) == list(BOTH)


# ---- what is trained elsewhere changes nothing


@pytest.mark.parametrize("target", ["mood", "stars"])
def test_neither_the_update_nor_the_seed_nor_training_changes_it(llama: Path, target: str) -> None:
    settings = NUMBER if target == "stars" else {}
    usual = rows_of(llama, target, **settings)
    assert list(usual) == list(BOTH)
    changes: list[dict[str, Any]] = [
        *({"peft": peft} for peft in ("none", "dora", "adalora", "rocoft")),
        {"peft": "rocoft", "rocoft_selection": "random", "seed": 5},
        {"seed": 3, "learning_rate": 1.0, "epochs": 9, "loss": "sum", "decoding": "greedy", "standardize": False},
        {"gradient_checkpointing": True, "director": "mean", "predict_from": "stack", "beam_width": 2},
    ]
    for change in changes:
        assert rows_of(llama, target, **settings, **change) == usual, change
    # No training row teaches it anything but what the target is.
    train = PARTS["train"].assign(text="a film")
    config, _ = run_of(PARTS, target, {**QUICK, "backbone": str(llama), **settings}, None)
    prepared = prepared_for(config, {**PARTS, "train": train})
    other = Bench.of(prepared, seed=0, finished=Finished(None), quiet=True).baselines(BOTH, config)
    assert {name: result.scored[0].to_json() for name, result in other.items()} == usual


def test_the_model_is_loaded_as_the_settings_say(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = rows_of(llama, "mood", "zero_shot")["zero_shot"]["probabilities"]
    half = rows_of(llama, "mood", "zero_shot", dtype="bfloat16")["zero_shot"]["probabilities"]
    assert half != usual
    np.testing.assert_allclose(half, usual, atol=0.2)
    assert rows_of(llama, "mood", "zero_shot", device_map="auto")["zero_shot"]["probabilities"] == usual
    asked: dict[str, Any] = {}
    original = building.load_backbone

    def spy(source: Any, **options: Any) -> Backbone:
        asked.update(options)
        return original(source, **{**options, "quantization": None})

    monkeypatch.setattr(building, "load_backbone", spy)
    # Weights of few bits cannot be trained without an update; asked they can be.
    rows_of(llama, "mood", "zero_shot", quantization="4bit", peft="none", dtype="bfloat16")
    expected = {"dtype": "bfloat16", "device_map": None, "quantization": "4bit", "chat_template": False}
    assert asked == {**expected, "tokenizer": None}


def test_weights_are_loaded_once_for_both_and_let_go(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[weakref.ref[Model]] = []
    original = baseline_rows.untrained_model

    def spy(*arguments: Any) -> Model:
        model = original(*arguments)
        assert isinstance(model.method, Generator)
        assert not any("lora" in name for name, _ in model.method.named_parameters())
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(baseline_rows, "untrained_model", spy)
    config, bench = bench_of(llama, "mood")
    results = bench.baselines(BOTH, config)
    gc.collect()
    assert len(results) == 2
    assert [one() for one in loaded] == [None]


# ---- what is finished


def test_its_figures_are_kept_and_gone_on_with(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs"
    options: dict[str, Any] = {
        **QUICK,
        **{"methods": ["predictor"], "backbone": str(llama), "max_steps": 1, "quiet": True, "runs": runs},
    }
    first = predgen.compare(PARTS, "mood", **options)
    assert list(first.methods) == [*DEFAULT_BASELINES, "predictor"]
    assert "config.yaml" in {path.name for path in runs.iterdir()}
    kept = json.loads((runs / "zero_shot.json").read_text())
    assert set(kept) == {"predicted", "probabilities", "train_seconds", "rows_per_second"}
    with monkeypatch.context() as patch:

        def never(*_: Any) -> None:
            raise AssertionError("the model was loaded")

        patch.setattr(baseline_rows, "untrained_model", never)
        again = predgen.compare(PARTS, "mood", resume=True, **options)
    one, other = (found.to_json()["methods"]["zero_shot"] for found in (first, again))
    assert one == other
    # Another baseline may join.
    more = predgen.compare(PARTS, "mood", resume=True, baselines=["zero_shot_calibrated"], **options)
    assert list(more.methods) == ["zero_shot_calibrated", "predictor"]
    assert (runs / "zero_shot_calibrated.json").is_file()


# ---- what is left out


def left_out(caplog: pytest.LogCaptureFixture, name: str) -> str:
    """Returns why a baseline was left out, as one sentence was logged."""
    start = f"Left out the baseline '{name}': "
    (reason,) = [message.removeprefix(start) for message in caplog.messages if message.startswith(start)]
    assert "\n" not in reason
    return reason


@pytest.mark.parametrize("name", BOTH)
def test_targets_that_it_cannot_answer_are_left_out(
    llama: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(baseline_rows, "untrained_model", None)  # nothing is loaded
    names = ("mean_or_majority", name)
    assert list(rows_of(llama, "tags", *names, kind="set")) == ["mean_or_majority"]
    assert left_out(caplog, name) == "it answers a number or one label, and sets of labels are predicted."
    caplog.clear()
    assert list(rows_of(llama, ["mood", "stars"], *names)) == ["mean_or_majority"]
    assert left_out(caplog, name) == "it answers one column, and 2 are predicted as one record."
    caplog.clear()
    settings = {**NUMBER, "estimate": "geometric_mean"}
    assert list(rows_of(llama, "stars", *names, **settings)) == ["mean_or_majority"]
    assert "Expected numbers above 0 for the estimate geometric_mean" in left_out(caplog, name)


@pytest.mark.parametrize("name", BOTH)
def test_what_was_not_pretrained_is_not_asked(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = bert_tokenizer()
    encoder = save_model(tmp_path / "bert", tiny_encoder("bert", tokenizer), tokenizer)
    names = (name, "mean_or_majority")
    assert list(rows_of(encoder, "mood", *names)) == ["mean_or_majority"]
    assert left_out(caplog, name) == (
        f"the backbone '{encoder}' is an encoder, and the Writer beside it is not pretrained."
    )
    caplog.clear()
    words = word_level_tokenizer((*MOODS[::3], "film", "1", "2"))
    model = tiny_model("llama", len(words))
    without_digits = save_model(tmp_path / "words", model, words)
    assert list(rows_of(without_digits, "stars", *names, **NUMBER)) == ["mean_or_majority"]
    lacks = f"the vocabulary of the backbone '{without_digits}' lacks tokens that the target is written with (9, "
    assert left_out(caplog, name).startswith(lacks)
    caplog.clear()
    # The end of a word is new too, but decides nothing and is never fed.
    parts = {part: table[table["mood"].isin(MOODS[::3])] for part, table in PARTS.items()}
    config, data = run_of(parts, "mood", {**QUICK, "backbone": without_digits}, None)
    bench = Bench.of(prepared_for(config, data), seed=0, finished=Finished(None), quiet=True)
    assert list(bench.baselines([name], config)) == [name]
    assert caplog.messages == []
    full = config.changed(writer_vocabulary="full")  # there it has a share of every softmax
    assert bench.baselines([name], full) == {}
    assert "written with (1, " in left_out(caplog, name)


def test_a_prompt_of_inputs_alone_has_nothing_to_calibrate_by(llama: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert list(rows_of(llama, "mood", template="{text}", inputs=None)) == ["zero_shot"]
    assert left_out(caplog, "zero_shot_calibrated").startswith("the prompt has no text besides its inputs")


def test_a_lack_of_memory_leaves_it_out(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lacking(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("there is none")

    monkeypatch.setattr(Generator, "answer_each", lacking)
    monkeypatch.setattr(zero_shot, "calibrated", lacking)
    config, bench = bench_of(llama, "mood", tmp_path)
    assert bench.baselines(BOTH, config) == {}
    for name in BOTH:
        assert left_out(caplog, name).startswith("Expected one row at a time to fit into memory")
    assert list(tmp_path.glob("*.json")) == []  # a resumed comparison tries again


def test_a_model_that_cannot_be_loaded_is_an_error_as_ever(tmp_path: Path) -> None:
    with pytest.raises(predgen.BackboneError):
        rows_of(tmp_path / "nothing", "mood")


# ---- who else compares


def test_a_reproduction_asks_the_simple_baseline_alone(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("another baseline was computed")

    monkeypatch.setattr(baseline_rows, "tfidf_linear", never)
    monkeypatch.setattr(baseline_rows, "untrained_model", never)
    config, bench = bench_of(llama, "stars", **NUMBER)
    figures = running._simple_figures(bench, config)
    truth, mean = bench.table["stars"].astype(float), PARTS["train"]["stars"].astype(float).mean()
    assert figures["mse"] == pytest.approx(((truth - mean) ** 2).mean())


def test_an_ablation_asks_none(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "baselines", None)
    options: dict[str, Any] = {**QUICK, "backbone": str(llama), "max_steps": 1, "quiet": True}
    found = predgen.ablate(PARTS, "mood", parts=["director"], **options)
    assert "zero_shot" not in found.methods


def test_names_are_checked_before_anything_is_read() -> None:
    with pytest.raises(predgen.UnknownNameError, match=r"Unknown baseline 'zeroshot'\. Did you mean 'zero_shot'\?"):
        predgen.compare("nowhere.csv", "mood", baselines=["zeroshot"])
    with pytest.raises(predgen.ConfigError, match="Expected each baseline once, found zero_shot, zero_shot"):
        predgen.compare("nowhere.csv", "mood", baselines=["zero_shot", "zero_shot"])
