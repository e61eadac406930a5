"""The tasks of the benchmark: their YAML, and every one on rows of its exact format."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import predgen
from predgen.backbones.template import Template
from predgen.catalogue import check_task, flat_table, held_out_flat, load_task, local_folder, task_rows, tasks
from predgen.catalogue.loading import FOLDER, parse_task
from predgen.catalogue.schema import Task
from predgen.catalogue.settings import build_task_config
from predgen.errors import ConfigError, DataError, UnknownNameError
from predgen.experiments.reproduction.grid import presets
from predgen.tables.reading import read_table
from predgen.targets.label import infer_label
from predgen.training.preparing import prepare
from tests.helpers.task_rows import MADE, write_rows

FIRST_FIVE = ["boolq", "piqa", "social_i_qa", "hellaswag", "winogrande"]
TRANSFER = ["multiarith", "addsub", "singleeq"]
YAML = """
name: mine
version: 1
title: Mine
description: Rows of mine.
columns: {text: text, mark: integer, tags: texts, nested: {one: texts, two: any}}
splits:
  train: {from: train}
  validation: {from: train, share: 0.25}
  test: {from: test}
make:
  all_tags: {how: names, of: tags, word: tag}
template: "{text} {all_tags}"
target: {column: mark, kind: label, label_text: {0: "no", 1: "yes"}}
metrics: [accuracy]
licence: mine
citation: {authors: Me, title: Mine, venue: Home, year: 2026}
"""


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREDGEN_DATA_DIR", raising=False)


def mine(old: str = "", new: str = "") -> str:
    assert old in YAML
    return YAML.replace(old, new) if old else YAML


# ── The catalogue ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_catalogue_is_complete() -> None:
    assert len(tasks()) == 21
    assert {path.name for path in Path(str(FOLDER)).iterdir()} == {f"{name}.yaml" for name in tasks()}
    assert predgen.tasks() == tasks()
    assert predgen.load_task("sick@1").reference == "sick@1"


@pytest.mark.parametrize("name", predgen.tasks())
def test_every_task_is_whole(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    assert task.licence
    assert task.citation.authors
    assert task.template == task.template.strip()
    assert {"regression": "mse", "arithmetic": "exact_match"}.get(task.group, "accuracy") == task.metrics[0]
    if task.group == "regression":
        assert set(task.metrics) == {"mse", "mae", "pearson", "spearman"}
    assert (task.splits.test.split == "validation") == (name in FIRST_FIVE)
    assert (task.splits.train.task == "gsm8k") == (name in TRANSFER)
    for part in (task.splits.train, task.splits.validation):
        if part.task is not None:
            assert set(task.inputs) <= set(load_task(part.task).inputs)


def test_an_unknown_task_is_answered_with_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown task 'helaswag'\. Did you mean 'hellaswag'\?"):
        load_task("helaswag")
    with pytest.raises(ConfigError, match=r"Expected version 1 of the task 'sick', found '7'"):
        load_task("sick@7")


@pytest.mark.parametrize("name", predgen.tasks())
@pytest.mark.parametrize("form", ["rows", "jsonl", "parquet", "datasets"])
def test_rows_become_prompts_and_answers(name: str, form: str, tmp_path: Path) -> None:
    rows, prompts, answers, texts = MADE[name]
    assert len(rows) >= 2
    source: Any = rows
    if form == "jsonl":
        source = write_rows(tmp_path, {"test": rows}) / "test.jsonl"
    elif form == "parquet":
        source = tmp_path / "test.parquet"
        pd.DataFrame(rows).to_parquet(source)
    elif form == "datasets":
        import datasets

        keys = {key for row in rows for key in row}
        source = datasets.Dataset.from_list([{key: row.get(key) for key in keys} for row in rows])
    task = load_task(name)
    flat = flat_table(task, read_table(source))
    template = Template.parse(task.template, list(flat.columns))
    found = [{str(key): cell for key, cell in row.items()} for row in flat.to_dict("records")]
    assert [template.render(row) for row in found] == prompts
    assert flat[task.target.column].tolist() == answers
    splits = {"train": flat, "validation": flat, "test": flat}
    prepared = prepare(build_task_config({"data.task": name}).data.model_copy(update={"task": None}), splits, 0)
    assert [prepared.target.to_text(value) for value in prepared.train_values] == texts
    assert prepared.template.text == task.template


def test_a_label_that_no_training_row_has_is_known() -> None:
    label = infer_label(["1", "1"], {"1": "answer1", "2": "answer2", "3": "answer3"}, declared=("1", "2", "3"))
    assert label.values == ("1", "2", "3")
    assert label.words == ("answer1", "answer2", "answer3")
    # Types are those of the table where it has the label.
    assert infer_label([1, 0], declared=("0", "1")).values == (0, 1)
    flat = flat_table(load_task("piqa"), read_table([row for row in MADE["piqa"][0] if row["label"] == 0]))
    config = build_task_config({"data.task": "piqa"}).data.model_copy(update={"task": None})
    target = prepare(config, {"train": flat, "validation": flat}, 0).target
    assert target.describe() == "2 labels: 0=solution1, 1=solution2"
    with pytest.raises(DataError, match=r"Row 1, column 'label': Expected one of the labels 0, 1, found '2'"):
        prepare(config, {"train": flat.assign(label=2), "validation": flat}, 0)


# ── Cells that are not what the columns say ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("boolq", {"answer": "maybe"}, r"Expected true or false in row 2, column 'answer', found 'maybe'\."),
        ("piqa", {"label": 0.5}, r"Expected a whole number in row 2, column 'label', found '0\.5'\."),
        ("piqa", {"goal": " "}, r"Expected a text in row 2, column 'goal', found an empty cell\."),
        ("hellaswag", {"endings": "none"}, r"Expected a list of texts in row 2, column 'endings', found 'none'\."),
        ("arc_easy", {"choices": {"text": ["a"]}}, r"Expected a cell with text and label in row 2, column 'choices'"),
        (
            "arc_easy",
            {"choices": {"text": ["a", "b"], "label": ["A"]}},
            r"Expected lists of one length in text and label in row 2, column 'choices'",
        ),
        ("arc_easy", {"answerKey": "F"}, r"Expected one of 1, 2, 3, 4, 5 in row 2, column 'answerKey', found 'F'\."),
        ("gsm8k", {"answer": "It is 4."}, r"a text with '####' before its answer in row 2, column 'answer'"),
        ("humicroedit", {"original": "No mark"}, r"a text with one mark <word/> in row 2, column 'original', found 0"),
        ("stsb", {"label": "high"}, r"Expected a number in row 2, column 'label', found 'high'\."),
    ],
)
def test_a_wrong_cell_is_said_with_its_place(name: str, changes: dict[str, Any], message: str) -> None:
    rows = [MADE[name][0][0], MADE[name][0][1] | changes]
    with pytest.raises(DataError, match=message):
        flat_table(load_task(name), read_table(rows))


@pytest.mark.parametrize(
    ("making", "cells", "expected"),
    [
        ("how: after_mark, of: free, mark: x", ["axb", 4], "a text"),
        ("how: unmarked, of: free", ["a <b/>", None], "a text"),
        ("how: filled, of: text, by: free", ["b", 4.5], "a text"),
        ("how: numbered, of: free, word: tag", [["a"], "axb"], "a list of texts"),
        ("how: names, of: free, word: tag", ['["a"]', 4], "a list of texts"),
        ("how: position, of: text, among: free", [["a <b/>"], [1, 2]], "a list of texts"),
    ],
)
def test_a_free_cell_of_another_type_than_is_made_of_is_said(making: str, cells: list[Any], expected: str) -> None:
    yaml = mine("tags: texts,", "tags: texts, free: any,").replace("how: names, of: tags, word: tag", making)
    task = parse_task(yaml, "mine.yaml")
    rows = [{"text": "a <b/>", "mark": 1, "free": cell} for cell in cells]
    assert flat_table(task, read_table(rows[:1]))["all_tags"].tolist()[0]
    with pytest.raises(DataError, match=rf"Expected {expected} in row 2, column 'free', found"):
        flat_table(task, read_table(rows))


def test_a_missing_column_is_said() -> None:
    rows = [{"goals": "x", "sol1": "a", "sol2": "b", "label": 0}]
    with pytest.raises(UnknownNameError, match=r"Unknown column of the task piqa 'goal'\. Did you mean 'goals'\?"):
        flat_table(load_task("piqa"), read_table(rows))


def test_rows_without_answers_can_be_made_flat() -> None:
    rows = [{key: cell for key, cell in row.items() if key != "answerKey"} for row in MADE["arc_easy"][0]]
    flat = flat_table(load_task("arc_easy"), read_table(rows), with_target=False)
    assert flat["answer_format"].tolist()[0] == "answer1/answer2/answer3"
    assert "answer" not in flat.columns
    with pytest.raises(UnknownNameError, match="answerKey"):
        flat_table(load_task("arc_easy"), read_table(rows))


# ── Parts ────────────────────────────────────────────────────────────────────────────────────────────────────


def many(name: str, count: int) -> list[dict[str, Any]]:
    rows = MADE[name][0]
    return [rows[number % len(rows)] | {"number": number} for number in range(count)]


@pytest.mark.parametrize("where", ["own folder", "folder above", "PREDGEN_DATA_DIR"])
def test_official_parts_are_read_from_folders(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_rows(tmp_path / "sick", {part: many("sick", n) for part, n in (("train", 4), ("test", 3))})
    write_rows(folder, {"validation": many("sick", 2)})
    data: Path | None = {"own folder": folder, "folder above": tmp_path}.get(where)
    if data is None:
        monkeypatch.setenv("PREDGEN_DATA_DIR", str(tmp_path))
    assert local_folder(load_task("sick"), data) == folder
    found = task_rows(load_task("sick"), data)
    assert {part: table["number"].tolist() for part, table in found.parts.items()} == {
        "train": [0, 1, 2, 3],
        "validation": [0, 1],
        "test": [0, 1, 2],
    }
    assert (found.origin, found.note, found.is_fallback) == (f"'{folder}'", None, False)


def test_a_folder_is_only_of_the_tasks_that_its_rows_fit(tmp_path: Path) -> None:
    own = write_rows(tmp_path / "own", {"test": many("gsm8k", 4)})
    assert [name for name in tasks() if local_folder(load_task(name), own)] == ["gsm8k"]
    named = write_rows(tmp_path / "arc_easy", {"test": many("arc_easy", 4)})
    assert [name for name in tasks() if local_folder(load_task(name), named)] == ["arc_easy"]
    # Whoever names it as the task's own is told what does not fit.
    with pytest.raises(UnknownNameError, match="Unknown column of the task sst2 'sentence'"):
        task_rows(load_task("sst2"), write_rows(own, dict.fromkeys(("train", "validation"), many("gsm8k", 4))))


def test_a_named_folder_stands_above_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, count in (("named", 3), ("variable", 5)):
        write_rows(tmp_path / place / "stsb", dict.fromkeys(("train", "validation", "test"), many("stsb", count)))
    monkeypatch.setenv("PREDGEN_DATA_DIR", str(tmp_path / "variable"))
    assert len(task_rows(load_task("stsb")).parts["test"]) == 5
    assert len(task_rows(load_task("stsb"), tmp_path / "named").parts["test"]) == 3
    with pytest.raises(DataError, match=r"Expected the rows of the task 'sick' in '.*named'.*found none"):
        task_rows(load_task("sick"), tmp_path / "named")
    with pytest.raises(DataError, match=r"found no such folder"):
        task_rows(load_task("sick"), tmp_path / "nowhere")


@pytest.mark.parametrize("name", FIRST_FIVE)
def test_the_validation_split_is_the_test_part(name: str, tmp_path: Path) -> None:
    write_rows(tmp_path, {"train": many(name, 100), "validation": many(name, 7)})
    found = task_rows(load_task(name), tmp_path)
    assert sorted(found.parts["test"]["number"]) == list(range(7))
    train, chosen = (found.parts[part]["number"].tolist() for part in ("train", "validation"))
    assert len(chosen) == 5
    assert sorted(train + chosen) == list(range(100))
    for part in (train, found.parts["test"]["number"].tolist()):
        assert (part == sorted(part)) != load_task(name).shuffle
    assert chosen != sorted(chosen)[:5] or max(chosen) > 4  # drawn, not the first ones
    assert found.note is not None
    assert "official validation split" in found.note
    again = task_rows(load_task(name), tmp_path).parts["validation"]["number"].tolist()
    assert again == chosen


def test_without_a_training_file_hellaswag_splits_its_validation_file_and_says_so(tmp_path: Path) -> None:
    write_rows(tmp_path, {"validation": many("hellaswag", 100)})
    found = task_rows(load_task("hellaswag"), tmp_path)
    assert {part: len(table) for part, table in found.parts.items()} == {"train": 72, "validation": 8, "test": 20}
    assert sorted(n for table in found.parts.values() for n in table["number"]) == list(range(100))
    assert found.is_fallback
    assert found.note is not None
    assert "Figures do not compare" in found.note


@pytest.mark.parametrize("name", TRANSFER)
def test_test_only_tasks_are_trained_on_gsm8k(name: str, tmp_path: Path) -> None:
    own = write_rows(tmp_path / name, {"test": many(name, 4)})
    with pytest.raises(DataError, match=r"could not be reached|Expected"):
        task_rows(load_task(name), own)
    write_rows(tmp_path / "gsm8k", {"train": many("gsm8k", 40), "test": many("gsm8k", 2)})
    for data in (tmp_path, own):
        found = task_rows(load_task(name), data)
        assert {part: len(table) for part, table in found.parts.items()} == {"train": 36, "validation": 4, "test": 4}
        assert set(found.parts["train"]["answer"]) == {"1200", "-2"}
        assert set(found.parts["test"]["answer"]) == {"5", "9"}
        assert found.note is not None
        assert "transfer" in found.note


def test_sorted_files_are_shuffled_by_a_fixed_seed(tmp_path: Path) -> None:
    write_rows(tmp_path, dict.fromkeys(("train", "validation", "test"), many("wassa", 50)))
    numbers = [task_rows(load_task("wassa"), tmp_path).parts["train"]["number"].tolist() for _ in range(2)]
    assert numbers[0] == numbers[1]
    assert numbers[0] != sorted(numbers[0])
    assert sorted(numbers[0]) == list(range(50))


def test_rows_are_counted_as_in_their_file(tmp_path: Path) -> None:
    rows = many("boolq", 30)
    rows[17] = rows[17] | {"answer": "perhaps"}
    write_rows(tmp_path, {"train": rows, "validation": rows[:3]})
    with pytest.raises(DataError, match="in row 18, column 'answer', found 'perhaps'"):
        task_rows(load_task("boolq"), tmp_path)


def test_a_missing_split_and_missing_rows_are_said(tmp_path: Path) -> None:
    write_rows(tmp_path, {"train": many("sick", 4), "test": many("sick", 3)})
    with pytest.raises(DataError, match=r"Expected the split validation of the task 'sick' in .*, found train, test\."):
        task_rows(load_task("sick"), tmp_path)
    with pytest.raises(DataError, match=r"PREDGEN_DATA_DIR \(not set\), and the task is not on the hub in this form"):
        task_rows(load_task("wassa"))
    write_rows(tmp_path / "svamp", {"train": many("svamp", 1), "test": many("svamp", 1)})
    with pytest.raises(DataError, match=r"Expected rows enough for the parts train and validation of 'svamp', found 1"):
        task_rows(load_task("svamp"), tmp_path)


# ── The hub ──────────────────────────────────────────────────────────────────────────────────────────────────

# What the hub calls splits and columns, where its names are not ours.
HUB_SPLITS = {"stsb": {"validation": "dev"}}
HUB_COLUMNS = {"stsb": {"label": "similarity_score"}, "multiarith": {"answer": "final_ans"}}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Returns what is on a hub made for the test (id → splits), and under "asked" what was asked for."""
    import datasets

    there: dict[str, Any] = {"asked": []}

    def load_dataset(path: str, **given: str) -> Any:
        there["asked"].append((path, given))
        return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in there[path].items()})

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    return there


