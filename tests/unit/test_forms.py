"""Which form predgen takes: the exact one where all values can be scored, the paper's where its parts are asked for."""

from typing import Any

import pytest

from predgen import Label, Number, Ordinal
from predgen.config import build_config
from predgen.models.forms import EXACT, OF_STATES, UNSAID, with_form
from predgen.targets.record import Record, Target

LABEL = Label(("a", "b"), ("a", "b"))
NUMBER = Number(0.0, 5.0, decimals=1)
TARGETS: dict[str, tuple[Target, str]] = {
    "label": (LABEL, "expectation"),
    "number": (NUMBER, "expectation"),
    "ordinal": (Ordinal(("low", "high"), ("low", "high")), "expectation"),
    "long number": (Number(0.0, 1e6, decimals=3), "states"),
    "record": (Record({"a": LABEL, "b": NUMBER}), "states"),
}


PAPER = UNSAID["states"]


def formed(target: Target, **settings: Any) -> dict[str, Any]:
    config = with_form(build_config({"data": "t.csv", "target": "y", **settings}), target)
    train = config.train
    return {
        "form": config.model.director_form,
        "model.predict_from": config.model.predict_from,
        "train.loss": train.loss,
        "train.writer_weight": train.writer_weight,
    }


@pytest.mark.parametrize("name", list(TARGETS))
def test_the_form_follows_the_target(name: str) -> None:
    target, form = TARGETS[name]
    assert formed(target) == {"form": form, **(PAPER if form == "states" else EXACT)}


def test_a_form_that_is_named_is_taken_and_fills_in_what_is_unsaid() -> None:
    assert formed(LABEL, director_form="states") == {"form": "states", **PAPER}
    assert formed(LABEL, director_form="correction") == {"form": "correction", **EXACT}
    assert formed(LABEL, director_form="states+start") == {"form": "states+start", **EXACT}
    given = {"predict_from": "writer", "loss": "uncertainty", "writer_weight": 2.0}
    assert formed(LABEL, **given) == {
        "form": "expectation",
        "model.predict_from": "writer",
        "train.loss": "uncertainty",
        "train.writer_weight": 2.0,
    }


OTHERS: dict[str, Any] = {
    "director": "mean",
    "schedule": "cosine",
    "sampling": "sequential",
    "sampling_start": 0.5,
    "sampling_end": 0.5,
    "sampling_fraction": 0.9,
    "sampling_steps": 7,
    "sampling_choice": "softmax",
    "sampling_unit": "batch",
    "director_share": 1.0,
    "passes": 2,
}


@pytest.mark.parametrize("name", [name.partition(".")[2] for name in OF_STATES])
def test_a_setting_of_the_papers_form_asks_for_it(name: str) -> None:
    assert formed(LABEL, **{name: OTHERS[name]}) == {"form": "states", **PAPER}


def test_free_decoding_has_the_papers_form() -> None:
    assert formed(LABEL, decoding="free")["form"] == "states"


@pytest.mark.parametrize("method", ["predictor", "generator"])
def test_other_methods_have_no_form(method: str) -> None:
    assert set(formed(LABEL, method=method).values()) == {None}
