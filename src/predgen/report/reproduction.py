"""The paper's tables from a reproduction's JSON, as Markdown and as a page of HTML, beside what the paper reports."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from predgen.experiments.reproduction.paper import AVERAGE, COMMONSENSE, REPORTED, reported
from predgen.files import write_text
from predgen.measures.metrics import higher_is_better
from predgen.report.pages import code, page, plain_text, rendered
from predgen.report.tables import NOT_DEFINED, format_number, markdown_lines

# Shares of right answers, shown as percent: of labels, of numbers.
PERCENT = ("accuracy", "exact_match")
# Of one answer for all rows it is not defined; of answers that know nothing of the rows it is 0.
CORRELATION = "pearson"
FAMILIES = {"Numbers": ("mse", CORRELATION), "Labels": PERCENT[:1], "Arithmetic": PERCENT[1:]}
SIMPLE = "simple baseline"
ROWS = "rows to train / choose / test on"
AT_CHANCE = "†"
NOT_OFFICIAL = "*"
PAPER = (
    "Accuracy in percent as reported (arXiv 2502.17817), as far as it is known here: other models, all rows. The "
    f"average is over all {len(COMMONSENSE)} commonsense tasks."
)


def reproduction_markdown(reproduction: Mapping[str, Any]) -> str:
    """Returns a reproduction as Markdown: a table for each backbone, PEFT method and kind of task.

    Args:
        reproduction: the JSON of `predgen.reproduce`.
    """
    versions = ", ".join(reproduction["versions"])
    sections = [f"# Reproduction, preset `{reproduction['preset']}`, predgen {versions}", _legend(reproduction)]
    cells = reproduction["cells"]
    for backbone, peft in dict.fromkeys((cell["backbone"], cell["peft"]) for cell in cells):
        group = [cell for cell in cells if (cell["backbone"], cell["peft"]) == (backbone, peft)]
        sections.append(f"## {plain_text(backbone)}, {peft}")
        for family, metrics in (
            ("Numbers", ("mse", CORRELATION)),
            ("Labels", PERCENT[:1]),
            ("Arithmetic", PERCENT[1:]),
        ):
            for metric in metrics:
                rows = [cell for cell in group if cell["family"] == family.lower() and metric in cell["metrics"]]
                if rows:
                    sections.append(f"**{family}: {_unit(metric)}**")
                    sections.append("\n".join(_table(rows, metric, backbone, peft)))
    notes = {f"- {code(cell['task'])}: {plain_text(note)}" for cell in cells for note in cell["notes"]}
    notes |= {f"- {code(cell['task'])}: {' / '.join(map(str, cell['rows'].values()))} {ROWS}" for cell in cells}
    missing = [
        f"- {code(left_out['task'])}: not run: {plain_text(left_out['reason'])}" for left_out in reproduction["missing"]
    ]
    missing += [
        f"- {code(cell['task'])}, {code(cell['method'])}, {cell['peft']}, {plain_text(cell['backbone'])}, "
        f"seed {cell['seed']}: failed: {plain_text(cell['reason'])}"
        for cell in reproduction["failed"]
    ]
    if any(cell["task"] in COMMONSENSE for cell in cells):
        sections += ["## The paper", PAPER, "\n".join(_paper_table())]
    if notes or missing:
        sections += ["## Notes", "\n".join([*sorted(notes), *missing])]
    return "\n\n".join(sections) + "\n"


def reproduction_html(reproduction: Mapping[str, Any]) -> str:
    """Returns a reproduction as one page that needs no other file.

    Args:
        reproduction: the JSON of `predgen.reproduce`.
    """
    text = reproduction_markdown(reproduction)
    body = rendered(text)
    return page("PredGen: reproduction", body)


def write_tables(reproduction: Mapping[str, Any], folder: Path) -> None:
    """Writes the tables to `tables.md` and `tables.html` of a folder, each whole or not at all.

    Args:
        reproduction: the JSON of `predgen.reproduce`.
        folder: where.
    """
    write_text(folder / "tables.md", reproduction_markdown(reproduction))
    write_text(folder / "tables.html", reproduction_html(reproduction))


def plan_markdown(plan: Mapping[str, Any]) -> str:
    """Returns the plan of a grid as Markdown.

    Args:
        plan: the JSON of `predgen.plan_reproduction`.
    """
    header = ("backbone", "PEFT", "method", "cells", "memory GiB", "fits", "time")
    rows = [
        [
            plain_text(row["backbone"]),
            row["peft"],
            row["method"],
            str(row["cells"]),
            NOT_DEFINED if row["fit_bytes"] is None else f"{row['fit_bytes'] / 2**30:.1f}",
            NOT_DEFINED if row["fits"] is None else "yes" if row["fits"] else "no",
            NOT_DEFINED if row["hours"] is None else f"{'≥ ' if row['not_counted'] else ''}{_time(row['hours'])}",
        ]
        for row in plan["rows"]
    ]
    if plan["hours"] is None:
        time = "the time is not known"
    else:
        missing = f"; {plan['not_counted']} cells not counted" if plan["not_counted"] else ""
        time = (
            f"{'at least' if missing else 'about'} {_time(plan['hours'])}{missing}, if {plan['used']:.0%} of its "
            f"peak of {plan['gpu_flops'] / 1e12:.0f} TFLOP/s is reached (assumed, not measured)"
        )
    lines = [
        f"{plan['cells']} cells, of which {plan['finished']} are finished. On one {plan['gpu']} "
        f"({plan['gpu_memory_bytes'] / 2**30:.0f} GiB): {time}.",
        "\n".join(markdown_lines(header, rows)),
        *(f"- {plain_text(note)}" for note in plan["notes"]),
    ]
    return "\n\n".join(lines) + "\n"


def _time(hours: float) -> str:
    """Returns a time in hours, or in minutes or seconds where it is short, in three significant digits."""
    for unit, size in (("hours", 1.0), ("minutes", 60.0)):
        if hours * size >= 1:
            return f"{hours * size:.0f} {unit}" if hours * size >= 100 else f"{hours * size:.3g} {unit}"
    return f"{hours * 3600:.3g} seconds"


def _legend(reproduction: Mapping[str, Any]) -> str:
    settings = (
        ", ".join(code(f"{name}={value}") for name, value in reproduction["settings"].items())
        or "those of this version"
    )
    seeds = max((cell["seed"] for cell in reproduction["cells"]), default=0) + 1
    spread = ", ± one standard deviation over the seeds" if seeds > 1 else ""
    chance = (
        f"{AT_CHANCE}: at chance: the 95 % interval over the rows (of one seed at least) is not all better than the "
        "simple baseline, of a correlation not all above 0."
    )
    official = (
        f"{NOT_OFFICIAL}: other parts than the paper's, which the notes describe. `paper`: what the paper reports for "
        "this backbone and PEFT method, where it is known here, parts are the same and rows are not capped."
    )
    return (
        f"Settings: {settings}. Figures are of the test rows{spread}. `{SIMPLE}` answers every row with the mean or "
        f"the likeliest label of the training rows (for exact match, their most frequent number). {chance} {official}"
    )


def _unit(metric: str) -> str:
    return f"{metric.replace('_', ' ')}, %" if metric in PERCENT else metric


def _table(cells: Sequence[Mapping[str, Any]], metric: str, backbone: str, peft: str) -> list[str]:
    """Returns the lines of one table: a method a row, a task a column, and the average of the commonsense tasks."""
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    official = {cell["task"] for cell in cells if cell["official"]}
    methods = list(dict.fromkeys(cell["method"] for cell in cells))
    averaged = [task for task in COMMONSENSE if task in tasks] if metric == PERCENT[0] else []
    has_average = len(averaged) > 1
    rows = [[f"`{SIMPLE}`", *(_simple(cells, task, metric) for task in tasks), *[""] * has_average]]
    for method in methods:
        cells_of_task = {
            task: [cell for cell in cells if (cell["task"], cell["method"]) == (task, method)] for task in tasks
        }
        rows.append([code(method), *(_figure(cells_of_task[task], metric, cells) for task in tasks)])
        if has_average:
            means = [mean for task in averaged if (mean := _mean(cells_of_task[task], metric)) is not None]
            rows[-1].append(_shown(statistics.fmean(means) if len(means) == len(averaged) else None, metric))
        # Fewer rows than the paper had are no comparison with it.
        compares = metric == PERCENT[0] and not any(cell["capped"] for cell in cells)
        paper = reported(backbone, peft, method) if compares else {}
        if set(paper) & official:
            of_all = official >= set(COMMONSENSE)
            figures = [_reported(paper, task) if task in official else "" for task in tasks]
            rows.append([f"paper: {method}", *figures, *[_reported(paper, AVERAGE) if of_all else ""] * has_average])
    names = [task if task in official else f"{task}{NOT_OFFICIAL}" for task in tasks]
    return markdown_lines(["method", *names, *[f"{AVERAGE} of {len(averaged)}"] * has_average], rows)


def _paper_table() -> list[str]:
    """Returns the lines of what the paper reports, the tasks of which a figure is known."""
    tasks = [task for task in COMMONSENSE if any(task in row.accuracy for row in REPORTED)]
    rows = [
        [row.backbone, row.peft, f"`{row.method}`", *(_reported(row.accuracy, task) for task in [*tasks, AVERAGE])]
        for row in REPORTED
    ]
    return markdown_lines(["backbone", "PEFT", "method", *tasks, AVERAGE], rows)


def _reported(figures: Mapping[str, float], name: str) -> str:
    return f"{figures[name]:.2f}" if name in figures else ""


def _figure(seeds: Sequence[Mapping[str, Any]], metric: str, cells: Sequence[Mapping[str, Any]]) -> str:
    """Returns a method's figure on a task: the mean over its seeds, marked where it is at chance."""
    mean = _mean(seeds, metric)
    if mean is None:
        return NOT_DEFINED
    values = [cell["metrics"][metric] for cell in seeds]
    spread = f" ± {_shown(statistics.stdev(values), metric)}" if len(values) > 1 else ""
    chance = AT_CHANCE if any(_is_at_chance(cell, metric) for cell in seeds) else ""
    best = _best_of(cells, seeds[0]["task"], metric) == mean and len({cell["method"] for cell in cells}) > 1
    text = f"**{_shown(mean, metric)}**" if best else _shown(mean, metric)
    return f"{text}{spread}{chance}"


