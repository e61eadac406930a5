"""One LoRA training step of a model's shape with random weights, beside the memory that `predgen inspect` plans for it.

    python -m scripts.checks.one_lora_step    # Llama-2-7B in bfloat16, where a CUDA GPU is at hand
    python -m scripts.checks.one_lora_step --shape tiny --device cpu   # shows that it runs

The weights are random: time and memory are those of the real model, its answers are not. The step that is timed is the
second one; the first one also makes the optimizer's moments.
"""

import argparse
import sys
import time
from typing import Any

import torch
from transformers import AutoConfig

from predgen.backbones import new_backbone
from predgen.codec.codec import Codec
from predgen.config import build_config
from predgen.inspecting.known_shapes import KNOWN_SHAPES, known_config, one_token_each
from predgen.inspecting.memory_plan import plan_memory
from predgen.methods import Batch, Scale
from predgen.methods.heads import truth_of
from predgen.models.building import build_method
from predgen.report.inspection import format_bytes
from predgen.targets.number import Number

SHAPES = {name.rpartition("/")[2]: name for name in KNOWN_SHAPES}
TARGET = Number(0.0, 5.0, 1, declared=True)


def shape_of(name: str) -> Any:
    """Returns the config of a shape."""
    if name != "tiny":
        return known_config(SHAPES[name])
    sizes = {"hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 4}
    return AutoConfig.for_model("llama", vocab_size=256, max_position_embeddings=512, **sizes)


def main() -> int:
    """Runs two steps and prints the second one's time, and the peak memory beside the plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=["tiny", *SHAPES], default="Llama-2-7b-hf")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--lora-rank", type=int, default=16)
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        print("error: Expected a CUDA GPU, found none. Use --shape tiny --device cpu to see it run.", file=sys.stderr)
        return 2
    config = build_config(
        {"data.data": "", "data.target": "", "model.peft": "lora", "model.lora_rank": options.lora_rank},
        {"model.dtype": options.dtype, "train.batch_size": options.batch_size},
    )

    def made(device: str) -> Any:
        return new_backbone(
            shape_of(options.shape), options.shape, one_token_each(), dtype=options.dtype, device=device
        )

    plan_backbone = made("meta")
    codec = Codec(TARGET, plan_backbone)
    plan = plan_memory(config, plan_backbone, codec, prompt_tokens=options.prompt_tokens)
    method = build_method(config, made(options.device), codec, [Scale()]).to(options.device).train()
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    rows = options.batch_size
    prompts = torch.randint(3, 90, (rows, options.prompt_tokens)).tolist()
    tokens, mask = method.backbone.collate(prompts)
    gold = method.codec.encode([2.5] * rows)
    batch = Batch(tokens, mask, gold, truth_of(TARGET, [2.5] * rows, [Scale()])).to(options.device)
    for _ in range(2):
        start = time.perf_counter()
        loss = method(batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        value = float(loss.detach())  # waits for the device
        seconds = time.perf_counter() - start
    print(f"{options.shape} in {options.dtype} on {options.device}, {rows} rows of {options.prompt_tokens} tokens")
    print(f"one step: {seconds:.3f} s, loss {value:.3f}, {plan['trained_parameters']:,} parameters trained")
    print(f"planned:  {format_bytes(plan['fit_bytes'])} (an estimate)")
    peak = format_bytes(torch.cuda.max_memory_allocated()) if on_gpu else "not measured on a CPU"
    print(f"peak:     {peak}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
