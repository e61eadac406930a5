"""What scoring all targets in one write costs, next to the prompt's own forward and to the plain roads.

    python scripts/trie_cost.py --threads 2 --json runs/trie-cost.json

A Llama of random weights over the tokenizer of `builtin:nano` is saved and loaded as a user's model would be. Every
repetition runs all cases once, in an order that is drawn anew, so that a change of the machine's speed meets them all.
A ratio is one of medians over the repetitions; the quartiles beside it are those of the repetitions' own ratios. Every
case reads the prompts too. Half of the prompts are shorter than the others, so that the padding's mask is real.

The size of the vocabulary matters: a tree needs logits after each node, the prompt's forward after its last token
alone. --vocab-size gives the model more tokens than the tokenizer has.
"""

import argparse
import json
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import markdown
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from predgen.backbones import Backbone, Memory, find_source, load_backbone
from predgen.codec import Codec
from predgen.distributions import NumberDistribution
from predgen.files import write_text
from predgen.methods import Generator, Scale
from predgen.records import Target
from predgen.scoring import score_all
from predgen.targets import Label, Number
from predgen.trie import Trie

TWO = ("negative", "positive")
TOPICS = (
    *("agriculture", "air pollution", "air travel", "animals", "art history", "art market", "astronomy", "banking"),
    *("biology", "books", "business ethics", "business news", "business travel", "chemistry", "child care"),
    *("child labor", "cinema", "city planning", "city traffic", "civil rights", "climate change", "climate policy"),
    *("climate science", "computer games", "computer hardware", "computer science", "cooking", "criminal law"),
    *("dance", "economics", "education", "energy policy", "energy prices", "fashion", "food prices", "food safety"),
    *("foreign aid", "foreign policy", "foreign trade", "gardening", "health care", "health insurance"),
    *("health policy", "history", "housing", "human rights", "immigration", "labor law", "machine learning"),
    *("mathematics", "military history", "military spending", "music", "philosophy", "physics", "politics"),
    *("psychology", "public health", "public transport", "religion", "sports", "taxes", "water supply", "weather"),
)
NUMBER = Number(0.0, 5.0, decimals=2)
READ, TWO_LABELS, TOPIC_LABELS, NUMBERS, GREEDY, ONE_BY_ONE = (
    "read the prompts",
    "2 labels, trie",
    f"{len(TOPICS)} labels, trie",
    f"{NUMBER.num_values} numbers, score_all",
    f"{NUMBER.num_values} numbers, written greedily",
    f"{len(TOPICS)} labels, one by one",
)
# The most that one case may cost, as a multiple of another.
GOALS = ((TOPIC_LABELS, TWO_LABELS, 1.5), (NUMBERS, READ, 1.7))
WARM_UP = 1
# Shorter prompts have at least this share of the longest one's tokens.
SHORTEST = 0.5
# Large enough for the context to move the probabilities; at the usual 0.02 a wrong mask would change next to nothing.
WEIGHT_DEVIATION = 0.05
# One-by-one scoring of all numbers is slow, so that it is compared on a full prompt and a padded one.
ROWS_OF_NUMBERS = 2


@dataclass(frozen=True)
class Case:
    """One thing to be timed.

    Attributes:
        name: what the tables call it.
        run: does it once.
        trie: whose nodes it writes; None for the roads without one.
    """

    name: str
    run: Callable[[], object]
    trie: Trie | None = None


def config_of(options: argparse.Namespace, num_tokens: int, **special: int) -> LlamaConfig:
    """Returns the model's shape.

    Args:
        options: the command's.
        num_tokens: rows of the embeddings, if the options do not ask for more.
        special: ids of special tokens.
    """
    return LlamaConfig(
        vocab_size=max(num_tokens, options.vocab_size),
        hidden_size=options.hidden_size,
        intermediate_size=options.feed_forward,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        tie_word_embeddings=True,
        initializer_range=WEIGHT_DEVIATION,
        **special,
    )


