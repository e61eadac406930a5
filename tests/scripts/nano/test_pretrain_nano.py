"""Pretraining: the mix of documents, the run and how it goes on, the optimizer."""

import json
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from predgen.backbones import find_source, load_backbone
from predgen.codec.codec import Codec
from predgen.targets.number import Number
from scripts.nano import prepare_nano_text as prepare
from scripts.nano import pretrain_nano as pretraining
from tests.helpers.shapes import save_model, tiny_model
from tests.scripts.nano.weights import equal, weights_of


def marked_documents(lengths: dict[str, list[int]]) -> datasets.Dataset:
    """Returns documents `1 id … id 2` whose ids tell them apart, in two chunks, the sources mixed."""
    rows = [(source, length) for source, each in lengths.items() for length in each]
    random.Random(0).shuffle(rows)
    made = [
        {"source": source, "bytes": 1, "tokens": [1, *[3 + number] * length, 2]}
        for number, (source, length) in enumerate(rows)
    ]
    halves = [one for one in (made[: len(made) // 2], made[len(made) // 2 :]) if one]
    return datasets.concatenate_datasets([datasets.Dataset.from_list(one, prepare.FEATURES) for one in halves])


def cut_into_documents(stream: np.ndarray) -> list[list[int]]:
    assert stream[-1] == 2
    return [one.tolist() for one in np.split(stream, np.flatnonzero(stream == 2)[:-1] + 1)]


@settings(max_examples=60)
@given(
    lengths=st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=1),
    num_tokens=st.integers(1, 400),
    weights=st.dictionaries(st.sampled_from("abc"), st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0])),
    seed=st.integers(0, 5),
)
def test_mix_gives_whole_documents_by_weight_pass_after_pass(
    lengths: dict[str, list[int]], num_tokens: int, weights: dict[str, float], seed: int
) -> None:
    weights = {source: weight for source, weight in weights.items() if source in lengths}
    if not any(weights.get(source, 1.0) for source in lengths):
        weights = {}
    documents = marked_documents(lengths)
    stream = pretraining.mix(documents, num_tokens, weights, seed)
    assert len(stream) >= num_tokens
    assert np.array_equal(stream, pretraining.mix(documents, num_tokens, weights, seed))

    known = {row["tokens"][1]: row for row in documents}
    found = cut_into_documents(stream)
    assert all(one == known[one[1]]["tokens"] for one in found)
    times = Counter(one[1] for one in found)
    weighed = {source: weights.get(source, 1.0) * (sum(each) + 2 * len(each)) for source, each in lengths.items()}
    for source, each in lengths.items():
        members = [number for number, row in known.items() if row["source"] == source]
        tokens = sum(len(known[number]["tokens"]) * times[number] for number in members)
        wanted = num_tokens * weighed[source] / sum(weighed.values())
        longest = max(each) + 2 if wanted else 0
        assert wanted - 1e-6 <= tokens <= wanted + longest + 1e-6
        assert max(times[number] for number in members) - min(times[number] for number in members) <= 1


def test_mix_shuffles_the_sources_and_every_pass() -> None:
    documents = marked_documents({"a": [3] * 100, "b": [3] * 100})
    sources = {row["tokens"][1]: row["source"] for row in documents}
    stream = pretraining.mix(documents, 2 * 1000, {}, 0)
    ids = [one[1] for one in cut_into_documents(stream)]
    assert 10 < sum(sources[one] == "a" for one in ids[:50]) < 40
    assert ids[:200] != ids[200:]
    assert sorted(ids) == sorted([*sources, *sources])
    assert not np.array_equal(stream, pretraining.mix(documents, 2 * 1000, {}, 1))
    # Half of a pass: which documents they are is drawn, too.
    halves = [{one[1] for one in cut_into_documents(pretraining.mix(documents, 500, {}, seed))} for seed in (0, 1)]
    assert 30 < len(halves[0] & halves[1]) < 70


def test_mix_refuses_weights_of_unknown_sources() -> None:
    with pytest.raises(SystemExit, match=r"Expected sources among \['a', 'b'\], found \['c'\] in --weights"):
        pretraining.mix(marked_documents({"a": [1], "b": [2]}), 10, {"a": 1.0, "c": 2.0}, 0)


STEP_TOKENS = 4 * 16
TINY = "--layers 1 --width 16 --feed-forward 32 --heads 2 --key-value-heads 1 --context 16 --batch 4 --evaluations 2"
ALIKE = "--precision float32 --device cpu --learning-rate 1e-2"


