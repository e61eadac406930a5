"""`python real_rivals.py WORK`: one rival fits real rows and answers others, in a process of its own.

Of this package it uses `predgen.fit` and `predict` alone, so that an earlier release, in an environment of its own,
runs the same file. Prints the figures as a line of JSON.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# LoRA as this package's default has it.
RANK = 16
# Rows that a rival answers at once, of similar length.
PREDICT_ROWS = 64
MAX_TOKENS = 512
# Returns the answers to rows with the columns `prompt` and those of the table.
Answer = Callable[[pd.DataFrame], Sequence[Any]]


def ours(work: dict[str, Any], train: pd.DataFrame) -> Answer:
    """Fits a method of this package."""
    predgen = import_module("predgen")  # that of the environment, which may be another release's
    parts = {"train": train, "validation": train.head(work["validation_rows"])}
    settings = {**work["declared"], **work["settings"]}
    read = {"inputs": work["inputs"]} if work["reads_pairs"] else {"template": "{prompt}"}
    model = predgen.fit(parts, work["target"], quiet=True, device="cpu", **read, **settings)

    def answer(table: pd.DataFrame) -> Sequence[Any]:
        return list(model.predict(table)["prediction"])

    return answer


def hf_trainer(work: dict[str, Any], train: pd.DataFrame) -> Answer:
    """Fits the head of Hugging Face's sequence classification, with LoRA of peft, by its Trainer."""
    import torch
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    settings, labels = work["settings"], work["labels"]
    torch.manual_seed(settings["seed"])
    tokenizer = AutoTokenizer.from_pretrained(settings["backbone"])
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(
        settings["backbone"], num_labels=len(labels) or 1, dtype=getattr(torch, settings["dtype"])
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    update = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type=TaskType.SEQ_CLS)
    model = get_peft_model(model, update)
    cells = train[work["target"]].tolist()
    center, spread = _scale(cells, labels)

    def wanted(cell: Any) -> Any:
        return labels.index(str(cell)) if labels else (float(cell) - center) / spread

    rows = [
        {**tokenizer(prompt, truncation=True, max_length=MAX_TOKENS), "labels": wanted(cell)}
        for prompt, cell in zip(train["prompt"], cells, strict=True)
    ]
    arguments = TrainingArguments(train_sampling_strategy="group_by_length", **_arguments(work))
    collator = DataCollatorWithPadding(tokenizer)
    Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator).train()
    model.eval()

    def answer(table: pd.DataFrame) -> Sequence[Any]:
        tokens = [tokenizer(prompt, truncation=True, max_length=MAX_TOKENS) for prompt in table["prompt"]]
        logits = _logits(model, tokens, collator)
        if labels:
            return [labels[index] for index in logits.argmax(dim=-1).tolist()]
        return list((logits[:, 0] * spread + center).tolist())

    return answer


def _logits(model: Any, tokens: Sequence[Any], collator: Any) -> Any:
    """Returns the head's outputs, rows of similar length together, in the order of the rows."""
    import torch

    order = sorted(range(len(tokens)), key=lambda row: -len(tokens[row]["input_ids"]))
    batches = [order[start : start + PREDICT_ROWS] for start in range(0, len(order), PREDICT_ROWS)]
    with torch.inference_mode():
        found = torch.cat([model(**collator([tokens[row] for row in batch])).logits.float() for batch in batches])
    return found[torch.argsort(torch.tensor(order))]


def _arguments(work: dict[str, Any]) -> dict[str, Any]:
    """Returns what both trainers of others are given: training and nothing else."""
    settings = work["settings"]
    return {
        "output_dir": work["scratch"],
        "num_train_epochs": settings["epochs"],
        "per_device_train_batch_size": settings["batch_size"],
        "learning_rate": settings["learning_rate"],
        "seed": settings["seed"],
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }


def _scale(cells: Sequence[Any], labels: Sequence[str]) -> tuple[float, float]:
    """Returns the mean and the standard deviation of numbers; labels have none."""
    return (0.0, 1.0) if labels else (float(np.mean(cells)), float(np.std(cells)) or 1.0)


