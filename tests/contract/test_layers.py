"""The layers of docs/architecture.md: imports point downwards only."""

import ast
from pathlib import Path

import pytest

import predgen

ROOT = Path(predgen.__file__).parent

# From what people touch down to plain values. A module may import from its own layer's packages and from below.
LAYERS = [
    {"cli"},
    {"demo", "report"},
    {"ablating", "reproduction"},
    {"comparing"},
    {"tuning", "information"},
    {"fitting", "results", "inspecting", "streaming", "bench", "loading"},
    {"model"},
    {"outputs", "scored", "encoding", "evaluation"},
    {"artifact", "preparing", "memory_plan"},
    {"training", "progress", "building"},
    {"checkpoints"},
    {"methods"},
    {"catalogue"},
    {"decoding", "scoring", "batches", "columns", "data"},
    {"adapters", "directors", "tables", "baselines", "activations", "token_report"},
    {"backbones", "readers", "trie", "known_shapes"},
    {"codec", "distributions", "mixing", "calibration", "template", "losses", "schedules", "metrics", "statistics"},
    {"target_rules", "records", "thresholds", "word_automaton"},
    {"number_automaton"},
    {"label_sets"},
    {"targets"},
    {"scientific"},
    {"runs", "devices"},
    {"config"},
    {"errors", "files", "version", "processes"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Plain modules use numpy, torch, scipy and scikit-learn's metrics at most.
PLAIN = {
    "codec",
    "trie",
    "template",
    "losses",
    "schedules",
    "metrics",
    "statistics",
    "targets",
    "scientific",
    "number_automaton",
    "word_automaton",
    "label_sets",
    "records",
    "target_rules",
    "thresholds",
    "errors",
}
PLAIN_MAY_IMPORT = {"numpy", "torch", "scipy", "sklearn", "jaxtyping", "predgen"}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layers"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


SOURCES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py" or path.parent != ROOT)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    own = part_of(path)
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "predgen" and len(parts) > 1 and parts[1] in LEVEL and parts[1] != own:
            assert LEVEL[own] < LEVEL[parts[1]], f"{own} (layer {LEVEL[own]}) imports {parts[1]} ({LEVEL[parts[1]]})"


def test_every_part_has_a_layer() -> None:
    assert {part_of(path) for path in SOURCES} <= set(LEVEL)


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_plain_modules_stay_plain(name: str) -> None:
    import sys

    outside = {one.split(".")[0] for one in imports_of(ROOT / f"{name}.py")} - set(sys.stdlib_module_names)
    assert outside <= PLAIN_MAY_IMPORT
