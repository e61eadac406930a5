"""Every kind of field is answered in four places, and in each of them."""

import numpy as np
import pytest
import torch

from predgen.codec.codec import Codec
from predgen.codec.kinds import PATHS
from predgen.measures.kinds import MEASURES, measure_of
from predgen.measures.metrics import higher_is_better
from predgen.methods.heads import HEADS, field_heads, scale_of, truth_of
from predgen.names import KINDS
from predgen.targets.declared import Declared
from predgen.targets.field import Field
from predgen.targets.kinds import field_from_json, field_kind
from tests.unit.codec.test_codec import Vocabulary

DATES = ["2020-02-29", "2020-12-31", "2021-03-01"]
SHARES = ['{"a": 1}', '{"b": 1}', '{"a": 1}']
CELLS = {"number": [0.5, 1.5, 4.0], "date": DATES, "set": ["a|b", "a", "none"], "distribution": SHARES}
LABELS = ["a", "b", "a"]


def field_of(kind: str) -> tuple[Field, list[object]]:
    """Returns a field of a kind, inferred from a column, and the column's values."""
    cells = CELLS.get(kind, LABELS)
    declared = Declared(labels=("b", "a")) if kind not in CELLS else Declared()
    field = field_kind(kind).infer(cells, declared)
    return field, [field.parse(cell) for cell in cells]


def test_the_four_tables_know_the_same_kinds() -> None:
    assert KINDS.keys() == PATHS.keys() == HEADS.keys() == MEASURES.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_comes_back_from_text_and_json(kind: str) -> None:
    field, values = field_of(kind)
    assert field.kind == kind
    assert all(getattr(field, name) for name in ("noun", "nouns", "fill", "texts"))
    assert field_from_json(field.to_json()) == field
    assert [field.from_text(field.to_text(value)) for value in values] == values
    assert [field.known(cell) for cell in CELLS.get(kind, LABELS)] == values


@pytest.mark.parametrize("kind", KINDS)
def test_every_value_has_one_path(kind: str) -> None:
    field, values = field_of(kind)
    codec = Codec(field, Vocabulary())
    assert [codec.value_of(codec.path(value)) for value in values] == values
    assert codec.num_targets == field.num_values


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_learns_the_values_and_answers_with_them(kind: str) -> None:
    field, values = field_of(kind)
    scale = scale_of(field, values)
    (head,) = field_heads(field, [scale])
    truth = truth_of(field, values, [scale])
    outputs = torch.zeros(len(values), head.num_outputs(field), requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.2)
    first = head.loss(outputs, truth).mean().item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = head.loss(outputs, truth).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * first
    answers = head.values(head.predictions(outputs.detach()))
    if field.numeric:
        assert answers == pytest.approx(values, abs=0.05 * scale.deviation)
    else:
        assert answers == values
        predictions = head.predictions(torch.randn(20, head.num_outputs(field)))
        assert predictions.shape == (20, len(field.labels))
        assert bool((predictions >= 0).all())
        if kind != "set":
            assert predictions.sum(dim=1).tolist() == pytest.approx([1.0] * 20, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_right_answers_have_the_best_metrics(kind: str) -> None:
    field, values = field_of(kind)
    measure = measure_of(field)
    truth, wrong = measure.as_array(values), measure.as_array([values[1], values[0], values[1]])
    assert not measure.invalid(truth).any()
    assert measure.invalid(measure.as_array([None, *values]))[0]
    assert np.array_equal(measure.from_json(measure.to_json(wrong)), wrong)
    right = measure.metrics(truth, truth, None, measure.exact(truth, truth))
    worse = measure.metrics(truth, wrong, None, measure.exact(truth, wrong))
    assert set(right) == set(measure.names) - set(measure.OF_PROBABILITIES)
    for name in right:
        assert right[name] > worse[name] if higher_is_better(name) else right[name] < worse[name], name
    losses = measure.losses(truth, wrong, None)
    assert {loss for loss, _ in measure.tested.values()} <= losses.keys() | {
        "log_loss",
        "inexact",
        *measure.OF_PROBABILITIES,
    }
    assert measure.relative_error(truth, truth) == 0
    answer, _, _ = measure.constant_answer(measure.learned(truth), np.ones(len(truth)))
    assert measure.relative_error(truth, np.repeat(answer, len(truth), axis=0)) == pytest.approx(1)
