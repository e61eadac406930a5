"""What is asked of many rows is computed once: evaluation reads each row once, but for a few that are timed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import predgen
from predgen.models import evaluating
from predgen.models.encoding import Encoded
from predgen.models.model import Model
from tests.helpers.tables import reviews

QUICK: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 3, "quiet": True, "device": "cpu"}


@pytest.mark.parametrize(
    ("method", "target", "again"),
    [("predictor", "mood", 0), ("generator", "mood", 4), ("predgen", "stars", 4), ("predictor", "stars", 0)],
)
def test_evaluation_reads_each_row_once(method: str, target: str, again: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = predgen.fit(reviews(40), target, method=method, **QUICK)
    rows: list[int] = []
    backbone = model.method.backbone
    for name in ("read", "prompt_states", "read_tree"):
        plain = getattr(type(backbone), name)

        def counted(self: Any, *args: Any, plain: Any = plain, **kwargs: Any) -> Any:
            rows.append(len(args[0][0]) if isinstance(args[0], tuple) else len(args[0]))
            return plain(self, *args, **kwargs)

        monkeypatch.setattr(type(backbone), name, counted)
    monkeypatch.setattr(evaluating, "TIMED_ROWS", 4)
    found = model.evaluate(reviews(20, seed=2))
    assert sum(rows) == 20 + again
    assert found.examples_per_second > 0


def test_some_rows_are_spread_evenly() -> None:
    table = reviews(10)
    some = Encoded(table, [[row] for row in range(10)], 0).some(4)
    assert some.prompts == [[0], [3], [6], [9]]
    assert list(some.table.index) == list(table.index[[0, 3, 6, 9]])
    assert np.array_equal(Encoded(table, [[1]] * 10, 0).some(100).table.index, table.index)


@pytest.mark.parametrize(("target", "metric"), [("mood", "log_loss"), ("stars", "mse")])
def test_the_checkpoint_is_chosen_by_the_stack_that_answers(target: str, metric: str) -> None:
    parts = {"train": reviews(60), "validation": reviews(30, seed=5)}
    model = predgen.fit(parts, target, **{**QUICK, "max_steps": 12, "evals_per_epoch": 2}, metric=metric)
    assert model.config.model.predict_from == "stack"
    [mix] = model.contents.answering.mixes
    assert mix.director + mix.writer == pytest.approx(1)
    found = model.evaluate(parts["validation"]).metrics[metric]
    assert found == pytest.approx(model.record["best_metric"], rel=1e-4)
    for source in ("director", "writer"):
        alone = Model(model.method, replace(model.contents, answering=model.contents.answering.predicting_from(source)))
        assert found <= alone.evaluate(parts["validation"]).metrics[metric] + 1e-6
