"""Preparing the text: documents, the tokenizer, what is held out, the manifest."""

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from scripts.nano import prepare_nano_text as prepare
from tests.scripts.nano.corpus import HELD_OUT, Corpus, corpus_of, write_corpus


def kept_texts(corpus: Corpus) -> Counter[tuple[str, str]]:
    kept = {name: texts for name, texts in corpus.items() if not name.startswith(("nc_", "train_text"))}
    return Counter((name[:-3], text) for name, texts in kept.items() for text in texts)


def prepared_texts(folder: Path) -> dict[str, list[tuple[str, str]]]:
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    parts = datasets.load_from_disk(str(folder / "documents"))
    return {name: [(row["source"], tokenizer.decode(row["tokens"][1:-1])) for row in parts[name]] for name in parts}


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
