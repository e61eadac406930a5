"""The reference of the docs site, made from the code: public names, errors, commands, settings, metrics.

python -m scripts.docs.reference FOLDER

Sphinx calls `write_pages` before each build (`docs/conf.py`). `tests/contract/test_reference.py` holds the pages
complete.
"""

import argparse
import inspect
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

import predgen
from predgen import errors
from predgen.cli.app import app
from predgen.config import SECTIONS
from predgen.measures.kinds import MEASURES
from predgen.measures.metrics import higher_is_better
from predgen.names import default_backbone

SECTION_TITLES = {"data": "Data", "model": "Model", "train": "Training"}
TYPE_NAMES = {bool: "true or false", int: "integer", float: "number", str: "text", tuple: "list", dict: "mapping"}
VALUE_NAMES = {int: "INTEGER", float: "NUMBER", str: "TEXT"}
LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
FUNCTIONS, CLASSES, ERRORS, WARNINGS = "functions", "classes", "errors", "warnings"


# Settings


def type_text(annotation: Any) -> str:
    """Returns a type in words, with the values that it allows.

    Example:
        >>> type_text(Literal["rows", "columns"]), type_text(int | None)
        ('`rows` or `columns`', 'integer')
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        *first, last = [f"`{value}`" for value in arguments]
        return f"{', '.join(first)} or {last}" if first else last
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(one) for one in arguments if one is not type(None)))
    if hasattr(annotation, "__metadata__"):
        return type_text(arguments[0])
    if origin is tuple and Ellipsis not in arguments:
        return f"{len(arguments)} {type_text(arguments[0])}s"
    return TYPE_NAMES.get(origin or annotation, getattr(annotation, "__name__", str(annotation)))


def range_text(field: FieldInfo) -> str:
    """Returns the limits of a setting in words, such as `at least 0, below 1`; empty if there are none."""
    limits = [
        f"{words} {getattr(constraint, limit)}"
        for constraint in field.metadata
        for limit, words in LIMITS.items()
        if getattr(constraint, limit, None) is not None
    ]
    return ", ".join(limits)


def default_text(field: FieldInfo) -> str:
    """Returns a setting's default as YAML writes it."""
    if field.is_required():
        return "none: it must be given"
    if field.default_factory is default_backbone:
        return "that of the environment, or the best one that is installed"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "not given"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{default}`"


def setting_entry(section: str, name: str, field: FieldInfo, options: Mapping[str, str]) -> list[str]:
    """Returns the lines of one setting.

    Args:
        section: the section's name.
        name: the setting's.
        field: what pydantic knows of it.
        options: the option of `predgen fit` for each setting that has one.
    """
    kind = ", ".join(filter(None, [type_text(field.annotation), range_text(field)]))
    shown = options.get(name) or f"--set {name}=VALUE"
    return [
        f"```{{confval}} {name}",
        f":type: {kind}",
        f":default: {default_text(field)}",
        "",
        f"{sentence(field.description or '')} On the command line `{shown}`; in full `{section}.{name}`.",
        "```",
        "",
    ]


def settings_page() -> str:
    """Returns the page of the settings."""
    fit = commands()["fit"]
    options = {param.name: param.opts[0] for param in fit.params if param.name and param.opts[0].startswith("--")}
    lines = [
        "# Settings",
        "",
        "Every setting is a keyword of `predgen.fit`, a key of a YAML file (`--config run.yaml`), and a name for",
        "`--set KEY=VALUE`; the most common ones have an option of their own. Later layers win: the file, the options,",
        "`--set`. What was resolved stands in the artifact's `config.yaml`.",
        "",
    ]
    for section, settings in SECTIONS.items():
        lines += [f"## {SECTION_TITLES.get(section, section)}", "", str(settings.__doc__), ""]
        for name, field in settings.model_fields.items():
            lines += setting_entry(section, name, field, options)
    return "\n".join(lines)


# Commands


