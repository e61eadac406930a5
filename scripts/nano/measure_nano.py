"""Bits per byte of language models on three texts that no version of `builtin:nano` may train on.

    python -m scripts.nano.measure_nano DATA MODEL [MODEL ...]

DATA holds the folders `boolq`, `gsm8k` and `sst2`. A text is `<s> text </s>`: `<s>` is given, `</s>` counts in the
loss, and the bytes are those of the text alone. Long texts are read in windows (--window tokens, each beginning with
the last token of the one before). With two models or more the last column compares the last model with the first.
"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts.cells import markdown

# Name, file, field, and how many of the sorted different texts.
TEXTS = (
    ("BoolQ passages (validation, first 400 of the sorted different ones)", "boolq/validation.jsonl", "passage", 400),
    ("GSM8k questions (test)", "gsm8k/test.jsonl", "question", None),
    ("SST-2 sentences (test)", "sst2/test.jsonl", "sentence", None),
)
TOGETHER = "together"
ROWS_AT_ONCE = 32


def read_texts(path: Path, field: str, limit: int | None) -> list[str]:
    """Returns the different texts of a field, sorted."""
    with path.open(encoding="utf-8") as lines:
        return sorted({json.loads(line)[field] for line in lines})[:limit]


def windows(ids: list[int], length: int) -> Iterator[list[int]]:
    """Yields pieces that predict `length` tokens or fewer each, and every token but the first once."""
    for start in range(0, len(ids) - 1, length):
        yield ids[start : start + length + 1]


@torch.no_grad()
def total_nats(model: Any, pieces: list[list[int]], device: str = "cpu") -> float:
    """Returns the summed negative log-likelihood of every piece's tokens after its first."""
    pieces = sorted(pieces, key=len)
    total = 0.0
    for first in range(0, len(pieces), ROWS_AT_ONCE):
        rows = pieces[first : first + ROWS_AT_ONCE]
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True).to(device)
        lengths = torch.tensor([[len(row)] for row in rows], device=device)
        kept = torch.arange(1, ids.shape[1], device=device) < lengths
        logits = model(ids).logits[:, :-1].float()  # padding stands at the end: a causal model never sees it
        nats = -logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        total += float((nats * kept).sum(dtype=torch.float64))
    return total


def bits_per_byte(folder: str, data: Path, window: int, device: str = "cpu") -> dict[str, float]:
    """Returns the figure of each text and of all together."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().to(device)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found, all_nats, all_bytes = {}, 0.0, 0
    for name, file, field, limit in TEXTS:
        texts = read_texts(data / file, field, limit)
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        documents = [[tokenizer.bos_token_id, *ids, tokenizer.eos_token_id] for ids in encoded]
        nats = total_nats(model, [piece for ids in documents for piece in windows(ids, window)], device)
        num_bytes = sum(len(text.encode()) for text in texts)
        found[name] = nats / num_bytes / math.log(2)
        all_nats, all_bytes = all_nats + nats, all_bytes + num_bytes
    return {**found, TOGETHER: all_nats / all_bytes / math.log(2)}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+", help="model folders")
    parser.add_argument("--window", type=int, default=256, help="tokens predicted at once")
    options = parser.parse_args()
    found = [bits_per_byte(model, options.data, options.window) for model in options.models]
    header, rows = ["bits per byte", *options.models], [[name, *(one[name] for one in found)] for name in found[0]]
    if len(found) > 1:
        header.append("last against first")
        rows = [[*row, f"{row[-1] / row[1] - 1:+.1%}"] for row in rows]
    print(markdown(header, rows))


if __name__ == "__main__":
    main()