def cross_encoder(work: dict[str, Any], train: pd.DataFrame) -> Answer:
    """Fits sentence-transformers' CrossEncoder to pairs with numbers."""
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments, losses

    settings, (first, second) = work["settings"], work["inputs"]
    low, high = work["declared"]["low"], work["declared"]["high"]
    model = CrossEncoder(settings["backbone"], num_labels=1, max_length=MAX_TOKENS, device="cpu")
    rows = {
        "first": train[first].tolist(),
        "second": train[second].tolist(),
        "label": ((train[work["target"]].astype(float) - low) / (high - low)).tolist(),
    }
    arguments = CrossEncoderTrainingArguments(**_arguments(work))
    loss = losses.BinaryCrossEntropyLoss(model)
    CrossEncoderTrainer(model=model, args=arguments, train_dataset=Dataset.from_dict(rows), loss=loss).train()

    def answer(table: pd.DataFrame) -> Sequence[Any]:
        pairs = list(table.loc[:, [first, second]].itertuples(index=False, name=None))
        found = model.predict(pairs, batch_size=PREDICT_ROWS, show_progress_bar=False)
        return list(np.asarray(found, dtype=float) * (high - low) + low)

    return answer


def llama_cpp(work: dict[str, Any], train: pd.DataFrame) -> Answer:
    """Reads the log-probability of each label's first token after a prompt by llama.cpp; nothing is trained."""
    from llama_cpp import Llama

    model = Llama(work["gguf"], n_ctx=MAX_TOKENS, n_threads=work["threads"], verbose=False)
    labels, words = work["labels"], work["words"]
    first = [model.tokenize(f" {word}".encode(), add_bos=False)[0] for word in words]

    def answer(table: pd.DataFrame) -> Sequence[Any]:
        found = []
        for prompt in table["prompt"]:
            model.reset()
            model.eval(model.tokenize(prompt.encode())[: MAX_TOKENS - 1])
            logits = np.asarray(model.scores[0 if len(model.scores) == 1 else model.n_tokens - 1])
            found.append(labels[int(np.argmax(logits[first]))])
        return found

    return answer


# What each kind needs to be imported; that takes no part in its times.
IMPORTS = {
    "ours": ("predgen",),
    "hf_trainer": ("peft", "transformers.trainer"),
    "cross_encoder": ("datasets", "sentence_transformers"),
    "llama_cpp": ("llama_cpp",),
}
FITS: dict[str, Callable[[dict[str, Any], pd.DataFrame], Answer]] = {
    "ours": ours,
    "hf_trainer": hf_trainer,
    "cross_encoder": cross_encoder,
    "llama_cpp": llama_cpp,
}


def figures_of(work: dict[str, Any]) -> dict[str, float]:
    """Returns what a rival took and how right it was.

    Args:
        work: `kind` (of `FITS`), `rows` (a folder with train.jsonl and test.jsonl), `target`, `inputs`, `labels` (none
            of a number), `words` (what is written for each), `declared` (the target's range or labels), `settings`,
            `reads_pairs` (the inputs as an encoder reads them, in place of the prompt), `validation_rows`, `threads`,
            `gguf`, `scratch`.

    Returns:
        `fit_seconds` (loading and training), `predict_seconds`, `peak_bytes`, and `score`: accuracy, or squared error.
    """
    train, test = (pd.read_json(Path(work["rows"]) / f"{part}.jsonl", lines=True) for part in ("train", "test"))
    for name in IMPORTS[work["kind"]]:
        getattr(import_module(name), "fit", None)  # `predgen` imports what is behind a name when it is asked for
    start = time.perf_counter()
    answer = FITS[work["kind"]](work, train)
    fitted = time.perf_counter()
    found = answer(test)
    done = time.perf_counter()
    truth = test[work["target"]]
    if work["labels"]:
        score = float(np.mean([str(one) == str(cell) for one, cell in zip(found, truth, strict=True)]))
    else:
        score = float(np.mean((np.asarray(found, dtype=float) - truth.to_numpy(dtype=float)) ** 2))
    taken = {"fit_seconds": fitted - start, "predict_seconds": done - fitted}
    return {**taken, "peak_bytes": _peak_bytes(), "score": score, "test_rows": len(test)}


def _peak_bytes() -> int:
    """Returns the largest memory that this process held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells on Linux includes the process that started this one
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    print(json.dumps(figures_of(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
