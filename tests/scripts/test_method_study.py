"""The study of the Director's forms: what is chosen on validation rows, what is tested, and the gradients' norms."""

from typing import Any

import pytest
from scripts.studies import method as study

import predgen
from tests.helpers.tables import reviews


def cell(form: str, rate: float, seed: int, validation: float, losses: list[float]) -> dict[str, Any]:
    return {
        **{"backbone": "nano", "task": "stsb", "size": 40, "form": form, "rate": rate, "seed": seed, "metric": "mse"},
        "validation": {"mse": validation},
        "test": {"mse": sum(losses) / len(losses)},
        "losses": losses,
        "rows_per_second": 10.0,
        "train_seconds": 5.0,
    }


def test_a_rate_is_chosen_by_the_first_seeds_validation_rows() -> None:
    cells = [
        cell("predictor", 1e-3, 0, 2.0, [9.0] * 20),
        cell("predictor", 5e-4, 0, 3.0, [1.0] * 20),  # better on the test rows, which nothing is chosen on
        cell("predictor", 1e-3, 1, 1.0, [7.0] * 20),
    ]
    assert study.best_rate(cells) == 1e-3
    assert [found["losses"][0] for found in study.chosen_cells(cells)] == [9.0, 7.0]


def test_the_best_rival_is_chosen_by_validation_rows_and_tested_on_others() -> None:
    def seeds(form: str, validation: float, loss: float) -> list[dict[str, Any]]:
        return [cell(form, 1e-3, seed, validation, [loss + seed] * 20) for seed in (0, 1)]

    cells = seeds("predictor", 1.0, 4.0) + seeds("generator", 2.0, 1.0) + seeds("expectation", 3.0, 2.0)
    text = study.tables(cells, 2)
    assert "| predictor | 4.5000 ± 0.7071 |  | 0.001 | 5 | 10.0 |" in text
    assert "| nano, stsb, 40 rows | predictor | -2.0000 | 0.0001 |" in text
    assert "| expectation | 2.00 | 1 |" in text  # the generator's test rows have the best mean
    assert "predictor" not in study.tables(cells[:1], 2)  # not all of its seeds are there


def test_labels_have_no_form_of_numbers() -> None:
    assert "expectation-quantiles" not in study.forms_of("sst2", list(study.FORMS))
    assert "number_loss" not in study.forms_of("sst2", ["predictor-latent"])["predictor-latent"]
    assert study.forms_of("stsb", ["predictor-latent"])["predictor-latent"]["number_loss"] == "huber"


@pytest.mark.parametrize("task", study.TASKS)
def test_each_task_says_what_is_predicted(task: str) -> None:
    said = study.declared(task)
    assert said["target"]
    assert ("low" in said) == (task in study.NUMBERS)


def test_gradient_norms_are_those_of_the_weights_that_both_train() -> None:
    settings: dict[str, Any] = {"backbone": "builtin:nano", "inputs": "review", "quiet": True, "batch_size": 8}
    model = predgen.fit(reviews(40), "stars", director_form="expectation", max_steps=2, device="cpu", **settings)
    writer, director, cosine = study.gradient_norms(model, reviews(8, seed=3))
    assert writer > 0
    assert director > 0
    assert -1 <= cosine <= 1
