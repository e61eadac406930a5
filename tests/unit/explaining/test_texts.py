"""Words of cells: where they stand, which tokens are theirs, cells without some of them."""

import pytest

from predgen.backbones.template import Template
from predgen.explaining.texts import runs_of, without, word_of_token, word_spans

CELLS = {"a": "  Ünï\tcode 🙂🙂  end. ", "b": "犬だ ok"}


def test_spans_point_to_the_words_of_every_column() -> None:
    words = [(column, CELLS[column][start:end]) for column, start, end in word_spans(CELLS)]
    assert words == [
        *(("a", word) for word in ("Ünï", "code", "🙂🙂", "end.")),
        *(("b", word) for word in ("犬", "だ", "ok")),
    ]
    assert word_spans({"a": " \n"}) == []


@pytest.mark.parametrize(
    ("removed", "left"),
    [([0], "b  c"), ([1], "a c"), ([2], "a b"), ([0, 2], "b"), ([0, 1, 2], "")],
)
def test_a_word_goes_with_its_blanks(removed: list[int], left: str) -> None:
    row = {"a": "a b  c", "b": "other"}
    spans = word_spans(row)
    assert without(row, [spans[index] for index in removed]) == {"a": left, "b": "other"}


def test_runs_hold_all_words_once_and_are_no_more_than_asked_for() -> None:
    row = {"a": "one two three four five", "b": "six"}
    spans = word_spans(row)
    assert runs_of(spans, 6) == spans
    runs = runs_of(spans, 3)
    assert [row[column][start:end] for column, start, end in runs] == ["one two three", "four five", "six"]
    assert len(runs_of(spans, 1)) == 2  # each column has one


def test_a_token_belongs_to_the_word_that_it_has_the_most_of() -> None:
    spans = word_spans({"a": "one  two"})
    assert word_of_token(("a", 0, 2), spans) == 0
    assert word_of_token(("a", 3, 5), spans) == 1  # blanks alone
    assert word_of_token(("a", 2, 7), spans) == 1


def letters(texts: list[str]) -> list[tuple[list[int], list[tuple[int, int] | None]]]:
    """Returns a token for each character, and special ones around."""
    return [([1, *map(ord, text), 2], [None, *((at, at + 1) for at in range(len(text))), None]) for text in texts]


def test_a_prompt_knows_the_characters_that_its_tokens_are_read_from() -> None:
    template = Template.parse("{b}: {a} ({b})", ("a", "b"))
    row = {"a": "  xy ", "b": "é"}
    traced = template.traced(row, letters, 100)
    read = [None if place is None else row[place[0]][place[1] : place[2]] for place in traced.places]
    assert read == [None, "é", None, None, "x", "y", None, None, "é", None, None]
    assert [chr(token) for token in traced.tokens[1:-1]] == list("é: xy (é)")
    assert traced.kept == {"a": 4, "b": 1}
    assert not traced.cut


def test_a_prompt_that_is_cut_says_how_much_of_each_cell_is_read() -> None:
    template = Template.parse("{a}|{b}", ("a", "b"))
    row = {"a": " abcdefgh", "b": "xy"}
    traced = template.traced(row, letters, 8)
    assert traced.cut
    assert [chr(token) for token in traced.tokens[1:-1]] == list("abc|xy")
    assert traced.kept == {"a": 4, "b": 2}
    assert (
        traced.tokens
        == template.prompts(
            [row], lambda texts: [(ids, [span for span in spans if span]) for ids, spans in letters(texts)], 8
        )[0][0]
    )