def commands() -> dict[str, Any]:
    """Returns the commands by name, in the order in which the help lists them."""
    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def plain(text: str) -> str:
    """Returns a help text as Markdown: without the terminal's marks for bold print, options as code."""
    return re.sub(r"(?<![`\w])(--[a-z][a-z-]*)", r"`\1`", re.sub(r"\[/?bold\]", "", text))


def sentence(text: str) -> str:
    """Returns a text that ends with a point, and begins with a capital unless it begins with a name that is typed."""
    begins_with_name = re.match(r"\w+(,|:| \()", text)
    return (text if begins_with_name else text[:1].upper() + text[1:]) + ("" if text.endswith(".") else ".")


def usage(command_name: str, command: Any) -> str:
    """Returns how a command is called: its arguments in their order, and the options that it must have."""
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    words = [argument_name(param) if param.required else f"[{argument_name(param)}]" for param in arguments]
    required = [option_names(param) for param in command.params if param not in arguments and param.required]
    return " ".join(["predgen", command_name, *words, *required, "[OPTIONS]"])


def argument_name(param: Any) -> str:
    """Returns the name by which the help calls an argument."""
    return str(param.metavar or param.name.upper()).strip("[]{}")


def value_name(param: Any) -> str:
    """Returns the name of the type that an option takes, such as TEXT."""
    if hasattr(param, "type_descriptor"):  # newer versions of typer
        return VALUE_NAMES.get(param.type_descriptor.annotation, "TEXT")
    return str(param.type.name).upper()


def option_names(param: Any) -> str:
    """Returns the names of an option, each with the value that it takes."""
    value = "" if getattr(param, "is_flag", False) else f" {param.metavar or value_name(param)}"
    return ", ".join(f"{name}{value}" for name in [*param.opts, *param.secondary_opts])


def option_entry(param: Any) -> list[str]:
    """Returns the lines of one option or argument."""
    names = argument_name(param) if param.param_type_name == "argument" else option_names(param)
    text = plain(getattr(param, "help", None) or "Print the help and exit.")
    default = param.default
    told = isinstance(default, str | int | float) and not isinstance(default, bool)
    default_words = f" Default: `{default}`." if told and "default" not in text else ""
    return [f"```{{option}} {names}", "", sentence(text) + default_words, "```", ""]


def command_page(name: str, command: Any) -> str:
    """Returns the page of one command: what it does, how it is called, examples, and every argument and option."""
    text, _, examples = inspect.cleandoc(command.help).partition("[bold]Examples[/bold]")
    called = [line.strip() for line in examples.splitlines() if line.strip()]
    lines = [f"# predgen {name}", "", plain(text).strip(), "", "```text", usage(name, command), "```", ""]
    if called:
        lines += ["**Examples**", "", "```bash", *called, "```", ""]
    lines += [f"```{{program}} predgen {name}", "```", ""]
    for panel, params in panels(command).items():
        lines += [f"## {panel}", ""]
        for param in params:
            lines += option_entry(param)
    return "\n".join(lines)


def panels(command: Any) -> dict[str, list[Any]]:
    """Returns the arguments and options of a command under the headings of its help."""
    grouped: dict[str, list[Any]] = {}
    for param in [*command.params, HELP]:
        heading = "Arguments" if param.param_type_name == "argument" else "Options"
        grouped.setdefault(getattr(param, "rich_help_panel", None) or heading, []).append(param)
    return grouped


class _Help:
    """The option that every command has without declaring it."""

    param_type_name, opts, secondary_opts, is_flag, default = "option", ["--help"], [], True, None
    help = "Show the help and exit."


HELP = _Help()


def command_index() -> str:
    """Returns the page that lists the commands."""
    lines = [
        "# Command line",
        "",
        "`predgen COMMAND --help` says on the terminal what these pages say. A wrong input ends with one message (what",
        "was expected, what was found, what to do) and exit code 2; files that were there stay as they were.",
        "",
    ]
    for name, command in commands().items():
        first = plain(inspect.cleandoc(command.help)).split("\n\n")[0].replace("\n", " ")
        lines += [f"[`predgen {name}`](commands/{name}.md)", f": {first}", ""]
    return "\n".join([*lines, "```{toctree}", ":hidden:", "", *(f"commands/{name}" for name in commands()), "```", ""])


