"""The command line's surface: help, options, suggestions, exit codes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import predgen
from predgen.cli import main
from predgen.cli.app import app
from predgen.cli.options import RUN_OPTIONS
from predgen.cli.output import check_results, fails_clearly
from predgen.config import SECTIONS, RunConfig, build_config
from tests.helpers.commands import refused, run

COMMANDS = [
    "demo",
    "inspect",
    "fit",
    "predict",
    "explain",
    "evaluate",
    "compare",
    "ablate",
    "information",
    "heatmap",
    "push",
    "tasks",
    "reproduce",
]
# What each option is given below, and the setting that must come of it.
GIVEN: dict[str, tuple[str, Any]] = {
    "task": ("stsb", "stsb@2"),
    "target": ("stars,mood", ("stars", "mood")),
    "columns": ("annotators", "annotators"),
    "inputs": ("review, title", ("review", "title")),
    "template": ("{review}:", "{review}:"),
    "kind": ("label", "label"),
    "label_text": ("0=negative, 1=positive", {"0": "negative", "1": "positive"}),
    "labels": ("poor, fair,good", ("poor", "fair", "good")),
    "positive": ("good", "good"),
    "low": ("-1.5", -1.5),
    "high": ("7", 7.0),
    "decimals": ("3", 3),
    "number_format": ("de", "de"),
    "date_format": ("%d.%m.%Y", "%d.%m.%Y"),
    "validation": ("v.csv", "v.csv"),
    "test": ("t.csv", "t.csv"),
    "split": ("60/20/20", (0.6, 0.2, 0.2)),
    "group": ("writer", "writer"),
    "weight": ("trust", "trust"),
    "class_weights": ("a=3,b=1", {"a": 3.0, "b": 1.0}),
    "max_train_rows": ("9", 9),
    "max_eval_rows": ("8", 8),
    "backbone": ("org/model", "org/model"),
    "method": ("generator", "generator"),
    "peft": ("none", "none"),
    "pooling": ("mean", "mean"),
    "director": ("last", "last"),
    "calibration": ("0.2", 0.2),
    "decoding": ("free", "free"),
    "predict_from": ("mean", "mean"),
    "threshold": ("cost", "cost"),
    "cost": ("1,5", (1.0, 5.0)),
    "loss": ("sum", "sum"),
    "schedule": ("constant", "constant"),
    "epochs": ("0.5", 0.5),
    "batch_size": ("4", 4),
    "learning_rate": ("0.01", 0.01),
    "metric": ("mae", "mae"),
    "device": ("cpu", "cpu"),
    "seed": ("7", 7),
}


def command_of(name: str) -> Any:
    return typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]


def examples_of(name: str) -> list[list[str]]:
    _, _, shown = command_of(name).help.partition("Examples")
    return [shlex.split(line) for line in shown.splitlines() if line.strip().startswith("predgen ")]


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns the settings that `predgen.fit` gets from the arguments of `predgen fit`, by their whole names."""
    configs: list[RunConfig] = []

    def fit(*, config: RunConfig, **options: Any) -> None:
        configs.append(config)
        raise predgen.ConfigError("far enough")

    def settings(*arguments: str) -> dict[str, Any]:
        done = run("fit", *arguments)
        assert done.error == "error: far enough", done
        return {f"{section}.{name}": value for section in SECTIONS for name, value in getattr(configs[-1], section)}

    monkeypatch.setattr(predgen, "fit", fit)
    return settings


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_option_and_examples(name: str) -> None:
    done = run(name, "--help")
    assert done.code == 0
    assert done.stderr == ""
    assert "Examples" in done.stdout
    # Every line of an example stands as a person would type it, indented and not broken.
    lines = [line.strip() for line in done.stdout.splitlines() if re.match(r" {3,}predgen ", line)]
    assert [shlex.split(line) for line in lines] == examples_of(name)
    assert len(lines) >= 2
    for parameter in command_of(name).params:
        assert parameter.help, parameter.name
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_help_can_be_read(name: str) -> None:
    for program, command, *arguments in examples_of(name):
        assert (program, command) == ("predgen", name)
        command_of(name).make_context(name, arguments)  # raises on an unknown option or a missing argument


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_json_and_quiet(name: str) -> None:
    options = {option for parameter in command_of(name).params for option in parameter.opts}
    assert {"--json", "--quiet"} <= options


