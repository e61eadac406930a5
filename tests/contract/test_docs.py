"""The README and the site: every code block runs, or its commands and options exist at least."""

import ast
import io
import os
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import predgen
from predgen.backbones.remembered import FOLDER_VARIABLE
from predgen.cli.app import app
from predgen.config import section_of
from tests.helpers.commands import run
from tests.helpers.pages import README, ROOT, Block, blocks_of, pages

# What keeps the fits of the pages short here; the commands and the code are run as they stand otherwise.
SHORT_SETTINGS = {"max_steps": 2, "max_train_rows": 40, "max_eval_rows": 30}
SHORT = [word for name, value in SHORT_SETTINGS.items() for word in ("--set", f"{name}={value}")]
FEW_BASELINES = ["--baselines", "mean_or_majority"]
FITTING = ("fit", "compare", "ablate", "tune")
# Pages whose commands need the benchmark's data or hours, as they say: the commands are read, and not run.
READ_ONLY = ("docs/results/", "docs/developers/", "docs/tasks.md")
LANGUAGES = ("", "text", "python", "bash", "yaml", "json", "toml", "bibtex")
TABLES = ["demo", "--save-data", "tables"]
OTHER_OPTIONS = {"--help", "--version"}
PAGES = [str(page.relative_to(ROOT)) for page in pages()]


pytestmark = pytest.mark.usefixtures("few_resamples")


def commands_in(text: str) -> list[list[str]]:
    """Returns the commands of a block, without comments."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def shown_commands(block: Block) -> list[list[str]]:
    """Returns the commands that a block of text shows among other things."""
    lines = [line for line in block.text.splitlines() if re.match(r"(predgen [a-z-]|python -m |make )", line)]
    return commands_in("\n".join(lines))


@cache
def program() -> Any:
    return typer.main.get_command(app)


def check_command(words: list[str], where: str) -> None:
    """Checks without running it that a command could be typed so."""
    words = words[next(n for n, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)) :]
    name, *arguments = words
    if name == "predgen":
        check_predgen(arguments, where)
    elif name == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(arguments) <= set(targets), where
    elif name == "python":
        assert arguments[0] == "-m", where
        assert find_spec(arguments[1]) is not None, (where, arguments[1])
    elif name == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = re.findall(r"\[([\w,]+)\]", " ".join(arguments))
        assert arguments[0] == "install", where
        assert {extra for names in extras for extra in names.split(",")} <= set(project["optional-dependencies"]), where
    else:
        raise AssertionError(f"{where}: nobody checks the command '{name}'; mark it, or check it here.")


def check_predgen(arguments: list[str], where: str) -> None:
    if arguments[0].startswith("--"):
        assert arguments == ["--version"], where
        return
    command = program().commands[arguments[0]]
    parsed = command.make_context(arguments[0], list(arguments[1:])).params  # raises on what the command does not know
    for assignment in parsed.get("set_") or parsed.get("assignments") or []:
        section_of(assignment.partition("=")[0])


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder that `predgen demo --save-data tables` makes; half the pages begin with it."""
    folder = tmp_path_factory.mktemp("demo") / "tables"
    assert run("demo", "--save-data", folder).code == 0
    return folder


def run_bash(block: Block, request: pytest.FixtureRequest) -> None:
    """Runs the commands of a block one after the other; what installs or is of `make` is only checked."""
    for words in commands_in(block.text):
        check_command(words, block.name)
        if words[0] != "predgen":
            continue
        arguments = [os.path.expandvars(word) for word in words[1:]]
        if arguments == TABLES:
            shutil.copytree(request.getfixturevalue("tables"), "tables")
            continue
        short = SHORT if arguments[0] in FITTING else []
        few = FEW_BASELINES if arguments[0] == "compare" and "--baselines" not in arguments else []
        done = run(*arguments, *short, *few)
        assert done.code == 0, (block.name, words, done.stderr)
        assert done.stdout or "--quiet" in arguments, (block.name, words)


