"""The script that measures prediction from file to file, on tiny tables. No time and no memory is asserted."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from scripts.checks import predict_end_to_end as end_to_end

pytestmark = pytest.mark.slow  # it fits models and starts processes


SIZES = ("--rows", "12", "--repeated-rows", "6", "--short-rows", "9", "--repetitions", "3", "--memory-rows", "5", "11")
CHOSEN = ("--tasks", "sst2", "--methods", "predgen", "--threads", "1")


def _table(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Returns the folder of the figures, and what was printed."""
    folder = tmp_path_factory.mktemp("end-to-end")
    data, out = folder / "data", folder / "runs"
    data.mkdir()
    _table(data / "sst2", [{"sentence": f"Film {row} was fine.", "label": row % 2, "idx": row} for row in range(8)])
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["predict_end_to_end.py", str(data), "--out", str(out), *SIZES, *CHOSEN])
        patch.setattr(end_to_end, "print", printed.append, raising=False)
        end_to_end.main()
    return out, "\n".join(printed)


def _figures(out: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}


def test_every_cell_is_a_file_with_plausible_figures(run: tuple[Path, str]) -> None:
    out, printed = run
    found = _figures(out)
    modes = ("plain", "ahead", "both")
    assert set(found) == {
        *(f"sst2-predgen-{mode}" for mode in modes),
        "one-layer-predgen-both",
        "memory-5",
        "memory-11",
    }
    for mode in ("plain", "ahead"):
        one = found[f"sst2-predgen-{mode}"]
        assert one["rows"] == 12
        assert 0 < one["model_seconds"] < one["seconds"]
        assert one["other_fraction"] == pytest.approx(1 - one["model_seconds"] / one["seconds"])
        assert f"| sst2 predgen {mode} | 12 | {one['seconds']:.3f} |" in printed
    plain = found["sst2-predgen-plain"]
    assert set(plain["stages"]) == set(end_to_end.STAGES)
    assert all(seconds > 0 for seconds in plain["stages"].values())
    # One after the other, they are no more than the whole.
    assert sum(plain["stages"].values()) <= plain["seconds"]
    assert plain["stages"]["model"] >= plain["model_seconds"]
    for name, rows in (("sst2-predgen-both", 6), ("one-layer-predgen-both", 9)):
        both = found[name]
        assert both["rows"] == rows
        for mode in ("plain", "ahead"):
            assert sorted(both["seconds"][mode])[1] == both["median_seconds"][mode]
        ratio = both["median_seconds"]["ahead"] / both["median_seconds"]["plain"]
        assert both["ahead_over_plain"] == pytest.approx(ratio)
    for rows in (5, 11):
        assert found[f"memory-{rows}"]["rows"] == rows
        assert 50 < found[f"memory-{rows}"]["peak_mebibytes"] < 100_000
        assert f"| {rows} | {found[f'memory-{rows}']['peak_mebibytes']:.0f} |" in printed


def test_what_is_finished_is_not_run_again(run: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    out, printed = run
    again: list[str] = []

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished cell ran again")

    for name in ("run_once", "run_both", "peak_memory"):
        monkeypatch.setattr(end_to_end, name, refuse)
    monkeypatch.setattr(sys, "argv", ["predict_end_to_end.py", "nowhere", "--out", str(out), *SIZES, *CHOSEN])
    monkeypatch.setattr(end_to_end, "print", again.append, raising=False)
    end_to_end.main()
    assert printed.endswith(again[-1])


def test_stages_inside_of_each_other_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 13.0, 20.0])
    monkeypatch.setattr(end_to_end.time, "perf_counter", lambda: next(now))
    watch = end_to_end.Stopwatch()
    with watch.stage("batching"), watch.stage("model"):
        pass
    assert (watch.seconds["model"], watch.seconds["batching"]) == (3.0, 17.0)


def test_rows_are_repeated_in_their_order(tmp_path: Path) -> None:
    _table(tmp_path / "sst2", [{"sentence": word, "label": 0} for word in "abc"])
    rows = end_to_end.training_rows(tmp_path, "sst2", 7)
    table = end_to_end.write_rows(tmp_path / "rows.csv", rows, ["sentence"])
    assert table.read_text().splitlines() == ["sentence", *"abcabca"]
