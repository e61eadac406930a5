"""Pretraining of a small Llama-shaped model on the tokens that `prepare_nano_text.py` wrote.

    python -m scripts.nano.pretrain_nano runs/nano-text --out runs/nano --tokens 20e6
    python -m scripts.nano.pretrain_nano runs/nano-text --out runs/longer --start runs/nano/model --context 512

It runs on a CPU or a GPU, in bf16 where --precision says so. The same command goes on from the newest checkpoint in
--out, to the same weights. At the end --out holds `model/` (bf16 safetensors with the tokenizer), `result.json` (shape,
tokens, held-out loss) and `curve.csv`; the held-out loss and samples are printed as it goes.

The matrices between the layers are trained by Muon (Jordan et al. 2024, its rate matched to AdamW's by the root mean
square of the update, arXiv 2502.16982), the embedding and the norms by AdamW.
"""

import argparse
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import DatasetDict, load_from_disk
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from predgen.files import write_text

LARGEST_FILE = 16 * 2**20
BEGINNINGS = ("A man", "The movie", "The cell", "There are 12 apples and")
# Tuned by short runs (docs/developers/log.md).
BETAS, WEIGHT_DECAY = (0.9, 0.95), 0.1


class Blocks(Dataset[dict[str, torch.Tensor]]):
    """Documents written one after another and cut into blocks of equal length.

    Attributes:
        tokens: all tokens, in order.
        context: length of a block.
    """

    def __init__(self, tokens: np.ndarray, context: int) -> None:
        self.tokens = tokens
        self.context = context

    def __len__(self) -> int:
        return len(self.tokens) // self.context

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        block = self.tokens[index * self.context : (index + 1) * self.context]
        ids = torch.from_numpy(block.astype(np.int64))
        return {"input_ids": ids, "labels": ids}


def mix(documents: Any, num_tokens: int, weights: dict[str, float], seed: int) -> np.ndarray:
    """Returns a stream of whole documents, at least `num_tokens` long.

    Every source gives tokens in proportion to its size times its weight, pass after pass over its documents, each pass
    in a new order; then the documents of all sources are shuffled together.

    Args:
        documents: the columns `source` and `tokens`.
        num_tokens: the least length of the stream.
        weights: of each source; 1 where none is named.
        seed: decides every order.
    """
    sources = np.asarray(documents["source"])
    column = documents.data["tokens"].combine_chunks()
    flat, ends = column.values.to_numpy(), column.offsets.to_numpy()
    lengths = np.diff(ends)
    names = sorted(map(str, set(sources)))  # a set's order is another in every process, and so is its sum's last bit
    unknown = set(weights) - set(names)
    if unknown:
        raise SystemExit(f"Expected sources among {names}, found {sorted(unknown)} in --weights.")
    sizes = {source: weights.get(source, 1.0) * lengths[sources == source].sum() for source in names}
    generator = np.random.default_rng(seed)
    chosen = []
    for source in names:
        members = np.flatnonzero(sources == source)
        wanted = num_tokens * sizes[source] / sum(sizes.values())
        passes = math.ceil(wanted / lengths[members].sum())
        order = np.concatenate([generator.permutation(members) for _ in range(passes)]) if passes else members[:0]
        chosen.append(order[: 1 + int(np.searchsorted(np.cumsum(lengths[order]), wanted))])
    order = generator.permutation(np.concatenate(chosen))
    return np.concatenate([flat[ends[one] : ends[one + 1]] for one in order])


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for the matrices between the layers, AdamW for the rest, as one optimizer.

    Args:
        model: whose parameters are trained.
        learning_rate: of both; Muon's update is scaled to the root mean square of AdamW's.
    """

    def __init__(self, model: nn.Module, learning_rate: float) -> None:
        inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
        ids = set(map(id, inner))
        outer = [p for p in model.parameters() if id(p) not in ids]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(inner, lr=learning_rate, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(outer, lr=learning_rate, betas=BETAS, weight_decay=0.0),
        ]
        super().__init__([*inner, *outer], {"lr": learning_rate})
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Takes one step."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of both parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the state of both parts back."""
        for part, one in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(one)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


class PretrainingTrainer(Trainer):
    """The Trainer with its own optimizer, reading the blocks in their order (they are shuffled already)."""

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Returns the optimizer, made once."""
        if self.optimizer is None:
            self.optimizer = MuonAndAdamW(self.model, self.args.learning_rate)
        return self.optimizer

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


class Samples(TrainerCallback):
    """Prints how the model goes on from a few beginnings, whenever it is evaluated."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Prints them; greedy, so that they change only with the model."""
        for text in continuations(model, self.tokenizer):
            print("   ", text, flush=True)


def continuations(model: Any, tokenizer: Any) -> Iterator[str]:
    """Yields each beginning with 24 greedy tokens."""
    for beginning in BEGINNINGS:
        ids = tokenizer(beginning, add_special_tokens=False, return_tensors="pt")["input_ids"]
        ids = torch.cat([torch.full((1, 1), tokenizer.bos_token_id), ids], 1).to(model.device)
        written = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, pad_token_id=0
        )
        yield tokenizer.decode(written[0], skip_special_tokens=True)


