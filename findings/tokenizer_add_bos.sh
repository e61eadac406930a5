#!/usr/bin/env bash
# transformers 5.23.0 ignores `add_bos_token` in tokenizer_config.json, both ways, where the folder has a tokenizer.json:
# with `true` no begin token is written, with `false` one is written all the same. The argument of `from_pretrained` is
# obeyed; saved and loaded again, the tokenizer still writes the token, and its `add_bos_token` says False.
# Seen: ids [3, 4] for "true", [0, 3, 4] for "false", [0, 3, 4] by argument and after saving, where 0 is the begin token.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3
cat > "$folder/seen.py" <<'PY'
import json
import sys
from pathlib import Path

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

VOCABULARY = {"<s>": 0, "</s>": 1, "<unk>": 2, "a": 3, "b": 4}
PARENT = Path(sys.argv[1])


def folder_of(name, *, writes_bos, flag):
    """Saves a tokenizer whose tokenizer.json does or does not write <s>, and sets the flag in its config."""
    inner = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A" if writes_bos else "$A", special_tokens=[("<s>", 0)] if writes_bos else []
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(PARENT / name)
    file = PARENT / name / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "add_bos_token": flag}))
    return PARENT / name


true_in_config = folder_of("true", writes_bos=False, flag=True)
false_in_config = folder_of("false", writes_bos=True, flag=False)
by_argument = AutoTokenizer.from_pretrained(true_in_config, add_bos_token=True)
by_argument.save_pretrained(PARENT / "again")
again = AutoTokenizer.from_pretrained(PARENT / "again")
found = {
    "true in config": AutoTokenizer.from_pretrained(true_in_config)("a b")["input_ids"],
    "false in config": AutoTokenizer.from_pretrained(false_in_config)("a b")["input_ids"],
    "by argument": by_argument("a b")["input_ids"],
    "saved and loaded": again("a b")["input_ids"],
    "saved and loaded says": again.add_bos_token,
}
print(f"transformers {transformers.__version__}: {found}")
assert found == {
    "true in config": [3, 4],
    "false in config": [0, 3, 4],
    "by argument": [0, 3, 4],
    "saved and loaded": [0, 3, 4],
    "saved and loaded says": False,
}
PY
"$folder/env/bin/python" "$folder/seen.py" "$folder"
