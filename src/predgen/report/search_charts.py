"""Charts of a search in trials."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

COLUMNS = 3
_SLANTED = {"rotation": 30, "ha": "right"}


def course(figure: Figure, found: Mapping[str, Any]) -> None:
    """Draws the figure of each trial, and the best so far.

    Args:
        figure: where.
        found: the record's `search`.
    """
    axes = figure.subplots()
    finished = [(one["number"], one["value"]) for one in found["trials"] if one["value"] is not None]
    numbers, values = map(np.asarray, zip(*finished, strict=True))
    so_far = np.maximum.accumulate(values) if found["higher_is_better"] else np.minimum.accumulate(values)
    axes.step([*numbers, len(found["trials"])], [*so_far, so_far[-1]], where="post", label="best so far", zorder=1)
    axes.plot(numbers, values, "o", label="finished", color="C1")
    pruned = [
        (one["number"], one["validations"][-1])
        for one in found["trials"]
        if one["state"] == "pruned" and one["validations"] and one["validations"][-1] is not None
    ]
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "x", label="ended early", color="C2")
    axes.set_xlabel("trial")
    axes.set_ylabel(found["metric"])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def importance(figure: Figure, shares: Mapping[str, float]) -> None:
    """Draws the share of each setting as a bar.

    Args:
        figure: where.
        shares: by the setting.
    """
    axes = figure.subplots()
    axes.barh(list(shares), list(shares.values()))
    axes.invert_yaxis()
    axes.set_xlabel("share of the variance")
    axes.set_xlim(0, 1)


def panels(figure: Figure, found: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Draws the figures of the finished trials over each setting, a panel each.

    Args:
        figure: where.
        found: the record's `search`.
        names: what each setting is called.
    """
    rows = -(-len(names) // COLUMNS)
    places = list(figure.subplots(rows, min(len(names), COLUMNS), squeeze=False, sharey=True).flatten())
    for place in places[len(names) :]:
        place.remove()
    for axes, (key, name) in zip(places, names.items(), strict=False):
        one = found["searched"][key]
        trials = [
            trial for trial in found["trials"] if trial["value"] is not None and trial["settings"].get(key) is not None
        ]
        texts = None if "choices" not in one else [str(choice) for choice in one["choices"]]
        places_of = {
            trial["number"]: trial["settings"][key] if texts is None else texts.index(str(trial["settings"][key]))
            for trial in trials
        }
        axes.plot(list(places_of.values()), [trial["value"] for trial in trials], "o", alpha=0.7)
        best = [trial for trial in trials if trial["number"] == found["best"]]
        ring = {"markersize": 11, "fillstyle": "none", "color": "C1", "markeredgewidth": 1.8}
        axes.plot([places_of[trial["number"]] for trial in best], [trial["value"] for trial in best], "o", **ring)
        if texts is None:
            axes.set_xscale("log" if one["log"] else "linear")
            ticks = (np.geomspace if one["log"] else np.linspace)(one["low"], one["high"], 3)
            axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.set_xticks(range(len(texts)), texts, **(_SLANTED if max(map(len, texts)) > 4 else {}))
            axes.set_xlim(-0.5, len(texts) - 0.5)
        axes.set_xlabel(name)
        axes.grid(axis="y", alpha=0.3)
    for axes in places[: len(names) : COLUMNS]:
        axes.set_ylabel(found["metric"])