def _is_at_chance(cell: Mapping[str, Any], metric: str) -> bool:
    """Returns whether a cell's interval reaches what can be had without reading the text, or lies on its wrong side."""
    simple = 0.0 if metric == CORRELATION else cell["simple"].get(metric)
    low, high = cell["ci95"].get(metric, (None, None))
    if simple is None or low is None or high is None:
        return False
    return bool(low <= simple if higher_is_better(metric) else high >= simple)


def _best_of(cells: Sequence[Mapping[str, Any]], task: str, metric: str) -> float | None:
    """Returns the best mean of the methods on a task."""
    means = []
    for _, group in itertools.groupby(
        sorted((cell for cell in cells if cell["task"] == task), key=lambda cell: cell["method"]),
        key=lambda cell: cell["method"],
    ):
        mean = _mean(list(group), metric)
        if mean is not None:
            means.append(mean)
    return (max if higher_is_better(metric) else min)(means, default=None)


def _mean(seeds: Sequence[Mapping[str, Any]], metric: str) -> float | None:
    """Returns the mean of a metric over seeds; None where one lacks it."""
    values = [cell["metrics"].get(metric) for cell in seeds]
    return None if not values or None in values else statistics.fmean(values)


def _simple(cells: Sequence[Mapping[str, Any]], task: str, metric: str) -> str:
    return _shown(next(cell for cell in cells if cell["task"] == task)["simple"].get(metric), metric)


def _shown(value: float | None, metric: str) -> str:
    if value is None:
        return NOT_DEFINED
    return f"{100 * value:.2f}" if metric in PERCENT else format_number(value)
