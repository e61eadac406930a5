"""The language model as it is, asked with the prompts that the methods read: how much is known without training.

`zero_shot` is an untrained generator that scores every value. `zero_shot_calibrated` divides each probability by what
the value has where every input is empty, so that a word that the model likes anyway wins nothing by that.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from predgen.backbones.prepacking import PrepackedWeights
from predgen.codec.kinds import is_enumerable, most_values, num_values
from predgen.errors import ConfigError, TrainingError
from predgen.experiments.baseline_rows import Given, LeftOut
from predgen.experiments.results import MethodResult
from predgen.measures.kinds import measure_of
from predgen.methods import Answers, Generator
from predgen.methods.answering import FieldSources, field_answer
from predgen.methods.buckets import run_in_buckets
from predgen.models.answer_warnings import warn_of_answers
from predgen.models.asked import Asked
from predgen.models.building import check_method
from predgen.models.encoding import encode_prompts, encode_rows
from predgen.models.model import Model
from predgen.models.scored import score, scored_from_json
from predgen.targets.field import Field
from predgen.writing.scoring import score_all

log = logging.getLogger("predgen")

# Returns the answers for a table, the seconds of what is learned before, and the seconds that they took.
Answer = Callable[[Model, pd.DataFrame], tuple[Answers, float, float]]


def zero_shot_row(given: Given) -> MethodResult:
    """Returns the result of the language model as it is.

    Raises:
        LeftOut: it cannot answer the target.
    """
    return _row(given, "zero_shot", _answers)


def zero_shot_calibrated_row(given: Given) -> MethodResult:
    """Returns the result of the language model as it is, its probabilities calibrated by the prompt without inputs.

    Raises:
        LeftOut: it cannot answer the target, or not all values can be scored.
    """
    field = _only_field(given)
    if not is_enumerable(field):
        raise LeftOut(
            f"it needs the score of every value, and scores at most {most_values(field):,} {field.nouns}, not "
            f"{num_values(field):,}. {field.fewer_values}"
        )
    return _row(given, "zero_shot_calibrated", _calibrated_answers)


def calibrated(
    log_probabilities: Float[Tensor, "row value"], without_inputs: Float[Tensor, "1 value"]
) -> Float[Tensor, "row value"]:
    """Returns log q(v | x) in nats, with q(v | x) = p(v | x) / p(v | empty) / Σ_w p(w | x) / p(w | empty).

    This is contextual calibration (Zhao et al. 2021, arXiv 2102.09690, section 5): q̂ = softmax(W p̂ + b) with
    W = diag(p̂_cf)⁻¹ and b = 0. The empty input alone stands for theirs without content. In place of the second softmax
    the quotients are divided by their sum. That leaves their order as it is, and makes uninformed answers uniform.

    Args:
        log_probabilities: log p(v | x) of every value, up to a constant of each row.
        without_inputs: the same after the prompt whose inputs are all empty.
    """
    return (log_probabilities - without_inputs).log_softmax(dim=1)


# ---- whether it applies


def _only_field(given: Given) -> Field:
    """Returns the field that is predicted.

    Raises:
        LeftOut: there are several, or it is a set of labels, or the settings ask for what it does not have.
    """
    fields = list(given.prepared.target.fields.values())
    if len(fields) > 1:
        raise LeftOut(f"it answers one column, and {len(fields)} are predicted as one record.")
    field = fields[0]
    if not field.numeric and not measure_of(field).DISCRETE:
        raise LeftOut(f"it answers a number or one label, and {field.nouns} are predicted.")
    try:
        check_method(given.untrained_config, field)
    except ConfigError as error:
        raise LeftOut(str(error)) from error
    return field


def _loaded(given: Given) -> Model:
    """Returns the language model as it is.

    Raises:
        LeftOut: what it writes with was not pretrained.
    """
    model = given.untrained
    backbone = model.method.backbone
    if backbone.added_writer is not None:
        raise LeftOut(
            f"the backbone '{model.contents.base_name}' is an encoder, and the Writer beside it is not pretrained."
        )
    drawn = _drawn_pieces(model)
    if drawn:
        raise LeftOut(
            f"the vocabulary of the backbone '{model.contents.base_name}' lacks tokens that the target is written with "
            f"({len(drawn)}, such as '{drawn[0]}'), and new ones are not pretrained."
        )
    return model


def _drawn_pieces(model: Model) -> list[str]:
    """Returns the tokens whose embeddings were drawn and have a part in some value's probability."""
    symbols, backbone = _generator_of(model).writer.symbols, model.method.backbone
    codec = symbols.codec
    # An end that is forced decides nothing over the allowed symbols, and no end is ever fed.
    used = {
        symbol for row in codec.rows for symbol in row if symbols.full or len(row) > 1 or symbol != codec.end_symbol
    }
    tokens = {codec.symbols.tolist()[symbol] for symbol in used}
    drawn: list[str] = backbone.tokenizer.convert_ids_to_tokens(sorted(tokens & set(backbone.added_token_ids)))
    return drawn