def numbers_in(text: str) -> list[str]:
    return re.findall(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", text.replace("−", "-"))


def same_numbers(shown: str, printed: str) -> bool:
    """Returns whether what was printed has the numbers that the page shows, as far as their decimals go."""
    pairs = list(zip(numbers_in(shown), numbers_in(printed), strict=False))
    return len(numbers_in(shown)) == len(numbers_in(printed)) and all(
        abs(float(one) - float(other)) <= 0.51 * 10.0 ** -len(one.partition(".")[2]) for one, other in pairs
    )


def run_python(block: Block, names: dict[str, Any]) -> None:
    """Runs a block statement by statement; a comment behind a `print` shows what it prints."""
    lines = block.text.splitlines()
    printed = ""
    for statement in ast.parse(block.text).body:
        with redirect_stdout(io.StringIO()) as stdout:
            exec(compile(ast.Module([statement], []), block.name, "exec"), names)
        printed += stdout.getvalue()
        _, _, comment = lines[(statement.end_lineno or 1) - 1].partition("  # ")
        if comment and stdout.getvalue() and numbers_in(comment):
            assert same_numbers(comment, stdout.getvalue()), (block.name, comment, stdout.getvalue())
    if block.output is not None:
        assert re.sub(r"[\d.]+", "0", printed).split() == re.sub(r"[\d.]+", "0", block.output).split(), printed
        assert same_numbers(block.output, printed), printed


def shortened(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that fits with short settings, if it is not given all of them, as commands do."""

    def short(*arguments: Any, **settings: Any) -> Any:
        return function(*arguments, **(settings if "config" in settings else {**SHORT_SETTINGS, **settings}))

    return short


@pytest.fixture
def set_length(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Returns a function that makes the fits of Python blocks short, or as long as they are written."""
    originals = {name: getattr(predgen, name) for name in FITTING}

    def set_length(short: bool) -> None:
        for name, function in originals.items():
            monkeypatch.setattr(predgen, name, shortened(function) if short else function, raising=False)

    return set_length


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith(READ_ONLY)])
def test_the_blocks_of_a_page_run_one_after_the_other(
    page: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    set_length: Callable[[bool], None],
) -> None:
    needed = re.match(r"% needs: (\w+)$", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    if needed and not Path(os.environ.get("PREDGEN_DATA_DIR", ""), needed[1], "train.jsonl").is_file():
        pytest.skip(f"PREDGEN_DATA_DIR names no folder with {needed[1]}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))  # a page clears it
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(ROOT / page):
        if block.runs and block.language == "python":
            set_length(block.output is None)
            run_python(block, names)
        elif block.runs and block.language == "bash":
            run_bash(block, request)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_can_be_typed_so(page: str) -> None:
    for block in blocks_of(ROOT / page):
        assert block.language in LANGUAGES, block.name
        if block.language == "bash":
            for words in commands_in(block.text):
                check_command(words, block.name)
        elif block.language in ("", "text"):
            for words in shown_commands(block):
                check_command(words, block.name)
        elif block.language == "python":
            ast.parse(block.text)
        elif block.language == "yaml":
            yaml.safe_load(block.text)


def test_a_block_that_is_not_run_says_why() -> None:
    left_out = [block for page in pages() for block in blocks_of(page) if block.caption and not block.runs]
    assert left_out
    for block in left_out:
        assert re.fullmatch(r"Not run by the tests: .{15,}\.", block.caption), block.name


def inline_code() -> Iterator[tuple[str, str]]:
    for page in pages():
        text = re.sub(r"^ *(`{3,}).*?^ *\1 *$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for code in re.findall(r"`([^`\n]+)`", text):
            yield str(page.relative_to(ROOT)), code


def test_options_and_settings_in_the_prose_exist() -> None:
    params = [param for command in program().commands.values() for param in command.params]
    options = {option for param in params for option in (*param.opts, *param.secondary_opts)}
    for page, code in inline_code():
        if not code.startswith(("predgen ", "--")) or page == "docs/developers/log.md":
            continue  # other programs; and the log says what there was
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code):
            assert option in options | OTHER_OPTIONS, (page, code)
        for setting in re.findall(r"--set ([a-z_.]+)=", code):
            section_of(setting)


def test_the_readme_is_one_that_people_read() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    folders = {path.parent.name for path in (ROOT / "src" / "predgen").glob("*/__init__.py")}
    assert folders == set(re.findall(r"^[├└]── (\w+)/", text, flags=re.MULTILINE))
    links = [link for link in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text) for link in link if link]
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []
    assert "docs/developers/adding.md" in links
