"""What is measured: each rival's training step or prediction over the same workload."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from predgen.bench.workload import Workload, writer_of
from predgen.codec.kinds import is_enumerable
from predgen.methods import Answering, Generator, Method
from predgen.methods.buckets import answer_all, in_order
from predgen.targets.label import Label
from predgen.targets.record import Target
from predgen.writing.sampling import Draws, draw
from predgen.writing.targets import Decoding

TWO_LABELS = ("negative", "positive")
# Labels that share first words and last ones, as real ones do.
TOPICS = tuple(
    f"{first} {second}"
    for first in ("air", "business", "city", "computer", "energy", "food", "health", "public")
    for second in ("history", "news", "planning", "policy", "prices", "safety", "science", "travel")
)
# Where only likely numbers are scored, the model is made sure of the first digit: its last states are `SURE` times
# as large. A model of random weights gives every first digit more than a thousandth, so that nothing could be left out.
TRIE_MASS = 0.999
SURE = 8.0


@dataclass(frozen=True)
class Rival:
    """A training step or a prediction that is measured.

    Attributes:
        name: in reports and in files.
        prepare: returns what `run` needs beside the workload, before anything is measured.
        run: does the work once.
        packs: whether it multiplies by pre-packed weights, as this package's models do on a CPU.
        enumerates: whether it scores all values of the target, which must be few enough.
    """

    name: str
    prepare: Callable[[Workload], Any]
    run: Callable[[Workload, Any], object]
    packs: bool = False
    enumerates: bool = False

    def case(self, work: Workload) -> Callable[[], object]:
        """Returns the function to measure, prepared over a workload."""
        prepared = self.prepare(work)

        def run() -> object:
            if not self.packs:
                return self.run(work, prepared)
            with work.packed:
                return self.run(work, prepared)

        return run


def cases_of(work: Workload) -> dict[str, Callable[[], object]]:
    """Returns what each rival does, by its name; those that score all values only where these are few enough."""
    return {rival.name: rival.case(work) for rival in RIVALS if is_enumerable(work.target) or not rival.enumerates}


# ---- training


def _own_draws(work: Workload) -> Draws:
    """Returns draws that feed every position the model's own token."""
    return draw(work.batch.gold.mask, probability=1.0, generator=torch.Generator().manual_seed(0))


def _train(work: Workload, method_and_draws: tuple[Method, Draws]) -> None:
    method, draws = method_and_draws
    method.zero_grad(set_to_none=True)
    method(work.batch, draws)["loss"].backward()


def _train_published(work: Workload, _: None) -> None:
    work.published.zero_grad(set_to_none=True)
    loss = work.published(work.batch.prompt, work.gold_tokens, work.truth, self_fed=True).loss
    loss.backward()


def _supervised(work: Workload) -> tuple[Tensor, Tensor]:
    """Returns prompts with their gold targets, and the labels that plain fine-tuning learns."""
    whole = torch.cat([work.batch.prompt, work.gold_tokens], dim=1)
    return whole, torch.cat([torch.full_like(work.batch.prompt, -100), work.gold_tokens], dim=1)


def _train_supervised(work: Workload, whole_and_labels: tuple[Tensor, Tensor]) -> None:
    whole, labels = whole_and_labels
    model = work.backbone.model
    model.zero_grad(set_to_none=True)
    model(input_ids=whole, labels=labels, use_cache=False).loss.backward()


# ---- prediction


def _nothing(_: Workload) -> None:
    return None


def _answer(work: Workload, method: Method) -> object:
    return method.answer(work.batch.prompt, work.batch.prompt_mask)


def _predict_published(work: Workload, _: None, *, all_logits: bool = True) -> object:
    return work.published.predict(work.batch.prompt, work.gold_tokens, work.truth, all_logits=all_logits)


@torch.no_grad()
def _generate(work: Workload, _: None) -> list[float | None]:
    """Returns the numbers that `generate` writes without the automaton."""
    backbone = work.backbone
    tokens = backbone.model.generate(
        input_ids=work.batch.prompt,
        attention_mask=work.batch.prompt_mask.long(),
        do_sample=False,
        max_new_tokens=work.gold_tokens.shape[1],
        pad_token_id=backbone.pad_id,
    )
    return [number_of(backbone.text_of(row)) for row in tokens[:, work.batch.prompt.shape[1] :].tolist()]


def number_of(text: str) -> float | None:
    """Returns the number that an unconstrained text is; None for a text that is no number."""
    try:
        return float(text)
    except ValueError:
        return None


def _scorer(work: Workload, target: Target, mass: float = 1.0) -> tuple[Generator, Answering]:
    """Returns a generator and how it answers: all values of a target are scored, or those with likely beginnings."""
    method = work.ready(Generator(writer_of(work.backbone, target)))
    estimates = ["mean" if target.numeric else "text"]
    return method, Answering.of(Decoding("trie", trie_mass=mass), 1, estimates=estimates)


