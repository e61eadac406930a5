"""What a search draws from: the defaults around the run's own values, what is given, and what is refused."""

from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from predgen.adapters import TUNED_HEAD_LEARNING_RATE
from predgen.config import RunConfig, build_config
from predgen.errors import ConfigError, UnknownNameError
from predgen.experiments.search.space import DEFAULT_SEARCH, choices_that_go, defaults_in, drawn, space_of
from predgen.names import PEFT_METHODS
from predgen.targets.label import Label
from predgen.targets.number import Number
from predgen.targets.record import Target

STARS = Number(1.0, 5.0, 0)


def config_of(**settings: Any) -> RunConfig:
    return build_config({"data": "t.csv", "target": "stars", "backbone": "builtin:nano"} | settings)


def target_of(field: Target) -> Target:
    return field


def test_the_defaults_lie_around_the_runs_own_values() -> None:
    config = config_of()
    space = space_of(config, DEFAULT_SEARCH)
    rate = PEFT_METHODS["lora"].learning_rate(256, "predgen")
    assert space == {
        "train.learning_rate": FloatDistribution(rate / 5, rate * 5, log=True),
        "train.head_learning_rate": FloatDistribution(
            TUNED_HEAD_LEARNING_RATE / 5, TUNED_HEAD_LEARNING_RATE * 5, log=True
        ),
        "model.lora_rank": CategoricalDistribution((4, 8, 16, 32)),
        "train.epochs": FloatDistribution(1.0, 6.0, log=True),
    }
    assert defaults_in(space, config, target_of(STARS)) == {
        "train.learning_rate": rate,
        "train.head_learning_rate": TUNED_HEAD_LEARNING_RATE,
        "model.lora_rank": 16,
        "train.epochs": 3.0,
    }


def test_what_does_not_apply_is_left_out_of_the_defaults() -> None:
    assert set(space_of(config_of(method="generator", max_steps=5), DEFAULT_SEARCH)) == {
        "train.learning_rate",
        "model.lora_rank",
    }
    assert set(space_of(config_of(peft="frozen", method="predictor"), DEFAULT_SEARCH)) == {
        "train.head_learning_rate",
        "train.epochs",
    }
    with pytest.raises(ConfigError, match="found none that apply to the method generator with frozen"):
        space_of(config_of(peft="frozen", method="generator", max_steps=5), DEFAULT_SEARCH)


def test_ranges_and_choices_as_texts_and_as_values_are_one() -> None:
    texts = ["learning_rate=1e-4..1e-2", "lora_rank=2..8", "model.pooling=last|mean", "standardize=true|false"]
    values: dict[str, Any] = {
        "learning_rate": (1e-4, 1e-2),
        "model.lora_rank": (2, 8),
        "pooling": ["last", "mean"],
        "standardize": [True, False],
    }
    config = config_of(method="predictor")
    assert space_of(config, texts) == space_of(config, values)
    assert space_of(config, texts) == {
        "train.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "model.lora_rank": IntDistribution(2, 8),
        "model.pooling": CategoricalDistribution(["last", "mean"]),
        "train.standardize": CategoricalDistribution([True, False]),
    }
    assert space_of(config, {"writer_weight": (0.2, 0.4)}) == {"train.writer_weight": FloatDistribution(0.2, 0.4)}


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ([], "Expected settings to search, found none"),
        (["epochs", "train.epochs"], "each setting once"),
        (["seed"], "'train.seed', which all trials share"),
        (["inputs"], "'data.inputs', which all trials share"),
        (["metric=mse|mae"], "which all trials share"),
        (["beam_width"], "Give a range or choices: --search beam_width=LOW..HIGH"),
        (["epochs=1..x"], "Expected a range such as 1e-4..1e-2"),
        (["epochs=3..1"], "low < high"),
        (["epochs=[1"], "a range LOW..HIGH or choices A|B"),
        (["lora_rank=1.5..4"], "whole ends"),
        (["lora_rank=0..4"], "greater than or equal to 1"),
        (["pooling=last|lats"], "found 'lats'"),
        (["method=auto|predictor"], "found 'auto'"),
        ({"epochs": 3}, "found 3"),
        ({"epochs": ("a", "b")}, "low < high"),
        ({"epochs": (1, 2, 3)}, "low < high"),
        ({"epochs": [[1]]}, "texts or numbers"),
        ({"epochs": []}, "a list of choices"),
    ],
)
def test_what_cannot_be_searched_is_refused(search: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        space_of(config_of(), search)
    assert message in str(refusal.value)


def test_unknown_names_are_answered_with_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'epochs'"):
        space_of(config_of(), ["epoch"])


def test_epochs_beside_a_number_of_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="no max_steps where epochs are searched"):
        space_of(config_of(max_steps=3), ["epochs"])


def test_choices_that_do_not_go_with_the_target_are_left_out() -> None:
    config = config_of()
    space = space_of(config, ["method", "director_form", "pooling=last|mean"])
    huge = target_of(Number(0.0, 1e9, 6))
    assert choices_that_go(config, space, target_of(Label(("a", "b"), ("bad", "good")))) == space
    kept = choices_that_go(config, space, huge)
    assert kept["model.director_form"] == CategoricalDistribution(["states", "states+start"])
    assert kept["model.method"] == space["model.method"]
    with pytest.raises(ConfigError, match="few enough of whose values"):
        choices_that_go(config, space_of(config, ["director_form=expectation"]), huge)


def test_settings_that_another_method_has_are_not_drawn() -> None:
    config = config_of()
    space = space_of(config, ["pooling=last|mean", "writer_weight", "head_learning_rate", "method", "epochs"])
    has = {
        "predictor": {"model.pooling", "train.head_learning_rate"},
        "generator": set(),
        "predgen": {"train.writer_weight", "train.head_learning_rate"},
    }
    study = optuna.create_study()
    for method, own in has.items():
        study.enqueue_trial({"model.method": method})
        assert set(drawn(study.ask(), space, config)) == {"model.method", "train.epochs"} | own
