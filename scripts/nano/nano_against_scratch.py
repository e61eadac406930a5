"""`builtin:nano` against the same shape with weights drawn anew, fine-tuned alike: what the pretraining is worth.

    python -m scripts.nano.nano_against_scratch DATA

DATA holds the folders `stsb` and `sst2`. The pooled head is trained with all weights (LoRA on weights drawn at random
would be no match) at each learning rate of --rates; the rate of each start is chosen on validation rows with
seed 0, then the other seeds run with it. A number's figure is the mean squared error, a label's the accuracy, both on
test rows.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import predgen
from predgen.backbones import find_source
from predgen.measures.metrics import higher_is_better
from scripts.cells import add_options, markdown, run_cells

TASKS: dict[str, dict[str, Any]] = {
    "stsb": {"target": "label"},
    "sst2": {"target": "label", "max_train_rows": 8000, "label_text": {"0": "negative", "1": "positive"}},
}
STARTS = ("pretrained", "scratch")


def scratch(folder: Path, seed: int) -> str:
    """Returns the folder of the same shape with weights drawn from the seed."""
    nano = find_source("builtin:nano").folder
    if not folder.exists():
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(nano)).save_pretrained(folder)
        AutoTokenizer.from_pretrained(nano).save_pretrained(folder)
    return str(folder)


def main() -> None:
    """Runs what is not finished and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[2.5e-4, 1e-3])
    add_options(parser, "runs/nano-against-scratch")
    options = parser.parse_args()

    def run(task: str, start: str, rate: float, seed: int) -> dict[str, Any]:
        backbone = "builtin:nano" if start == "pretrained" else scratch(options.out / f"scratch-{seed}", seed)
        settings = {"method": "predictor", "peft": "none", "learning_rate": rate, "seed": seed}
        settings["epochs"] = options.epochs
        model = predgen.fit(options.data / task, backbone=backbone, quiet=True, **settings, **TASKS[task])
        metric = "accuracy" if task == "sst2" else "mse"
        test = model.evaluate(options.data / task / "test.jsonl").metrics[metric]
        best = model.record["best_metric"]
        return {"task": task, "start": start, "metric": metric, "validation": best, "test": test, **settings}

    rows = []
    for task in TASKS:
        for start in STARTS:
            trials = run_cells([(task, start, rate, 0) for rate in options.rates], run, options.out, options.only)
            if len(trials) < len(options.rates):
                continue  # --only left some out
            best = max if higher_is_better(trials[0]["metric"]) else min
            rate = best(trials, key=lambda one: one["validation"])["learning_rate"]
            cells = [(task, start, rate, seed) for seed in range(options.seeds)]
            figures = [one["test"] for one in run_cells(cells, run, options.out, options.only)]
            spread = statistics.stdev(figures) if len(figures) > 1 else None
            shown = " ".join(f"{one:.3f}" for one in figures)
            rows.append((f"{task} {trials[0]['metric']}", start, f"{rate:g}", statistics.mean(figures), spread, shown))
    print(markdown(("test figure", "start", "learning rate", "mean", "standard deviation", "seeds"), rows))


if __name__ == "__main__":
    main()
