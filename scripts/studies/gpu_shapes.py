"""What PredGen costs on a GPU: LoRA steps and answers of models of 1B and 7B parameters, beside the pooled predictor.

    python -m scripts.studies.gpu_shapes --json runs/gpu.json --markdown runs/gpu.md    # where a CUDA GPU is at hand
    python -m scripts.studies.gpu_shapes --shapes 6M --device cpu --prompt-tokens 16 --batch-size 2   # that it runs

The weights are random, in bfloat16: times are those of real models, answers are not. Each form runs in turns with the
others: `plain`, `compiled` (each layer by `torch.compile`), `graphs` (the same, replayed as CUDA graphs). A step is
forward, backward and AdamW. The share of the rate is the step's products, counted in its plain form, over what the
device's measured rate of large products would do in that time. A form that fails is named with its error.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from predgen.backbones.half_norms import use_half_norms
from predgen.backbones.stacks import last_layers
from predgen.bench import SHAPES, Cell
from predgen.bench.timing import count_flops, machine, matrix_rate, ratio, time_cases
from predgen.bench.workload import DTYPES, make_backbone
from predgen.codec.codec import Codec
from predgen.config import build_config
from predgen.files import write_text
from predgen.methods import Batch, Method, PooledHead, Predictor, Scale
from predgen.methods.base import num_outputs_of
from predgen.methods.heads import field_heads, truth_of
from predgen.models.building import build_method
from predgen.targets.number import Number
from scripts.cells import markdown

DTYPE = "bf16"
TARGET = Number(0.0, 5.0, 1, declared=True)
# How the layers run: the mode of `torch.compile`; None as they are.
FORMS: Mapping[str, str | None] = {"plain": None, "compiled": "default", "graphs": "reduce-overhead"}
# The goals: the least share of the rate of products in training, the most of a pooled forward in prediction.
LEAST_SHARE, MOST_OVERHEAD = 0.4, 1.15
# Side of the matrices that give the rate, which a GPU reaches with large ones alone.
SIDES = {"cuda": 8192, "cpu": 512}
# Compilations of one function: torch makes one for each layer where layers differ, and gives up behind eight.
COMPILATIONS = 1024
HEADER = ("shape", "form", "what", "seconds", "share of the rate", "over the predictor", "peak GiB", "goal")


def main() -> int:
    """Measures all shapes and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=["1B", "7B"])
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--lora-rank", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--backend", default="inductor", help="what torch.compile compiles with")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("error: Expected a CUDA GPU, found none. Use --shapes 6M --device cpu to see it run.", file=sys.stderr)
        return 2
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = COMPILATIONS
    device = torch.device(options.device)
    rate = matrix_rate(DTYPES[DTYPE], device, side=SIDES[device.type])
    found = []
    for shape in options.shapes:
        found += measured_shape(
            Cell(shape, options.prompt_tokens, dtype=DTYPE, batch_size=options.batch_size),
            device,
            rate,
            forms=options.forms,
            backend=options.backend,
            rank=options.lora_rank,
            repetitions=options.repetitions,
        )
    table = markdown(HEADER, [shown(row) for row in found])
    print(f"{rate / 1e12:.1f} TFLOP/s in products of {SIDES[device.type]} x {SIDES[device.type]}, {DTYPE}\n\n{table}")
    if options.json is not None:
        facts = {"machine": machine(device), "matrix_rate": rate, "rows": found}
        write_text(options.json, json.dumps(facts, indent=2) + "\n")
    if options.markdown is not None:
        write_text(options.markdown, table + "\n")
    return 0


def measured_shape(
    cell: Cell,
    device: torch.device,
    rate: float,
    *,
    forms: Sequence[str],
    backend: str,
    rank: int,
    repetitions: int,
) -> list[dict[str, Any]]:
    """Returns a row for each form and each of `train` and `predict`, of the predictor and of PredGen.

    Args:
        cell: the shape, prompts and rows.
        device: where it runs.
        rate: floating-point operations per second of large products there.
        forms: names of `FORMS`.
        backend: of `torch.compile`.
        rank: of the LoRA update.
        repetitions: of each case, in turns.
    """
    work = works_of(cell, device, rank)
    layers = list(last_layers(work["predgen"].backbone.model, None).values())
    compiled = {form: compiled_calls(layers, mode, backend) for form, mode in FORMS.items() if form in forms}
    cases, failures, flops = {}, {}, {}
    for name, run in runs_of(work, cell, device).items():
        flops[name] = count_flops(run)
        for form in compiled:
            case = in_form(run, layers, compiled[form])
            try:
                case()
                cases[form, name] = case
            except Exception as error:  # what a compiler cannot do is one of the findings
                failures[form, name] = f"{type(error).__name__}: {error}".splitlines()[0][:80]
    seconds = time_cases({"/".join(key): case for key, case in cases.items()}, repetitions, device)
    rows = []
    for form in compiled:
        for name in flops:
            row: dict[str, Any] = {"shape": cell.shape, "form": form, "what": name}
            rows.append(row)
            if (form, name) in failures:
                row["failed"] = failures[form, name]
                continue
            times = seconds[f"{form}/{name}"]
            row["seconds"] = statistics.median(times)
            row["share_of_rate"] = flops[name] / row["seconds"] / rate
            row["peak_bytes"] = peak_of(cases[form, name], device)
            base = f"{form}/{name.partition(' ')[0]} predictor"
            if base in seconds and name.endswith("predgen"):
                row["over_predictor"] = ratio(times, seconds[base])
    return rows


