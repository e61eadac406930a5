"""Command lines of all commands, with right and wrong options, through the application in this process.

Where a command would train, measure times or learn critics it is stopped: that it came so far counts as `begun`.
"""

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import typer
from tests.helpers.commands import run

from predgen.cli.app import COMMANDS, app
from predgen.config import SECTIONS
from scripts.checks.fuzzing import odd
from scripts.checks.fuzzing.law import ANSWERED, REFUSED, hold
from scripts.checks.fuzzing.settings import RIGHT
from scripts.checks.fuzzing.world import rows, world

BEGUN = "begun"
# Where long work begins.
WORK = (
    "predgen.training.training_run.Run.trained",
    "predgen.experiments.comparing.Bench.result",
    "predgen.experiments.comparing.baseline_results",
    "predgen.experiments.search.searching._run_all",
    "predgen.experiments.reproduction.running._run",
    "predgen.bench.running.measure",
    "predgen.bench.real._run",
    "predgen.cli.demo._compare",
    "predgen.information.measuring._of_run",
    "predgen.information.tokens.estimate",
    "predgen.models.pushing._commit",
    "predgen.serving.running.run_server",
)
# For each command a line that is right; {…} stands for what is there.
LINES: dict[str, tuple[str, ...]] = {
    "demo": ("--task colors", "--task north"),
    "inspect": (
        "{backbone} --labels good,bad",
        "{backbone} --low 0 --high 5 --decimals 1",
        "{backbone} --data t.csv --target stars",
    ),
    "fit": (
        "t.csv --target mood --inputs review --out out --backbone {backbone}",
        "t.jsonl --target stars --out out --backbone {backbone} --method generator",
        "t.csv --target mood,stars --out out --backbone {backbone} --set max_steps=1",
    ),
    "predict": (
        "label t.csv --out answers.csv",
        "number t.jsonl --out answers.jsonl --std --quantiles 0.1,0.9 --written-tokens",
        "record --text good --text bad",
        "set t.csv --out answers.parquet --probabilities",
        "label --text good --interval 0.5",
    ),
    "explain": (
        "label --text good --method words",
        "number t.jsonl --row 1 --steps 2 --json words.json",
        "record --text good --steps 2 --html words.html",
        "set t.csv --row 2 --label a --method words",
    ),
    "evaluate": ("label t.csv", "number t.jsonl --json scores.json", "set t.csv"),
    "calibrate": ("copy t.csv",),
    "card": ("copy t.csv",),
    "push": ("label org/name", "copy org/name --public --yes --tag v1"),
    "report": ("label t.csv --out report.html", "number t.jsonl --out report.html --json facts.json"),
    "compare": ("t.csv --target mood --inputs review --backbone {backbone} --runs runs",),
    "export": ("label --out exported", "label --out exported --to onnx"),
    "serve": ("label number --port 0", "mood=label --port 0 --delay-ms 2"),
    "compare-files": (
        "t.csv t.jsonl --target mood",
        "t.csv t.csv --target stars --id review --report files.html",
        "t.csv t.csv t.jsonl --target stars --against t",
    ),
    "tune": (
        "t.csv --target mood --inputs review --backbone {backbone} --out out --trials 2",
        "t.csv --target stars --out out --backbone {backbone} --search method,lora_rank=2|4 --processes 2",
    ),
    "ablate": ("t.csv --target stars --inputs review --backbone {backbone} --parts loss",),
    "information": ("label --data t.csv", "label number --data t.csv"),
    "heatmap": ("label --text good --data t.csv",),
    "tasks": ("", "show sst2", "validate task.yaml", "show boolq --json t.json"),
    "cache": ("", "list", "clear"),
    "reproduce": ("--out out --tasks sst2", "--plan --tasks stsb", "--plan --preset paper --gpu H100"),
    "bench": ("--shape 6M", "--grid --runs runs"),
}
PIECES = (
    *(
        "t.csv",
        "t.jsonl",
        "none.csv",
        "label",
        "number",
        "record",
        "set",
        "copy",
        "empty.csv",
        "folder",
        "out",
        "x.json",
    ),
    *(
        "x.png",
        "x.md",
        "x.parquet",
        "given.yaml",
        "task.yaml",
        "good",
        "mood",
        "stars",
        "review",
        "sst2",
        "0.9",
        "2",
        "1",
    ),
    *(
        "0",
        "-1",
        "nan",
        "inf",
        "1e400",
        "999999999999",
        "cpu",
        "cuda",
        "predgen",
        "generator",
        "auto",
        "writer",
        "--help",
    ),
    *(
        ".",
        "..",
        "./",
        "a_b_",
        "--",
        "-q",
        "--version",
        "--overwrite",
        "--resume",
        "mood=good",
        "a=b,c=d",
        "80/10/10",
        "label_codes=true",
    ),
)


class BegunError(BaseException):
    """Long work would begin here. No Exception, so that nobody takes it for a fault."""


@dataclass(frozen=True)
class Line:
    """A command line.

    Attributes:
        command: the command.
        arguments: what follows it.
    """

    command: str
    arguments: tuple[str, ...]


