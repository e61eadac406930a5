"""Information in models' states for people, as tables."""

from collections.abc import Mapping
from typing import Any

from predgen.report.tables import NOT_DEFINED, markdown_lines

SOURCE_TITLES = {
    "pooled": "prompt, pooled",
    "written": "written tokens",
    "written_mean": "written tokens, mean",
    "prompt": "prompt, all tokens",
}


def information_markdown(found: Mapping[str, Any]) -> str:
    """Returns the measures as Markdown: a row for each run and source, then the layers.

    Args:
        found: the JSON of `predgen.measure_information`.
    """
    estimators = list(dict.fromkeys(one["estimator"] for run in found["runs"] for one in run["measures"]))
    lines = []
    for run in found["runs"]:
        for source in dict.fromkeys(one["source"] for one in run["measures"]):
            own = {one["estimator"]: one for one in run["measures"] if one["source"] == source}
            lines.append([run["name"], SOURCE_TITLES[source], *(_cell(own[name]) for name in estimators)])
            lines.append(["", "control", *(_cell(own[name]["control"]) for name in estimators)])
    parts = [
        f"# I(Y; Z) of '{found['target']}', in nats",
        f"{_entropy(found)} Critics learned from {found['rows']['learn']} rows "
        f"({found['learned_from']}); estimates are of {found['rows']['estimate']} {found['estimated_on']} rows. "
        "Written tokens are those that a model writes by itself, as in prediction. Values are means over "
        f"{found['seeds']} seed{'s' if found['seeds'] > 1 else ''} ± their standard error, with "
        "a 95 % interval over the rows (of nearest neighbours both are over the rows); controls have the answers of "
        "other rows.",
        "\n".join(markdown_lines(["run", "states", *estimators], lines)),
    ]
    layered = [(run, source) for run in found["runs"] for source in run["layers"]]
    if layered:
        depth = max(len(run["layers"][source]) for run, source in layered)
        rows = [
            [run["name"], SOURCE_TITLES[source], *(_value(one) for one in run["layers"][source])]
            for run, source in layered
        ]
        rows = [[*row, *[""] * (depth + 2 - len(row))] for row in rows]
        parts += [
            "**By layer, InfoNCE** (0: the embeddings)",
            "\n".join(markdown_lines(["run", "states", *map(str, range(depth))], rows)),
        ]
    return "\n\n".join(parts) + "\n"


def _value(one: Mapping[str, Any]) -> str:
    return NOT_DEFINED if one["value"] is None else f"{one['value']:z.3f}"


def _entropy(found: Mapping[str, Any]) -> str:
    if found["entropy"] is None:
        return "Most answers come once, so that H(Y) is not known from them."
    return f"H(Y) = {found['entropy']:z.3f} by the shares of the answers: no I(Y; Z) is above H(Y)."


def _cell(one: Mapping[str, Any]) -> str:
    error = "" if one["standard_error"] is None else f" ± {one['standard_error']:z.3f}"
    interval = "" if one["ci95"] is None or None in one["ci95"] else f" [{one['ci95'][0]:z.3f}, {one['ci95'][1]:z.3f}]"
    return NOT_DEFINED if one["value"] is None else f"{one['value']:z.3f}{error}{interval}"
