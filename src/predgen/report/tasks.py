"""The catalogue's tasks, and one of them, for the terminal, as JSON and as Markdown."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from predgen.catalogue import Checked, Task, load_task, local_folder, tasks
from predgen.catalogue.schema import PARTS, Parts
from predgen.report.tables import markdown_lines

HEADER = ("task", "group", "predicted", "train / validation / test", "metrics", "hub", "licence")


def listed_tasks(data: str | None = None) -> list[dict[str, Any]]:
    """Returns the catalogue as plain values: what each task predicts, its parts, and the folder of its data if any.

    Args:
        data: the folder above those of the tasks; None for PREDGEN_DATA_DIR.
    """
    rows = []
    for name in tasks():
        task = load_task(name)
        rows.append(
            {
                "name": task.name,
                "version": task.version,
                "title": task.title,
                "group": task.group,
                "kind": task.target.kind,
                "target": described_target(task),
                "parts": described_parts(task.splits),
                "metrics": list(task.metrics),
                "hub": None if task.hub is None else task.hub.id,
                "licence": task.licence,
                "local": _folder_of(task, data),
            }
        )
    return rows


def _folder_of(task: Task, data: str | None) -> str | None:
    folder = local_folder(task, data)
    return None if folder is None else str(folder)


def described_target(task: Task) -> str:
    """Returns what a task predicts, in a few words."""
    target = task.target
    if target.kind == "label":
        return ", ".join(target.label_text.values())
    return f"{target.low:.15g} … {target.high:.15g}, {target.decimals} decimals"


def described_parts(parts: Parts) -> list[str]:
    """Returns where the rows of each part come from, such as `train` or `5 % of train`."""
    descriptions = []
    for name in PARTS:
        part = getattr(parts, name)
        where = f"{part.task}'s {part.split}" if part.task else part.split
        descriptions.append(where if part.share is None else f"{part.share * 100:.3g} % of {where}")
    return descriptions


def catalogue_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Returns a row for each task.

    Args:
        rows: as `listed_tasks` returns them.
    """
    table = Table()
    for column in ("task", "kind", "train", "validation", "test", "metrics", "data here"):
        table.add_column(column)
    for row in rows:
        here = "yes" if row["local"] else "no"
        table.add_row(row["name"], row["kind"], *row["parts"], ", ".join(row["metrics"]), here)
    return table


def catalogue_markdown() -> str:
    """Returns the table of docs/tasks.md."""
    rows = [
        [
            f"`{row['name']}@{row['version']}`",
            row["group"],
            row["target"],
            " / ".join(row["parts"]),
            ", ".join(row["metrics"]),
            f"`{row['hub']}`" if row["hub"] else "–",
            row["licence"],
        ]
        for row in listed_tasks()
    ]
    return "\n".join(markdown_lines(HEADER, rows)) + "\n"


def task_lines(checked: Checked) -> list[str]:
    """Returns all that is known of one task, line by line."""
    task = checked.task
    hub = "not there in this form"
    if task.hub is not None:
        hub = ", ".join(filter(None, (task.hub.id, task.hub.config, task.hub.revision)))
    cited = task.citation
    source = [f"arXiv {cited.arxiv}" if cited.arxiv else "", f"doi {cited.doi}" if cited.doi else "", cited.url or ""]
    lines = [
        f"{task.reference}: {task.title}. {task.description}",
        f"hub: {hub}",
        f"columns: {', '.join(task.columns)}",
        *(f"made: {name} ({making.how} of {making.of})" for name, making in task.make.items()),
        f"parts: {' / '.join(described_parts(task.splits))}" + (f". {task.splits.note}" if task.splits.note else ""),
        f"target: {task.target.column}, {task.target.kind}: {described_target(task)}",
        f"metrics: {', '.join(task.metrics)}",
        f"licence: {task.licence}",
        f"cite: {cited.authors}. {cited.title}. {cited.venue} {cited.year}. {', '.join(filter(None, source))}".rstrip(),
        *(f"note: {note}" for note in task.notes),
    ]
    if task.fallback is not None:
        fallback = f"without a split: {' / '.join(described_parts(task.fallback))}"
        lines.insert(5 + len(task.make), fallback + (f". {task.fallback.note}" if task.fallback.note else ""))
    return [*lines, "", *data_lines(checked)]


def data_lines(checked: Checked) -> list[str]:
    """Returns what was found of a task's rows, with one row as the model reads it, else the template."""
    if checked.origin is None:
        return ["data: none found here", "", "template:", checked.task.template]
    sizes = ", ".join(f"{count} {name}" for name, count in checked.rows.items())
    lines = [f"data: {sizes} rows from {checked.origin}"]
    if checked.note:
        lines.append(checked.note)
    assert checked.example is not None
    return [*lines, "", "prompt:", checked.example["prompt"], "", f"answer: {checked.example['answer']}"]


def checked_json(checked: Checked) -> dict[str, Any]:
    """Returns a task and what was found of its rows as plain values."""
    return {
        "task": checked.task.model_dump(mode="json", by_alias=True),
        "origin": checked.origin,
        "rows": checked.rows,
        "note": checked.note,
        "example": checked.example,
        "problems": list(checked.problems),
    }
