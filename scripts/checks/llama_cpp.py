"""Do another program and this one read the same GGUF file alike? Tokens and log-probabilities beside llama.cpp's.

    pip install llama-cpp-python
    python -m scripts.checks.llama_cpp [FILE.gguf …]

Without files: SmolLM2 and Gemma 3 270M where they are installed, and a random Llama file with Llama 3.2's factors of
positions (`rope_freqs.weight`). Each of 50 prompts is tokenized by both, special tokens in the text read as such; then
each token's log-probability is compared. llama.cpp rounds activations to 8 bits where weights are in blocks, so that
those differences are not 0; with `--unpacked` a copy of each file in float32, whose numbers are those of the blocks, is
compared too, where nothing is rounded. Exits with 1 where tokens differ.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize

from predgen.backbones import find_source, load_backbone
from predgen.backbones.packaged import PACKAGED_MODELS
from scripts.cells import markdown

SENTENCES = (
    "The capital of France is Paris.",
    "Return the indices of the sorted array along the given axis.",
    "A man is playing a large flute, and two dogs run through deep snow!",
    "It's 12:45 o'clock; they've paid $3,499.99 (20 % less).",
    "Naïve café owners wrote: 漢字, Ünïcödé, \u2014 and \U0001f600.",
)
SEAMS = ("\n\n10", "\n3.80\n", "  42", "\t-7", "score: 0.5", "\n\n\n1234567", " x_1 == 'y'  ", "\r\n9")
SPECIALS = ("<|im_end|>", "<bos>", "<|endoftext|>", "</s>")


def prompts(count: int) -> list[str]:
    """Returns texts with numbers after blank lines, long ones, and names of special tokens."""
    draw = random.Random(0)
    texts = []
    for index in range(count):
        text = draw.choice(SENTENCES) + draw.choice(SEAMS)
        if index % 5 == 0:
            text = " ".join(draw.choices(SENTENCES, k=25)) + draw.choice(SEAMS)
        if index % 4 == 0:
            text += draw.choice(SPECIALS) + draw.choice(SEAMS)
        texts.append(text)
    return texts


def compared(file: Path, source: Any, texts: list[str]) -> dict[str, Any]:
    """Returns how many prompts have other tokens, and how far the tokens' log-probabilities are apart."""
    from llama_cpp import Llama

    backbone = load_backbone(source, dtype="float32")
    theirs = Llama(str(file), n_ctx=2048, logits_all=True, verbose=False, n_threads=torch.get_num_threads())
    says_bos = source.gguf.of_tokenizer("add_bos_token")
    other_tokens, differences = [], []
    for text in texts:
        ids = backbone.tokenizer(text)["input_ids"]
        if ids != theirs.tokenize(text.encode(), add_bos=bool(says_bos), special=True):
            other_tokens.append(text)
            continue
        theirs.reset()
        theirs.eval(ids)
        their_logits = torch.tensor(np.array(theirs.scores[: len(ids) - 1]), dtype=torch.float64)
        with torch.no_grad():
            our_logits = backbone.model(input_ids=torch.tensor([ids])).logits[0, :-1].double()
        following = torch.tensor(ids[1:]).unsqueeze(1)
        pairs = [logits.log_softmax(-1).gather(1, following)[:, 0] for logits in (our_logits, their_logits)]
        differences.append((pairs[0] - pairs[1]).abs())
    every = torch.cat(differences) if differences else torch.zeros(0)
    return {
        "file": file.name,
        "prompts": len(texts),
        "with other tokens": len(other_tokens),
        "tokens": len(every),
        "mean": float(every.mean()),
        "99 %": float(every.quantile(0.99)),
        "largest": float(every.max()),
        "texts": other_tokens,
    }


def unpacked(file: Path, copy: Path) -> Path:
    """Writes a file anew with every tensor in float32, and returns the copy."""
    reader = GGUFReader(file)
    writer = GGUFWriter(copy, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            kind = field.types[0]
            writer.add_key_value(name, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return copy


def main() -> None:
    """Prints the table, and which prompts have other tokens."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--unpacked", action="store_true", help="also compare copies in float32")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        named = {str(path): path for path in options.files}
        if not named:
            from tests.helpers.gguf_files import llama32_file

            installed = {name: model for name, model in PACKAGED_MODELS.items() if model.is_installed()}
            named = {name: model.file(name) for name, model in installed.items()}
            random_file = llama32_file(Path(folder) / "llama-3.2-shaped.gguf")
            named[str(random_file)] = random_file
        if options.unpacked:
            copies = [unpacked(file, Path(folder) / f"{file.stem}-float32.gguf") for file in named.values()]
            named |= {str(copy): copy for copy in copies}
        found = [compared(file, find_source(name), prompts(options.prompts)) for name, file in named.items()]
    shown = [name for name in found[0] if name != "texts"]
    print(markdown(shown, [[f"{row[n]:.4f}" if isinstance(row[n], float) else row[n] for n in shown] for row in found]))
    for row in found:
        for text in row["texts"]:
            print(f"{row['file']}: other tokens: {json.dumps(text)}")
    sys.exit(1 if any(row["with other tokens"] for row in found) else 0)


if __name__ == "__main__":
    main()