def make_backbone(options: argparse.Namespace, folder: Path) -> Backbone:
    """Returns a Llama of random weights, saved to a folder and loaded from it."""
    tokenizer = AutoTokenizer.from_pretrained(find_source("builtin:nano").folder)
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    torch.manual_seed(0)
    LlamaForCausalLM(config_of(options, len(tokenizer), **special)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_backbone(find_source(str(folder)))


def make_prompts(backbone: Backbone, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Returns a batch of random prompts, every second one shorter, and its mask."""
    draw = random.Random(0)
    shortest = min(max(1, round(SHORTEST * length)), length - 1)
    lengths = [draw.randint(shortest, length - 1) if row % 2 else length for row in range(rows)]
    known = len(backbone.tokenizer)
    return backbone.collate([[draw.randrange(known) for _ in range(one)] for one in lengths])


@torch.no_grad()
def score_one_by_one(
    backbone: Backbone, memory: Memory, codec: Codec, values: Sequence[Any], rows_at_once: int
) -> Tensor:
    """Returns log P(target | prompt) in nats of values, each written as a row of its own, shape (batch, value).

    Args:
        backbone: the model.
        memory: what it has read.
        codec: the target automaton.
        values: values of its target.
        rows_at_once: how many are written in one forward.
    """
    gold = codec.encode(values)
    parts = []
    for part in torch.arange(len(memory.state) * len(values)).split(rows_at_once):
        prompt, value = part // len(values), part % len(values)
        symbols, mask, states = gold.symbols[value], gold.mask[value], gold.states[value]
        taken = backbone.take(memory, prompt)
        logits = backbone.write(taken, codec.symbols[symbols[:, :-1]], mask[:, :-1]).logits
        scores = codec.log_probabilities(logits, states).gather(2, symbols.unsqueeze(2)).squeeze(2)
        parts.append(scores.masked_fill(~mask, 0.0).sum(dim=1))
    return torch.cat(parts).reshape(len(memory.state), len(values))


def make_cases(backbone: Backbone, prompt: Tensor, mask: Tensor, rows_at_once: int) -> list[Case]:
    """Returns what is timed, and the first is what the others are compared with."""

    def method(target: Target, decoding: str) -> Generator:
        return Generator(backbone, Codec(target, backbone), [Scale()], decoding=decoding, estimates=["text"]).eval()

    two, topics, numbers = (method(target, "trie") for target in (Label(TWO, TWO), Label(TOPICS, TOPICS), NUMBER))
    written = method(NUMBER, "greedy")

    @torch.no_grad()
    def read() -> Memory:
        return backbone.read(prompt, mask)

    @torch.no_grad()
    def distribution() -> NumberDistribution:
        return NumberDistribution.of_all(score_all(backbone, read(), numbers.trie), numbers.trie.numbers)

    return [
        Case(READ, read),
        Case(TWO_LABELS, lambda: two.answer(prompt, mask, probabilities=True), two.trie),
        Case(TOPIC_LABELS, lambda: topics.answer(prompt, mask, probabilities=True), topics.trie),
        Case(NUMBERS, distribution, numbers.trie),
        Case(GREEDY, lambda: written.answer(prompt, mask)),
        Case(ONE_BY_ONE, lambda: score_one_by_one(backbone, read(), topics.codec, TOPICS, rows_at_once)),
    ]


@torch.no_grad()
def compare_roads(backbone: Backbone, prompt: Tensor, mask: Tensor, trie: Trie, rows_at_once: int) -> dict[str, float]:
    """Returns how far the log-probabilities of a trie are from those of one-by-one scoring.

    Returns:
        `difference`: the largest absolute one, in nats; `lowest` and `highest`: between what log-probabilities.
    """
    memory = backbone.read(prompt, mask)
    at_once = score_all(backbone, memory, trie)
    one_by_one = score_one_by_one(backbone, memory, trie.codec, trie.values, rows_at_once)
    return {
        "difference": float((at_once - one_by_one).abs().max()),
        "lowest": float(one_by_one.min()),
        "highest": float(one_by_one.max()),
    }


def count_tokens(backbone: Backbone, run: Callable[[], object]) -> tuple[int, int]:
    """Returns how many tokens and how many forwards the model is given; padding counts, as it is computed too."""
    given: list[int] = []
    handle = backbone.model.register_forward_pre_hook(
        lambda _, __, arguments: given.append(arguments["input_ids"].numel()), with_kwargs=True
    )
    try:
        run()
    finally:
        handle.remove()
    return sum(given), len(given)


def time_cases(cases: Sequence[Case], repetitions: int) -> dict[str, list[float]]:
    """Returns the seconds of every case in each repetition; what runs before them is thrown away."""
    draw = random.Random(0)
    seconds: dict[str, list[float]] = {case.name: [] for case in cases}
    for repetition in range(-WARM_UP, repetitions):
        for case in draw.sample(cases, len(cases)):
            start = time.perf_counter()
            case.run()
            if repetition >= 0:
                seconds[case.name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], name: str, base: str) -> dict[str, float]:
    """Returns the ratio of two cases' medians, and the quartiles of the repetitions' own ratios."""
    low, high = np.percentile(np.array(seconds[name]) / np.array(seconds[base]), [25, 75])
    middle = statistics.median(seconds[name]) / statistics.median(seconds[base])
    return {"ratio": middle, "lower_quartile": float(low), "upper_quartile": float(high)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Returns all figures of one run."""
    with tempfile.TemporaryDirectory() as folder:
        backbone = make_backbone(options, Path(folder))
        prompt, mask = make_prompts(backbone, options.batch_size, options.prompt_tokens)
        cases = make_cases(backbone, prompt, mask, options.rows_at_once)
        agreement = {}
        for case in cases:
            if case.trie is not None:
                rows = ROWS_OF_NUMBERS if case.name == NUMBERS else options.batch_size
                roads = (prompt[:rows], mask[:rows], case.trie, options.rows_at_once)
                agreement[case.name] = compare_roads(backbone, *roads)
        tokens = {case.name: count_tokens(backbone, case.run) for case in cases}
        seconds = time_cases(cases, options.repetitions)
    read_tokens = tokens[READ][0]
    return {
        "machine": {"torch": torch.__version__, "threads": torch.get_num_threads(), "processor": platform.machine()},
        "options": {name: value for name, value in vars(options).items() if name != "json"},
        "parameters": sum(one.numel() for one in backbone.model.parameters()),
        "vocabulary": backbone.model.get_input_embeddings().weight.shape[0],
        "padded_fraction": float((~mask).float().mean()),
        "cases": {
            case.name: {
                "median_seconds": statistics.median(seconds[case.name]),
                **ratio(seconds, case.name, READ),
                "nodes": None if case.trie is None else case.trie.num_nodes,
                "written_tokens": (tokens[case.name][0] - read_tokens) / options.batch_size,
                "forwards": tokens[case.name][1],
                "seconds": seconds[case.name],
            }
            for case in cases
        },
        "goals": [
            {"case": name, "base": base, "goal": goal, "met": found["ratio"] <= goal, **found}
            for name, base, goal in GOALS
            for found in [ratio(seconds, name, base)]
        ],
        "agreement": agreement,
    }


def report_of(found: dict[str, Any]) -> str:
    """Returns the figures as Markdown."""
    options, machine = found["options"], found["machine"]
    facts = [
        f"- Model: Llama of {found['parameters'] / 1e6:.1f}M parameters, embeddings included (tied), with "
        f"{found['vocabulary']} tokens; hidden {options['hidden_size']}, layers {options['layers']}, heads "
        f"{options['heads']}, feed-forward {options['feed_forward']}; random weights.",
        f"- Prompts: {options['batch_size']} × {options['prompt_tokens']} tokens, "
        f"{100 * found['padded_fraction']:.0f} % of them padding on the left.",
        f"- Machine: {machine['processor']}, torch {machine['torch']}, {machine['threads']} threads; "
        f"{options['repetitions']} repetitions, medians.",
    ]
    rows = [
        [
            name,
            f"{1000 * case['median_seconds']:.1f}",
            f"{case['ratio']:.2f}",
            f"{case['lower_quartile']:.2f} – {case['upper_quartile']:.2f}",
            case["nodes"],
            f"{case['written_tokens']:g}",
            case["forwards"],
        ]
        for name, case in found["cases"].items()
    ]
    header = ("case", "median ms", "ratio to the read", "its quartiles", "trie nodes", "tokens written per row")
    goals = [
        f"- {goal['case']} / {goal['base']}: {goal['ratio']:.2f} (quartiles {goal['lower_quartile']:.2f} – "
        f"{goal['upper_quartile']:.2f}), goal at most {goal['goal']}: {'met' if goal['met'] else 'not met'}."
        for goal in found["goals"]
    ]
    agreement = [
        f"- {name}, against one by one: log-probabilities differ by at most {one['difference']:.1e} nats "
        f"(they lie between {one['lowest']:.2f} and {one['highest']:.2f})."
        for name, one in found["agreement"].items()
    ]
    return "\n\n".join(
        ["\n".join(facts), markdown((*header, "forwards"), rows), "\n".join(goals), "\n".join(agreement)]
    )


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--threads", type=int, help="of torch; its own choice if not given")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--feed-forward", type=int, default=1440)
    parser.add_argument("--vocab-size", type=int, default=0, help="of the model, if more than the tokenizer's")
    parser.add_argument("--rows-at-once", type=int, default=512, help="rows of one write when scoring one by one")
    options = parser.parse_args()
    if options.prompt_tokens < 2 or options.batch_size < 2 or options.repetitions < 1:
        parser.error("expected prompts and batches of at least 2, and a repetition")
    if options.threads:
        torch.set_num_threads(options.threads)
    found = measure(options)
    if options.json:
        write_text(options.json, json.dumps(found, indent=2) + "\n")
    print(report_of(found))


if __name__ == "__main__":
    main()
