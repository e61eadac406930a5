"""Information in models' states for people: pictures, and pages of HTML that hold tables and pictures."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from predgen.report.information import SOURCE_TITLES, information_markdown
from predgen.report.pages import page, rendered
from predgen.report.plots import DOTS_PER_INCH, save_figure

COLOR_MAP = "RdBu_r"


# H(Y) is drawn if it is below this many times the highest estimate.
FARTHEST = 10.0


# Words of a line of the heat map, and the letters that a line has room for.
LINE_LETTERS = 90


@rc_context({"text.parse_math": False})  # a dollar in a text begins no formula
def information_figure(measured: Mapping[str, Any]) -> Figure:
    """Returns the picture: bars for each run and source, curves over the layers, and the critics' training.

    Args:
        measured: the JSON of `predgen.measure_information`.
    """
    runs = measured["runs"]
    layered = any(run["layers"] for run in runs)
    trained = [measure for run in runs for measure in run["measures"] if measure["curves"] and measure["curves"][0]]
    rows = 1 + layered + bool(trained)
    figure = Figure(figsize=(12, 3.6 * rows), layout="constrained")
    subfigures = figure.subfigures(rows, 1, squeeze=False)[:, 0]
    _draw_bars(subfigures[0], measured)
    if layered:
        panels = subfigures[1].subplots(1, 2, sharey=True)
        for panel, source in zip(panels, ("pooled", "written"), strict=True):
            for run_index, run in enumerate(runs):
                layers = run["layers"].get(source)
                if layers:
                    _draw_layers(panel, layers, run["name"], f"C{run_index}")
            _draw_entropy(panel, measured)
            panel.set_title(f"{SOURCE_TITLES[source]}: InfoNCE by layer")
            panel.set_xlabel("layer")
            panel.grid(alpha=0.3)
        panels[0].set_ylabel("nats")
        panels[0].legend(fontsize=8)
    if trained:
        _draw_curves(subfigures[-1], measured)
    return figure


def _draw_bars(subfigure: Any, measured: Mapping[str, Any]) -> None:
    """Draws a panel for each estimator; controls are white bars, H(Y) a broken line."""
    estimators = list(dict.fromkeys(measure["estimator"] for run in measured["runs"] for measure in run["measures"]))
    panels = subfigure.subplots(1, len(estimators), sharey=True, squeeze=False)[0]
    for panel, estimator in zip(panels, estimators, strict=True):
        names, position = [], 0
        for color, run in enumerate(measured["runs"]):
            for measure in run["measures"]:
                if measure["estimator"] != estimator:
                    continue
                panel.bar(position, _height(measure), color=f"C{color}", width=0.6)
                panel.bar(position + 0.3, _height(measure["control"]), color="white", edgecolor=f"C{color}", width=0.2)
                if measure["ci95"] is not None and None not in measure["ci95"]:
                    panel.plot([position, position], measure["ci95"], color="black", linewidth=1.5)
                names.append(f"{run['name']}\n{SOURCE_TITLES[measure['source']]}")
                position += 1
        _draw_entropy(panel, measured)
        panel.axhline(0, color="black", linewidth=0.5)
        panel.set_xticks(range(position), names, rotation=90, fontsize=7)
        panel.set_title(estimator)
        panel.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("nats")
    bound = (
        ""
        if measured["entropy"] is None
        else f"; H(Y) = {measured['entropy']:z.3f}, the broken line where it is not far above"
    )
    subfigure.suptitle(f"I(Y; Z), with 95 % intervals; narrow white bars: controls{bound}", fontsize=10)


def _height(measure: Mapping[str, Any]) -> float:
    """Returns the value to draw; nothing is drawn of one that is not finite."""
    return float("nan") if measure["value"] is None else float(measure["value"])


def _draw_entropy(panel: Any, measured: Mapping[str, Any]) -> None:
    """Draws H(Y), unless it is so far above all else that nothing else could be seen."""
    highest = max(_height(measure) for run in measured["runs"] for measure in run["measures"])
    if measured["entropy"] is not None and measured["entropy"] < FARTHEST * highest:
        panel.axhline(measured["entropy"], color="gray", linestyle="--", linewidth=1)


def _draw_layers(panel: Any, layers: Sequence[Mapping[str, Any]], name: str, color: str) -> None:
    values = [_height(measure) for measure in layers]
    panel.plot(values, marker="o", markersize=4, color=color, label=name)
    intervals = [measure["ci95"] for measure in layers]
    if all(interval is not None and None not in interval for interval in intervals):
        panel.fill_between(range(len(values)), *zip(*intervals, strict=True), color=color, alpha=0.15)


def _draw_curves(subfigure: Any, measured: Mapping[str, Any]) -> None:
    """Draws the bounds of the first seed's critics on held-back rows; broken lines are controls."""
    critics = list(
        dict.fromkeys(
            measure["estimator"] for run in measured["runs"] for measure in run["measures"] if measure["curves"][0]
        )
    )
    panels = subfigure.subplots(1, len(critics), squeeze=False)[0]
    for panel, estimator in zip(panels, critics, strict=True):
        color_index = 0
        for run in measured["runs"]:
            for measure in run["measures"]:
                if measure["estimator"] != estimator:
                    continue
                label = f"{run['name']}, {SOURCE_TITLES[measure['source']]}"
                panel.plot(*zip(*measure["curves"][0], strict=True), color=f"C{color_index}", label=label)
                panel.plot(*zip(*measure["control_curves"][0], strict=True), color=f"C{color_index}", linestyle=":")
                color_index += 1
        panel.set_title(f"{estimator}: what its critic maximizes (rows held back)", fontsize=9)
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
        panel.set_ylim(bottom=max(panel.get_ylim()[0], -0.5))
    panels[0].legend(fontsize=6)


