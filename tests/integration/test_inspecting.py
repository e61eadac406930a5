"""`predgen.inspect_backbone` and `predgen inspect`: what is said of whole, half and unknown models."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

import predgen
from predgen.errors import BackboneError, UnknownNameError
from predgen.report.inspection import inspection_parts
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet
from predgen.targets.number import Number
from predgen.targets.record import Record
from tests.helpers.commands import refused, run
from tests.helpers.shapes import byte_level_tokenizer, save_model, tiny_model, word_level_tokenizer

pytestmark = pytest.mark.slow  # together they take more than a few seconds

NUMBER = Number(0.0, 5.0, 1, declared=True)
LABEL = Label(("g", "b"), ("good", "very bad"))
LLAMA = "meta-llama/Llama-2-7b-hf"
SMALL = {"batch_size": 2, "prompt_tokens": 32, "lora_rank": 2}


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The cache is empty and the network must not be asked."""

    def ask(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
    monkeypatch.setattr("predgen.backbones.sources._download", ask)


def llama_in(folder: Path, tokenizer: Any = None, **changes: Any) -> str:
    tokenizer = tokenizer or byte_level_tokenizer()
    return save_model(folder, tiny_model("llama", len(tokenizer) + changes.pop("more", 0), **changes), tokenizer)


def symbols_of(found: predgen.Inspection) -> dict[str, str]:
    assert found.tokenizer is not None
    return {symbol["character"]: symbol["how"] for symbol in found.tokenizer["symbols"]}


def text_of(found: predgen.Inspection) -> str:
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as captured:
        for part in inspection_parts(found.to_json()):
            console.print(part)
    return captured.get()


def test_a_whole_causal_model(tmp_path: Path) -> None:
    found = predgen.inspect_backbone(llama_in(tmp_path, more=6), NUMBER, **SMALL)
    assert found.backbone["kind"] == "decoder-only"
    assert found.backbone["class"] == "LlamaForCausalLM"
    model = tiny_model("llama", len(byte_level_tokenizer()) + 6)
    assert found.backbone["parameters"] == sum(one.numel() for one in model.parameters())
    assert (found.backbone["hidden_size"], found.backbone["prompt_layers"]) == (16, 2)
    assert (found.backbone["road"], found.backbone["trees"]) == ("cached", "in one forward")
    assert found.backbone["max_tokens"] == 96
    assert found.tokenizer is not None
    assert found.tokenizer["padded_rows"] == 6
    assert found.tokenizer["embedding_rows"] - found.tokenizer["vocabulary"] == 6
    assert found.tokenizer["special"]["end"]["token"] == "</s>"
    assert found.tokenizer["special"]["begin"] is None
    assert set(symbols_of(found).values()) == {"bare"}
    assert found.target is not None
    assert [one["text"] for one in found.target["examples"]] == ["0.0", "2.5", "5.0"]
    assert [one["pieces"] for one in found.target["examples"]][2] == ["5", ".", "0"]
    # The end token is the fourth; the point is forced, and so is the 0 after "5.".
    assert (found.target["longest_tokens"], found.target["decisions"], found.target["values"]) == (4, 2, 51)
    assert found.plan["target_tokens"] == 4
    assert (found.problems, found.notes) == ([], [])
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("family", "road", "trees"), [("bloom", "cached", "row by row"), ("gpt2", "cached", "in one forward")]
)
def test_the_road_is_the_one_that_loading_chooses(family: str, road: str, trees: str, tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    name = save_model(tmp_path, tiny_model(family, len(tokenizer)), tokenizer)
    found = predgen.inspect_backbone(name, **SMALL)
    assert (found.backbone["road"], found.backbone["trees"]) == (road, trees)
    unread = predgen.inspect_backbone(name, load=False, **SMALL)
    assert (unread.backbone["road"], unread.backbone["trees"]) == (None, None)
    assert any("were not read" in note for note in unread.notes)
    assert unread.plan == found.plan


def test_running_numbers_are_merged_and_characters_may_lack_a_piece(tmp_path: Path) -> None:
    merging = predgen.inspect_backbone(llama_in(tmp_path / "a"), load=False, **SMALL)
    assert merging.tokenizer is not None
    assert merging.tokenizer["running_number"] == {"text": "13.4", "pieces": ["13", ".", "4"], "merged": True}
    digits = predgen.inspect_backbone("builtin:nano", load=False, **SMALL).tokenizer
    assert digits is not None
    assert digits["running_number"] == {"text": "13.4", "pieces": ["1", "3", ".", "4"], "merged": False}
    words = word_level_tokenizer(("a", "good", "bad", "1", "2", "▁3", "13"))
    name = llama_in(tmp_path / "b", words, eos_token_id=None)
    found = predgen.inspect_backbone(name, Number(0.0, 3.0, 0, declared=True), load=False, **SMALL)
    assert symbols_of(found) | {"1": "bare", "3": "prefixed", "4": "added", "-": "added"} == symbols_of(found)
    assert found.tokenizer is not None
    assert found.tokenizer["running_number"]["pieces"][0] == "13"
    assert found.tokenizer["running_number"]["merged"]
    assert found.target is not None
    assert "0" in found.target["added_tokens"]
    # Rows of the added tokens are trained beside the LoRA update: the digit 0 and an end token.
    shown = text_of(found)
    assert "no piece: a token is added and trained" in shown
    assert "digits are merged" in shown


def test_every_label_word_is_shown(tmp_path: Path) -> None:
    found = predgen.inspect_backbone(llama_in(tmp_path), LABEL, **SMALL)
    assert found.target is not None
    examples = found.target["examples"]
    assert [one["text"] for one in examples] == ["good", "very bad"]
    assert all(one["tokens"] == len(one["pieces"]) >= 1 for one in examples)
    assert found.target["longest_tokens"] == max(one["tokens"] for one in examples) + 1
    assert found.target["decisions"] >= 1


def test_labels_that_collide_are_named_with_the_way_out(tmp_path: Path) -> None:
    name = llama_in(tmp_path, word_level_tokenizer(), eos_token_id=None)
    target = Label(tuple("abcd"), ("Good", "good", "bad", "GOOD"))
    found = predgen.inspect_backbone(name, target, load=False, **SMALL)
    (problem,) = found.problems
    assert "found the same ones (good) for 'Good', 'good', 'GOOD'. Give other words with --label-text" in problem
    assert found.target is not None
    assert found.target["longest_tokens"] is None
    assert any("numbers such as 99.9" in note for note in found.notes)
    assert problem in text_of(found)
    # Words that the tokenizer does not know are all the same token.
    strange = predgen.inspect_backbone(name, Label(("a", "b"), ("zebra", "lion")), load=False, **SMALL)
    assert "'zebra', 'lion'" in strange.problems[0]
    single = predgen.inspect_backbone(name, Label(("a", "b"), ("zebra", "bad")), load=False, **SMALL)
    assert single.problems == []
    assert "(holds the unknown token)" in text_of(single)


def test_sets_and_records(tmp_path: Path) -> None:
    name = llama_in(tmp_path)
    labels = LabelSet(("good", "bad"), ("good", "bad"))
    found = predgen.inspect_backbone(name, labels, load=False, **SMALL)
    assert found.target is not None
    assert [one["text"] for one in found.target["examples"]] == ["good", "bad", "none"]
    assert found.target["values"] == 4
    record = predgen.inspect_backbone(name, Record({"mood": LABEL, "stars": NUMBER}), load=False, **SMALL)
    assert record.target is not None
    assert {one["field"] for one in record.target["examples"]} == {"mood", "stars"}
    assert "mood: good" in text_of(record)


def test_an_encoder_and_an_encoder_decoder(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.cls_token, tokenizer.sep_token = "<pad>", "</s>"
    sizes = {"vocab_size": len(tokenizer), "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}
    encoder = AutoModel.from_config(AutoConfig.for_model("bert", intermediate_size=32, **sizes))
    found = predgen.inspect_backbone(save_model(tmp_path / "bert", encoder, tokenizer), LABEL, **SMALL)
    assert found.backbone["kind"].startswith("encoder-only")
    assert found.backbone["pooling"] == "mean"
    assert found.backbone["writer_parameters"] > 0
    assert found.backbone["target_layers"] == 2
    assert found.target is not None
    assert [one["text"] for one in found.target["examples"]] == ["good", "very bad"]
    # Its Writer has rows for the pieces alone: the tokenizer's own names of them are shown.
    assert "".join(found.target["examples"][0]["pieces"]).endswith("good")
    config = AutoConfig.for_model(
        "t5",
        vocab_size=len(tokenizer),
        **{"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 2},
        decoder_start_token_id=0,
    )
    seq2seq = AutoModelForSeq2SeqLM.from_config(config)
    found = predgen.inspect_backbone(save_model(tmp_path / "t5", seq2seq, tokenizer), NUMBER, **SMALL)
    assert found.backbone["kind"] == "encoder-decoder"
    assert (found.backbone["prompt_layers"], found.backbone["target_layers"]) == (2, 3)
    assert "2 that read, 3 that write" in text_of(found)


def test_a_folder_with_a_config_alone(tmp_path: Path) -> None:
    whole = predgen.inspect_backbone(llama_in(tmp_path / "whole"), NUMBER, **SMALL)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((tmp_path / "whole" / "config.json").read_text())
    found = predgen.inspect_backbone(str(bare), NUMBER, **SMALL)
    assert found.tokenizer is None
    assert found.backbone["road"] is None
    assert any("no weights" in note for note in found.notes)
    assert any("no tokenizer" in note for note in found.notes)
    assert found.plan["fit_bytes"] > 0
    for same in ("parameters", "hidden_size", "prompt_layers", "embedding_rows", "class"):
        assert found.backbone[same] == whole.backbone[same]
    # A number has as many tokens under any tokenizer.
    assert found.target is not None
    assert whole.target is not None
    for same in ("longest_tokens", "decisions", "values"):
        assert found.target[same] == whole.target[same]
    assert "not available" in text_of(found)


def test_weights_without_a_tokenizer_and_a_tokenizer_without_weights(tmp_path: Path) -> None:
    name = llama_in(tmp_path / "a")
    for file in (tmp_path / "a").glob("*token*"):
        file.unlink()
    found = predgen.inspect_backbone(name, LABEL, **SMALL)
    assert (found.tokenizer, found.target) == (None, None)
    assert any("one token for each character" in note for note in found.notes)
    assert found.plan["target_tokens"] == len("very bad") + 1
    name = llama_in(tmp_path / "b")
    for file in (tmp_path / "b").glob("*.safetensors"):
        file.unlink()
    found = predgen.inspect_backbone(name, LABEL, **SMALL)
    assert found.tokenizer is not None
    assert found.backbone["road"] is None
    assert found.target is not None


def test_a_model_that_is_known_by_its_shape() -> None:
    found = predgen.inspect_backbone(LLAMA, NUMBER, dtype="bfloat16")
    assert found.backbone["parameters"] == 6_738_415_616
    assert found.tokenizer is None
    assert found.plan["trained_backbone_parameters"] == 39_976_960
    assert "its shape is known" in found.notes[0]
    assert "6,738,415,616" in text_of(found)


def test_no_target_is_assumed_to_be_a_number(tmp_path: Path) -> None:
    found = predgen.inspect_backbone(llama_in(tmp_path), load=False, **SMALL)
    assert found.target is None
    assert found.plan["target_tokens"] == 5
    assert any("no target was given" in note for note in found.notes)


def test_prompts_are_as_long_as_the_model_reads(tmp_path: Path) -> None:
    name = llama_in(tmp_path)
    assert predgen.inspect_backbone(name, NUMBER, load=False).plan["prompt_tokens"] == 96 - 4
    assert predgen.inspect_backbone("builtin:nano", NUMBER, load=False).plan["prompt_tokens"] == 128
    endless = Label(("a", "b"), ("good", "x" * 100))
    with pytest.raises(predgen.ConfigError, match=r"leaves room for a prompt, found one of 101 tokens"):
        predgen.inspect_backbone(name, endless, load=False)


def test_backbones_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        BackboneError, match=r"found none for 'org/model'\. Download it first \(hf download org/model\)"
    ):
        predgen.inspect_backbone("org/model")
    with pytest.raises(BackboneError, match=r"Expected a local folder, a hub id"):
        predgen.inspect_backbone("/no/such/folder")
    with pytest.raises(BackboneError, match=r"config\.json, found none"):
        predgen.inspect_backbone(str(tmp_path))
    with pytest.raises(UnknownNameError, match=r"Did you mean 'builtin:nano'"):
        predgen.inspect_backbone("builtin:nanoo")


# ---- the command


def test_the_command_prints_and_writes_json(tmp_path: Path) -> None:
    name = llama_in(tmp_path / "model")
    file = tmp_path / "found.json"
    plan = ["--batch-size", "2", "--prompt-tokens", "32", "--peft", "none", "--dtype", "bfloat16"]
    done = run("inspect", name, "--low", "0", "--high", "5", "--decimals", "1", *plan, "--json", file)
    assert done.code == 0, done
    for text in ("decoder-only", "cached: a prompt is read once", "51 values", "AdamW moments", "together"):
        assert text in done.stdout
    found = json.loads(file.read_text())
    expected = predgen.inspect_backbone(
        name, NUMBER, batch_size=2, prompt_tokens=32, peft="none", dtype="bfloat16"
    ).to_json()
    assert found == expected


def test_the_command_infers_a_target_as_fit_does(tmp_path: Path) -> None:
    name = llama_in(tmp_path / "model")
    rows = [{"text": "a film", "label": index % 2, "stars": index * 0.5} for index in range(20)]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    words = ["--label-text", "0=bad,1=good"]
    done = run("inspect", name, "--data", tmp_path / "rows.csv", "--target", "label", *words, "--shape-only")
    assert done.code == 0, done
    assert "0=bad, 1=good" in done.stdout
    assert "Target: 'label'" in done.stderr
    done = run("inspect", name, "--data", tmp_path / "rows.csv", "--target", "label,stars", "--shape-only", "--quiet")
    assert done.code == 0, done
    assert "stars: " in done.stdout
    assert done.stderr == ""


def test_labels_that_fit_would_refuse_are_shown_and_end_in_an_error(tmp_path: Path) -> None:
    name = llama_in(tmp_path / "model", word_level_tokenizer(), eos_token_id=None)
    file = tmp_path / "found.json"
    arguments = ["inspect", name, "--labels", "Good,good", "--shape-only", "--json", file]
    assert "found the same ones (good) for 'Good', 'good'." in refused(*arguments)
    assert json.loads(file.read_text())["target"]["problems"]
    done = run(*arguments)
    assert "pieces" in done.stdout
    done = run("inspect", name, "--labels", "Good,good", "--label-text", "Good=very", "--shape-only")
    assert done.code == 0, done


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'BACKBONE'."),
        (["org/model"], "Expected a backbone on this machine, found none for 'org/model'."),
        (["builtin:nano", "--labels", "good"], "Expected at least two labels, found 1 (good)."),
        (["builtin:nano", "--labels", "a,a"], "Expected every label once, found 'a' twice."),
        (["builtin:nano", "--low", "0"], "Expected --low, --high and --decimals together, found --low alone."),
        (["builtin:nano", "--labels", "a,b", "--high", "1"], "Expected --labels or a number, found both (--high)."),
        (["builtin:nano", "--data", "x.csv"], "Expected --data TABLE and --target COLUMN together"),
        (["builtin:nano", "--target", "x"], "Expected --data TABLE and --target COLUMN together"),
        (["builtin:nano", "--target", "x", "--labels", "a,b"], "Expected --labels or --data, found both."),
        (["builtin:nano", "--kind", "label"], "Expected --kind together with --data and --target, found it alone."),
        (["builtin:nano", "--label-text", "a=b"], "Expected --label-text together with --labels or --data"),
        (["builtin:nano", "--labels", "a,b", "--label-text", "c=d"], "Unknown label 'c'."),
        (["builtin:nano", "--dtype", "float8"], "Did you mean 'float32'?"),
        (["builtin:nano", "--peft", "lorra"], "Did you mean 'lora'?"),
        (["builtin:nano", "--batch-size", "0"], "train.batch_size: Input should be greater than or equal to 1"),
        (["builtin:nano", "--prompt-tokens", "9999", "--shape-only"], "Expected prompts of 1 to 507 tokens"),
        (["builtin:nano", "--labls", "a,b"], "Did you mean '--labels'?"),
    ],
)
def test_wrong_inputs_are_said(arguments: list[str], message: str) -> None:
    assert message in refused("inspect", *arguments)