def _generator_of(model: Model) -> Generator:
    method = model.method
    assert isinstance(method, Generator)  # `untrained_config` says so
    return method


# ---- its row


def _row(given: Given, name: str, answer: Answer) -> MethodResult:
    """Returns a result that is kept with the finished figures, as a pass of a large model takes its time.

    Raises:
        LeftOut: the language model cannot answer the target, or a row does not fit into memory.
    """
    target = _only_field(given)

    def figures(_: Path | None) -> dict[str, Any]:
        model = _loaded(given)
        log.info("Asking the backbone as it is: %s", name)
        try:
            answers, train_seconds, seconds = answer(model, given.table)
        except TrainingError as error:
            raise LeftOut(str(error)) from error
        return {
            **score(target, given.truth, answers).to_json(),
            "train_seconds": train_seconds,
            "rows_per_second": len(given.table) / seconds,
        }

    kept = given.finished.figures(name, figures)
    scored = scored_from_json(target, given.truth, kept)
    return MethodResult([scored], kept["train_seconds"], kept["rows_per_second"])


def _answers(model: Model, table: pd.DataFrame) -> tuple[Answers, float, float]:
    """Returns the answers of the untrained generator; nothing is learned before.

    The probabilities of labels come with the answers, as every label is scored for them.
    """
    start = time.perf_counter()
    encoded = encode_rows(model.method, model.contents, table)
    answers = model.answers(encoded, Asked(probabilities=bool(model.method.fields[0].field.labels)))
    seconds = time.perf_counter() - start
    warn_of_answers(model, encoded, answers, Asked())
    return answers, 0.0, seconds


def _calibrated_answers(model: Model, table: pd.DataFrame) -> tuple[Answers, float, float]:
    """Returns the calibrated answers; what is learned before are the scores after the prompt without inputs."""
    with PrepackedWeights(model.method.backbone), torch.no_grad():
        start = time.perf_counter()
        without_inputs = _scores(model, [_prompt_without_inputs(model)])
        learned = time.perf_counter()
        encoded = encode_rows(model.method, model.contents, table)

        def answer(rows: list[int]) -> Answers:
            scores = _scores(model, [encoded.prompts[row] for row in rows])
            return _answers_of(model, calibrated(scores, without_inputs))

        batches, order = run_in_buckets([len(prompt) for prompt in encoded.prompts], model.limits, answer)
        answers = Answers.joined(batches, order)
    seconds = time.perf_counter() - learned
    warn_of_answers(model, encoded, answers, Asked())
    return answers, learned - start, seconds


def _prompt_without_inputs(model: Model) -> list[int]:
    """Returns the tokens of the prompt whose inputs are all empty.

    Raises:
        LeftOut: there are none.
    """
    row = pd.DataFrame([dict.fromkeys(model.inputs, "")])
    (prompt,), _ = encode_prompts(model.method, model.contents, row)
    if not prompt:
        raise LeftOut("the prompt has no text besides its inputs, so that nothing is left without them.")
    return prompt


def _scores(model: Model, prompts: list[list[int]]) -> Float[Tensor, "row value"]:
    """Returns log P of every value after each prompt in nats, up to a constant of each row."""
    writer, device = _generator_of(model).writer, model.method.device
    trie = writer.trie_of(0)
    assert trie is not None  # the values are few enough
    tokens, mask = (tensor.to(device) for tensor in model.method.backbone.collate(prompts))
    return score_all(model.method.backbone, writer.symbols.read(tokens, mask), trie).double()


def _answers_of(model: Model, log_probabilities: Float[Tensor, "row value"]) -> Answers:
    """Returns the answers that a generator gives for the probabilities of all values."""
    method = _generator_of(model)
    trie, head = method.writer.trie_of(0), method.fields[0]
    assert trie is not None  # the values are few enough
    likeliest = [trie.values[value] for value in log_probabilities.argmax(dim=1).tolist()]
    known = torch.ones_like(log_probabilities[:, 0])
    sources = FieldSources(
        likeliest, [None] * len(likeliest), predictive=head.distribution(trie, log_probabilities, known)
    )
    choice = model.contents.answering.of_field(0)
    return field_answer(head, sources, choice, probabilities=bool(head.field.labels))
