"""The demo: its data are real, the same each time, and do not name their answer; the command runs, capped."""

import json
import re
import sys
import textwrap
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from predgen.cli import demo_tables as demo
from predgen.cli.demo_tables import (
    LIBRARIES,
    cities,
    city_pairs,
    color_names,
    diabetes_patients,
    docstring_pairs,
    docstring_sentences,
)
from predgen.errors import DataError
from predgen.measures.statistics import bootstrap
from predgen.tables.reading import read_table
from tests.helpers.commands import files_in, refused, run

# A word that names its own library; `scikit` stands for `scikit-learn`.
NAMES = {"numpy": "numpy", "scipy": "scipy", "pandas": "pandas", "scikit-learn": "scikit|sklearn", "torch": "torch"}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caps what is read, so that a test takes a second."""
    monkeypatch.setattr(demo, "SENTENCES_READ_PER_LIBRARY", 60)
    monkeypatch.setattr(demo, "SENTENCES_PER_LIBRARY", 40)


@pytest.mark.slow
def test_the_docstrings_are_about_4700_and_do_not_name_their_library() -> None:
    table = docstring_sentences()
    assert list(table.columns) == ["sentence", "library"]
    assert 4200 <= len(table) <= 5000
    assert set(table["library"]) == set(LIBRARIES) == set(NAMES)
    assert table["library"].value_counts().min() > 700
    assert table["sentence"].is_unique
    assert table["sentence"].str.split().map(len).between(5, 40).all()
    for name, own in table.groupby("library")["sentence"]:
        named = own[own.str.contains(NAMES[str(name)], case=False)]
        assert list(named) == []
    # What a linear model gets of it: far over chance (0.2), far under what the names would give away.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline

    linear = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=300))
    accuracy = cross_val_score(linear, table["sentence"], table["library"], cv=3).mean()
    assert 0.6 < accuracy < 0.8


def test_the_docstrings_are_the_same_each_time(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    table = docstring_sentences()
    pd.testing.assert_frame_equal(table, docstring_sentences())
    assert 150 <= len(table) <= 200
    # Shuffled: no library's sentences stand together.
    changes = (table["library"] != table["library"].shift()).sum()
    assert changes > len(table) / 2
    monkeypatch.setattr(demo, "SEED", 1)
    assert set(docstring_sentences()["sentence"]) != set(table["sentence"])


def test_docstrings_are_read_and_cleaned_but_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "toylib"
    (package / "tests").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('this must not run')\n")
    (package / "broken.py").write_text("def (:\n")
    (package / "tests" / "test_it.py").write_text('def f():\n    """A test of it that must be left out."""\n')
    (package / "code.py").write_text(
        textwrap.dedent(
            '''
            def one():
                """Make a ToyLib array from toylib.arrays
                over two lines. And a second sentence.

                More.
                """

            class Two:
                """Too short."""

                def three(self):
                    """Use tl and mytoylibs for all that follows!"""

            async def four():
                pass
            '''
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = sorted(demo._sentences("toylib", r"\w*toylib\w*|tl"))
    assert found == ["Make a it array from it arrays over two lines.", "Use it and it for all that follows!"]
    assert list(demo._sentences("no_such_library", "x")) == []


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_librarys_own_name_is_masked_in_every_spelling(name: str) -> None:
    spellings = {
        "numpy": ["NumPy", "np", "np.array", "numpyconfig.h", "num-py"],
        "scipy": ["SciPy", "scipy.stats", "sci-py"],
        "pandas": ["pandas", "pd", "pd.Series", "GeoPandas"],
        "scikit-learn": ["scikit-learn", "scikits-learn", "sklearn.base", "scikit"],
        "torch": ["PyTorch", "py-torch", "torch.nn", "TorchScript", "PYTORCH_ALLOC_CONF", "torchbind"],
    }[name]
    own = re.compile(rf"\b(?:{LIBRARIES[name][1]})\b\.?", re.IGNORECASE)
    for spelling in spellings:
        masked = own.sub("it ", f"a {spelling} thing")
        assert not re.search(rf"{NAMES[name]}|\bnp\b|\bpd\b|-learn", masked, re.IGNORECASE), masked
    assert own.sub("it ", "an input of components, update or expand") == "an input of components, update or expand"


def test_the_patients_are_442_sentences_with_their_figures() -> None:
    from sklearn.datasets import load_diabetes

    table = diabetes_patients()
    pd.testing.assert_frame_equal(table, diabetes_patients())
    assert list(table.columns) == ["patient", "progression"]
    assert len(table) == 442
    assert table["patient"].is_unique
    raw = load_diabetes(as_frame=True, scaled=False)
    assert Counter(table["progression"]) == Counter(int(one) for one in raw.target)
    assert (table["progression"].min(), table["progression"].max()) == (25, 346)
    # Each sentence says its own patient's figures.
    bmi = {(round(one.age), round(one.bmi, 1), round(one.bp)): y for one, y in zip(raw.data.itertuples(), raw.target)}  # noqa: B905
    pattern = r"of (\d+) years .* body mass index of ([\d.]+), a blood pressure of (\d+),"
    rows = [
        (re.search(pattern, text), truth) for text, truth in zip(table["patient"], table["progression"], strict=True)
    ]
    right = [bmi[int(found[1]), float(found[2]), int(found[3])] == truth for found, truth in rows if found]
    assert len(right) == 442
    assert np.mean(right) > 0.98  # a few patients share these three figures


def test_cities_lie_where_they_lie() -> None:
    table = cities()
    pd.testing.assert_frame_equal(table, cities())
    assert list(table.columns) == ["city", "country", "continent", "latitude"]
    assert len(table) > 350
    known = table.set_index("city").loc[["Paris", "Nairobi", "Sao Paulo", "Sydney"]]
    assert list(known["latitude"]) == [49, -1, -24, -34]
    assert list(known["continent"]) == ["Europe", "Africa", "America", "Oceania"]
    assert list(known["country"]) == ["France", "Kenya", "Brazil", "Australia"]
    assert table["continent"].value_counts().min() > 30


def test_of_two_cities_the_northern_one_is_named_and_no_city_is_in_two_parts() -> None:
    parts = city_pairs()
    assert {part: len(table) > 30 for part, table in parts.items()} == dict.fromkeys(demo.NORTH_PARTS, True)
    latitude = {f"{row.city}, {row.country}": row.latitude for row in cities().itertuples()}
    seen: list[set[str]] = []
    for part, table in parts.items():
        pd.testing.assert_frame_equal(table, city_pairs()[part])
        assert list(table.columns) == ["first", "second", "north"]
        for row in table.itertuples():
            assert latitude[str(getattr(row, str(row.north)))] == max(
                latitude[str(row.first)], latitude[str(row.second)]
            )
            assert latitude[str(row.first)] != latitude[str(row.second)]
        assert abs((table["north"] == "first").sum() - len(table) / 2) <= 0.5
        seen.append(set(table["first"]) | set(table["second"]))
    assert len(seen[0] | seen[1] | seen[2]) == len(seen[0]) + len(seen[1]) + len(seen[2])


def test_colors_have_the_lightness_that_their_channels_give() -> None:
    table = color_names()
    pd.testing.assert_frame_equal(table, color_names())
    assert list(table.columns) == ["name", "lightness"]
    assert len(table) == 949
    assert table["name"].is_unique
    known = table.set_index("name")["lightness"]
    assert known.between(0, 100).all()
    # CIE 1976 L* of sRGB white, black, and the primaries (Lindbloom's calculator).
    white, black, red, green, blue = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
    exact = {white: 100.0, black: 0.0, red: 53.24, green: 87.73, blue: 32.30}
    for channels, lightness in exact.items():
        assert demo._lightness(channels) == pytest.approx(lightness, abs=0.01)
    assert known["black"] == 0
    assert known["white"] == 100
    assert known["navy"] < known["sky"] < known["pale yellow"]


def test_colors_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.colors", None)
    with pytest.raises(DataError, match=r"Expected matplotlib.*predgen\[plots\]"):
        color_names()


def test_the_tables_are_written_for_further_commands(few: None, tmp_path: Path) -> None:
    done = run("demo", "--save-data", tmp_path / "tables")
    assert done.code == 0, done
    assert "442 rows in" in done.stdout
    docstrings, patients = (read_table(tmp_path / "tables" / f"{name}.csv") for name in ("docstrings", "diabetes"))
    assert list(docstrings["sentence"]) == list(docstring_sentences()["sentence"])
    assert [int(cell) for cell in patients["progression"]] == list(diabetes_patients()["progression"])
    # One of them is there: neither is written.
    (tmp_path / "tables" / "docstrings.csv").unlink()
    before = files_in(tmp_path)
    assert "Expected a new file, found" in refused("demo", "--save-data", tmp_path / "tables")
    assert files_in(tmp_path) == before
    assert run("demo", "--save-data", tmp_path / "tables", "--overwrite").code == 0
    assert sorted(files_in(tmp_path)) == [
        f"tables/{name}.csv"
        for name in (
            *("cities", "colors", "diabetes", "docstrings"),
            *("north/test", "north/train", "north/validation", "pairs"),
        )
    ]


@pytest.mark.slow
def test_the_demo_compares_all_methods_on_each_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = cities().head(60)
    monkeypatch.setattr(demo, "cities", lambda: places)
    monkeypatch.setattr("predgen.experiments.results.bootstrap", partial(bootstrap, resamples=20))
    for settings in (demo.CONTINENT_SETTINGS, demo.LATITUDE_SETTINGS, demo.NORTH_SETTINGS):
        assert settings["epochs"] >= 1
        monkeypatch.setitem(settings, "max_steps", 1)
    done = run("demo", "--json", tmp_path / "demo.json", "--html", tmp_path / "demo.html", "--quiet")
    assert done.code == 0, done
    found = json.loads((tmp_path / "demo.json").read_text())
    assert list(found) == ["continent", "latitude", "north"]
    methods = ["mean_or_majority", "tfidf_linear", "zero_shot", "predictor", "generator", "predgen"]
    for task, metric in (("continent", "accuracy"), ("latitude", "mse"), ("north", "accuracy")):
        assert list(found[task]["methods"]) == methods
        assert all(one["metrics"][metric] is not None for one in found[task]["methods"].values())
        tested = [one["metric"] for one in found[task]["tests"]]
        assert tested.count(metric) == 15  # every pair of six
    assert done.stdout.index("On which continent") < done.stdout.index("How far north")
    assert "predgen fit tables/cities.csv --target latitude --inputs city,country --out model" in done.stdout
    # Sixty cities are so few that a continent is in no validation row.
    assert all("labels are in no row of the 6 validation rows" in line for line in done.stderr.splitlines())
    assert all(f"  {method}: " in done.stdout for method in methods)  # each row is explained
    assert str(tmp_path / "demo.html") in done.stdout
    page = (tmp_path / "demo.html").read_text()
    assert page.count("<table>") == 9  # the methods, the tests, and the figures behind the chart, three times
    assert page.count("<svg") == 3
    assert "How far north is a city" in page


def test_of_a_real_model_the_last_layers_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def compare(*_: Any, trained_layers: Any, **__: Any) -> Any:
        given.append(trained_layers)
        raise DataError("enough")

    monkeypatch.setattr("predgen.compare", compare)
    for backbone in ("builtin:nano", "builtin:smollm2"):
        monkeypatch.setenv("PREDGEN_BACKBONE", backbone)
        refused("demo", "--task", "latitude")
    assert given == [None, 10]


def test_half_of_the_pairs_belong_together(few: None) -> None:
    table = docstring_pairs()
    pd.testing.assert_frame_equal(table, docstring_pairs())
    assert list(table.columns) == ["signature", "sentence", "match"]
    assert table["match"].value_counts()["yes"] == pytest.approx(len(table) / 2, abs=len(LIBRARIES))
    assert table["signature"].is_unique
    matches = table[table["match"] == "yes"]
    assert len(matches) > 20
    # A sentence of the other half stands beside no function of its own.
    assert not set(matches["sentence"]) & set(table[table["match"] == "no"]["sentence"])


def test_one_task_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def compared(task: str, quiet: bool) -> dict[str, Any]:
        asked.append((task, quiet))
        return {"methods": {}, "tests": [], "rows": 0, "part": "test"}

    monkeypatch.setattr("predgen.cli.demo._compare", compared)
    done = run("demo", "--task", "diabetes", "--json", tmp_path / "one.json")
    assert asked == [("diabetes", False)]
    assert list(json.loads((tmp_path / "one.json").read_text())) == ["diabetes"]
    assert "disease progressed" in done.stdout
    assert "docstring's first sentence" not in done.stdout
    assert run("demo", "--quiet").code == 0
    assert asked[1:] == [("continent", True), ("latitude", True), ("north", True)]


def test_what_the_demo_says_to_do_next_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: None) -> None:
    def compared(task: str, quiet: bool) -> dict[str, Any]:
        return {"methods": {}, "tests": [], "rows": 0, "part": "test"}

    monkeypatch.setattr("predgen.cli.demo._compare", compared)
    monkeypatch.chdir(tmp_path)
    said = run("demo", "--task", "latitude").stdout
    commands = [line.split()[1:] for line in said.partition("Next:")[2].splitlines() if "predgen" in line]
    assert [command[0] for command in commands] == ["demo", "fit", "predict"]
    for command in commands:
        once = ["--set", "max_steps=1"] if command[0] == "fit" else []
        assert run(*command, *once).code == 0, command
    assert len(read_table(tmp_path / "answers.csv")) == len(cities())


def test_the_demos_settings_are_settings() -> None:
    from predgen.config import section_of

    for settings, inputs in (
        (demo.DOCSTRINGS_SETTINGS, ["sentence"]),
        (demo.CONTINENT_SETTINGS, ["city", "country"]),
        (demo.LATITUDE_SETTINGS, ["city", "country"]),
        (demo.NORTH_SETTINGS, ["first", "second"]),
        (demo.COLORS_SETTINGS, ["name"]),
        (demo.PAIRS_SETTINGS, ["signature", "sentence"]),
        (demo.DIABETES_SETTINGS, ["patient"]),
    ):
        assert settings["inputs"] == inputs
        assert all(section_of(name) for name in settings)