def pretrain(text: Path, out: Path, num_steps: int, *more: str) -> dict[str, Any]:
    command = [str(text), "--out", str(out), *TINY.split(), *ALIKE.split(), "--tokens", str(num_steps * STEP_TOKENS)]
    result: dict[str, Any] = pretraining.pretrain(pretraining.parse([*command, *more]))
    return result


@pytest.fixture(scope="module")
def whole(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a run of 40 steps that nothing stopped."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert pretrain(text, out, 40)["tokens"] == 40 * STEP_TOKENS
    return out


def test_the_held_out_loss_falls_and_is_the_models_own(text: Path, whole: Path) -> None:
    result = json.loads((whole / "result.json").read_text())
    evaluated = pd.read_csv(whole / "curve.csv")["eval_loss"].dropna().tolist()
    assert len(evaluated) == 2
    assert result["held_out_loss"] == pytest.approx(evaluated[-1])
    assert evaluated[1] < evaluated[0] - 0.1
    assert result["held_out_loss"] < 0.6 * math.log(300)

    model = AutoModelForCausalLM.from_pretrained(whole / "checkpoints" / "checkpoint-40")
    held_out = datasets.load_from_disk(str(text / "documents"))["held_out"]
    stream = [token for row in held_out for token in row["tokens"]]
    blocks = torch.tensor(stream[: len(stream) // 16 * 16]).view(-1, 16)
    with torch.no_grad():
        assert float(model(input_ids=blocks, labels=blocks).loss) == pytest.approx(result["held_out_loss"], abs=1e-4)


def test_the_result_is_a_backbone(text: Path, whole: Path) -> None:
    assert all(one.dtype == torch.bfloat16 for one in weights_of(whole / "model").values())
    backbone = load_backbone(find_source(str(whole / "model")))
    assert backbone.capabilities.cached
    assert backbone.hidden_size == 16
    Codec(Number(-1.5, 9.9, 1), backbone)
    assert backbone.added_token_ids == []
    digits = AutoTokenizer.from_pretrained(text / "tokenizer")("13")["input_ids"]
    assert backbone.tokenize_prompts(["13"])[0][0] == [1, *digits]
    exact = weights_of(whole / "checkpoints" / "checkpoint-40")
    assert equal({name: one.to(torch.bfloat16) for name, one in exact.items()}, weights_of(whole / "model"))


def before_each_step(monkeypatch: pytest.MonkeyPatch, call: Callable[[Any, dict[str, torch.Tensor]], None]) -> None:
    original = pretraining.PretrainingTrainer.training_step

    def training_step(self: Any, model: Any, inputs: dict[str, torch.Tensor], *rest: Any) -> Any:
        call(self, inputs)
        return original(self, model, inputs, *rest)

    monkeypatch.setattr(pretraining.PretrainingTrainer, "training_step", training_step)


def test_an_interrupted_run_ends_where_the_whole_run_ends(
    text: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tmp_path / "parts"
    steps: list[int] = []

    def die_once(trainer: Any, _: Any) -> None:
        steps.append(trainer.state.global_step)
        if steps == list(range(26)):
            raise KeyboardInterrupt

    before_each_step(monkeypatch, die_once)
    with pytest.raises(KeyboardInterrupt):
        pretrain(text, parts, 40)
    assert not (parts / "model").exists()
    pretrain(text, parts, 40)
    assert steps[26:] == list(range(24, 40)), "a checkpoint is written every second step"
    for folder in ("checkpoints/checkpoint-40", "model"):
        assert equal(weights_of(parts / folder), weights_of(whole / folder))
    assert json.loads((parts / "result.json").read_text()) == json.loads((whole / "result.json").read_text())
    losses = [pd.read_csv(one / "curve.csv")["loss"].dropna().tolist() for one in (parts, whole)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 40


def test_other_settings_in_the_same_folder_are_refused(text: Path, whole: Path) -> None:
    before = (whole / "result.json").read_bytes(), weights_of(whole / "model")
    for more in (["--learning-rate", "2e-2"], ["--weights", '{"facts": 0.5}'], ["--seed", "1"]):
        with pytest.raises(SystemExit, match=r"Expected the settings of .*settings\.json, found others"):
            pretrain(text, whole, 40, *more)
    assert (whole / "result.json").read_bytes() == before[0]
    assert equal(weights_of(whole / "model"), before[1])


def test_every_hook_is_called_and_the_blocks_are_read_in_order(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batches: list[torch.Tensor] = []
    optimizers: list[Any] = []

    def record(trainer: Any, inputs: dict[str, torch.Tensor]) -> None:
        batches.append(inputs["input_ids"].clone())
        optimizers.append(trainer.optimizer.optimizer)  # inside Accelerate's

    before_each_step(monkeypatch, record)
    pretrain(text, tmp_path / "run", 4, "--weights", '{"facts": 3}', "--seed", "5")
    documents = datasets.load_from_disk(str(text / "documents"))["train"]
    stream = pretraining.mix(documents, 4 * STEP_TOKENS, {"facts": 3}, 5)
    assert torch.cat(batches).flatten().tolist() == stream[: 4 * STEP_TOKENS].tolist()
    assert {type(one) for one in optimizers} == {pretraining.MuonAndAdamW}
    printed = capsys.readouterr().out
    # Two evaluations as it goes and one at the end.
    assert [printed.count(f"    {one}") for one in pretraining.BEGINNINGS] == [3] * len(pretraining.BEGINNINGS)


def test_a_start_gives_its_weights_and_its_shape(text: Path, whole: Path, tmp_path: Path) -> None:
    start = ["--start", str(whole / "model"), "--width", "32", "--context", "32"]
    result = pretrain(text, tmp_path / "same", 2, *start, "--learning-rate", "0")
    assert result["hidden_size"] == 16
    assert equal(weights_of(tmp_path / "same" / "model"), weights_of(whole / "model"))
    pretrain(text, tmp_path / "longer", 2, *start)
    assert not equal(weights_of(tmp_path / "longer" / "model"), weights_of(whole / "model"))


def test_a_start_with_another_vocabulary_is_refused_and_spoils_nothing(text: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", tiny_model("llama", 77), None)
    with pytest.raises(SystemExit, match="Expected a start of 300 tokens, as the text has, found 77"):
        pretrain(text, tmp_path / "run", 2, "--start", other)
    with pytest.raises(SystemExit, match="Expected sources among"):
        pretrain(text, tmp_path / "run", 2, "--weights", '{"nothing": 1}')
    assert not (tmp_path / "run").exists(), "the corrected command must not meet other settings"


def test_weights_that_are_too_large_are_refused_and_nothing_is_trained_again(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = datasets.load_from_disk(str(text / "documents"))["train"]
    # The last documents reach over the end by more than a block, which must not become one more step.
    assert len(pretraining.mix(documents, 3 * STEP_TOKENS, {}, 0)) >= 3 * STEP_TOKENS + 16
    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "LARGEST_FILE", 1000)
        with pytest.raises(SystemExit, match=r"Expected weights of at most 1,000 bytes, found .*smaller shape"):
            pretrain(text, tmp_path / "run", 3)
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "result.json").exists()
    assert pretrain(text, tmp_path / "run", 3)["tokens"] == 3 * STEP_TOKENS
    assert not (tmp_path / "run" / "checkpoints" / "checkpoint-4").exists()
    assert sorted(one.name for one in (tmp_path / "run").glob("model*")) == ["model"]


def test_muon_and_adamw_share_out_the_parameters_and_move_them_all() -> None:
    def take_a_step(optimizer: Any) -> None:
        ids = torch.arange(24).view(2, 12)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    model = tiny_model("llama", 40, tie_word_embeddings=True)
    optimizer = pretraining.MuonAndAdamW(model, 1e-2)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    muon, adamw = (
        [names[id(one)] for group in part.param_groups for one in group["params"]] for part in optimizer.parts
    )
    assert [type(part) for part in optimizer.parts] == [torch.optim.Muon, torch.optim.AdamW]
    assert sorted(muon + adamw) == sorted(names.values())
    assert all("embed_tokens" in name or "norm" in name for name in adamw)
    assert all("_proj" in name for name in muon)
    assert len(muon) == 2 * 7

    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    take_a_step(optimizer)
    assert all(not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    again = pretraining.MuonAndAdamW(model, 1e-2)
    again.load_state_dict(optimizer.state_dict())
    for one in (optimizer, again):  # a schedule sets the rate of all, also after the state was taken back
        for group in one.param_groups:
            group["lr"] = 0.0
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        take_a_step(one)
        assert equal(before, dict(model.named_parameters()))