def test_help_of_the_program_names_every_command_and_imports_no_framework() -> None:
    code = (
        "import sys; sys.argv = ['predgen', '--help']\n"
        "from predgen.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print([m for m in ('torch', 'transformers', 'pandas', 'sklearn', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert re.search(rf"^│ {name} ", done.stdout, flags=re.MULTILINE), name


def test_the_version_is_printed() -> None:
    done = run("--version")
    assert (done.code, done.stdout) == (0, f"predgen {predgen.__version__}\n")


def test_every_option_is_a_setting_with_its_own_words() -> None:
    assert {option.name for option in RUN_OPTIONS} == set(GIVEN)
    fit, compare = (
        {option for parameter in command_of(name).params for option in parameter.opts} for name in ("fit", "compare")
    )
    for option in RUN_OPTIONS:
        section, _, name = option.setting.partition(".")
        field = SECTIONS[section].model_fields[name]
        assert option.help.startswith(str(field.description))
        assert f"--{name.replace('_', '-')}" in fit
    assert fit - compare == {"--out", "--method", "--budget"}


def test_options_set_and_files_make_the_same_settings(settings_of: Any, tmp_path: Path) -> None:
    options = [text for name, (value, _) in GIVEN.items() for text in (f"--{name.replace('_', '-')}", value)]
    by_options = settings_of("table.csv", "--out", "m", *options)
    for option in RUN_OPTIONS:
        assert by_options[option.setting] == GIVEN[option.name][1], option.name
    assert by_options["data.data"] == "table.csv"

    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    assignments = [
        text for option in RUN_OPTIONS for text in ("--set", f"{option.name}={plain(GIVEN[option.name][1])!r}")
    ]
    assert settings_of("table.csv", "--out", "m", *assignments) == by_options

    sections: dict[str, dict[str, Any]] = {"data": {"data": "table.csv"}, "model": {}, "train": {}}
    for option in RUN_OPTIONS:
        section, _, name = option.setting.partition(".")
        sections[section][name] = plain(GIVEN[option.name][1])
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(sections))
    assert settings_of("--config", str(tmp_path / "run.yaml"), "--out", "m") == by_options


def test_later_layers_win_and_what_is_not_given_is_the_default(settings_of: Any, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("data: table.csv\ntarget: stars\nseed: 1\nepochs: 2\nmax_steps: 3\n")
    found = settings_of("--config", str(tmp_path / "run.yaml"), "--out", "m", "--seed", "4", "--set", "epochs=5")
    assert (found["train.seed"], found["train.epochs"], found["train.max_steps"]) == (4, 5.0, 3)
    config = build_config({"data.data": "table.csv", "data.target": "stars"})
    untouched = {f"model.{name}": value for name, value in config.model.model_dump().items()}
    assert {name: found[name] for name in untouched} == untouched


FIT = ["fit", "table.csv", "--target", "stars", "--out", "model"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fot"], "No such command 'fot'. Did you mean 'fit'?"),
        (["evalute", "model"], "Did you mean 'evaluate'"),
        (["--versio"], "No such option '--versio'. Did you mean '--version'?"),
        ([*FIT, "--targt", "stars"], "No such option '--targt'. Did you mean '--target'?"),
        ([*FIT, "--label_text", "a=b"], "Did you mean '--label-text'?"),
        ([*FIT, "--max-steps", "3"], "No such option '--max-steps'. It is a setting: --set max_steps=VALUE."),
        (["compare", "table.csv", "--target", "stars", "--method", "predgen"], "Did you mean '--methods'?"),
        (["predict", "model", "table.csv", "--outt", "a.csv"], "Did you mean '--out'?"),
        ([*FIT, "--set", "max_step=3"], "Unknown setting 'max_step'. Did you mean 'max_steps'?"),
        ([*FIT, "--method", "predgan"], "(found 'predgan') Did you mean 'predgen'?"),
        ([*FIT, "--peft", "lorra"], "(found 'lorra') Did you mean 'lora'?"),
        (["compare", "table.csv", "--target", "stars", "--methods", "predgan"], "Did you mean 'predgen'?"),
        (["compare", "table.csv", "--target", "stars", "--baselines", "zeroshot"], "Did you mean 'zero_shot'?"),
        (["demo", "--task", "diabets"], "Unknown task 'diabets'. Did you mean 'diabetes'?"),
        (["predict", "model", "table.csv", "--out", "a.csv", "--invalid", "rise"], "Did you mean 'raise'?"),
        (["predict", "model", "--text", "words", "--device", "cud"], "Unknown device 'cud'. Did you mean 'cuda'?"),
    ],
)
def test_unknown_names_are_answered_with_the_closest(arguments: list[str], message: str) -> None:
    assert message in refused(*arguments)


