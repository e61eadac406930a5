"""builtin:nano: the scripts that prepare its text, pretrain and measure it, and what the package says of it."""

import gzip
import hashlib
import importlib
import json
import math
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import predgen
from predgen.backbones import find_source, load_backbone
from predgen.codec import Codec
from predgen.targets import Number

from .shapes import byte_level_tokenizer, save_model, tiny_model
from .tables import reviews

with pytest.MonkeyPatch.context() as _patch:
    _patch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    cells, measure, sizes, against_scratch, prepare, pretraining, tuning = (
        importlib.import_module(name)
        for name in (
            "cells",
            "measure_nano",
            "nano_sizes",
            "nano_against_scratch",
            "prepare_nano_text",
            "pretrain_nano",
            "tune_learning_rates",
        )
    )

Corpus = dict[str, list[str]]
HELD_OUT = 0.15
ODD_TEXTS = ["naïve café: 東京 🙂", "two  spaces\tand a tab", "it says </s> and <s> and <pad> inside", "2024", "é"]


# ---- prepare_nano_text


def sentences(seed: int, num_documents: int, num_sentences: int) -> list[str]:
    draw = random.Random(seed)
    legs = {"hen": 2, "cow": 4, "ant": 6}
    animals = [draw.choices(list(legs), k=draw.randint(1, num_sentences)) for _ in range(num_documents)]
    return [
        f"{number}: " + " ".join(f"The {one} has {legs[one]} legs and weighs 1313." for one in each)
        for number, each in enumerate(animals)
    ]


def write_corpus(folder: Path, corpus: Corpus) -> Path:
    folder.mkdir()
    for name, texts in corpus.items():
        with gzip.open(folder / f"{name}.txt.gz", "wt", encoding="utf-8") as file:
            file.write("".join(f" {text} \n\n" for text in texts))
    return folder


def corpus_of(seed: int = 0) -> Corpus:
    stories = sentences(seed, 160, 6)
    return {
        "stories-00": stories[:100],
        "stories-01": [*stories[100:], *ODD_TEXTS],
        "facts-00": [*sentences(seed + 1, 60, 2), *stories[:20]],  # some texts stand in both
        "nc_x-00": ["Of unclear terms."],
        "train_text-00": ["Of a benchmark."],
    }


def kept_texts(corpus: Corpus) -> Counter[tuple[str, str]]:
    kept = {name: texts for name, texts in corpus.items() if not name.startswith(("nc_", "train_text"))}
    return Counter((name[:-3], text) for name, texts in kept.items() for text in texts)


def prepared_texts(folder: Path) -> dict[str, list[tuple[str, str]]]:
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    parts = datasets.load_from_disk(str(folder / "documents"))
    return {name: [(row["source"], tokenizer.decode(row["tokens"][1:-1])) for row in parts[name]] for name in parts}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    corpus = write_corpus(folder / "corpus", corpus_of())
    prepare.main([str(corpus), "--out", str(folder / "text"), "--vocabulary", "300", "--held-out", str(HELD_OUT)])
    return folder / "text"


