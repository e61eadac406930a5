"""Ablations: one part is switched at a time, each variant is tested against the base alone."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import predgen
from predgen.config import build_config
from predgen.experiments import ablating, comparing, results
from predgen.experiments.ablating import PARTS
from predgen.measures.statistics import bootstrap, holm
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 1, "quiet": True, "device": "cpu"}


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "bootstrap", partial(bootstrap, resamples=5))


def differing(one: Any, other: Any) -> dict[str, Any]:
    """Returns the settings of the first that differ from the second."""
    return {
        f"{section}.{name}": value
        for section, settings in one.model_dump().items()
        for name, value in settings.items()
        if value != other.model_dump()[section][name]
    }


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_part_changes_its_own_settings_alone(part: str) -> None:
    base = build_config({"data": "a.csv", "target": "stars"})
    for changes in PARTS[part].values():
        variant = base.changed(**changes)
        assert set(differing(variant, base)) <= set(changes)


@pytest.mark.slow
def test_variants_are_switched_one_at_a_time_and_tested_against_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []
    original = comparing.fit_prepared

    def spy(config: Any, *args: Any, **kwargs: Any) -> Any:
        fitted.append(config)
        return original(config, *args, **kwargs)

    monkeypatch.setattr(comparing, "fit_prepared", spy)
    found = predgen.ablate(reviews(40), "stars", parts=["loss", "standardization"], seeds=2, **SMALL, director="mean")
    names = [
        *("base", "loss=wdal", "loss=wdal_smooth", "loss=sum", "loss=uncertainty"),  # wdal_stable is the base's
        "not standardized",
    ]
    assert list(found.methods) == names
    base = fitted[0]
    assert base.model.director == "mean"
    assert [differing(one, base) for one in fitted[2::2]] == [
        *({"train.loss": name} for name in ("wdal", "wdal_smooth", "sum", "uncertainty")),
        {"train.standardize": False},
    ]
    assert [one.train.seed for one in fitted] == [0, 1] * 6
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    mse = [test for test in plain["tests"] if test["metric"] == "mse"]
    assert [(test["a"], test["b"]) for test in mse] == [(name, "base") for name in names[1:]]
    assert [test["p_holm"] for test in mse] == holm([test["p_value"] for test in mse])


def test_labels_have_no_parts_of_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: PARTS[name] for name in ("standardization", "writer_loss", "director")}
    monkeypatch.setattr(ablating, "PARTS", kept)
    found = predgen.ablate(reviews(40), "mood", **SMALL)
    assert list(found.methods) == ["base", "director=mean", "director=last"]


def test_a_variant_that_the_target_cannot_have_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ablating, "PARTS", {"writer_loss": PARTS["writer_loss"]})
    found = predgen.ablate(reviews(40), "stars", low=0.0, high=5.0, decimals=7, **SMALL)
    assert list(found.methods) == ["base", "writer_loss=number_token", "writer_loss=smoothed_digits"]
    assert "Left out 'writer_loss=expected_value': Expected at most 10,000 numbers" in caplog.text


def test_an_ablation_goes_on(tmp_path: Path) -> None:
    options: dict[str, Any] = {"parts": ["director"], "runs": tmp_path / "runs", **SMALL}
    whole = predgen.ablate(reviews(40), "mood", **options)
    (tmp_path / "runs" / "director=last-seed0.json").unlink()
    again = predgen.ablate(reviews(40), "mood", resume=True, **options)
    for name, result in whole.methods.items():
        assert result.metrics() == again.methods[name].metrics()


def test_what_cannot_be_ablated_is_refused() -> None:
    with pytest.raises(predgen.UnknownNameError, match=r"Unknown part 'los'\. Did you mean 'loss'"):
        predgen.ablate(reviews(40), "mood", parts=["los"], **SMALL)
    with pytest.raises(predgen.ConfigError, match="the method predgen, whose parts are switched, found generator"):
        predgen.ablate(reviews(40), "mood", method="generator", **SMALL)
    with pytest.raises(predgen.ConfigError, match="at least one seed, found 0"):
        predgen.ablate(reviews(40), "mood", seeds=0, **SMALL)