def information_page(measured: Mapping[str, Any]) -> str:
    """Returns table and picture as one page that needs no other file.

    Args:
        measured: the JSON of `predgen.measure_information`.
    """
    body = rendered(information_markdown(measured))
    return page("PredGen: information in states", body + _image(information_figure(measured), "Bars, layers, training"))


def save_information(measured: Mapping[str, Any], path: str | Path) -> None:
    """Writes the picture as PNG."""
    save_figure(information_figure(measured), path)


@rc_context({"text.parse_math": False})  # a dollar in a text begins no formula
def heat_map_figure(heat_map: Mapping[str, Any]) -> Figure:
    """Returns the words of each text, colored by their values; the control stands below each line in small print.

    Args:
        heat_map: the JSON of `predgen.token_information`.
    """
    texts = [_lines(text["words"]) for text in heat_map["texts"]]
    largest = _largest_value(heat_map)
    heights = sum(len(lines) + 1 for lines in texts)
    figure = Figure(figsize=(12, 0.6 * heights + 0.5), layout="constrained")
    panel = figure.subplots()
    panel.set_xlim(0, LINE_LETTERS + 4)
    panel.set_ylim(heights, 0)
    panel.axis("off")
    row = 0
    for text, lines in zip(heat_map["texts"], texts, strict=True):
        panel.text(0, row + 0.35, f"answer: {_answer(text)}", fontsize=10, weight="bold", va="center")
        row += 1
        for line in lines:
            column = 0
            for word in line:
                width = _width(word)
                color = _color(word["value"], largest)
                box = Rectangle(
                    (column, row + 0.02), width - 0.3, 0.84, facecolor=color, edgecolor="#cccccc", linewidth=0.5
                )
                panel.add_patch(box)
                ink = "white" if abs(word["value"]) > 0.7 * largest else "black"
                panel.text(
                    column + width / 2 - 0.15, row + 0.3, word["text"], ha="center", va="center", fontsize=9, color=ink
                )
                panel.text(
                    column + width / 2 - 0.15,
                    row + 0.66,
                    f"{word['value']:+z.2f} ({word['control']:+z.2f})",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color=ink,
                )
                column += width
            row += 1
    title = (
        f"Pointwise information of each word and the answer, in nats (in brackets: control); critics: "
        f"{heat_map['information']['value']:z.3f}, control {heat_map['control']['value']:z.3f}"
    )
    figure.suptitle(title, fontsize=10)
    return figure


def _width(word: Mapping[str, Any]) -> int:
    """Returns the letters that a word and its figures take."""
    return max(len(word["text"]), 8) + 1


def _lines(words: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    lines: list[list[Mapping[str, Any]]] = [[]]
    used = 0
    for word in words:
        width = _width(word)
        if lines[-1] and used + width > LINE_LETTERS:
            lines.append([])
            used = 0
        lines[-1].append(word)
        used += width
    return lines


def _largest_value(heat_map: Mapping[str, Any]) -> float:
    """Returns the value of the strongest color: the largest of all words and controls."""
    values: list[float] = [
        abs(word[name]) for text in heat_map["texts"] for word in text["words"] for name in ("value", "control")
    ]
    return max([*values, 1e-3])


def _color(value: float, largest: float) -> str:
    return str(to_hex(colormaps[COLOR_MAP](0.5 + 0.5 * value / largest)))


def _answer(text: Mapping[str, Any]) -> str:
    written = text["written"]
    return str(text["answer"]) if written is None else f"{text['answer']} (wrote “{written.strip()}”)"


def heat_map_page(heat_map: Mapping[str, Any]) -> str:
    """Returns the heat map as one page that needs no other file; a word shows its figures when it is pointed at.

    Args:
        heat_map: the JSON of `predgen.token_information`.
    """
    largest = _largest_value(heat_map)
    sections = [
        "<h1>Which words say something about the answer</h1>",
        "<p>Pointwise information of each word and what the model answered, in nats: T(h, y) − log E exp T of a critic "
        f"(mean of {heat_map['seeds']} seeds; {heat_map['rows']['learn']} rows, "
        f"{html.escape(heat_map['learned_from'])}). Over all tokens the critic finds "
        f"{heat_map['information']['value']:z.3f} nats, its control, with the answers of "
        f"other rows, {heat_map['control']['value']:z.3f}. The strongest color is {largest:.2f}.</p>",
    ]
    for text in heat_map["texts"]:
        sections.append(f"<h2>{html.escape(_answer(text))}</h2>")
        for name, title in (("value", "information"), ("control", "control")):
            words = " ".join(_span(word, name, largest) for word in text["words"])
            sections.append(f"<p><strong>{title}</strong></p><p class='words'>{words}</p>")
    return page("PredGen: words and answers", "\n".join(sections))


def _span(word: Mapping[str, Any], name: str, largest: float) -> str:
    ink = "#fff" if abs(word[name]) > 0.7 * largest else "#111"
    tip = f"{word['value']:+z.3f} nats, control {word['control']:+z.3f}, {word['tokens']} tokens"
    style = f"background:{_color(word[name], largest)};color:{ink}"
    shown = f"{html.escape(word['text'])}<sub>{word[name]:+z.2f}</sub>"
    return f'<span style="{style}" title="{html.escape(tip)}">{shown}</span>'


def save_heat_map(heat_map: Mapping[str, Any], path: str | Path) -> None:
    """Writes the heat map as PNG."""
    save_figure(heat_map_figure(heat_map), path)


def _image(figure: Figure, text: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<p><img alt="{html.escape(text)}" src="data:image/png;base64,{data}"></p>'
