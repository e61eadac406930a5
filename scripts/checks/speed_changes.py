"""What each change for speed is worth: with it and without it, in turns, on one shape of the benchmark.

    python -m scripts.checks.speed_changes --json runs/speed-changes.json

Everything runs on a model of random weights, as in `predgen bench`. A change is switched off by putting back what was
there before it. The ratio is the median without the change over the median with it; its quartiles are those of the
repetitions' own ratios.
"""

import argparse
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from predgen.backbones import linear_head, prompts
from predgen.backbones.prepacking import PrepackedWeights
from predgen.bench import SHAPES, Cell
from predgen.bench.rivals import (
    PREDICT_PREDGEN,
    PREDICT_PREDICTOR,
    TRAIN_FIXED_POINT,
    TRAIN_ONE_PASS,
    TRAIN_PREDICTOR,
    Rival,
)
from predgen.bench.timing import count_tokens, machine, ratio, time_cases
from predgen.bench.workload import Workload, make_workload
from predgen.codec.codec import Codec
from predgen.files import write_text
from predgen.writing import sampling
from predgen.writing.symbols import SymbolModel
from scripts.cells import markdown

# The share of each prompt's tokens that all prompts begin with, where that is what is measured.
SHARED = 0.5
NEVER = 10**9


def all_logits() -> Any:
    """Returns a switch that computes the logits of the whole vocabulary."""
    return mock.patch.object(SymbolModel, "read", lambda self, prompt, mask: self.backbone.read(prompt, mask))


def whole_gradients() -> Any:
    """Returns a switch that fills a matrix of the vocabulary's size for each write's embeddings."""
    return mock.patch.object(linear_head, "adds_rows", return_value=False)


def every_pass() -> Any:
    """Returns a switch that goes on with sampling passes though nothing changes any more."""
    return mock.patch.object(sampling, "num_processes", return_value=2)


def one_by_one() -> Any:
    """Returns a switch that writes tokens without a choice by themselves."""
    return mock.patch.object(Codec, "forced", lambda self, states: torch.zeros_like(states, dtype=torch.bool))


def plain_weights() -> Any:
    """Returns a switch that multiplies by the weights as they are."""
    return mock.patch.object(PrepackedWeights, "_layers", return_value=[])


def read_whole() -> Any:
    """Returns a switch that reads what all prompts begin with in every row."""
    return mock.patch.object(prompts, "LEAST_SHARED", NEVER)


# Each change: what it is called, the rival that it is measured on, how it is switched off, whether prompts begin alike.
CHANGES: tuple[tuple[str, Rival, Callable[[], Any], bool], ...] = (
    ("logits of the target's symbols alone, training", TRAIN_ONE_PASS, all_logits, False),
    ("logits of the target's symbols alone, prediction", PREDICT_PREDGEN, all_logits, False),
    ("gradients of written embeddings as rows", TRAIN_ONE_PASS, whole_gradients, False),
    ("no passes after the fixed point", TRAIN_FIXED_POINT, every_pass, False),
    ("tokens without a choice written with their neighbors", PREDICT_PREDGEN, one_by_one, False),
    ("packed weights, prediction", PREDICT_PREDGEN, plain_weights, False),
    ("packed weights, the predictor", PREDICT_PREDICTOR, plain_weights, False),
    ("a beginning of half the prompt read once, prediction", PREDICT_PREDICTOR, read_whole, True),
    ("a beginning of half the prompt read once, training", TRAIN_PREDICTOR, read_whole, True),
)


def case_of(work: Workload, rival: Rival, *, without: Callable[[], Any] | None, alike: bool) -> Callable[[], object]:
    """Returns what a rival does over the workload, with a change or without it.

    Args:
        work: the workload.
        rival: what is measured.
        without: switches off a change; None leaves it on.
        alike: half of each prompt is the first one's.
    """
    case = rival.case(work)

    def run() -> None:
        length = round(SHARED * work.batch.prompt.shape[1])
        before = work.batch.prompt.clone()
        with ExitStack() as stack:
            if without is not None:
                stack.enter_context(without())
            if alike:
                work.batch.prompt[:, :length] = before[:1, :length]
            try:
                case()
            finally:
                work.batch.prompt.copy_(before)

    return run


def measure(cell: Cell, repetitions: int) -> dict[str, Any]:
    """Returns what each change is worth."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    work = make_workload(cell, device)
    cases = {
        (name, on): case_of(work, rival, without=None if on else without, alike=alike)
        for name, rival, without, alike in CHANGES
        for on in (True, False)
    }
    tokens = {key: count_tokens(work.backbone.model, run) / cell.batch_size for key, run in cases.items()}
    seconds = time_cases({f"{name}|{on}": run for (name, on), run in cases.items()}, repetitions, device)
    return {
        "cell": cell.to_json(),
        "machine": machine(device),
        "repetitions": repetitions,
        "changes": {
            name: {
                **ratio(seconds[f"{name}|False"], seconds[f"{name}|True"]),
                "tokens_per_row": [tokens[name, False], tokens[name, True]],
                "seconds": [seconds[f"{name}|False"], seconds[f"{name}|True"]],
            }
            for name, *_ in CHANGES
        },
    }


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="26M")
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args()
    cell = Cell(options.shape, options.prompt_tokens, batch_size=options.batch_size)
    found = measure(cell, options.repetitions)
    if options.json:
        write_text(options.json, json.dumps(found, indent=2) + "\n")
    rows = [
        [
            name,
            f"{one['ratio']:.3f}",
            f"{one['lower_quartile']:.3f} – {one['upper_quartile']:.3f}",
            " → ".join(f"{count:.1f}" for count in one["tokens_per_row"]),
        ]
        for name, one in found["changes"].items()
    ]
    print(markdown(["change", "without / with", "quartiles", "tokens per row"], rows))


if __name__ == "__main__":
    main()
