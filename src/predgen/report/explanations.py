"""Explanations of answers, from their JSON: lines for the terminal, and a page."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from predgen.report.filled import Figure, figure_of, filled
from predgen.report.tables import format_number

# Words in a chart.
TOP_WORDS = 15
# Letters of the longest bar in the terminal, and of the longest word that is not shortened there.
BAR_LETTERS = 12
WORD_LETTERS = 32
# Blue adds to the score, vermillion takes from it: colors of Okabe and Ito (2008), which color-blind people tell apart.
ADDS, TAKES = (0, 114, 178), (213, 94, 0)
STRONGEST = 0.75


def explanation_lines(one: Mapping[str, Any]) -> list[str]:
    """Returns an explanation as lines: what is explained, then each word with its attribution and a bar.

    Args:
        one: the JSON of a `predgen.Explanation`.
    """
    lines = [f"Row {one['row']}: {_heading(one)}", f"  {_score(one)}"]
    lines += [f"  {name}: {value:+z.3f}" for name, value in one["columns"].items() if len(one["columns"]) > 1]
    largest = _largest(one)
    shown = [" ".join(word["text"].split()) for word in one["words"]]
    shown = [text if len(text) <= WORD_LETTERS else f"{text[: WORD_LETTERS - 1]}…" for text in shown]
    width = max(map(len, shown), default=0)
    for word, text in zip(one["words"], shown, strict=True):
        value = word["attribution"]
        column = f"  {word['column']}" if len(one["columns"]) > 1 else ""
        if value is None:
            lines.append(f"  {'cut':>9}  {'':{BAR_LETTERS}}  {text:{width}}{column}".rstrip())
            continue
        length = round(BAR_LETTERS * abs(value) / largest)
        bar = ("+" if value > 0 else "-") * length
        lines.append(f"  {value:+9.3f}  {bar:{BAR_LETTERS}}  {text:{width}}{column}".rstrip())
    return [*lines, *(f"  {note}" for note in _notes(one)), ""]


def explanation_page(found: Sequence[Mapping[str, Any]]) -> str:
    """Returns explanations as one page that needs no other file.

    Args:
        found: the JSON of each `predgen.Explanation`.
    """
    return filled(
        "explanations.html",
        "Which words drove the answers",
        summary=_summary(found[0]["method"]),
        explanations=[
            {
                "heading": f"Row {one['row']}: {_heading(one)}",
                "score": _score(one),
                "notes": _notes(one),
                "columns": [
                    {"name": name, "total": f"{total:+z.3f}", "words": _marked(one, name)}
                    for name, total in one["columns"].items()
                ],
                "figure": _figure(one, number),
            }
            for number, one in enumerate(found, start=1)
        ],
    )


def _heading(one: Mapping[str, Any]) -> str:
    field = f"{one['field']}: " if one["field"] else ""
    if one["label"] is None:
        return f"{field}number {format_number(one['answer'])}"
    answer = one["answer"]
    said = ", ".join(map(str, answer)) or "no label" if isinstance(answer, list | tuple) else str(answer)
    explained = "" if said == str(one["label"]) else f"; explained: {one['label']}"
    return f"{field}answer {said}{explained}"


def _score(one: Mapping[str, Any]) -> str:
    score = f"{'log-odds' if one['unit'] == 'log-odds' else 'number'} {one['score']:z.3f}"
    if one["probability"] is not None:
        score += f" (probability {one['probability']:.3f})"
    if one["baseline_score"] is None:
        return f"{score}; {one['passes']} forwards"
    added = sum(word["attribution"] or 0.0 for word in one["words"])
    return (
        f"{score} = baseline {one['baseline_score']:z.3f} {'+' if added >= 0 else '-'} words {abs(added):z.3f}, gap "
        f"{one['gap']:+z.4f}; {one['passes']} forwards"
    )


def _notes(one: Mapping[str, Any]) -> list[str]:
    cut = sum(word["attribution"] is None for word in one["words"])
    return [f"{cut} of {len(one['words'])} words were cut away: the model did not read them."] if cut else []


def _summary(method: str) -> str:
    if method == "gradients":
        return (
            "What each word adds to the score, by integrated gradients from the mean embedding of the vocabulary: the "
            "score is the baseline's plus all words, but for the gap. Words in blue with + add to the score, words in "
            "vermillion with − take from it. An attribution says what the model did, and not that it was right."
        )
    return (
        "By how much the score falls when the word is left out and the model answers anew. Words in blue with + "
        "support the score, words in vermillion with − speak against it. They need not add up. An attribution says "
        "what the model did, and not that it was right."
    )


def _largest(one: Mapping[str, Any]) -> float:
    return max([abs(word["attribution"] or 0.0) for word in one["words"]], default=0.0) or 1.0


def _marked(one: Mapping[str, Any], column: str) -> list[dict[str, str]]:
    """Returns a column's words with their colors, and their signs as text."""
    largest = _largest(one)
    marked = []
    for word in one["words"]:
        value = word["attribution"]
        if word["column"] != column:
            continue
        if value is None:
            marked.append({"text": word["text"], "style": "color:#595959", "value": "cut", "tip": "not read"})
            continue
        red, green, blue = ADDS if value > 0 else TAKES
        share = STRONGEST * abs(value) / largest
        style = f"background:rgba({red},{green},{blue},{share:.2f});color:{'#fff' if share > 0.55 else '#111'}"
        tip = f"{value:+z.4f}, characters {word['start']} to {word['end']}"
        shown = f"{value:+z.2f}".replace("-", "−")
        marked.append({"text": word["text"], "style": style, "value": shown, "tip": tip})
    return marked


def _figure(one: Mapping[str, Any], number: int) -> Figure | None:
    from predgen.report.charts import signed_bars

    read = [word for word in one["words"] if word["attribution"] is not None]
    top = sorted(read, key=lambda word: -abs(word["attribution"]))[:TOP_WORDS]
    if not top:
        return None
    unit = "log-odds (nats)" if one["unit"] == "log-odds" else "the target's unit"
    names = [word["text"] for word in top]
    return figure_of(
        f"Explanation {number}: the {len(top)} strongest of {len(one['words'])} words",
        f"What each adds to the score, in {unit}.",
        partial(signed_bars, names=names, values=[word["attribution"] for word in top], label=unit),
        ["word", "column", "from", "to", "attribution"],
        [
            [word["text"], word["column"], word["start"], word["end"], format_number(word["attribution"])]
            for word in top
        ],
        height=0.28 * len(top) + 0.9,
    )
