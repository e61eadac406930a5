"""What the parts of a table are warned of before a fit, with the right counts; and that a clean table is not."""

import random
from pathlib import Path
from typing import Any

import pandas as pd

from predgen.config import DataSettings
from predgen.training.preparing import prepare
from predgen.warning_kinds import (
    ConstantInputWarning,
    IdTargetWarning,
    MissingLabelsWarning,
    PredGenWarning,
    RareLabelsWarning,
    SharedRowsWarning,
)
from tests.helpers.warned import all_warnings

Parts = dict[str, pd.DataFrame]


def part(answers: list[Any], seed: int) -> pd.DataFrame:
    draw = random.Random(seed)
    texts = [f"some words of row {draw.random()}" for _ in answers]
    return pd.DataFrame({"text": texts, "y": answers}, dtype=object)


def clean() -> Parts:
    return {
        "train": part(["bad", "good", "fine"] * 10, 1),
        "validation": part(["good", "bad", "fine"] * 4, 2),
        "test": part(["bad", "good"] * 5, 3),
    }


def warned(source: Parts, **settings: Any) -> list[tuple[type[PredGenWarning], str]]:
    with all_warnings() as found:
        prepare(DataSettings(data="memory", target="y", **settings), source, seed=0)
    return [(type(one), str(one)) for one in found]


def test_a_clean_table_is_not_warned_of() -> None:
    assert warned(clean()) == []
    numbers = {name: table.assign(y=[row * 1.5 for row in range(len(table))]) for name, table in clean().items()}
    assert warned(numbers) == []


def test_held_out_rows_with_the_inputs_of_training_rows_are_counted(tmp_path: Path) -> None:
    source = clean()
    source["validation"].loc[[2, 5, 7], "text"] = source["train"]["text"].to_list()[:3]
    source["test"].loc[4, "text"] = source["train"]["text"][9]
    assert [(kind, message.split(":")[0]) for kind, message in warned(source)] == [
        (SharedRowsWarning, "3 of 12 validation rows have the inputs of a training row"),
        (SharedRowsWarning, "1 of 10 test rows have the inputs of a training row"),
    ]
    # Rows are of all inputs together: one text in two columns that differ otherwise is no shared row.
    for number, table in enumerate(source.values()):
        table["other"] = [f"{number} and more words {row}" for row in range(len(table))]
    assert warned(source, inputs=("text", "other")) == []
    calibrated = clean()
    rows = pd.concat([calibrated["train"][:4], part(["bad", "good"] * 3, 8)], ignore_index=True)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    ((kind, message),) = warned(calibrated, calibration=str(tmp_path / "rows.csv"))
    assert (kind, message.split(" have")[0]) == (SharedRowsWarning, "4 of 10 calibration rows")


def test_an_input_that_never_changes_is_named() -> None:
    source = clean()
    for table in source.values():
        table["site"] = "one and the same"
    assert warned(source, inputs=("text",)) == []
    ((kind, message),) = warned(source, inputs=("text", "site"))
    assert kind is ConstantInputWarning
    assert message.startswith("The input column 'site' holds the same in all 30 training rows: nothing can be learned")
    source["train"].loc[3, "site"] = "another"
    assert warned(source, inputs=("text", "site")) == []


def test_labels_that_no_validation_row_has_are_named() -> None:
    source = clean()
    source["validation"]["y"] = ["good"] * 12
    ((kind, message),) = warned(source)
    assert kind is MissingLabelsWarning
    assert message.startswith("2 of 3 labels are in no row of the 12 validation rows ('bad', 'fine'): nothing is")
    sets = {name: table.assign(y=(["a|b", "b|a", "none"] * 10)[: len(table)]) for name, table in clean().items()}
    assert warned(sets) == []
    sets["validation"]["y"] = "b"
    assert [message.split(":")[0] for _, message in warned(sets)] == [
        "1 of 2 labels are in no row of the 12 validation rows ('a')"
    ]
    pair = {name: table.assign(z=table["y"]) for name, table in source.items()}
    with all_warnings() as found:
        prepare(DataSettings(data="memory", target=("y", "z"), inputs=("text",)), pair, seed=0)
    assert [str(one).split(" labels")[0] for one in found] == ["Target 'y': 2 of 3", "Target 'z': 2 of 3"]


def test_declared_labels_that_no_row_has_are_not_missed() -> None:
    assert warned(clean(), labels=("bad", "fine", "good", "superb")) == []


def test_labels_of_one_row_and_ids_name_their_column() -> None:
    source = clean()
    source["train"].loc[[0, 4], "y"] = ["odd", "new"]
    found = warned(source)
    assert [kind for kind, _ in found] == [RareLabelsWarning, MissingLabelsWarning]
    assert found[0][1].startswith("Target 'y': 2 of 5 labels stand in one training row alone ('odd', 'new')")
    source["train"]["y"] = [f"row-{row}" for row in range(19)] + ["bad"] * 11
    found = warned(source)
    assert found[0][0] is IdTargetWarning
    assert found[0][1].startswith("Target 'y': 19 of 30 training rows have a label that no other row has")
    assert RareLabelsWarning not in [kind for kind, _ in found]
