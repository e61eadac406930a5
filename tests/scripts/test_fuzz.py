"""The fuzzer finds what is planted, and nothing else."""

import subprocess
import sys

import hypothesis.strategies as st
import pytest
from scripts.checks.fuzz import fuzz
from scripts.checks.fuzzing.law import ANSWERED, BrokenError, check_answers

import predgen
from predgen.models.asked import Asked
from tests.helpers.tables import reviews


def halves(number: int) -> str:
    if number % 2:
        raise predgen.DataError("Expected an even number, found an odd one. Add 1.")
    return ANSWERED


def test_inputs_are_counted_by_what_became_of_them() -> None:
    tally = fuzz(st.integers(), halves, 200, 1)
    assert set(tally.outcomes) == {"answered", "refused"}
    assert tally.outcomes.total() == 200
    assert min(tally.outcomes.values()) > 40
    assert not tally.finds


def test_each_fault_is_found_once_with_its_smallest_input() -> None:
    def faulty(number: int) -> str:
        if number > 1000:
            raise ZeroDivisionError("planted")
        if number < -10:
            raise BrokenError("number of rows: too few")
        return halves(number)

    tally = fuzz(st.integers(-5000, 5000), faulty, 200, 1)
    found = {place.split(" in ")[0]: smallest for place, (_, smallest) in tally.finds.items()}
    assert found == {"ZeroDivisionError": "1001", "BrokenError: number of rows": "-11"}
    assert tally.outcomes["known finds"] > 0
    assert [line.split(":")[0] for line in tally.lines("planted")] == ["planted", *["find in planted"] * 2]


def test_the_same_seed_gives_the_same_inputs() -> None:
    def drawn() -> list[int]:
        numbers: list[int] = []

        def keeps(number: int) -> str:
            numbers.append(number)
            return ANSWERED

        fuzz(st.integers(), keeps, 50, 7)
        return numbers

    first = drawn()
    assert first == drawn()
    assert len(set(first)) > 20


def test_wrong_answers_break_the_law() -> None:
    model = predgen.fit(reviews(40), "mood", inputs=["review"], max_steps=1, batch_size=8, quiet=True, device="cpu")
    rows = reviews(4, seed=3)
    answers = model.predict(rows, probabilities=True)
    asked = Asked(probabilities=True)
    check_answers(model, rows, answers, asked)
    wrong = {
        "number of answers": answers.iloc[1:],
        "is no label": answers.assign(prediction="meh"),
        "is none and not invalid": answers.assign(prediction=None),
        "probabilities do not sum to 1": answers.assign(probability_good=0.0),
        "a probability is outside": answers.assign(probability_good=-0.5, probability_bad=1.5),
    }
    for message, frame in wrong.items():
        with pytest.raises(BrokenError, match=message):
            check_answers(model, rows, frame, asked)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "inputs"), [("tables", 120), ("settings", 300), ("artifacts", 70), ("commands", 10)])
def test_five_hundred_inputs_are_refused_or_answered(kind: str, inputs: int) -> None:
    """In a process of its own, where shapes are not checked and nothing but the package can refuse."""
    command = [sys.executable, "-m", "scripts.checks.fuzz", "--inputs", str(inputs), "--seed", "0", "--kinds", kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{kind}: {inputs} inputs")