def test_an_option_like_nothing_known_gets_no_suggestion() -> None:
    assert refused(*FIT, "--zzzz").endswith("No such option '--zzzz'.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "--target", "stars", "--out", "model"], "Expected DATA, the table to read, found none."),
        (["fit", "table.csv", "--out", "model"], "Expected --target COLUMN, the column to predict, found none."),
        (["fit", "table.csv", "--target", "stars"], "Missing option '--out'."),
        (["compare"], "Expected DATA, the table to read, found none."),
        (["predict"], "Missing argument 'DIR'."),
        (["predict", "model"], "Expected either DATA or --text, found both or none."),
        (["predict", "model", "table.csv", "--text", "words"], "Expected either DATA or --text, found both or none."),
        (["predict", "model", "table.csv"], "Expected --out FILE for the answers, found none."),
        (["evaluate", "model"], "Missing argument 'DATA'."),
        ([*FIT, "--epochs", "many"], "Invalid value for '--epochs'"),
        ([*FIT, "--epochs", "-1"], "train.epochs: Input should be greater than 0 (found -1.0)"),
        ([*FIT, "--set", "max_steps"], "Expected --set key=value, found 'max_steps'."),
        ([*FIT, "--config", "nowhere.yaml"], "Expected a readable YAML file, found none at 'nowhere.yaml'"),
        ([*FIT, "--split", "80/20"], "Expected --split train/validation/test such as 80/10/10, found '80/20'."),
        ([*FIT, "--split", "nan/1/1"], "found 'nan/1/1'"),
        ([*FIT, "--label-text", "a"], "Expected --label-text label=word,label=word, found 'a'."),
        ([*FIT, "--label-text", "a=x,a=y"], "Expected every label of --label-text once, found 'a' twice."),
        (["compare", "table.csv", "--target", "stars", "--seeds", "0"], "Expected at least one seed"),
        (["compare", "table.csv", "--target", "stars", "--methods", ""], "each method once, found 1 and none."),
        (["compare", "t.csv", "--target", "s", "--methods", "predgen,predgen"], "found 1 and predgen, predgen."),
        (["compare", "t.csv", "--target", "s", "--baselines", "zero_shot,zero_shot"], "Expected each baseline once"),
        (["compare", "t.csv", "--target", "s", "--set", "method=predictor"], "Name them with --methods."),
    ],
)
def test_what_is_missing_or_wrong_is_said(arguments: list[str], message: str) -> None:
    assert message in refused(*arguments)


def test_the_program_exits_with_2_without_a_traceback(tmp_path: Path) -> None:
    run_main = [sys.executable, "-m", "predgen", "fit", "--target", "a", "--out", "m"]
    done = subprocess.run(run_main, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == ("error: Expected DATA, the table to read, found none. Name a file, a folder or a hub id.\n")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_exits_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    # While a command works, and while Python still reads the code.
    with pytest.raises(typer.Exit) as stopped:
        fails_clearly(interrupted)()
    assert stopped.value.exit_code == 130
    assert capsys.readouterr().err == "Interrupted. Nothing was left half written.\n"
    monkeypatch.setattr("predgen.cli.app.app", interrupted)
    with pytest.raises(SystemExit, match=r"^130$"):
        main()


def test_errors_of_the_system_are_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    @fails_clearly
    def full() -> None:
        raise OSError(28, "No space left on device", "answers.csv")

    with pytest.raises(typer.Exit) as stopped:
        full()
    assert stopped.value.exit_code == 2
    assert capsys.readouterr().err == ("error: No space left on device 'answers.csv'. Nothing was left half written.\n")


def test_a_mistake_in_the_program_is_not_hidden() -> None:
    @fails_clearly
    def broken() -> None:
        raise ZeroDivisionError("a mistake of ours")

    with pytest.raises(ZeroDivisionError, match="a mistake of ours"):
        broken()


def test_files_for_results_are_checked_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    check_results(None, str(tmp_path / "new.json"), str(tmp_path / "file"), str(tmp_path / "new" / "deep.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(predgen.ConfigError, match=r"found '.*', which is a folder"):
        check_results(None, str(tmp_path))
    with pytest.raises(predgen.ConfigError, match=r"which cannot be written below '.*file'"):
        check_results(str(tmp_path / "file" / "x.json"))