def works_of(cell: Cell, device: torch.device, rank: int) -> dict[str, Method]:
    """Returns PredGen in its default form, and the predictor over the same updated model."""
    backbone = make_backbone(cell, device)
    use_half_norms(backbone.model)
    settings = {"data.data": "", "data.target": "", "model.peft": "lora", "model.lora_rank": rank}
    codec = Codec(TARGET, backbone)
    predgen = build_method(build_config(settings), backbone, codec, [Scale()]).to(device)
    fields = field_heads(TARGET, [Scale()])
    head = PooledHead.of(backbone.pooling, backbone.prompt_size, num_outputs_of(fields))
    return {"predictor": Predictor(backbone, codec, fields, head).to(device), "predgen": predgen}


def runs_of(work: Mapping[str, Method], cell: Cell, device: torch.device) -> dict[str, Callable[[], object]]:
    """Returns a training step and an answer of each method, over one batch of random prompts."""
    backbone = work["predgen"].backbone
    rows = cell.batch_size
    draws = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, len(backbone.tokenizer), (rows, cell.prompt_tokens), generator=draws).tolist()
    values = torch.linspace(TARGET.low, TARGET.high, rows).round(decimals=1).tolist()
    gold = work["predgen"].codec.encode(values)
    batch = Batch(*backbone.collate(prompts), gold, truth_of(TARGET, values, [Scale()])).to(device)
    runs: dict[str, Callable[[], object]] = {}
    for name, method in work.items():
        runs[f"train {name}"] = step_of(method, batch)
        runs[f"predict {name}"] = answer_of(method, batch)
    return runs


def step_of(method: Method, batch: Batch) -> Callable[[], object]:
    """Returns what trains a method with a batch once."""
    optimizer = torch.optim.AdamW([one for one in method.parameters() if one.requires_grad], lr=1e-4, fused=True)

    def run() -> None:
        method.train()
        torch.compiler.cudagraph_mark_step_begin()
        method(batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def answer_of(method: Method, batch: Batch) -> Callable[[], object]:
    """Returns what answers a batch once."""

    def run() -> object:
        method.eval()
        torch.compiler.cudagraph_mark_step_begin()
        return method.answer(batch.prompt, batch.prompt_mask)

    return run


def compiled_calls(layers: Sequence[nn.Module], mode: str | None, backend: str) -> list[Any]:
    """Returns what each layer is called by in a form; nothing is compiled before it is called.

    Args:
        layers: of the model.
        mode: of `torch.compile`; None leaves them as they are.
        backend: what compiles.
    """
    if mode is None:
        return [None for _ in layers]
    how: dict[str, Any] = {"backend": backend, **({"mode": mode} if backend == "inductor" else {})}
    return [torch.compile(layer._call_impl, dynamic=False, **how) for layer in layers]


def in_form(run: Callable[[], object], layers: Sequence[nn.Module], calls: Sequence[Any]) -> Callable[[], object]:
    """Returns a case whose layers are called in a form, and as they are afterwards."""

    def case() -> object:
        with called_by(layers, calls):
            return run()

    return case


@contextmanager
def called_by(layers: Sequence[nn.Module], calls: Sequence[Any]) -> Iterator[None]:
    """Puts compiled calls into layers, as `nn.Module.compile` does, and takes them out again."""
    for layer, call in zip(layers, calls, strict=True):
        layer._compiled_call_impl = call
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None


def peak_of(case: Callable[[], object], device: torch.device) -> int | None:
    """Returns the most bytes that the device held while a case ran; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    case()
    return torch.cuda.max_memory_allocated()


def shown(row: Mapping[str, Any]) -> list[Any]:
    """Returns a row of the table."""
    start = [row["shape"], row["form"], row["what"]]
    if "failed" in row:
        return [*start, f"failed: {row['failed']}", None, None, None, None]
    peak = row["peak_bytes"]
    over = row.get("over_predictor", {}).get("ratio")
    goal = None
    if row["what"] == "train predgen":
        goal = f"share ≥ {LEAST_SHARE}: {'met' if row['share_of_rate'] >= LEAST_SHARE else 'missed'}"
    elif row["what"] == "predict predgen" and over is not None:
        goal = f"over ≤ {MOST_OVERHEAD}: {'met' if over <= MOST_OVERHEAD else 'missed'}"
    return [*start, f"{row['seconds']:.4f}", row["share_of_rate"], over, None if peak is None else peak / 2**30, goal]


if __name__ == "__main__":
    sys.exit(main())
