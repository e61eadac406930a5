"""The report of a fitted model: its facts are those of the rows, and its page shows them as text."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import predgen
from predgen.config import command_of
from predgen.report.run_page import run_page, write_report
from tests.helpers.commands import refused, run
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {
    "inputs": ["review"],
    "batch_size": 8,
    "max_steps": 2,
    "quiet": True,
    "device": "cpu",
    "backbone": "builtin:nano",
    "calibration": 0.3,
}
HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = reviews(200)
    rows["mood"] = rows["mood"].astype(str) + HOSTILE
    rows["country"] = ["NL", "DE"] * 100
    rows.loc[0, "review"] = f"{rows.loc[0, 'review']} {HOSTILE}"
    rows.loc[199, "review"] = rows.loc[0, "review"]
    path = tmp_path_factory.mktemp("tables") / "reviews.csv"
    rows.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def models(table: Path) -> dict[str, predgen.Model]:
    return {
        "mood": predgen.fit(table, "mood", **SMALL),
        "stars": predgen.fit(table, "stars", **SMALL),
        "both": predgen.fit(table, "stars,mood", **{**SMALL, "calibration": None}),
    }


class Page(HTMLParser):
    """The tags of a page and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_figures_are_those_of_the_held_out_rows(models: dict[str, predgen.Model], table: Path) -> None:
    model = models["mood"]
    facts = predgen.describe(model)
    parts = facts["data"]["lengths"]["parts"]
    assert list(parts) == ["train", "validation", "calibration", "test"]
    assert sum(part["rows"] for part in parts.values()) == 200
    assert facts["data"]["part"] == "test"
    assert facts["comparison"]["rows"] == parts["test"]["rows"] == 20
    assert set(facts["comparison"]["methods"]) == {"mean_or_majority", "tfidf_linear", "predgen"}
    again = predgen.describe(model, table)  # which are the rows of the fit
    assert again["comparison"]["methods"]["predgen"]["metrics"] == facts["comparison"]["methods"]["predgen"]["metrics"]

    (field,) = facts["fields"]
    assert np.sum(field["counts"]) == 20
    right = np.trace(np.array(field["counts"])) / 20
    assert facts["comparison"]["methods"]["predgen"]["metrics"]["accuracy"] == pytest.approx(right)
    assert [one["level"] for one in field["coverage"]] == [0.5, 0.8, 0.9, 0.95]
    assert sum(one["rows"] for one in field["reliability"]) == 20
    (by_country,) = [one for one in facts["slices"] if one["by"] == "country"]
    shares = [one["rows"] * one["value"] for one in by_country["slices"]]
    assert sum(shares) / 20 == pytest.approx(right)


def test_rows_that_parts_share_are_counted(models: dict[str, predgen.Model], table: Path) -> None:
    rows = pd.read_csv(table)
    doubles = int(rows["review"].duplicated().sum())
    shared = predgen.describe(models["mood"])["data"]["shared"]
    assert sum(one["rows"] for one in shared["between"]) + sum(shared["inside"].values()) >= doubles > 0


def test_other_rows_stand_beside_those_of_the_fit(models: dict[str, predgen.Model], table: Path) -> None:
    rows = pd.read_csv(table).head(30)
    facts = predgen.describe(models["stars"], rows)
    assert facts["data"]["part"] == "given"
    assert list(facts["data"]["lengths"]["parts"]) == ["train", "validation", "calibration", "given"]
    evaluation = models["stars"].evaluate(rows)
    assert facts["comparison"]["methods"]["predgen"]["metrics"]["mse"] == pytest.approx(evaluation.metrics["mse"])
    worst = facts["worst"][0]
    errors = (models["stars"].predict(rows[["review"]])["prediction"] - rows["stars"]) ** 2
    assert worst["row"] == int(errors.argmax()) + 1
    assert worst["squared_error"] == pytest.approx(errors.max(), rel=1e-6)
    assert worst["inputs"] == {"review": rows["review"][worst["row"] - 1]}


def test_rows_that_are_gone_are_said(models: dict[str, predgen.Model], table: Path, tmp_path: Path) -> None:
    in_memory = predgen.fit(pd.read_csv(table), "stars", **{**SMALL, "calibration": None})
    with pytest.raises(predgen.ConfigError, match="fitted on a table in memory"):
        predgen.describe(in_memory)
    facts = predgen.describe(in_memory, pd.read_csv(table).head(25))
    assert "table in memory" in facts["data"]["missing"]
    assert list(facts["comparison"]["methods"]) == ["predgen"]
    assert "There are no baselines" in run_page(facts)


@pytest.mark.parametrize("name", ["mood", "stars", "both"])
def test_a_page_needs_no_other_file_and_runs_nothing(
    models: dict[str, predgen.Model], name: str, tmp_path: Path
) -> None:
    write_report(predgen.describe(models[name], groups=["country"]), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "img")]
    links = [attributes.get("href") for tag, attributes in page.tags if tag == "a"]
    assert all(link is not None and link.startswith("#") for link in links)
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?https?:", re.sub(r"xmlns[^>]*", "", text))
    if name != "stars":
        assert any(HOSTILE in texts for texts in page.texts)
    pictures = [attributes for tag, attributes in page.tags if attributes.get("role") == "img"]
    assert len(pictures) == sum(tag == "svg" for tag, _ in page.tags) == sum(tag == "details" for tag, _ in page.tags)
    assert all(attributes["aria-label"] for attributes in pictures)
    headings = {attributes.get("id") for tag, attributes in page.tags if tag == "section"}
    assert {str(link)[1:] for link in links} <= headings


def test_the_command_of_a_report_fits_the_same_model(models: dict[str, predgen.Model], tmp_path: Path) -> None:
    import shlex

    command = shlex.split(command_of(models["stars"].config, options=("--out", str(tmp_path / "model"))))
    run(*command[1:])
    again = predgen.load(tmp_path / "model")
    assert again.config == models["stars"].config
    assert again.record["best_metric"] == models["stars"].record["best_metric"]


def test_commands_write_reports(table: Path, tmp_path: Path) -> None:
    model, pages = tmp_path / "model", [tmp_path / f"{name}.html" for name in ("fit", "report", "compare")]
    options = ["--inputs", "review", "--backbone", "builtin:nano", "--batch-size", "8", "--set", "max_steps=1"]
    done = [run("fit", table, "--target", "stars", "--out", model, "--report", pages[0], *options)]
    done += [run("report", model, "--out", pages[1], "--json", tmp_path / "facts.json")]
    done += [run("compare", table, "--target", "stars", "--methods", "predictor", "--report", pages[2], *options)]
    assert [one.code for one in done] == [0, 0, 0], done
    assert all("<svg" in page.read_text() for page in pages)
    assert "predgen compare" in pages[2].read_text()
    assert (tmp_path / "facts.json").stat().st_size > 1000
    assert "Unknown column 'contry'. Did you mean 'country'?" in refused(
        "report", model, table, "--group", "contry", "--out", tmp_path / "none.html"
    )
    assert not (tmp_path / "none.html").exists()
