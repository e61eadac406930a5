#!/usr/bin/env bash
# torch 2.13.0 with transformers 5.23.0 on a CPU: freezing a model's weights (`requires_grad_(False)`, as LoRA does) makes
# the logits of a batch's last column (`logits_to_keep=1`, as `generate` asks for them after the prompt) a batched product
# with one copy of the head's weights for each row. The column is a slice, whose rows lie apart; `linear` folds it into
# one product where the weights want a gradient, and otherwise only what lies together. In bfloat16, on a processor that
# multiplies it, the copies are real: with 16 rows, 49,152 tokens and 576 states 0.9 GB, 3.1 of the 4.6 seconds of a training
# step of a model of 135 million parameters. A copy of the slice, a few kilobytes, avoids it.
# Seen: frozen, the slice: bmm, 16.8 times the head's bytes; its copy, or weights that want gradients: mm, 0.8 times.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cat > "$folder/seen.py" <<'PY'
import torch
import transformers
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

ROWS, LENGTH, SIZE, VOCABULARY = 16, 8, 256, 8192
torch.manual_seed(0)
sizes = {"hidden_size": SIZE, "intermediate_size": SIZE, "num_hidden_layers": 1, "num_attention_heads": 4}
model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **sizes)).bfloat16()
tokens = torch.randint(VOCABULARY, (ROWS, LENGTH))


def of_the_slice():
    return model(tokens, logits_to_keep=1).logits


def of_its_copy():
    return model.lm_head(model.model(tokens).last_hidden_state[:, -1:].contiguous())


def seen(work):
    """The head's product, and the bytes that are allocated in all over those of the head's weights."""
    with torch.no_grad():
        work()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
            work()
    events = run.events()
    product = [event.name for event in events if event.name in ("aten::bmm", "aten::mm")][-1]
    return product, sum(max(event.self_cpu_memory_usage, 0) for event in events) / model.lm_head.weight.nbytes


print(f"torch {torch.__version__}, transformers {transformers.__version__}")
copies = torch.ops.mkldnn._is_mkldnn_bf16_supported()
for frozen in (False, True):
    model.requires_grad_(not frozen)
    for work in (of_the_slice, of_its_copy):
        product, allocated = seen(work)
        print(f"frozen {frozen}, {work.__name__}: {product}, {allocated:.1f} times the head's bytes")
        slow = frozen and work is of_the_slice
        assert product == ("aten::bmm" if slow else "aten::mm")
        assert not copies or (allocated > ROWS) == slow
PY
"$folder/env/bin/python" "$folder/seen.py"