def command_lines() -> tuple[st.SearchStrategy[Line], Callable[[Line], str]]:
    """Returns what draws command lines, and what tries them."""
    return drawn_lines(), tried


@functools.cache
def options_of(command: str) -> tuple[tuple[str, bool, str], ...]:
    """Returns each option of a command, whether it takes a value, and the setting that it may stand for."""
    group: Any = typer.main.get_command(app)
    found = []
    for parameter in group.commands[command].params:
        for option in (*parameter.opts, *getattr(parameter, "secondary_opts", ())):
            if option.startswith("-"):
                found.append((option, not getattr(parameter, "is_flag", False), str(parameter.name)))
    return tuple(found)


def _odd_argument() -> st.SearchStrategy[str]:
    # No path out of the folder, and nothing that no shell could hand over.
    plain = odd.texts().map(lambda text: text.replace("/", "_").replace("\0", "0").replace("~", "_"))
    return st.one_of(st.sampled_from(PIECES), plain)


@functools.cache
def _setting_values(name: str) -> st.SearchStrategy[str]:
    for section in SECTIONS.values():
        field = section.model_fields.get(name)
        extra = None if field is None else field.json_schema_extra
        if isinstance(extra, dict) and isinstance(extra.get("enum"), list):
            return st.sampled_from([str(one) for one in extra["enum"]])
    right = [value for value in RIGHT.get(name, ()) if isinstance(value, str | int | float)]
    return st.sampled_from([str(value) for value in right] or ["1", "2", "0.5"])


@st.composite
def drawn_lines(draw: st.DrawFn) -> Line:
    """Draws a right command line, and what was changed of it."""
    command = draw(st.sampled_from([*list(COMMANDS)[1:] * 3, "demo"]))  # whose tables take seconds to make
    arguments = draw(st.sampled_from(LINES[command])).split()
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 1, 2)))):
        what = draw(st.sampled_from(("option", "option", "option", "put", "drop", "add", "set")))
        if what == "option":
            option, takes, name = draw(st.sampled_from(options_of(command)))
            value = draw(st.one_of(*[_setting_values(name)] * 3, _odd_argument())) if takes else None
            arguments += [option] if value is None else [option, value]
        elif what == "put" and arguments:
            arguments[draw(st.integers(0, len(arguments) - 1))] = draw(_odd_argument())
        elif what == "drop" and arguments:
            del arguments[draw(st.integers(0, len(arguments) - 1))]
        elif what == "add":
            arguments.append(draw(_odd_argument()))
        elif what == "set" and any(option == "--set" for option, _, _ in options_of(command)):
            name = draw(st.sampled_from([name for section in SECTIONS.values() for name in section.model_fields]))
            arguments += ["--set", f"{name}={draw(st.one_of(*[_setting_values(name)] * 3, _odd_argument()))}"]
    return Line(command, tuple(arguments))


def tried(line: Line) -> str:
    """Runs a command in a folder of its own.

    Returns:
        What became of it; it is refused where the exit code is 2.

    Raises:
        BrokenError: the exit code or the message is another than it must be, or a file is left half written.
    """
    folder = _fresh_folder()
    arguments = [argument.replace("{backbone}", world().backbone_name) for argument in line.arguments]
    with _inside(folder), contextlib.ExitStack() as stack:
        for place in WORK:
            stack.enter_context(mock.patch(place, side_effect=BegunError))
        try:
            done = run(line.command, *arguments)
        except BegunError:
            return BEGUN
    left = [path.name for path in folder.iterdir() if path.name.startswith(".") or path.name.endswith(".unfinished")]
    left = [name for name in left if name not in (".config", ".cache")]  # of other libraries, in the home folder
    hold(not left, f"a command left: {left}")
    hold(done.code in (0, 2), f"exit code: {done.code}, {done.stderr}")
    if done.code == 0:
        return ANSWERED
    errors = done.stderr.count("\nerror: ") + done.stderr.startswith("error: ") + done.stderr.count("─ Error ─")
    hold(errors == 1 or "Usage:" in done.stdout, f"number of errors: {errors}, {done.stderr}{done.stdout}")
    hold("Traceback" not in done.stderr, f"a traceback: {done.stderr}")
    return REFUSED


def _fresh_folder() -> Path:
    """Returns a folder with tables, models and settings, as a person's may be."""
    folder = world().scratch / "commands"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, made in _files().items():
        (folder / name).write_text(made, encoding="utf-8")
    for name in ("label", "number", "record", "set"):
        (folder / name).symlink_to(world().artifact(name))
    shutil.copytree(world().artifact("label"), folder / "copy", copy_function=os.link)
    (folder / "folder").mkdir()
    return folder


@functools.cache
def _files() -> dict[str, str]:
    from predgen.catalogue.loading import FOLDER

    table = rows(16, seed=2)
    return {
        "t.csv": table.to_csv(index=False),
        "t.jsonl": table.to_json(orient="records", lines=True),
        "empty.csv": "",
        "given.yaml": "train: {seed: 3, max_steps: 1}\nmodel: {method: predgen}\n",
        "task.yaml": (FOLDER / "sst2.yaml").read_text(encoding="utf-8"),
    }


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.dict(os.environ, {"HOME": str(folder)}):
            yield
    finally:
        os.chdir(before)