def new_model(options: argparse.Namespace, vocabulary: int) -> Any:
    """Returns the model to begin with: another one's weights, or the given shape drawn from the seed."""
    if options.start:
        model = AutoModelForCausalLM.from_pretrained(options.start, dtype=torch.float32)
        if model.config.vocab_size != vocabulary:
            raise SystemExit(
                f"Expected a start of {vocabulary} tokens, as the text has, found {model.config.vocab_size}. Encode "
                "the text with the tokenizer of --start."
            )
        return model
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=options.width,
        intermediate_size=options.feed_forward,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.key_value_heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


def training_arguments(options: argparse.Namespace, num_steps: int) -> TrainingArguments:
    """Returns the Trainer's arguments: a short warm-up, then constant, then a linear fall to 0."""
    on_gpu = options.device == "cuda"
    return TrainingArguments(
        output_dir=str(options.out / "checkpoints"),
        max_steps=num_steps,
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=options.batch,
        learning_rate=options.learning_rate,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": round(options.decay * num_steps), "decay_type": "linear"},
        warmup_steps=round(options.warm_up * num_steps),
        max_grad_norm=1.0,
        bf16=options.precision == "bf16",
        use_cpu=not on_gpu,
        torch_compile=options.compile,
        logging_steps=max(num_steps // 100, 1),
        eval_strategy="steps",
        eval_steps=max(num_steps // options.evaluations, 1),
        save_steps=max(num_steps // 20, 1),
        save_total_limit=2,
        seed=options.seed,
        report_to=[],
        disable_tqdm=True,
        prediction_loss_only=True,
    )


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes the model as bf16, whole or not at all.

    Raises:
        SystemExit: it is larger than what the package may hold.
    """
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.config.use_cache = True  # the Trainer has turned it off
    model.to(torch.bfloat16).save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    size = (unfinished / "model.safetensors").stat().st_size
    if size > LARGEST_FILE:
        raise SystemExit(f"Expected weights of at most {LARGEST_FILE:,} bytes, found {size:,}. Choose a smaller shape.")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def pretrain(options: argparse.Namespace) -> dict[str, Any]:
    """Trains, saves, and returns what `result.json` holds."""
    settings = {name: str(value) for name, value in sorted(vars(options).items()) if name != "out"}
    written = options.out / "settings.json"
    if written.exists() and json.loads(written.read_text(encoding="utf-8")) != settings:
        raise SystemExit(f"Expected the settings of {written}, found others. Use them, or another --out.")

    set_seed(options.seed)
    documents = load_from_disk(str(options.text / "documents"))
    assert isinstance(documents, DatasetDict)
    tokenizer = AutoTokenizer.from_pretrained(options.text / "tokenizer")
    model = new_model(options, len(tokenizer))
    num_steps = round(options.tokens / (options.batch * options.context))
    num_tokens = num_steps * options.batch * options.context
    stream = mix(documents["train"], num_tokens, options.weights, options.seed)[:num_tokens]
    held_out = np.concatenate([np.asarray(one) for one in documents["held_out"]["tokens"]])
    write_text(written, json.dumps(settings, indent=2) + "\n")
    trainer = PretrainingTrainer(
        model=model,
        args=training_arguments(options, num_steps),
        train_dataset=Blocks(stream, options.context),
        eval_dataset=Blocks(held_out, options.context),
        callbacks=[Samples(tokenizer)],
    )
    checkpoints = options.out / "checkpoints"
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(checkpoints)) if checkpoints.exists() else None)
    history = pd.DataFrame(trainer.state.log_history)
    history.to_csv(options.out / "curve.csv", index=False)
    shape = {name: getattr(model.config, name) for name in ("hidden_size", "num_hidden_layers", "intermediate_size")}
    result = {
        **shape,
        "parameters": sum(one.numel() for one in model.parameters()),
        "tokens": trainer.state.global_step * options.batch * options.context,
        "held_out_loss": trainer.evaluate()["eval_loss"],
        "settings": settings,
    }
    save(model, tokenizer, options.out / "model")
    write_text(options.out / "result.json", json.dumps(result, indent=2) + "\n")
    return result


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="folder that prepare_nano_text.py wrote")
    parser.add_argument("--out", type=Path, default=Path("runs/nano"))
    parser.add_argument("--start", help="a model folder to go on from; without it the shape below, drawn anew")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--feed-forward", type=int, default=688)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--key-value-heads", type=int, default=4)
    parser.add_argument("--tokens", type=float, default=20e6, help="tokens to train on")
    parser.add_argument("--context", type=int, default=256, help="tokens of a block")
    parser.add_argument("--batch", type=int, default=16, help="blocks of a step")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--warm-up", type=float, default=0.02, help="share of the steps")
    parser.add_argument("--decay", type=float, default=0.3, help="share of the steps, at the end")
    parser.add_argument("--weights", type=json.loads, default={}, help='of the sources, such as {"novels": 0.5}')
    parser.add_argument("--evaluations", type=int, default=10, help="how often the held-out loss is taken")
    parser.add_argument("--precision", choices=("bf16", "float32"), default="bf16")
    parser.add_argument("--compile", action="store_true", help="torch.compile: slow to begin, then faster")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    print(json.dumps(pretrain(parse(None)), indent=2))
