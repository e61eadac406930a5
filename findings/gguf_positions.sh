#!/usr/bin/env bash
# transformers 5.23.0 drops stretched positions of a GGUF file without a word: neither the keys `rope.scaling.*` nor the
# tensor `rope_freqs.weight` (Llama 3.1 and 3.2 carry it) is read, so that another model is loaded than the file holds.
# Seen: a Llama file with linear scaling by 4, and one with 16 factors of 1 to 32, both load with rope_type "default".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 gguf==0.19.0
cat > "$folder/seen.py" <<'PY'
import sys
from pathlib import Path

import numpy as np
import transformers
from gguf import GGUFWriter
from transformers import AutoConfig

WIDTH, HEADS = 64, 2
KEYS = {
    "context_length": 512,
    "embedding_length": WIDTH,
    "block_count": 1,
    "feed_forward_length": WIDTH,
    "attention.head_count": HEADS,
    "attention.head_count_kv": HEADS,
    "rope.dimension_count": WIDTH // HEADS,
    "vocab_size": 4,
}


def rope_type_of(name, *, scaling, factors):
    file = Path(sys.argv[1]) / name
    writer = GGUFWriter(file, "llama")
    for key, value in KEYS.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_float32("llama.rope.freq_base", 10000.0)
    if scaling:
        writer.add_string("llama.rope.scaling.type", "linear")
        writer.add_float32("llama.rope.scaling.factor", scaling)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "c", "d"])
    writer.add_tensor("token_embd.weight", np.zeros((4, WIDTH), np.float32))
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return AutoConfig.from_pretrained(file.parent, gguf_file=file.name).rope_parameters["rope_type"]


linear = rope_type_of("linear.gguf", scaling=4.0, factors=None)
factored = rope_type_of("factors.gguf", scaling=None, factors=np.linspace(1, 32, 16, dtype=np.float32))
print(f"transformers {transformers.__version__}: linear scaling by 4 -> {linear}, rope_freqs.weight -> {factored}")
sys.exit(0 if (linear, factored) == ("default", "default") else 1)
PY
HF_HUB_OFFLINE=1 "$folder/env/bin/python" "$folder/seen.py" "$folder"
