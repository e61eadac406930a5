"""Files of predictions: the figures of `compare`, rows matched by id or order, or refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

import predgen
from predgen.errors import DataError, PredGenError
from tests.helpers.commands import refused, run

ROWS = 60


def labels_table() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    return pd.DataFrame({"key": np.arange(ROWS) + 100, "text": [f"t{row}" for row in range(ROWS)]}).assign(
        mood=draw.choice(["good", "bad", "so so"], ROWS)
    )


def answers_to(truth: pd.Series, wrong: float, seed: int) -> pd.Series:
    draw = np.random.default_rng(seed)
    return truth.where(draw.random(len(truth)) > wrong, draw.permutation(truth.to_numpy()))


def test_labels_have_the_metrics_of_scikit_learn_and_paired_tests() -> None:
    truth = labels_table()
    files = {
        name: truth[["key", "text"]].assign(prediction=answers_to(truth["mood"], wrong, seed))
        for seed, (name, wrong) in enumerate({"few": 0.1, "many": 0.8}.items())
    }
    comparison = predgen.compare_files(truth, files, "mood")
    found = comparison.to_frame()
    for name, table in files.items():
        assert found.loc[name, "accuracy"] == pytest.approx(sk.accuracy_score(truth["mood"], table["prediction"]))
        assert found.loc[name, "macro_f1"] == pytest.approx(
            sk.f1_score(truth["mood"], table["prediction"], average="macro")
        )
    (test,) = (one for one in comparison.to_json()["tests"] if one["metric"] == "accuracy")
    assert (test["a"], test["b"]) == ("few", "many")
    assert test["p_value"] < 0.01
    assert test["ci95"][0] < test["difference"] < test["ci95"][1]


def test_probabilities_of_labels_are_scored_also_of_one_that_no_true_row_has() -> None:
    truth = labels_table()
    shares = np.random.default_rng(1).dirichlet([1, 1, 1, 1], ROWS)
    names = ["bad", "good", "so so", "rare"]
    table = truth[["key"]].assign(prediction=[names[row] for row in shares.argmax(axis=1)])
    table[[f"probability_{name}" for name in names]] = shares.round(3)
    found = predgen.compare_files(truth, {"one": table}, "mood", id="key").to_json()["methods"]["one"]
    scaled = shares.round(3) / shares.round(3).sum(axis=1, keepdims=True)
    expected = -np.log(scaled[np.arange(ROWS), [names.index(mood) for mood in truth["mood"]]]).mean()
    assert found["metrics"]["log_loss"] == pytest.approx(expected)
    assert found["invalid_fraction"] == 0


def test_numbers_stand_as_they_are_and_what_is_none_is_invalid() -> None:
    truth = pd.DataFrame({"stars": [0.0, 1.5, 3.0, 4.5, 5.0, 2.5]})
    answers = ["7.25", 1.5, "none", -3, None, 2.4999]
    found = predgen.compare_files(truth, {"one": pd.DataFrame({"stars": answers}).astype(object)}, "stars").to_json()
    figures = found["methods"]["one"]
    assert figures["metrics"]["mse"] == pytest.approx(np.mean([7.25**2, 0, 7.5**2, 0.0001**2]))
    assert figures["metrics"]["exact_match"] == pytest.approx(1 / 6)
    assert figures["invalid_fraction"] == pytest.approx(2 / 6)
    assert figures["train_seconds"] is None
    whole = pd.DataFrame({"stars": [0.0, 1.5, 3.0, 4.5, 5.0, 2.5]})
    assert list(predgen.compare_files(truth, whole, "stars").methods) == ["file 1"]


def test_rows_are_matched_by_id_whatever_their_order_and_what_lacks_is_said() -> None:
    truth = labels_table()
    whole = truth[["key"]].assign(prediction=truth["mood"])
    shuffled = whole.sample(frac=1, random_state=0)
    assert predgen.compare_files(truth, {"a": shuffled}, "mood", id="key").to_frame().loc["a", "accuracy"] == 1
    part = pd.concat([shuffled.head(50), pd.DataFrame({"key": [1, 2], "prediction": ["bad", "good"]})])
    with pytest.warns(predgen.UnmatchedRowsWarning, match=r"'b' lacks 10 rows .* and has 2 rows that the truth lacks"):
        comparison = predgen.compare_files(truth, {"a": shuffled, "b": part}, "mood", id="key")
    assert comparison.to_json()["rows"] == 50


def test_our_own_predictions_have_the_figures_of_evaluate(tmp_path: Path) -> None:
    from tests.helpers.tables import reviews

    table = reviews(40)
    model = predgen.fit(
        table,
        "mood",
        inputs=["review"],
        method="predictor",
        max_steps=2,
        backbone="builtin:nano",
        device="cpu",
        quiet=True,
    )
    asked = reviews(30, seed=3)
    model.predict(asked, probabilities=True).to_csv(tmp_path / "ours.csv", index=False)
    found = predgen.compare_files(asked, [tmp_path / "ours.csv"], "mood").to_json()["methods"]["ours"]
    expected = model.evaluate(asked)
    assert found["metrics"] == pytest.approx(expected.metrics, rel=1e-5)
    assert found["ci95"]["accuracy"] == pytest.approx(expected.ci95["accuracy"])


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda table: table.head(59), {}, r"Expected 60 rows in 'a', .* found 59"),
        (lambda table: table.iloc[::-1], {}, r"'a' in the order of the truth in row 60, column 'key'"),
        (lambda table: pd.concat([table, table.head(1)]), {"id": "key"}, r"every id of 'a' once .*found '100' again"),
        (
            lambda table: table.assign(key=None).head(1),
            {"id": "key"},
            r"every id of 'a' once in row 1, .*found an empty cell",
        ),
        (lambda table: table.assign(key=0).head(1), {"id": "key"}, "truth and all files share, found none"),
        (lambda table: table.drop(columns="prediction"), {}, "'prediction'"),
        (lambda table: table, {"id": "number"}, "'number'"),
        (lambda table: table, {"against": "b"}, "Unknown file 'b'"),
        (lambda table: table, {"kinds": "label"}, "Did you mean 'kind'"),
        (lambda table: table.assign(probability_good=0.5), {}, "'probability_bad' in 'a' beside those of the other"),
        (
            lambda table: table.assign(probability_good=0.5, probability_bad=0.1, **{"probability_so so": 0.1}),
            {},
            r"that sum up to 1 in 'a' in row 1, found",
        ),
        (
            lambda table: table.assign(probability_good="x", probability_bad=0.5, **{"probability_so so": 0.5}),
            {},
            r"in row 1, found",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(change: Any, options: dict[str, Any], message: str) -> None:
    truth = labels_table()
    table = change(truth[["key", "text"]].assign(prediction=truth["mood"]))
    with pytest.raises(PredGenError, match=message):
        predgen.compare_files(truth, {"a": table}, "mood", **options)


def test_the_command_writes_table_page_and_picture(tmp_path: Path) -> None:
    truth = labels_table()
    truth.to_csv(tmp_path / "truth.csv", index=False)
    for seed, name in enumerate(("a", "b")):
        truth[["key"]].assign(prediction=answers_to(truth["mood"], 0.5, seed)).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    files = [tmp_path / f"{name}.csv" for name in ("truth", "a", "b")]
    out = [tmp_path / name for name in ("a.json", "a.html", "a.md", "a.svg")]
    done = run(
        *("compare-files", *files, "--target", "mood", "--id", "key", "--against", "a", "--json", out[0]),
        *("--report", out[1], "--markdown", out[2], "--plot", out[3]),
    )
    assert done.code == 0, done.stderr
    assert "60 matched rows" in done.stdout
    assert json.loads(out[0].read_text())["tests"][0]["b"] == "a"
    assert "60 rows that the truth and all files have." in out[1].read_text()
    assert "predgen compare-files" in out[1].read_text()
    assert all(path.stat().st_size > 300 for path in out)
    assert "/a' twice" in refused("compare-files", *files, tmp_path / "a.csv", "--target", "mood")
    alone = run("compare-files", *files[:2], "--target", "mood", "--markdown", tmp_path / "alone.md")
    assert "60 matched rows" in alone.stdout
    assert "Paired tests" in done.stdout
    assert "Paired tests" not in alone.stdout
    assert "difference" not in (tmp_path / "alone.md").read_text()
    with pytest.raises(DataError):
        predgen.compare_files(truth, {"a": truth.head(3)}, "mood")