# Public names


def public_names() -> dict[str, list[str]]:
    """Returns the public names by what they are."""
    grouped: dict[str, list[str]] = {FUNCTIONS: [], CLASSES: [], ERRORS: [], WARNINGS: []}
    for name in predgen.__all__:
        value = getattr(predgen, name)
        if isinstance(value, type) and issubclass(value, Warning):
            grouped[WARNINGS].append(name)
        elif isinstance(value, type):
            grouped[ERRORS if issubclass(value, Exception) else CLASSES].append(name)
        elif callable(value):
            grouped[FUNCTIONS].append(name)
    return grouped


def autodoc(directive: str, name: str, *options: str) -> list[str]:
    """Returns the lines that make Sphinx read a docstring."""
    return ["```{eval-rst}", f".. {directive}:: predgen.{name}", *(f"   :{option}" for option in options), "```", ""]


def python_page() -> str:
    """Returns the page of the public functions and classes."""
    names = public_names()
    lines = [
        "# Python",
        "",
        "Everything here is a name of the package `predgen`; `predgen.__version__` is its version. The settings that a",
        "function takes as keywords are [a page of their own](settings.md), and so are the [errors](errors.md)",
        "and the [warnings](../warnings.md).",
        "",
        "## Functions",
        "",
    ]
    for name in names[FUNCTIONS]:
        lines += [f"### {name}", "", *autodoc("autofunction", name)]
    lines += ["## Classes", ""]
    for name in names[CLASSES]:
        lines += [f"### {name}", "", *autodoc("autoclass", name, "members:", "exclude-members: model_config")]
    return "\n".join(lines)


def error_tree(error: type[Exception] = errors.PredGenError, indent: str = "") -> Iterator[str]:
    """Returns the lines of the tree of errors, each with the builtin that is under it."""
    builtins = [base.__name__ for base in error.__mro__ if base.__module__ == "builtins"][:1]
    yield f"{indent}{error.__name__}" + (f" ({builtins[0]})" if error is not errors.PredGenError else "")
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from error_tree(child, indent + "    ")


def errors_page() -> str:
    """Returns the page of the errors."""
    lines = [
        "# Errors",
        "",
        "All errors that PredGen raises on purpose are of one tree. Beside each stands the builtin that it is, too.",
        "A message says what was expected, what was found (row and column), and what to do.",
        "",
        "```text",
        *error_tree(),
        "```",
        "",
    ]
    for name in public_names()[ERRORS]:
        lines += autodoc("autoexception", name, "show-inheritance:")
    lines += ["## Warnings", "", "[What each means, and what to do](../warnings.md).", ""]
    for name in public_names()[WARNINGS]:
        lines += autodoc("autoexception", name, "show-inheritance:")
    return "\n".join(lines)


# Metrics


def metric_tables() -> str:
    """Returns which metrics each kind of field has, and which of them are better when they are lower."""
    lines = ["| kind | metrics |", "| --- | --- |"]
    for kind, measure in MEASURES.items():
        shown = ", ".join(f"`{name}` {'↑' if higher_is_better(name) else '↓'}" for name in measure.NAMES)
        lines.append(f"| {kind} | {shown} |")
    return "\n".join([*lines, "", "↑ higher is better, ↓ lower is better.", ""])


def pages() -> dict[str, str]:
    """Returns the text of each page by its path below the folder."""
    return {
        "settings.md": settings_page(),
        "python.md": python_page(),
        "errors.md": errors_page(),
        "command-line.md": command_index(),
        **{f"commands/{name}.md": command_page(name, command) for name, command in commands().items()},
        "metric-tables.inc": metric_tables(),
    }


def write_pages(folder: Path) -> None:
    """Writes the pages that have changed, and removes those that are no more."""
    texts = pages()
    for path, text in texts.items():
        file = folder / path
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    for file in folder.rglob("*.*"):
        if str(file.relative_to(folder)) not in texts:
            file.unlink()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    write_pages(parser.parse_args().folder)
