"""The tables of names: what they name is there, settings know it, and a new name is one line."""

import inspect
import subprocess
import sys
from typing import Any

import pytest
import torch
import typer

import predgen
from predgen import names
from predgen.cli.app import app
from predgen.config import SECTIONS, RunConfig, build_config
from predgen.errors import ConfigError, UnknownNameError
from predgen.experiments.ablating import PARTS
from predgen.measures.choices import MIXES
from predgen.measures.distributions import ESTIMATE_OF_METRIC
from predgen.methods.poolings import PooledHead
from predgen.names import Choices
from predgen.writing.sampling import draw
from tests.helpers.commands import refused

TABLES: dict[str, Choices[Any]] = {name: table for name, table in vars(names).items() if isinstance(table, Choices)}
IMPLEMENTED = [(table, name) for table, choices in TABLES.items() for name, entry in choices.items() if entry.path]
# The settings that choose a name, and their tables.
SETTINGS = {
    "model.method": names.FIT_METHODS,
    "model.peft": names.PEFT_METHODS,
    "model.rocoft_axis": names.ROCOFT_AXES,
    "model.rocoft_selection": names.ROCOFT_SELECTIONS,
    "data.kind": names.KINDS,
    "data.number_format": names.NUMBER_FORMATS,
    "data.columns": names.TARGET_COLUMNS,
    "data.class_weights": names.CLASS_WEIGHTS,
    "model.pooling": names.POOLINGS,
    "model.predictor_head": names.PREDICTOR_HEADS,
    "model.predict_from": names.ANSWER_SOURCES,
    "model.threshold": names.THRESHOLDS,
    "model.director": names.READINGS,
    "model.director_form": names.DIRECTOR_FORMS,
    "model.decoding": names.DECODINGS,
    "model.estimate": names.ESTIMATES,
    "model.writer_vocabulary": names.WRITER_VOCABULARIES,
    "model.dtype": names.DTYPES,
    "model.quantization": names.QUANTIZATIONS,
    "train.loss": names.JOINS,
    "train.writer_loss": names.WRITER_LOSSES,
    "train.number_loss": names.NUMBER_LOSSES,
    "train.schedule": names.SCHEDULES,
    "train.sampling": names.SAMPLINGS,
    "train.sampling_choice": names.SAMPLING_CHOICES,
    "train.sampling_unit": names.SAMPLING_UNITS,
    "train.precision": names.PRECISIONS,
    "train.device": names.DEVICES,
}
# The options that choose names without a setting, by command, and their tables.
OPTIONS = {
    ("compare", "--baselines"): names.BASELINES,
    ("compare", "--methods"): names.METHODS,
    ("explain", "--method"): names.EXPLANATIONS,
}


def config(**settings: Any) -> RunConfig:
    return build_config({"data": "a.csv", "target": "y"}, settings)


# ── The tables ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("table", "name"), IMPLEMENTED)
def test_what_a_line_names_is_there(table: str, name: str) -> None:
    assert callable(TABLES[table].load(name))
    assert TABLES[table].load(name).__doc__


@pytest.mark.parametrize("table", ["METHODS", "BASELINES", "PEFT_METHODS", "JOINS", "WRITER_LOSSES", "SCHEDULES"])
def test_every_line_of_these_is_implemented(table: str) -> None:
    assert all(entry.path for entry in TABLES[table].values())
    assert len({entry.path for entry in TABLES[table].values()}) == len(TABLES[table])


def test_what_is_implemented_under_names_has_the_names_of_the_tables() -> None:
    assert set(MIXES) == set(names.ANSWER_SOURCES)
    assert set(ESTIMATE_OF_METRIC.values()) <= set(names.ESTIMATES)
    for reading in names.READINGS:
        assert PooledHead.of(reading, 4, 1)(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)).shape == (2, 1)
    for unit in names.SAMPLING_UNITS:
        draws = draw(
            torch.ones(2, 3, dtype=torch.bool), probability=0.5, generator=torch.Generator().manual_seed(0), unit=unit
        )
        assert draws.sampled is not None
        assert draws.sampled.shape == (2, 3)


