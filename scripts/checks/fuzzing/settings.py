"""Settings in every form that they come in, right and wrong, and tasks as YAML."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import yaml
from tests.helpers.task_rows import MADE, write_rows

from predgen import fit
from predgen.catalogue import build_task_config, check_task, tasks
from predgen.catalogue.loading import FOLDER, load_task
from predgen.cli.options import parse_assignments
from predgen.config import SECTIONS, RunConfig, build_config, read_config_file, write_config
from predgen.models.asked import Asked
from predgen.models.building import check_method
from predgen.training.arguments import training_arguments
from predgen.training.preparing import prepare
from predgen.training.training_run import new_model
from scripts.checks.fuzzing import odd
from scripts.checks.fuzzing.edits import Edit, edited, edits
from scripts.checks.fuzzing.law import ANSWERED, check_answers, hold
from scripts.checks.fuzzing.world import SMALL, rows, world

FORMS = ("names", "sections", "assignments", "file", "text", "task")
DEPTHS = ("check",) * 20 + ("prepare",) * 20 + ("build",) * 4 + ("fit",)
# Right values of the settings whose type does not tell them.
RIGHT: dict[str, tuple[Any, ...]] = {
    "task": (None, "sst2", "stsb", "boolq@1"),
    "fields": ({}, {"mood": {"kind": "label"}}, {"stars": {"low": 0, "high": 5, "decimals": 2}}),
    "inputs": ("review", ["review", "tags"], None),
    "template": ("Rate this. {review} Rating:", "{review}<sep>{tags}", None),
    "validation": (None,),
    "test": (None,),
    "calibration": (0.2, "0.3", None),
    "split": ("80/10/10", [0.5, 0.25, 0.25], "6/2/2"),
    "group": ("tags", "review", None),
    "label_text": ({"good": "fine", "bad": "poor"}, {}),
    "labels": ("good,bad", ["bad", "good", "ugly"], None),
    "low": (0, -1.5, None),
    "high": (5, 10.25, None),
    "revision": (None,),
    "device_map": (None, "cpu", "auto"),
    "estimate": ("auto", "mean", "median", 0.9, "0.25"),
    "metric": (None, "accuracy", "mae", "rmse", "log_loss"),
    "report_to": ((), ""),
    "device": ("cpu", "auto"),
    "max_prompt_tokens": (64, 512, 8, 10**6),
    "writer_prior": (True, False),
}
# What YAML has and JSON has not.
YAML_TEXTS = (
    *("2020-01-01", ".nan", ".inf", "-.inf", "1:30", "0o17", "0x1F", "1_000", "~", "!!binary aGk=", "!!set {a, b}"),
    *(
        "&a [*a]",
        "&a {b: *a}",
        "!!python/object:os.system {}",
        "{1: 2}",
        "{[1]: 2}",
        "? a",
        "<<: 1",
        "'",
        "- - a",
        "on",
    ),
    *("2020-13-40", "!!int x", "!!float y", "!!timestamp z", "!!pairs [a: 1]", "!!omap [a: 1]", "*b", "%", "@", "\t"),
    *("9" * 5000, "[" * 2000, "{a: " * 500, "!!bool maybe", "!!null x", "2020-01-01T00:00:00+99:99"),
)


@dataclass(frozen=True)
class Request:
    """Settings as somebody gives them, and how far they are tried.

    Attributes:
        form: how they are given.
        given: setting and value.
        text: of a file or of an assignment where YAML is written by hand.
        target: the columns to predict.
        depth: settings are checked, a table is prepared, a method is built, or a model is fitted.
        task: the task that is edited.
        changes: its edits.
    """

    form: str
    given: tuple[tuple[str, Any], ...]
    text: str
    target: str
    depth: str
    task: str
    changes: tuple[Edit, ...]


def requests() -> tuple[st.SearchStrategy[Request], Callable[[Request], str]]:
    """Returns what draws settings, and what tries them."""
    return drawn_requests(), tried


@functools.cache
def names() -> tuple[str, ...]:
    """Returns all settings, with their sections."""
    return tuple(f"{section}.{name}" for section, part in SECTIONS.items() for name in part.model_fields)


def right_values(setting: str) -> st.SearchStrategy[Any]:
    """Returns values that a setting takes: by its table, its bounds, or as `RIGHT` says."""
    section, _, name = setting.partition(".")
    field = SECTIONS[section].model_fields[name]
    extra = field.json_schema_extra
    if name in RIGHT:
        return st.sampled_from(RIGHT[name])
    if isinstance(extra, dict) and isinstance(extra.get("enum"), list):
        return st.sampled_from(extra["enum"])
    if field.annotation is bool:
        return st.booleans()
    bounds: dict[str, Any] = {}
    for one in field.metadata:
        bounds |= {key: getattr(one, key) for key in ("ge", "gt", "le", "lt") if hasattr(one, key)}
    low, high = bounds.get("ge", bounds.get("gt", 0)), bounds.get("le", bounds.get("lt"))
    if "int" in str(field.annotation):
        most = 10**6 if high is None else int(high)
        return st.one_of(st.integers(int(low), min(most, int(low) + 6)), st.integers(int(low), most), st.just(most))
    top = 10.0 if high is None else float(high)
    usual = st.floats(float(low), top, exclude_min="gt" in bounds, exclude_max="lt" in bounds, allow_subnormal=False)
    return usual if high is not None else st.one_of(usual, usual, st.floats(min_value=top))


@st.composite
def drawn_requests(draw: st.DrawFn) -> Request:
    """Draws settings, most of them right."""
    form = draw(st.sampled_from(FORMS))
    given: dict[str, Any] = {}
    for _ in range(draw(st.integers(0, 5))):
        setting = draw(st.sampled_from(names()))
        if setting in ("data.data", "data.target", "model.backbone"):
            continue
        wrong = draw(st.integers(0, 9)) == 0
        given[setting] = draw(odd.values() if wrong else right_values(setting))
    if draw(st.integers(0, 11)) == 0:
        given[draw(st.one_of(st.sampled_from((*names(), *odd.NAMES)), odd.texts()))] = draw(odd.values())
    text = draw(st.sampled_from(YAML_TEXTS)) if draw(st.integers(0, 2)) == 0 else ""
    target = draw(st.sampled_from(("mood", "stars", "tags", "mood,stars")))
    name = draw(st.sampled_from(tasks()))
    changes = draw(edits(2)) if draw(st.integers(0, 3)) else ()
    return Request(form, tuple(given.items()), text, target, draw(st.sampled_from(DEPTHS)), name, changes)


# ---- tried


def tried(request: Request) -> str:
    """Reads settings as their form wants it, and goes as far with them as they ask for.

    Raises:
        PredGenError: they were refused.
        BrokenError: they were taken wrongly.
    """
    if request.form == "task":
        _tried_task(request)
        return ANSWERED
    base = {"data.data": "drawn", "data.target": request.target, "model.backbone": world().backbone_name}
    config = build_task_config(base, _layer(request))
    file = world().scratch / "config.yaml"
    write_config(config, file)
    again = build_config(read_config_file(file))
    hold(repr(again) == repr(config), f"settings are read back otherwise: {again!r}")
    if request.depth == "check":
        return ANSWERED
    source = rows(24) if config.data.task is None else _task_folder(config.data.task)
    if request.depth == "fit":
        _fitted(config, source)
        return ANSWERED
    prepared = prepare(config.data, source, config.train.seed)
    check_method(config, prepared.target)
    if request.depth == "build" and config.model.method != "auto":  # which is the methods that it fits
        new_model(config, prepared)
        arguments = training_arguments(
            config.train,
            world().scratch / "run",
            num_rows=len(prepared.train_values),
            learning_rate=1e-3,
            metric=config.train.metric or "mse",
            higher=False,
        )
        hold(arguments.max_steps >= 1, f"number of steps: {arguments.max_steps}")
    return ANSWERED


def _layer(request: Request) -> dict[str, Any]:
    """Returns the layer of settings that a request stands for, read as its form is read."""
    given = dict(request.given)
    if request.form == "names":
        return given
    if request.form == "assignments":
        written = [
            f"{name}={yaml.safe_dump(value).removesuffix('...' + chr(10)).strip()}" for name, value in given.items()
        ]
        if request.text and given:
            written[0] = f"{next(iter(given))}={request.text}"
        return parse_assignments(written)
    sections: dict[str, Any] = {}
    for name, value in given.items():
        section, point, rest = name.partition(".")
        if point and section in SECTIONS:
            sections.setdefault(section, {})[rest] = value
        else:
            sections[name] = value
    if request.form == "sections":
        return sections
    file = world().scratch / "given.yaml"
    text = yaml.safe_dump(sections, allow_unicode=True)
    if request.form == "text" and request.text and given:
        text += f"\n{next(iter(given)).replace(chr(0), '')}: {request.text}\n"
    file.write_text(text, encoding="utf-8", errors="replace")
    return read_config_file(file)


def _fitted(config: RunConfig, source: Any) -> None:
    """Fits a model for one step, and asks it for a few answers."""
    few = {f"train.{name}": SMALL[name] for name in ("max_steps", "batch_size")} | {"data.max_eval_rows": 4}
    model = fit(source, config=config.changed(**few), quiet=True)
    frame = rows(3, seed=9) if config.data.task is None else None
    if frame is not None:
        probabilities = any(field.labels for field in model.target.fields.values())
        check_answers(
            model, frame, model.predict(frame, probabilities=probabilities), Asked(probabilities=probabilities)
        )
    step = model.record["best_metric"]
    hold(step is None or math.isfinite(step), f"the best metric is not finite: {step}")


@functools.cache
def _task_folder(reference: str) -> Any:
    """Returns a folder of rows of a task of the catalogue, or None where there is none."""
    task = load_task(reference)
    folder = world().folder / "tasks" / task.name
    made = MADE[task.name][0]
    splits = {split: made * 4 for _, split in task.splits.sources()}
    return str(write_rows(folder, splits))


def _tried_task(request: Request) -> None:
    """Edits a task of the catalogue, reads it, and looks at its rows."""
    folder = _task_folder(request.task)
    loaded = yaml.safe_load((FOLDER / f"{request.task}.yaml").read_text(encoding="utf-8"))
    file = world().scratch / "task.yaml"
    text = yaml.safe_dump(edited(loaded, request.changes), allow_unicode=True, sort_keys=False)
    if request.text:
        text += f"\nfolder: {request.text}\n"
    file.write_text(text, encoding="utf-8", errors="replace")
    checked = check_task(file, folder)
    config = build_task_config({"data.task": str(file)})
    hold(config.data.target == (checked.task.target.column,), f"another target: {config.data.target}")
    hold(all(isinstance(problem, str) for problem in checked.problems), "problems are no sentences")
    if checked.rows and not checked.problems and request.depth != "check":
        prepare(config.data, folder, 0)
