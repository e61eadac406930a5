"""Plain text shards to tokens: the step before `pretrain_nano.py`.

    python -m scripts.nano.prepare_nano_text CORPUS --out runs/nano-text

CORPUS holds `SOURCE-NN.txt.gz` files: UTF-8, one document per line. A tokenizer is trained on them (or taken with
--tokenizer), every document becomes `<s> text </s>`, and a share of the documents, chosen by the hash of their text, is
held out. --out gets `tokenizer/`, `documents/` (a saved `datasets` folder with the parts `train` and `held_out`) and
`manifest.json`.
"""

import argparse
import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, List, Value
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from predgen.files import write_text

SPECIAL = ("<pad>", "<s>", "</s>")
# The shards without clear terms for everyone: non-commercial text, and the inputs of the benchmarks' training parts.
LEFT_OUT = ("nc_", "train_text")
FEATURES = Features({"source": Value("string"), "bytes": Value("int32"), "tokens": List(Value("uint16"))})


def shards(corpus: Path, left_out: tuple[str, ...]) -> dict[str, list[Path]]:
    """Returns the files of each source.

    Raises:
        SystemExit: there is none.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(corpus.glob("*.txt.gz")):
        source = path.name.removesuffix(".txt.gz").rpartition("-")[0] or path.name.removesuffix(".txt.gz")
        if not source.startswith(left_out):
            found.setdefault(source, []).append(path)
    if not found:
        raise SystemExit(f"Expected SOURCE-NN.txt.gz files in '{corpus}', found none. Name the folder of the text.")
    return found


def documents(files: list[Path]) -> Iterator[str]:
    """Yields the lines that are not empty."""
    for path in files:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from (text for line in lines if (text := line.strip()))


def is_held_out(text: str, share: float) -> bool:
    """Returns whether a document is held out, the same in every run, machine and order."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") < share * 2**64


def train_tokenizer(texts: Iterator[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Returns a byte-level BPE tokenizer in which every digit is its own token and no space is put in front."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    pad, start, end = SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, bos_token=start, eos_token=end)


def encode(tokenizer: Any, found: dict[str, list[Path]], share: float, *, held_out: bool) -> Iterator[dict[str, Any]]:
    """Yields source, bytes of the text and tokens of every document of one part."""
    for source, files in found.items():
        for text in documents(files):
            if is_held_out(text, share) == held_out:
                # A text that mentions </s> does not end there.
                ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
                tokens = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
                yield {"source": source, "bytes": len(text.encode()), "tokens": tokens}


def counts(part: Dataset) -> dict[str, dict[str, int]]:
    """Returns documents, bytes and tokens of each source."""
    table = part.to_pandas()
    table["tokens"] = table["tokens"].map(len)
    summed = table.groupby("source").agg(documents=("bytes", "size"), bytes=("bytes", "sum"), tokens=("tokens", "sum"))
    return {str(source): {name: int(row[name]) for name in summed} for source, row in summed.iterrows()}


def main(arguments: list[str] | None = None) -> None:
    """Writes the tokenizer, the documents and the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/nano-text"))
    parser.add_argument("--leave-out", nargs="*", default=list(LEFT_OUT), help="beginnings of sources not to read")
    parser.add_argument("--tokenizer", help="a model folder whose tokenizer is used instead of a new one")
    parser.add_argument("--vocabulary", type=int, default=6144, help="entries of a new tokenizer, at most 65536")
    parser.add_argument("--held-out", type=float, default=0.005, help="share of the documents, 0 … 1")
    options = parser.parse_args(arguments)

    found = shards(options.corpus, tuple(options.leave_out))
    if options.tokenizer:
        tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    else:
        texts = (text for files in found.values() for text in documents(files))
        kept = (text for text in texts if not is_held_out(text, options.held_out))
        tokenizer = train_tokenizer(kept, options.vocabulary)
    if len(tokenizer) > 2**16:
        raise SystemExit(f"Expected at most 65,536 tokens in the vocabulary, found {len(tokenizer)}.")
    parts = {"train": False, "held_out": True}
    shutil.rmtree(options.out / "cache", ignore_errors=True)  # of an interrupted run, perhaps of other text
    data = DatasetDict(
        {
            name: Dataset.from_generator(
                encode,
                features=FEATURES,
                gen_kwargs={"tokenizer": tokenizer, "found": found, "share": options.held_out, "held_out": held_out},
                cache_dir=str(options.out / "cache"),
                split=name,
            )
            for name, held_out in parts.items()
        }
    )
    tokenizer.save_pretrained(options.out / "tokenizer")
    data.save_to_disk(options.out / "documents")
    shutil.rmtree(options.out / "cache")
    manifest = {
        "left_out": options.leave_out,
        "files": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for files in found.values() for path in files
        },
        "parts": {name: counts(part) for name, part in data.items()},
    }
    write_text(options.out / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    for name, sources in manifest["parts"].items():
        for source, one in sources.items():
            print(f"{name:9} {source:24} {one['documents']:8,} documents {one['tokens']:11,} tokens")


if __name__ == "__main__":
    main()
