"""Counts what CONTRIBUTING.md promises of the code's form, each beside its limit.

    python -m scripts.checks.house

The exit code is 1 where a limit is passed; then the places stand below the counts.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[2] / "src" / "predgen"
# Where it may be asked of what kind a target is.
ROOMS_OF_KINDS = ("targets", "codec", "methods/heads", "measures")
KINDS = ("Number", "Label", "LabelSet", "Ordinal", "Record", "Field")
METHODS = ("Predictor", "Generator", "PredGen", "Writer", "Director", "SymbolModel")
ROOT_FILES, FLOORS, ARGUMENTS, FUNCTION_LINES, FILE_LINES = 8, 11, 6, 60, 450


@dataclass(frozen=True)
class Count:
    """One promise.

    Attributes:
        what: what is counted.
        number: how much there is.
        limit: how much there may be.
        places: where too much of it stands.
    """

    what: str
    number: int
    limit: int
    places: list[str]


def sources() -> Iterator[tuple[Path, ast.Module]]:
    """Returns every module with its tree."""
    for path in sorted(ROOT.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def place_of(path: Path, node: ast.stmt | ast.expr) -> str:
    """Returns where a piece of code stands."""
    return f"{path.relative_to(ROOT.parent)}:{node.lineno}"


def floors() -> int:
    """Returns the longest chain of imports between the files and folders of the package's root."""
    graph = grimp.build_graph("predgen", cache_dir=None)
    below: dict[str, set[str]] = {}
    for module in graph.modules:
        room = ".".join(module.split(".")[:2])
        imported = {".".join(name.split(".")[:2]) for name in graph.find_modules_directly_imported_by(module)}
        below.setdefault(room, set()).update(imported - {room})
    heights: dict[str, int] = {}

    def height(room: str, above: tuple[str, ...] = ()) -> int:
        if room in above:
            raise SystemExit(f"imports go round: {' -> '.join([*above, room])}")
        if room not in heights:
            heights[room] = 1 + max((height(one, (*above, room)) for one in below[room]), default=0)
        return heights[room]

    return max(height(room) for room in below if room not in ("predgen", "predgen.__main__"))  # neither is a room


def questions_in(tree: ast.AST) -> list[ast.Call]:
    """Returns the calls of `isinstance` that ask for a kind of target."""
    asked = re.compile(rf"\b({'|'.join(KINDS)})\b")
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return [
        call
        for call in calls
        if ast.unparse(call.func) == "isinstance" and len(call.args) == 2 and asked.search(ast.unparse(call.args[1]))
    ]


def questions_of_kind(rooms: tuple[str, ...] = ROOMS_OF_KINDS) -> list[str]:
    """Returns where `isinstance` asks for a kind of target outside the folders that answer it."""
    outside = [(path, tree) for path, tree in sources() if not str(path.relative_to(ROOT)).startswith(rooms)]
    return [place_of(path, call) for path, tree in outside for call in questions_in(tree)]


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Returns the lines of a function's code, its decorators, signature and docstring apart."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return 0 if not body else (body[-1].end_lineno or 0) - body[0].lineno + 1


def long_functions() -> list[tuple[int, str]]:
    """Returns the length and the place of every function, the longest first."""
    functions = [
        (body_lines(node), place_of(path, node))
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return sorted(functions, reverse=True)


def constructor_arguments() -> list[tuple[int, str]]:
    """Returns the number of arguments of each method's constructor, and its place."""
    counts = []
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name in METHODS:
                for item in node.body:
                    if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                        arguments = len(item.args.args) + len(item.args.kwonlyargs) - 1
                        counts.append((arguments, place_of(path, item)))
    return sorted(counts, reverse=True)


def counts() -> list[Count]:
    """Returns every promise with its figure."""
    root_files = [path.name for path in ROOT.iterdir() if path.is_file()]
    lengths = sorted(((len(path.read_text("utf-8").splitlines()), path) for path, _ in sources()), reverse=True)
    questions, functions, constructors = questions_of_kind(), long_functions(), constructor_arguments()
    return [
        Count("files in the package's root", len(root_files), ROOT_FILES, sorted(root_files)),
        Count("floors of imports", floors(), FLOORS, []),
        Count("isinstance on kinds outside the folders of kinds", len(questions), 0, questions),
        Count(
            "most arguments of a method's constructor",
            constructors[0][0],
            ARGUMENTS,
            [place for number, place in constructors if number > ARGUMENTS],
        ),
        Count(
            "lines of the longest function",
            functions[0][0],
            FUNCTION_LINES,
            [f"{place} ({number})" for number, place in functions if number > FUNCTION_LINES],
        ),
        Count(
            "lines of the longest file",
            lengths[0][0],
            FILE_LINES,
            [f"{path.relative_to(ROOT.parent)} ({number})" for number, path in lengths if number > FILE_LINES],
        ),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 where every promise is kept."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(
        arguments
    )
    broken = []
    for count in counts():
        print(f"{count.number:4d}  (at most {count.limit})  {count.what}")
        if count.number > count.limit:
            broken += [f"  {count.what}: {place}" for place in count.places]
    print("\n".join(broken), end="\n" if broken else "")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
