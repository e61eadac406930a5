"""The scores that are explained: log-odds of labels, means of numbers, of prompts, with gradients if they are on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.errors import ConfigError, DataError, unknown_name
from predgen.measures.calibration import SMALLEST, Calibration
from predgen.methods import Answering, Generator, PredGen
from predgen.methods.answering import FieldChoice, FieldSources
from predgen.methods.exact import ExactPredGen
from predgen.methods.heads import Head
from predgen.models.model import Model
from predgen.targets.cells import label_key

# The symbols that each row writes, and which of them are not padding.
Held = tuple[Int[Tensor, "batch target"], Bool[Tensor, "batch target"]]


@dataclass(frozen=True)
class Question:
    """One score of a row.

    Attributes:
        field_index: the target's field.
        field: its name.
        label: the label whose log-odds are asked for; None of a number.
        position: the label's among the field's labels; 0 of a number.
    """

    field_index: int
    field: str
    label: Any
    position: int


@dataclass(frozen=True)
class Scores:
    """The scores of some prompts.

    Attributes:
        values: of each question of each row.
        probabilities: of the labels, NaN of numbers.
    """

    values: Float[Tensor, "row question"]
    probabilities: Float[Tensor, "row question"]


def questions_for(model: Model, answers: Sequence[Any], label: str | None) -> list[Question]:
    """Returns what is asked about a row: each field's number or answered label, and each label of a set.

    Args:
        model: what answered.
        answers: its answer in each field; None for an invalid one.
        label: ask for this label instead.

    Raises:
        ConfigError: a label of numbers alone.
        DataError: an answer is no label, and no other label is named.
        UnknownNameError: no field has such a label.
    """
    fields = model.target.fields
    known = [known for field in fields.values() for known in field.labels]
    if label is not None and not known:
        raise ConfigError(f"Expected a model of labels for --label, found one of numbers and '{label}'. Leave it out.")
    if label is not None and label_key(label) not in map(label_key, known):
        raise unknown_name("label", label, map(str, known))
    questions = []
    for index, ((name, field), answer) in enumerate(zip(fields.items(), answers, strict=True)):
        keys = [label_key(one) for one in field.labels]
        if field.numeric:
            positions = [0] if label is None else []
        elif label is not None:
            positions = [position for position, key in enumerate(keys) if key == label_key(label)]
        elif answer is None:
            raise DataError(
                "Expected a valid answer to explain, found what was written to be none. Name a label to explain "
                "(--label), or fit with another decoding than free."
            )
        elif isinstance(answer, tuple | list | set | frozenset):
            positions = list(range(len(keys)))
        else:
            positions = [keys.index(label_key(answer))]
        labels = [None if field.numeric else field.labels[position] for position in positions]
        questions += [Question(index, name, one, at) for one, at in zip(labels, positions, strict=True)]
    return questions


def check_smooth(model: Model) -> None:
    """Refuses a model whose scores have no gradients, as the Writer's values are too many to score them all.

    Raises:
        ConfigError: it is one.
    """
    method = model.method
    if not isinstance(method, Generator | PredGen):
        return
    mixes = model.contents.answering.mixes
    for index, (name, field) in enumerate(model.target.fields.items()):
        if method.writer.trie_of(index) is None and (isinstance(method, Generator) or mixes[index].writer != 0):
            raise ConfigError(
                f"Expected a target whose values can all be scored, for gradients of what the model writes, found "
                f"{field.num_values:,} values{f' of {name}' if name else ''}. Explain it by the method 'words'."
            )


def scores_of(
    model: Model,
    prompt: Int[Tensor, "batch prompt"],
    mask: Bool[Tensor, "batch prompt"],
    questions: Sequence[Sequence[Question]],
    held: Held | None = None,
) -> Scores:
    """Returns the scores of a batch of prompts.

    All values are scored, whatever `trie_mass` says. What predgen's Director reads is written anew for each prompt,
    unless it is held.

    Args:
        model: the model, its dropout off.
        prompt: prompt tokens.
        mask: which of them are not padding.
        questions: those of each row, as many for each.
        held: what each row writes.
    """
    answering = _answering(model, held)
    uses_writer = isinstance(model.method, Generator) or any(mix.writer != 0 for mix in answering.mixes)
    sources = model.method.sources(prompt, mask, [answering], probabilities=uses_writer, marginal=False)
    predictions = [
        _tempered(
            _predictions(head, of_field, answering.of_field(index)).double(), model.contents.calibrations.get(name)
        )
        for index, (name, head, of_field) in enumerate(
            zip(model.target.fields, model.method.fields, sources.fields, strict=True)
        )
    ]
    values, probabilities = [], []
    for column in zip(*questions, strict=True):
        of_column = []
        for row, question in enumerate(column):
            head, of_field = model.method.fields[question.field_index], predictions[question.field_index]
            of_column.append(head.score(of_field[row : row + 1], question.position))
        values.append(torch.cat(of_column))
        labels = [
            predictions[one.field_index][row, one.position].detach() if one.label is not None else torch.nan
            for row, one in enumerate(column)
        ]
        probabilities.append(torch.tensor([float(one) for one in labels], dtype=torch.float64))
    return Scores(torch.stack(values, dim=1), torch.stack(probabilities, dim=1))


@torch.no_grad()
def written_for(model: Model, prompt: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]) -> Held | None:
    """Returns what is written for some prompts where scores depend on it, to hold it; None where they do not.

    They do where a Director reads written tokens, and in a record, whose fields follow on each other.
    """
    method = model.method
    if not isinstance(method, Generator | PredGen) or isinstance(method, ExactPredGen):
        return None
    memory = method.writer.symbols.read(prompt, mask)
    decoded = method.writer.write(memory, _answering(model, None).decoding, with_states=False).decoded
    return decoded.symbols, decoded.mask


def _answering(model: Model, held: Held | None) -> Answering:
    """Returns how the model answers, with all values scored, written along the automaton, or held."""
    answering = model.contents.answering
    # Along the automaton free decoding has the same probabilities of a field's values.
    name = "greedy" if answering.decoding.name == "free" else answering.decoding.name
    return replace(answering, decoding=replace(answering.decoding, name=name, trie_mass=1.0, held=held))


def _predictions(head: Head[Any], sources: FieldSources, choice: FieldChoice) -> Tensor:
    """Returns the numbers or probabilities that a field's answers are chosen by; a written number is its mean."""
    predictive, directed = sources.predictive, sources.directed
    if directed is not None and choice.mix.writer == 0:
        return directed
    assert predictive is not None  # asked for above
    written = predictive.probabilities
    if written is None:
        assert predictive.distribution is not None  # it is of a number
        written = predictive.distribution.mean()
    return written if directed is None else head.mixed(choice.mix, directed, written)


def _tempered(predictions: Tensor, calibration: Calibration | None) -> Tensor:
    """Returns label probabilities as `Calibration.tempered` does, with gradients."""
    if calibration is None or predictions.dim() == 1:
        return predictions
    tempered = predictions
    if calibration.temperature != 1.0:
        tempered = (predictions.clamp(min=SMALLEST).log() / calibration.temperature).softmax(dim=1)
    share = calibration.uniform_fraction
    return tempered if share == 0 else (1 - share) * tempered + share / predictions.shape[1]