@pytest.mark.parametrize("name", [name for name in predgen.tasks() if load_task(name).hub is not None])
def test_tasks_are_read_from_the_hub(name: str, hub: dict[str, Any]) -> None:
    task = load_task(name)
    assert task.hub is not None
    gsm8k = load_task("gsm8k").hub
    assert gsm8k is not None
    names = {"train": "train", "validation": "validation", "test": "test"} | HUB_SPLITS.get(name, {})
    columns = HUB_COLUMNS.get(name, {})
    rows = [{columns.get(key, key): cell for key, cell in row.items()} for row in many(name, 40)]
    keys = dict.fromkeys(key for row in rows for key in row)
    rows = [{key: row.get(key) for key in keys} for row in rows]
    hub[gsm8k.id] = {"train": [{"question": "q", "answer": "#### 3"}] * 40}
    hub[task.hub.id] = {split: rows for split in names.values()}
    found = task_rows(task)
    given = {"name": task.hub.config, "revision": task.hub.revision}
    assert hub["asked"][0] == (task.hub.id, {key: value for key, value in given.items() if value is not None})
    assert f"the hub's {task.hub.id}" in found.origin
    template = Template.parse(task.template, list(found.parts["test"].columns))
    shown = [template.render({str(k): v for k, v in row.items()}) for row in found.parts["test"].to_dict("records")]
    assert set(shown) == set(MADE[name][1])
    assert set(found.parts["test"][task.target.column]) == set(MADE[name][2])
    assert all(len(table) > 0 for table in found.parts.values())