def _label_scorer(words: tuple[str, ...]) -> Callable[[Workload], tuple[Generator, Answering]]:
    return lambda work: _scorer(work, Label(words, words))


def _number_scorer(work: Workload) -> tuple[Generator, Answering]:
    return _scorer(work, work.target)


def _likely_scorer(work: Workload) -> tuple[Generator, Answering]:
    return _scorer(work, work.target, TRIE_MASS)


def _score(work: Workload, scorer: tuple[Generator, Answering], *, probabilities: bool = False) -> object:
    method, answering = scorer
    return method.answer(work.batch.prompt, work.batch.prompt_mask, answering, probabilities=probabilities)


def _score_surely(work: Workload, scorer: tuple[Generator, Answering]) -> None:
    norm = work.backbone.model.model.norm.weight.data
    norm.mul_(SURE)
    _score(work, scorer)
    norm.div_(SURE)


def _answer_bucketed(work: Workload, method: Method) -> object:
    return answer_all(method, work.ragged, batch_size=len(work.batch.prompt))


@torch.no_grad()
def _answer_unsorted(work: Workload, method: Method) -> None:
    for rows in in_order(len(work.ragged), len(work.batch.prompt)):
        tokens, mask = work.backbone.collate([work.ragged[row] for row in rows])
        method.answer(tokens.to(work.device), mask.to(work.device))


def _predictor(work: Workload) -> Method:
    return work.predictor


def _one_pass(work: Workload) -> Method:
    return work.one_pass


def _exact(work: Workload) -> Method:
    assert work.exact is not None  # or there would be no such case
    return work.exact


# ---- the rivals

TRAIN_PREDICTOR = Rival("train predictor", lambda work: (work.predictor, Draws()), _train)
TRAIN_ONE_PASS = Rival("train predgen", lambda work: (work.one_pass, _own_draws(work)), _train)
TRAIN_EXACT = Rival("train predgen, all values", lambda work: (_exact(work), Draws()), _train, enumerates=True)
TRAIN_FIXED_POINT = Rival("train predgen, fixed point", lambda work: (work.fixed_point, _own_draws(work)), _train)
TRAIN_PUBLISHED = Rival("train published", _nothing, _train_published)
TRAIN_SFT = Rival("train sft", _supervised, _train_supervised)
PREDICT_PREDICTOR = Rival("predict predictor", _predictor, _answer, packs=True)
PREDICT_PREDGEN = Rival("predict predgen", _one_pass, _answer, packs=True)
PREDICT_EXACT = Rival("predict predgen, all values", _exact, _answer, packs=True, enumerates=True)
PREDICT_PLAIN = Rival("predict predgen, plain weights", _one_pass, _answer)
PREDICT_PUBLISHED = Rival("predict published", _nothing, _predict_published)
# A kinder form of the program, which asks for the logits that it needs.
PREDICT_KINDER = Rival(
    "predict published, last logits alone while it writes", _nothing, partial(_predict_published, all_logits=False)
)
PREDICT_PUBLISHED_PACKED = Rival("predict published, packed weights", _nothing, _predict_published, packs=True)
PREDICT_GENERATE = Rival("predict generate", _nothing, _generate)
PREDICT_GENERATE_PACKED = Rival("predict generate, packed weights", _nothing, _generate, packs=True)
PREDICT_TWO = Rival("predict 2 labels", _label_scorer(TWO_LABELS), partial(_score, probabilities=True), packs=True)
PREDICT_64 = Rival("predict 64 labels", _label_scorer(TOPICS), partial(_score, probabilities=True), packs=True)
PREDICT_BUCKETED = Rival("predict ragged, bucketed", _one_pass, _answer_bucketed, packs=True)
PREDICT_UNSORTED = Rival("predict ragged, unsorted", _one_pass, _answer_unsorted, packs=True)
PREDICT_ALL = Rival("predict all numbers", _number_scorer, _score, packs=True, enumerates=True)
PREDICT_PRUNED = Rival("predict likely numbers, sure model", _likely_scorer, _score_surely, packs=True, enumerates=True)
RIVALS = (
    TRAIN_PREDICTOR,
    TRAIN_ONE_PASS,
    TRAIN_EXACT,
    TRAIN_FIXED_POINT,
    TRAIN_PUBLISHED,
    TRAIN_SFT,
    PREDICT_PREDICTOR,
    PREDICT_PREDGEN,
    PREDICT_EXACT,
    PREDICT_PLAIN,
    PREDICT_PUBLISHED,
    PREDICT_KINDER,
    PREDICT_PUBLISHED_PACKED,
    PREDICT_GENERATE,
    PREDICT_GENERATE_PACKED,
    PREDICT_TWO,
    PREDICT_64,
    PREDICT_BUCKETED,
    PREDICT_UNSORTED,
    PREDICT_ALL,
    PREDICT_PRUNED,
)
