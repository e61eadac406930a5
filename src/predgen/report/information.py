"""Information in models' states for people: tables, pictures, and a page of HTML that holds both."""

from collections.abc import Mapping
from typing import Any

from predgen.report.pages import plain_text
from predgen.report.tables import NOT_DEFINED, markdown_lines

SOURCE_TITLES = {
    "pooled": "prompt, pooled",
    "written": "written tokens",
    "written_mean": "written tokens, mean",
    "prompt": "prompt, all tokens",
}


def information_markdown(measured: Mapping[str, Any]) -> str:
    """Returns the measures as Markdown: a row for each run and source, then the layers.

    Args:
        measured: the JSON of `predgen.measure_information`.
    """
    estimators = list(dict.fromkeys(measure["estimator"] for run in measured["runs"] for measure in run["measures"]))
    lines = []
    for run in measured["runs"]:
        for source in dict.fromkeys(measure["source"] for measure in run["measures"]):
            by_estimator = {measure["estimator"]: measure for measure in run["measures"] if measure["source"] == source}
            lines.append(
                [plain_text(run["name"]), SOURCE_TITLES[source], *(_cell(by_estimator[name]) for name in estimators)]
            )
            lines.append(["", "control", *(_cell(by_estimator[name]["control"]) for name in estimators)])
    sections = [
        f"# I(Y; Z) of '{plain_text(measured['target'])}', in nats",
        f"{_entropy(measured)} Critics learned from {measured['rows']['learn']} rows "
        f"({measured['learned_from']}); estimates are of {measured['rows']['estimate']} "
        f"{measured['estimated_on']} rows. "
        "Written tokens are those that a model writes by itself, as in prediction. Values are means over "
        f"{measured['seeds']} seed{'s' if measured['seeds'] > 1 else ''} ± their standard error, with "
        "a 95 % interval over the rows (of nearest neighbours both are over the rows); controls have the answers of "
        "other rows.",
        "\n".join(markdown_lines(["run", "states", *estimators], lines)),
    ]
    layered = [(run, source) for run in measured["runs"] for source in run["layers"]]
    if layered:
        depth = max(len(run["layers"][source]) for run, source in layered)
        rows = [
            [plain_text(run["name"]), SOURCE_TITLES[source], *(_value(layer) for layer in run["layers"][source])]
            for run, source in layered
        ]
        rows = [[*row, *[""] * (depth + 2 - len(row))] for row in rows]
        sections += [
            "**By layer, InfoNCE** (0: the embeddings)",
            "\n".join(markdown_lines(["run", "states", *map(str, range(depth))], rows)),
        ]
    return "\n\n".join(sections) + "\n"


def _value(measure: Mapping[str, Any]) -> str:
    return NOT_DEFINED if measure["value"] is None else f"{measure['value']:z.3f}"


def _entropy(measured: Mapping[str, Any]) -> str:
    if measured["entropy"] is None:
        return "Most answers come once, so that H(Y) is not known from them."
    return f"H(Y) = {measured['entropy']:z.3f} by the shares of the answers: no I(Y; Z) is above H(Y)."


def _cell(measure: Mapping[str, Any]) -> str:
    error = "" if measure["standard_error"] is None else f" ± {measure['standard_error']:z.3f}"
    interval = (
        ""
        if measure["ci95"] is None or None in measure["ci95"]
        else f" [{measure['ci95'][0]:z.3f}, {measure['ci95'][1]:z.3f}]"
    )
    return NOT_DEFINED if measure["value"] is None else f"{measure['value']:z.3f}{error}{interval}"


# ---- token by token