def test_hidden_answers_of_the_hub_are_not_used(hub: dict[str, Any]) -> None:
    hidden = [row | {"label": -1} for row in many("sst2", 6)]
    hub["stanfordnlp/sst2"] = {"train": many("sst2", 100), "validation": many("sst2", 8), "test": hidden}
    found = task_rows(load_task("sst2"))
    assert {part: len(table) for part, table in found.parts.items()} == {"train": 98, "validation": 2, "test": 8}
    assert found.note == "The test answers are hidden; the test part is the official validation split."


def test_several_splits_of_the_hub_can_be_one(hub: dict[str, Any]) -> None:
    rows = [{"question": row["question"], "final_ans": row["answer"]} for row in many("multiarith", 10)]
    hub["ChilleD/MultiArith"] = {"train": rows[:7], "test": rows[7:]}
    hub["openai/gsm8k"] = {"train": many("gsm8k", 20)[:1] * 20}
    found = task_rows(load_task("multiarith")).parts["test"]
    assert len(found) == 10
    assert found.index.tolist() == list(range(10))


# ── A user's own task ────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_of_ones_own_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(YAML)
    task = predgen.load_task(tmp_path / "mine.yaml")
    assert isinstance(task, Task)
    assert task.inputs == ("text", "all_tags")
    assert check_task(tmp_path / "mine.yaml").problems == ()


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        ("version: 1", "version: one", ["version: Input should be a valid integer", "found 'one'"]),
        ("title: Mine\n", "", ["title: Field required"]),
        ("title: Mine\n", "title: Mine\ncolour: red\n", ["colour: Extra inputs are not permitted"]),
        ("{text} {all_tags}", "{txt}", ["template:", "Unknown column in the template 'txt'. Did you mean 'text'?"]),
        ("{text} {all_tags}", "{text} {tags}", ["Unknown column in the template 'tags'"]),
        ("{text} {all_tags}", "{text} {mark}", ["template: expected fields other than the target, found 'mark'"]),
        ("column: mark", "column: marks", ["target.column: expected one of text, mark, all_tags, found 'marks'"]),
        (', label_text: {0: "no", 1: "yes"}', "", ["target: expected label_text with two labels or more"]),
        ("kind: label", "kind: number", ["target: expected low, high and decimals for the kind number"]),
        (
            "[accuracy]",
            "[acuracy]",
            ["metrics: expected one of accuracy, balanced_accuracy", "found 'acuracy'"],
        ),
        (
            "[accuracy]",
            "[accuracy, macro_f1, accuracy]",
            ["metrics: expected every metric once, found 'accuracy' twice"],
        ),
        ('0: "no", 1: "yes"', '0: "yes", 1: "yes"', ["target: Expected every word once, found 'yes' twice"]),
        ("of: tags", "of: tag", ["make.all_tags.of: expected one of text, mark, tags, nested.one", "found 'tag'"]),
        ("of: tags", "of: nested", ["make.all_tags.of: expected one of", "found 'nested'"]),
        (
            "of: tags",
            "of: text",
            ["make.all_tags.of: expected a column of the type texts, found 'text' of type text"],
        ),
        (
            "how: names, of: tags, word: tag",
            "how: position, of: text, among: mark",
            ["make.all_tags.among: expected a column of the type texts, found 'mark' of type integer"],
        ),
        (
            "how: names, of: tags, word: tag",
            "how: after_mark, of: nested.one, mark: x",
            ["make.all_tags.of: expected a column of the type text, found 'nested.one' of type texts"],
        ),
        (
            "how: names, of: tags, word: tag",
            "how: filled, of: text, by: mark",
            ["make.all_tags.by: expected a column of the type text, found 'mark' of type integer"],
        ),
        ('0: "no"', "0: no", ["target.label_text.0: Input should be a valid string (found 'False')"]),
        ("how: names", "how: magic", ["make.all_tags: Input tag 'magic'"]),
        ("all_tags: {how", "mark: {how", ["make: expected names that no column has, found 'mark'"]),
        ("share: 0.25", "share: 1.5", ["splits.validation.share: Input should be less than 1"]),
        (", share: 0.25", "", ["splits: expected one part without a share", "train —, validation —"]),
        ("name: mine", "name: mine\nname: yours", ["found a mistake", "the key 'name' twice", "line 3"]),
        ("metrics: [accuracy]", "metrics: [accuracy", ["Expected YAML in 'mine.yaml', found a mistake"]),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_place(old: str, new: str, messages: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        parse_task(mine(old, new), "mine.yaml")
    for message in messages:
        assert message in str(error.value)


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        parse_task(mine("title: Mine\n").replace("version: 1", "version: 0"), "mine.yaml")
    assert len(re.findall(r"^  \w+: ", str(error.value), flags=re.MULTILINE)) == 2


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Expected a readable YAML file of a task, found none at '.*none\.yaml'"):
        load_task(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"Expected a mapping in 'x', found list"):
        parse_task("[1]", "x")


def test_rows_are_checked_against_the_task(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(YAML)
    rows = [{"text": f"row {n}", "mark": n % 2, "tags": ["a", "b"], "nested": None} for n in range(8)]
    data = write_rows(tmp_path / "mine", {"train": rows, "test": rows})
    good = check_task(tmp_path / "mine.yaml", data)
    assert (good.rows, good.problems) == ({"train": 6, "validation": 2, "test": 8}, ())
    assert good.example is not None
    assert good.example["prompt"].endswith(" tag1/tag2")
    assert good.example["answer"] in ("no", "yes")
    rows[3]["mark"], rows[5]["mark"] = 4, 4
    write_rows(data, {"test": rows})
    (found,) = check_task(tmp_path / "mine.yaml", data).problems
    assert found == (
        "test: Expected one of the labels 0, 1 in row 4, column 'mark', found '4' (2 rows in all). Correct the task's "
        "target, or the rows."
    )
    rows[0]["tags"] = []
    write_rows(data, {"test": rows})
    (found,) = check_task(tmp_path / "mine.yaml", data).problems
    assert found.startswith("Expected a list of texts in row 1, column 'tags', found '[]'.")


def test_a_part_of_an_unknown_task_is_said_without_any_rows(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    other = "splits:\n  train: {from: train, task: nope}\n  validation: {from: validation}\n  test: {from: test}\nmake:"
    named = re.sub(r"splits:.*\nmake:", other, YAML, flags=re.DOTALL)
    for text in (named, mine("make:", other.replace("splits", "fallback"))):
        path.write_text(text)
        (found,) = check_task(path).problems
        assert found.startswith("Unknown task 'nope'.")


@pytest.mark.parametrize(
    ("decimals", "answers", "problem"),
    [
        (0, ["1", "3.8", "2.5", "5"], r"numbers that 0 decimals can write in row 2, column 'mark', found '3\.8'"),
        (0, [2.5] * 4, r"numbers that 0 decimals can write in row 1, column 'mark', found '2\.5'"),
        (1, ["1", "3.8", "2.5", "5"], None),
        (3, [0.6125, 0.1, 0.98765, 0.5], None),  # rounded by a little
    ],
)
def test_decimals_that_cannot_write_the_answers_are_said(
    decimals: int, answers: list[Any], problem: str | None, tmp_path: Path
) -> None:
    number = f"kind: number, low: 0, high: 5, decimals: {decimals}"
    yaml = mine('kind: label, label_text: {0: "no", 1: "yes"}', number).replace("mark: integer", "mark: number")
    (tmp_path / "mine.yaml").write_text(yaml.replace("[accuracy]", "[mse]"))
    rows = [{"text": "a", "mark": answer, "tags": ["a"], "nested": None} for answer in answers]
    found = check_task(tmp_path / "mine.yaml", write_rows(tmp_path / "mine", {"train": rows, "test": rows})).problems
    if problem is None:
        assert found == ()
    else:
        assert len(found) == 1
        assert re.match(rf"\w+: Expected {problem}\. Give the target more decimals", found[0])


# ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_makes_settings_and_options_stand_above_them() -> None:
    config = build_task_config({"task": "stsb"})
    assert config.data.model_dump(exclude_defaults=True) == {
        "data": "<rows of the task>",
        "task": "stsb@2",
        "target": ("label",),
        "template": load_task("stsb").template,
        "kind": "number",
        "low": 0.0,
        "high": 5.0,
        "decimals": 2,
    }
    assert config.train.metric == "mse"
    changed = build_task_config({"task": "stsb", "decimals": 1, "max_train_rows": 9}, {"metric": "mae"}).data
    assert (changed.decimals, changed.high, changed.max_train_rows) == (1, 5.0, 9)
    assert build_task_config({"task": "boolq"}).data.label_text == {"true": "true", "false": "false"}
    assert build_task_config({"task": "boolq"}).data.labels == ("true", "false")
    other = build_task_config({"task": "wassa", "target": "emotion", "template": "{text}"})
    assert (other.data.kind, other.data.low, other.train.metric) == (None, None, None)
    assert build_task_config({"task": "wassa", "inputs": "text"}).data.template is None
    # What a saved configuration holds makes the same run again.
    assert build_task_config(config.model_dump(mode="json")) == config


def test_the_page_of_tasks_is_current() -> None:
    from predgen.report.tasks import catalogue_markdown, listed_tasks

    page = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text(encoding="utf-8")
    assert catalogue_markdown() in page, "predgen tasks --markdown FILE makes the table"
    assert json.dumps(listed_tasks())
    assert catalogue_markdown().count("\n") == 21 + 2


def test_the_page_of_tasks_says_how_large_the_presets_are() -> None:
    page = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text(encoding="utf-8")
    for name, preset in presets().items():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert line.endswith(f"| {len(preset.cells())} |")
        if name != "paper":  # whose settings are said in words
            assert all(f"`{key.partition('.')[2]}={value}`" in line for key, value in preset.settings.items())


def test_svamps_test_rows_alone_are_trained_for_on_gsm8k(tmp_path: Path) -> None:
    write_rows(tmp_path / "svamp", {"test": many("svamp", 10)})
    write_rows(tmp_path / "gsm8k", {"train": many("gsm8k", 40), "test": many("gsm8k", 4)})
    task = load_task("svamp")
    found = task_rows(task, tmp_path)
    assert {name: len(rows) for name, rows in found.parts.items()} == {"train": 36, "validation": 4, "test": 10}
    assert found.is_fallback
    assert "gsm8k" in str(found.note)
    assert set(found.parts["train"]["question"]) <= {row["question"] for row in many("gsm8k", 40)}
    # Where it has rows of its own, those are trained on.
    write_rows(tmp_path / "svamp", {"train": many("svamp", 20), "test": many("svamp", 10)})
    own = task_rows(task, tmp_path)
    assert (len(own.parts["train"]), own.is_fallback) == (18, False)


@pytest.mark.parametrize("name", ["svamp", "addsub", "sick", "sst2", "gsm8k"])
def test_the_test_part_is_read_where_it_is_alone(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path, {"test": many(name, 6)})
    assert len(held_out_flat(load_task(name), tmp_path)) == 6


def test_a_test_part_that_a_fallback_shares_with_training_stays_apart(tmp_path: Path) -> None:
    write_rows(tmp_path, {"validation": many("hellaswag", 50)})
    task = load_task("hellaswag")
    assert list(held_out_flat(task, tmp_path).index) == list(task_rows(task, tmp_path).parts["test"].index)
    write_rows(tmp_path, {"train": many("hellaswag", 50)})
    assert len(held_out_flat(task, tmp_path)) == 50


@pytest.mark.parametrize("name", [False, 5, 1.5, ["sst2"], {"a": 1}])
def test_a_task_that_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match="task"):
        build_task_config({"data.task": name, "data.data": "a.csv", "data.target": "mood"})