def test_every_digit_is_a_token_and_the_special_ones_come_first(text: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(text / "tokenizer")
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    vocabulary = tokenizer.get_vocab()
    assert len(vocabulary) == 300
    # The texts are full of "1313", so that digits would merge if they could; other letters did.
    assert not [token for token in vocabulary if len(token) > 1 and any(letter.isdigit() for letter in token)]
    assert any(len(token) > 3 for token in set(vocabulary) - {"<pad>", "<s>", "</s>"})
    assert tokenizer.tokenize("1313")[:4] == ["1", "3", "1", "3"]


def test_every_document_comes_back_and_is_in_one_part(text: Path) -> None:
    found = prepared_texts(text)
    assert Counter(found["train"] + found["held_out"]) == kept_texts(corpus_of())
    train, held_out = ({text for _, text in found[name]} for name in ("train", "held_out"))
    assert not train & held_out
    assert 0.05 < len(held_out) / len(train | held_out) < 0.3
    for part in datasets.load_from_disk(str(text / "documents")).values():
        for row in part:
            assert (row["tokens"][0], row["tokens"][-1]) == (1, 2)
            assert min(row["tokens"][1:-1]) > 2
    assert not (text / "cache").exists()


def test_the_tokenizer_is_trained_without_the_held_out_documents(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original = prepare.train_tokenizer

    def spy(texts: Iterator[str], vocabulary: int) -> Any:
        seen.extend(texts)
        return original(iter(seen), vocabulary)

    monkeypatch.setattr(prepare, "train_tokenizer", spy)
    corpus, out = str(text.parent / "corpus"), str(tmp_path / "text")
    prepare.main([corpus, "--out", out, "--vocabulary", "300", "--held-out", str(HELD_OUT)])
    assert seen == [one for _, one in prepared_texts(text)["train"]]


def test_the_manifest_counts_what_there_is(text: Path) -> None:
    manifest = json.loads((text / "manifest.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(text / "tokenizer")
    for name, found in prepared_texts(text).items():
        expected: dict[str, Counter[str]] = {}
        for source, one in found:
            num_tokens = len(tokenizer(one, split_special_tokens=True)["input_ids"]) + 2
            counts = {"documents": 1, "bytes": len(one.encode()), "tokens": num_tokens}
            expected.setdefault(source, Counter()).update(counts)
        assert manifest["parts"][name] == expected
    files = [text.parent / "corpus" / f"{name}.txt.gz" for name in ("facts-00", "stories-00", "stories-01")]
    assert manifest["files"] == {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in files}
    assert manifest["left_out"] == ["nc_", "train_text"]


def test_another_tokenizer_is_used_again_and_the_order_of_the_text_does_not_matter(text: Path, tmp_path: Path) -> None:
    corpus = corpus_of()
    every = [one for name in ("facts-00", "stories-01", "stories-00") for one in corpus[name][::-1]]
    folder = write_corpus(tmp_path / "corpus", {"one-00": every, "nc_x-00": corpus["nc_x-00"]})
    options = ["--tokenizer", str(text / "tokenizer"), "--held-out", str(HELD_OUT), "--leave-out"]
    prepare.main([str(folder), "--out", str(tmp_path / "text"), *options])
    again, first = prepared_texts(tmp_path / "text"), prepared_texts(text)
    texts = [{one for _, one in found["held_out"]} for found in (first, again)]
    assert texts[0] == texts[1] - set(corpus["nc_x-00"])
    assert {source for source, _ in again["train"] + again["held_out"]} == {"one", "nc_x"}, "nothing was left out"
    vocabularies = [AutoTokenizer.from_pretrained(one / "tokenizer").get_vocab() for one in (text, tmp_path / "text")]
    assert vocabularies[0] == vocabularies[1]


def test_an_interrupted_preparation_leaves_no_text_to_the_next(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(corpus: Corpus) -> None:
        for name, texts in corpus.items():
            with gzip.open(folder / f"{name}.txt.gz", "wt", encoding="utf-8") as file:
                file.write("\n".join(texts))
        prepare.main([str(folder), "--out", str(tmp_path / "text"), "--tokenizer", str(text / "tokenizer")])

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "is_held_out", lambda text, _: text.startswith("1"))
    folder = write_corpus(tmp_path / "corpus", {})
    with monkeypatch.context() as patch:
        patch.setattr(prepare.DatasetDict, "save_to_disk", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run({"a-00": ["0 older", "1 older"]})
    run({"a-00": ["0 newer", "1 newer"]})
    assert prepared_texts(tmp_path / "text") == {"train": [("a", "0 newer")], "held_out": [("a", "1 newer")]}


@settings(max_examples=50)
@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_holds_out_what_a_smaller_one_does(text: str, first: float, second: float) -> None:
    assert prepare.is_held_out(text, min(first, second)) <= prepare.is_held_out(text, max(first, second))
    assert prepare.is_held_out(text, 1.0)
    assert not prepare.is_held_out(text, 0.0)


def test_the_share_is_of_the_documents() -> None:
    assert 150 < sum(prepare.is_held_out(f"text {number}", 0.2) for number in range(1000)) < 250


@pytest.mark.parametrize("names", [[], ["nc_x-00", "train_text-00"], ["stories-00.old"]])
def test_a_folder_without_shards_is_refused(tmp_path: Path, names: list[str]) -> None:
    corpus = write_corpus(tmp_path / "corpus", {name: ["a text"] for name in names if not name.endswith("old")})
    (corpus / "stories-00.txt").write_text("not packed")
    with pytest.raises(SystemExit, match=r"Expected SOURCE-NN\.txt\.gz files in .*corpus', found none"):
        prepare.main([str(corpus), "--out", str(tmp_path / "text")])
    assert not (tmp_path / "text").exists()


def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    words = {"<s>": 0, "</s>": 1, **{f"w{number}": number for number in range(2, 2**16 + 1)}}
    tokenizer = Tokenizer(models.WordLevel(words, "<s>"))
    large = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    large.save_pretrained(tmp_path / "large")
    corpus = write_corpus(tmp_path / "corpus", {"a-00": ["a text"]})
    with pytest.raises(SystemExit, match="Expected at most 65,536 tokens in the vocabulary, found 65537"):
        prepare.main([str(corpus), "--out", str(tmp_path / "text"), "--tokenizer", str(tmp_path / "large")])
    assert not (tmp_path / "text").exists()


# ---- pretrain_nano


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


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return weights


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


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
    assert not backbone.plain
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


# ---- measure_nano


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


# ---- the grids


def test_a_finished_cell_is_never_run_again(tmp_path: Path) -> None:
    ran: list[tuple[Any, ...]] = []

    def run(name: str, rate: float) -> dict[str, Any]:
        ran.append((name, rate))
        if name == "broken":
            raise ValueError("broken")
        return {"name": name, "figure": rate}

    grid = [("a", 0.1), ("b", 0.1), ("a", 0.2)]
    first = cells.run_cells(grid, run, tmp_path, ["a", "0.1"])
    assert (first, ran) == ([{"name": "a", "figure": 0.1}], [("a", 0.1)])
    assert [one["name"] for one in cells.run_cells(grid, run, tmp_path, ["b"])] == ["a", "b"], (
        "of all that are finished"
    )
    with pytest.raises(ValueError, match="broken"):
        cells.run_cells([*grid, ("broken", 0.1), ("c", 0.1)], run, tmp_path)
    assert ran == [("a", 0.1), ("b", 0.1), ("a", 0.2), ("broken", 0.1)]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a-0.1.json", "a-0.2.json", "b-0.1.json"]
    assert [one["figure"] for one in cells.run_cells(grid, run, tmp_path)] == [0.1, 0.1, 0.2]
    assert len(ran) == 4


def test_tables_are_markdown() -> None:
    assert cells.markdown(("name", "figure"), [("a", 0.12345), ("b", None), ("c", 7)]) == (
        "| name | figure |\n| --- | --- |\n| a | 0.123 |\n| b |  |\n| c | 7 |"
    )
    found = [{"peft": "lora", "learning_rate": 0.001, "task": "sst2", "method": "predgen", "figure": 0.25}]
    assert tuning.table(found).splitlines() == [
        "| peft | learning rate | lcp predictor | lcp predgen | sst2 predictor | sst2 predgen |",
        "| --- | --- | --- | --- | --- | --- |",
        "| lora | 0.001 |  |  |  | 0.250 |",
    ]


def test_every_shape_is_pretrained_on_every_number_of_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[Any] = []

    def fake(options: Any) -> dict[str, Any]:
        ran.append(options)
        return {"parameters": 1000 * options.width, "tokens": int(options.tokens), "held_out_loss": 2.5}

    monkeypatch.setattr(sizes, "pretrain", fake)
    monkeypatch.setattr(sys, "argv", ["nano_sizes.py", "text", "--out", str(tmp_path)])
    sizes.main()
    assert {(f"{one.width}x{one.layers}", one.tokens) for one in ran} == {
        (shape, float(tokens)) for shape in sizes.SHAPES for tokens in sizes.TOKENS
    }
    assert len({one.out for one in ran}) == len(ran)
    sizes.main()
    assert len(ran) == len(sizes.SHAPES) * len(sizes.TOKENS)
    assert "| 256x6 | 256,000 | 500,000 | 2.500 |" in capsys.readouterr().out


def test_the_rate_is_chosen_on_validation_rows_and_then_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, str, float, int]] = []

    def fake(data: Path, *, backbone: str, learning_rate: float, seed: int, **_: Any) -> Any:
        ran.append((data.name, backbone, learning_rate, seed))
        # The best rate by validation, of the lowest error or the highest accuracy, is the worst on the test rows.
        better = learning_rate < 0.01
        metrics = {"mse": float(better), "accuracy": float(not better)}
        best = float(not better) if data.name == "stsb" else float(better)
        return SimpleNamespace(record={"best_metric": best}, evaluate=lambda _: SimpleNamespace(metrics=metrics))

    monkeypatch.setattr(predgen, "fit", fake)
    monkeypatch.setattr(against_scratch, "scratch", lambda folder, seed: f"scratch {seed}")
    command = ["nano_against_scratch.py", "data", "--rates", "0.02", "0.001", "--seeds", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    against_scratch.main()
    starts = {seed: ("builtin:nano", f"scratch {seed}") for seed in (0, 1)}
    assert sorted(ran) == sorted(
        (task, start, rate, seed)
        for task in ("stsb", "sst2")
        for rate, seed in ((0.02, 0), (0.001, 0), (0.001, 1))
        for start in starts[seed]
    )
    printed = capsys.readouterr().out
    assert "| stsb mse | scratch | 0.001 | 1.000 | 0.000 | 1.000 1.000 |" in printed
    assert "| sst2 accuracy | pretrained | 0.001 | 0.000 | 0.000 | 0.000 0.000 |" in printed


def test_scratch_has_the_shape_of_nano_and_the_weights_of_its_seed(tmp_path: Path) -> None:
    nano = weights_of(find_source("builtin:nano").folder)
    found = [weights_of(Path(against_scratch.scratch(tmp_path / name, int(name[0])))) for name in ("0", "1", "0 again")]
    assert {name: one.shape for name, one in found[0].items()} == {name: one.shape for name, one in nano.items()}
    assert equal(found[0], found[2])
    assert not equal(found[0], found[1])
    assert not equal(found[0], nano)
    backbone = load_backbone(find_source(str(tmp_path / "0")))
    assert backbone.tokenize_prompts(["12 films"]) == load_backbone(find_source("builtin:nano")).tokenize_prompts(
        ["12 films"]
    )


# ---- what the package says of it

QUICK: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 1, "device": "cpu"}


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {(one.name, one.levelname) for one in caplog.records} <= {("predgen", "WARNING")}
    return [one.getMessage() for one in caplog.records]


def test_fit_says_once_that_nano_is_for_trying(caplog: pytest.LogCaptureFixture) -> None:
    predgen.fit(reviews(30), "mood", backbone="builtin:nano", quiet=True, **QUICK)
    assert messages(caplog) == []
    predgen.fit(reviews(30), "mood", backbone="builtin:nano", quiet=False, **QUICK)
    [message] = messages(caplog)
    assert "builtin:nano is a small model for trying things out" in message
    assert "Qwen/Qwen3-0.6B" in message


@pytest.mark.slow
def test_compare_says_it_once_for_all_methods(caplog: pytest.LogCaptureFixture) -> None:
    predgen.compare(reviews(30), "mood", methods=["predictor", "predgen"], quiet=False, **QUICK)
    assert ["small model for trying things out" in one for one in messages(caplog)] == [True]


def test_nothing_is_said_of_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = byte_level_tokenizer()
    model = tiny_model("llama", len(tokenizer), max_position_embeddings=512)
    folder = save_model(tmp_path / "model", model, tokenizer)
    predgen.fit(reviews(30), "mood", backbone=folder, quiet=False, **QUICK)
    assert messages(caplog) == []