@pytest.mark.parametrize("peft", names.PEFT_METHODS)
def test_the_size_of_an_update_is_a_setting(peft: str) -> None:
    rank_setting = names.PEFT_METHODS[peft].rank_setting
    assert not rank_setting or rank_setting in SECTIONS["model"].model_fields


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown schedule 'cosin'\. Did you mean 'cosine'\? Known: linear, "):
        names.SCHEDULES.check("cosin")
    with pytest.raises(UnknownNameError, match=r"Unknown loss 'wdl'\. Did you mean 'wdal'\?"):
        names.JOINS.load("wdl")


# ── Who reads them ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_takes_the_names_of_its_table_alone_and_explains_them(setting: str) -> None:
    section, _, field = setting.partition(".")
    for name in SETTINGS[setting]:
        assert getattr(getattr(config(**{setting: name}), section), field) == name
        assert name in str(SECTIONS[section].model_fields[field].description)
    name = next(iter(SETTINGS[setting]))
    with pytest.raises(ConfigError, match=rf"{setting}: .*\(found '{name}_'\)"):
        config(**{setting: f"{name}_"})


def test_every_table_is_of_a_setting_or_an_option() -> None:
    assert not set(map(id, OPTIONS.values())) & set(map(id, SETTINGS.values()))
    assert {id(table) for table in (*SETTINGS.values(), *OPTIONS.values())} == {id(table) for table in TABLES.values()}


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_an_option_takes_the_names_of_its_table_alone_and_explains_them(command: str, option: str) -> None:
    table = OPTIONS[command, option]
    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    (parameter,) = [one for one in parameters if option in one.opts]
    assert table.explained in parameter.help
    name = next(iter(table))
    target = ["--target", "stars"] if any("--target" in one.opts for one in parameters) else []
    arguments = [command, "table.csv", *target, option, f"{name}_"]
    assert f"Unknown {table.kind} '{name}_'. Did you mean '{name}'?" in refused(*arguments)


def test_the_usual_baselines_are_the_default_everywhere() -> None:
    assert names.DEFAULT_BASELINES == ("mean_or_majority", "tfidf_linear", "zero_shot")
    assert inspect.signature(predgen.compare).parameters["baselines"].default == names.DEFAULT_BASELINES
    parameters = typer.main.get_command(app).commands["compare"].params  # type: ignore[attr-defined]
    assert [one.default for one in parameters if "--baselines" in one.opts] == [",".join(names.DEFAULT_BASELINES)]


def test_the_ablation_switches_to_every_name() -> None:
    switched = {value for variants in PARTS.values() for changes in variants.values() for value in changes.values()}
    for setting in ("train.loss", "train.schedule", "model.director", "train.sampling_unit", "train.writer_loss"):
        section, _, field = setting.partition(".")
        assert set(SETTINGS[setting]) - {getattr(getattr(config(), section), field)} <= switched


def test_a_new_loss_is_a_function_and_a_line() -> None:
    code = """
from predgen import names
names.JOINS._entries["largest"] = names.Join("the larger one", "builtins:max")  # before anything has read the table
import torch
from predgen.config import SECTIONS, build_config
from predgen.experiments.ablating import PARTS
from predgen.methods.losses import join_of
assert build_config({"data": "a.csv", "target": "y", "loss": "largest"}).train.loss == "largest"
assert join_of("largest", squared_error=True)(torch.tensor(2.0), torch.tensor(3.0)) == 3
assert "or largest (the larger one)" in SECTIONS["train"].model_fields["loss"].description
assert PARTS["loss"]["loss=largest"] == {"train.loss": "largest"}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_settings_and_their_names_import_no_framework() -> None:
    code = "import sys, predgen.config; print([m for m in ('torch', 'numpy', 'pandas', 'peft') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
