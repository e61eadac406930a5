"""Without the extras: the main job needs none of them, and what needs one says so before it begins."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from predgen.cli import demo_tables as demo
from predgen.cli.demo_tables import diabetes_patients
from predgen.errors import MissingPackageError
from predgen.measures.calibration import Calibration
from predgen.measures.statistics import bootstrap, bootstrap_interval
from predgen.tables.saving import TableWriter
from tests.helpers.commands import files_in, refused, run
from tests.helpers.tables import reviews

SHORT = ["--inputs", "review", "--set", "max_steps=2", "--batch-size", "8", "--device", "cpu", "--quiet"]


@pytest.fixture(autouse=True)
def _without_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for package in ("matplotlib", "optuna", "crepes"):  # accelerate needs psutil, so that it is always there
        for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
            monkeypatch.setitem(sys.modules, name, None)
    for name in ("predgen.report.plots", "predgen.report.information_pictures"):  # they import matplotlib anew
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    with TableWriter(tmp_path / "reviews.csv") as writer:
        writer.write(reviews(60))
    return tmp_path / "reviews.csv"


@pytest.mark.slow
def test_the_main_job_needs_no_extra(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The intervals of 1,000 resamples take longer than the rest of the test.
    monkeypatch.setattr("predgen.models.evaluating.bootstrap_interval", partial(bootstrap_interval, resamples=20))
    for command in (
        ["fit", table, "--target", "stars", "--out", "model", "--calibration", "0.2", *SHORT],
        ["predict", "model", table, "--out", "answers.csv", "--quiet"],
        ["evaluate", "model", table, "--quiet"],
    ):
        done = run(*command)
        assert done.code == 0, done
    message = "Expected the package crepes, which an interval or a set of labels (--interval) needs, found it not"
    assert message in refused("predict", "model", table, "--out", "ends.csv", "--interval", "0.5")
    assert "pip install 'predgen[conformal]'" in refused("evaluate", "model", table, "--interval", "0.5")
    assert not Path("ends.csv").exists()


@pytest.mark.slow
def test_the_demo_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "diabetes_patients", lambda: diabetes_patients().head(60))
    monkeypatch.setattr("predgen.experiments.results.bootstrap", partial(bootstrap, resamples=20))
    monkeypatch.setitem(demo.DIABETES_SETTINGS, "max_steps", 1)
    done = run("demo", "--task", "diabetes", "--quiet")
    assert done.code == 0, done


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["fit", "TABLE", "--target", "stars", "--out", "model", "--plot", "a.png"], "plots"),
        (["compare", "TABLE", "--target", "stars", "--plot", "a.png"], "plots"),
        (["ablate", "TABLE", "--target", "stars", "--plot", "a.png"], "plots"),
        (["information", "model", "--plot", "a.png"], "plots"),
        (["information", "model", "--html", "a.html"], "plots"),
        (["heatmap", "model", "--text", "words", "--html", "a.html"], "plots"),
        (["compare", "TABLE", "--target", "stars", "--trials", "2", "--runs", "runs"], "tune"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join([value[0], value[-2]]),
)
def test_a_missing_extra_is_named_before_anything_is_done(table: Path, command: list[str], extra: str) -> None:
    before = files_in(table.parent)
    assert f"pip install 'predgen[{extra}]'" in refused(*(str(table) if one == "TABLE" else one for one in command))
    assert files_in(table.parent) == before


def test_intervals_and_sets_need_the_extra() -> None:
    calibration = Calibration(1.0, (0.1, 0.2, 0.3))
    for work in (
        lambda: calibration.check(0.5),
        lambda: calibration.interval(np.zeros(2), 0.5),
        lambda: calibration.sets(np.full((2, 2), 0.5), 0.5),
    ):
        with pytest.raises(MissingPackageError, match=r"pip install 'predgen\[conformal\]'"):
            work()
