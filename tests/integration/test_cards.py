"""Model cards: what the hub reads in their header, and what people read below it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from huggingface_hub import ModelCard

import predgen
from predgen.models.card import card_of
from tests.helpers.commands import refused, run
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {
    "inputs": ["review"],
    "batch_size": 8,
    "max_steps": 2,
    "quiet": True,
    "device": "cpu",
    "backbone": "builtin:nano",
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "reviews.csv"
    reviews(200).to_csv(path, index=False)
    return path


@pytest.fixture
def folder(table: Path, tmp_path: Path) -> Path:
    predgen.fit(table, "mood", out=tmp_path / "model", calibration=0.2, **SMALL)
    return tmp_path / "model"


def test_a_fitted_model_has_a_card_that_the_hub_reads(folder: Path, table: Path) -> None:
    card = ModelCard.load(folder / "README.md")
    record = predgen.load(folder).record
    assert card.data.library_name == "predgen"
    assert card.data.pipeline_tag == "text-classification"
    (figure,) = card.data.eval_results
    assert card.data.to_dict()["model-index"][0]["results"][0]["metrics"][0]["type"] == "accuracy"
    assert (figure.metric_type, figure.dataset_split, figure.dataset_name) == ("accuracy", "validation", "reviews.csv")
    assert figure.metric_value == pytest.approx(record["best_metric"], abs=1e-6)
    assert "which also chose the checkpoint" in card.text
    assert "calibrated on" in card.text
    for part in ("Intended use", "Limits", "Calibration", "How it was made"):
        assert f"\n## {part}\n" in card.text
    assert "builtin:nano" in card.text
    assert "predgen fit reviews.csv --target mood" in card.text
    assert str(folder.parent) not in card.content  # where things lay on this machine is nobody's business
    assert str(table.parent) not in card.content


def test_the_card_takes_the_figures_of_held_out_rows(folder: Path, table: Path) -> None:
    done = run("card", folder, "--interval", "0.9")
    assert done.code == 0, done
    card = ModelCard.load(folder / "README.md")
    model = predgen.load(folder)
    facts = predgen.describe(model)["comparison"]["methods"]["predgen"]
    found = {figure.metric_type: figure for figure in card.data.eval_results}
    assert found["accuracy"].metric_value == pytest.approx(facts["metrics"]["accuracy"], abs=1e-6)
    assert found["accuracy"].dataset_split == "test"
    low, high = facts["ci95"]["accuracy"]
    assert found["accuracy"].metric_name == f"accuracy, 95 % interval {low:.4g} to {high:.4g}"
    assert "of the level 0.9 held" in card.text
    assert "Unknown column 'review'" in refused("card", folder, _other(folder.parent))


def test_the_header_is_what_the_hub_reads_of_a_task_and_its_base(folder: Path) -> None:
    model = predgen.load(folder)

    def header(**data: Any) -> dict[str, Any]:
        config = model.config.model_copy(update={"data": model.config.data.model_copy(update=data)})
        contents = replace(model.contents, config=config, base_name="builtin:smollm2@1")
        evaluation = {**model.evaluate(reviews(30)).to_json(), "part": "test", "level": None}
        return dict(ModelCard(card_of(contents, model.target, evaluation)).data.to_dict())

    read = header(task="sst2@1", data="")
    assert read["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert (read["license"], read["library_name"]) == ("apache-2.0", "predgen")
    assert read["tags"] == ["predgen", "classification"]
    assert read["datasets"] == ["stanfordnlp/sst2"]
    (result,) = read["model-index"][0]["results"]
    assert result["dataset"] == {"name": "sst2@1", "type": "stanfordnlp/sst2", "split": "test"}
    assert {"accuracy", "macro_f1"} <= {metric["type"] for metric in result["metrics"]}
    assert all(isinstance(metric["value"], float) for metric in result["metrics"])
    assert header(data="org/rows")["datasets"] == ["org/rows"]
    assert "datasets" not in header(data="tables/rows.csv")
    assert "datasets" not in header(task="/mine/task.yaml", data="")


def _other(folder: Path) -> Path:
    pd.DataFrame({"text": ["x"], "mood": ["good"]}).to_csv(folder / "other.csv", index=False)
    return folder / "other.csv"


def test_the_base_model_and_its_license_are_named_where_they_are_known(folder: Path) -> None:
    model = predgen.load(folder)

    def header(name: str) -> Any:
        return ModelCard(card_of(replace(model.contents, base_name=name), model.target)).data

    assert (header("builtin:smollm2@1").base_model, header("builtin:smollm2@1").license) == (
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "apache-2.0",
    )
    assert (header("Qwen/Qwen3-0.6B").base_model, header("Qwen/Qwen3-0.6B").license) == ("Qwen/Qwen3-0.6B", None)
    assert header("/somewhere/models/mine").base_model is None
    assert "somewhere" not in card_of(replace(model.contents, base_name="/somewhere/models/mine"), model.target)
