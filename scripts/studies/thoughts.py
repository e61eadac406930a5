"""Does it help to write free tokens before the target: fillers, or the model's own text?

    python -m scripts.studies.thoughts DATA

Each row has one more column, which stands last in the prompt: nothing (`none`); K dots (`filler`), tokens that the
fitted layers can use as room for computing (Goyal et al. 2023, arXiv 2310.02226); or what the untouched model writes
in K greedy tokens after the row's text and "In short:" (`own`). Every method reads the same prompts. The settings are
those of `scripts.studies.method`, with the default learning rate. What is finished is a file, and is never run again.
"""

import argparse
import itertools
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from predgen.backbones import Backbone, load_backbone
from predgen.backbones.sources import find_source
from predgen.measures.statistics import holm, paired_permutation
from scripts.cells import add_options, markdown, run_cells
from scripts.studies.method import PARTS, figures, fitted, metric_of, parts_of

KINDS = ("none", "filler", "own")
METHODS = ("predictor", "predgen")
TASKS = ("sst2", "docstrings", "stsb")
INPUTS = {"sst2": ["sentence"], "docstrings": ["sentence"], "stsb": ["sentence1", "sentence2"]}
ASKED = "\n\nIn short:"
BATCH = 32


@torch.no_grad()
def own_text(backbone: Backbone, texts: list[str], num_tokens: int) -> list[str]:
    """Returns what a causal model writes after each text, token by token the likeliest."""
    tokenizer, written = backbone.tokenizer, []
    for start in range(0, len(texts), BATCH):
        prompts = [tokenizer(text + ASKED, truncation=True, max_length=256) for text in texts[start : start + BATCH]]
        tokens, mask = backbone.collate([prompt["input_ids"] for prompt in prompts])
        found = backbone.model.generate(
            input_ids=tokens,
            attention_mask=mask.long(),
            max_new_tokens=num_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        written += tokenizer.batch_decode(found[:, tokens.shape[1] :], skip_special_tokens=True)
    return [" ".join(text.split()) for text in written]


def with_thoughts(
    parts: dict[str, pd.DataFrame], inputs: list[str], kind: str, num_tokens: int, backbone: Backbone | None
) -> dict[str, pd.DataFrame]:
    """Returns the parts with a column `thoughts`, as the module's docstring says; without one for `none`."""
    if kind == "none":
        return parts
    found = {}
    for name, table in parts.items():
        if kind == "filler":
            column = [" ".join(["."] * num_tokens)] * len(table)
        else:
            assert backbone is not None
            column = own_text(backbone, ["\n".join(map(str, row)) for row in table[inputs].to_numpy()], num_tokens)
        found[name] = table.assign(thoughts=[text or "." for text in column])
    return found


def tables(cells: list[dict[str, Any]], seeds: int) -> str:
    """Returns each task's figures, and tests of each kind against none, as Markdown."""
    rows, tests, values = [], [], []
    for task, method in dict.fromkeys((cell["task"], cell["method"]) for cell in cells):
        losses = {}
        for kind in KINDS:
            runs = [cell for cell in cells if (cell["task"], cell["method"], cell["kind"]) == (task, method, kind)]
            if len(runs) < seeds:
                continue
            metrics = [run["test"][metric_of(task)] for run in runs]
            spread = statistics.stdev(metrics) if len(metrics) > 1 else 0.0
            losses[kind] = np.mean([run["losses"] for run in runs], axis=0)
            seconds = statistics.mean(run["train_seconds"] for run in runs)
            rows.append([task, method, kind, f"{statistics.mean(metrics):.4f} ± {spread:.4f}", f"{seconds:.0f}"])
        for kind in losses.keys() & set(KINDS[1:]) if "none" in losses else ():
            tests.append([task, method, kind, f"{(losses[kind] - losses['none']).mean():+.4f}"])
            values.append(paired_permutation(losses[kind], losses["none"], seed=0))
    for test, p in zip(tests, holm(values) if values else [], strict=True):
        test.append(f"{p:.4f}")
    parts = [markdown(["task", "method", "thoughts", "test rows", "seconds"], rows)]
    parts += (
        [markdown(["task", "method", "thoughts", "difference to none", "p (Holm)"], sorted(tests))] if tests else []
    )
    return "\n\n".join(parts)


def main() -> None:
    """Runs what is not finished and prints the tables of what is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="smollm2")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--size", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--validation-rows", type=int, default=200)
    parser.add_argument("--test-rows", type=int, default=500)
    add_options(parser, "runs/thoughts")
    options = parser.parse_args()
    rows = dict(zip(PARTS, (options.size, options.validation_rows, options.test_rows), strict=True))
    name = f"builtin:{options.backbone}"
    kept: dict[tuple[str, str], dict[str, pd.DataFrame]] = {}

    def parts(task: str, kind: str) -> dict[str, pd.DataFrame]:
        if (task, kind) not in kept:
            backbone = load_backbone(find_source(name)) if kind == "own" else None
            plain = parts_of(options.data, task, rows)
            kept[task, kind] = with_thoughts(plain, INPUTS[task], kind, options.tokens, backbone)
        return kept[task, kind]

    def run(_: str, task: str, method: str, kind: str, seed: int) -> dict[str, Any]:
        tables_of_run = parts(task, kind)
        inputs = INPUTS[task] + ([] if kind == "none" else ["thoughts"])
        settings = {"backbone": name, "method": method, "seed": seed, "epochs": options.epochs, "template": None}
        model = fitted(tables_of_run, task, **settings, inputs=inputs)
        names = {"task": task, "method": method, "kind": kind, "seed": seed}
        seconds = round(model.contents.record["train_seconds"], 1)
        return {**names, "train_seconds": seconds, **figures(model, tables_of_run["test"], task)}

    grid = itertools.product(["thoughts"], options.tasks, METHODS, KINDS, range(options.seeds))
    print(tables(run_cells(list(grid), run, options.out, options.only), options.seeds), flush=True)


if __name__ == "__main__":
    main()
