"""Rows to prompts: fields, braces, and cuts that fall on the longest fields and never on the template."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predgen.backbones.template import SEPARATOR, SEPARATOR_MARK, Template, Tokenize
from predgen.errors import TemplateError, UnknownNameError

PROPERTY = settings(max_examples=150)
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), max_size=25).map(" ".join)


def tokenizer(pattern: str, prefix: tuple[int, ...] = ()) -> tuple[Tokenize, Callable[[list[int]], list[str]]]:
    """Returns a tokenizer that splits by a pattern, and the way back to the tokens' texts.

    Args:
        pattern: of a token; what lies between tokens is lost.
        prefix: tokens before every text, as a begin token.
    """
    vocabulary: dict[str, int] = {}

    def tokenize(texts: list[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        encoded = []
        for text in texts:
            found = list(re.finditer(pattern, text, re.DOTALL))
            ids = [vocabulary.setdefault(one.group(), 1000 + len(vocabulary)) for one in found]
            encoded.append(([*prefix, *ids], [one.span() for one in found]))
        return encoded

    def texts_of(ids: list[int]) -> list[str]:
        pieces = {token: text for text, token in vocabulary.items()}
        return [pieces[token] for token in ids[len(prefix) :]]

    return tokenize, texts_of


# ── Fields ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "fields", "prompt"),
    [
        ("{a}", ("a",), "1"),
        ("Say {b}, {a} and {b}.", ("b", "a"), "Say two  words, 1 and two  words."),
        ("{{{a}}} {{a}} }}{{", ("a",), "{1} {a} }{"),
        ("{a}{b}\n", ("a", "b"), "1two  words\n"),
        ("%s {0} $a {c: d!}{e[0].f}", ("0", "c: d!", "e[0].f"), "%s zero $a colonbracket"),
    ],
)
def test_fields_are_filled_and_double_braces_are_braces(text: str, fields: tuple[str, ...], prompt: str) -> None:
    row = {"a": 1, "b": " two  words\n", "0": "zero", "c: d!": "colon", "e[0].f": "bracket", "y": "never"}
    template = Template.parse(text, list(row))
    assert template.fields == fields
    assert template.render(row) == prompt


@PROPERTY
@given(before=TEXT, cell=TEXT, after=TEXT)
def test_any_text_can_stand_around_and_in_a_field(before: str, cell: str, after: str) -> None:
    escaped = [text.replace("{", "{{").replace("}", "}}") for text in (before, after)]
    template = Template.parse(f"{escaped[0]}{{a}}{escaped[1]}", ["a"])
    assert template.fields == ("a",)
    assert template.render({"a": cell}) == before + cell.strip() + after


# No braces, which columns are named with, and no separator, which is refused below.
NAMES = TEXT.filter(lambda name: not set(name) & set("{}") and SEPARATOR_MARK not in name)


@PROPERTY
@given(
    names=st.lists(NAMES, min_size=1, max_size=3, unique=True),
    target=NAMES,
)
def test_the_default_names_several_columns_and_ends_with_the_target(names: list[str], target: str) -> None:
    template = Template.default(names, target)
    row = {name: f"cell {position}" for position, name in enumerate(names)}
    lines = [f"{name}: cell {position}" for position, name in enumerate(names)] if len(names) > 1 else ["cell 0"]
    assert template.fields == tuple(names)
    assert template.render(row) == "\n".join([*lines, f"{target}:"])


def test_the_default_cannot_name_columns_with_a_separator() -> None:
    for names, target in ((["a", "b<sep>c"], "y"), (["a"], "y<sep>")):
        with pytest.raises(TemplateError, match="column names without <sep>"):
            Template.default(names, target)


@pytest.mark.parametrize("names", [["a{b"], ["a", "b}"]])
def test_the_default_cannot_name_columns_with_braces(names: list[str]) -> None:
    with pytest.raises(TemplateError, match=r"column names without braces\. Rename"):
        Template.default(names, "y")


def test_the_default_needs_a_column() -> None:
    with pytest.raises(TemplateError, match=r"at least one input column, found none\. Name them with --inputs"):
        Template.default([], "y")


def test_separators_stand_where_the_template_has_them_and_nowhere_else() -> None:
    row = {"a": f"one{SEPARATOR}two", "b": "<sep>"}
    found = Template.parse("{a}<sep>Title: {b}<sep>", list(row)).render(row)
    assert found == f"one two{SEPARATOR}Title: <sep>{SEPARATOR}"
    alone = Template.texts_alone(["a", "b"])
    assert (alone.text, alone.fields) == ("{a}<sep>{b}", ("a", "b"))
    assert Template.parse(alone.text, ["a", "b"]) == alone
    assert Template.texts_alone(["a"]).text == "{a}"
    with pytest.raises(TemplateError, match="column names without braces"):
        Template.texts_alone(["a{"])


@PROPERTY
@given(cells=st.lists(WORDS, min_size=2, max_size=3), longest=st.integers(4, 20))
def test_a_pair_is_cut_inside_its_texts_and_keeps_its_separators(cells: list[str], longest: int) -> None:
    tokenize, texts_of = tokenizer(rf"\w+|{SEPARATOR}")
    names = [f"c{place}" for place in range(len(cells))]
    (ids,), _ = Template.texts_alone(names).prompts([dict(zip(names, cells, strict=True))], tokenize, longest)
    assert len(ids) <= longest
    assert texts_of(ids).count(SEPARATOR) == len(cells) - 1


def test_an_unknown_field_is_answered_with_the_nearest_column() -> None:
    with pytest.raises(UnknownNameError, match=r"column in the template 'reveiw'\. Did you mean 'review'\? Known: id,"):
        Template.parse("Review: {reveiw}", ["id", "review"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no field", r"at least one \{column\} field, found none in 'no field'\. Columns: a, b\."),
        ("{{a}}", r"at least one \{column\} field"),
        ("", r"at least one \{column\} field"),
        ("{a", r"found '\{a' \(a single '\{' at character 1\)\. Write \{\{ and \}\}"),
        ("{a} }", r"a single '\}' at character 5"),
        ("{a{b}}", r"a single '\{' at character 1"),
        ("{}", r"plain \{column\} fields, found \{\}\."),
        ("{a:.2f}", r"plain \{column\} fields, found \{a:\.2f\}\. Leave only the column's name"),
        ("{a!r}", r"plain \{column\} fields, found \{a!r\}"),
    ],
)
def test_templates_that_are_none(text: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        Template.parse(text, ["a", "b"])


# ── Cuts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def cut_by_trying(template: Template, cells: dict[str, str], longest: int) -> str:
    """Returns the prompt whose fields keep as many characters as will go, all of them the same number at most."""
    for limit in range(max(map(len, cells.values())), -1, -1):
        prompt = template.render({name: text[:limit] + "|" for name, text in cells.items()}).replace("|", "")
        if len(prompt) <= longest:
            return prompt
    raise AssertionError("the template alone is too long")


CELL = st.text("xyz ", max_size=30).map(str.strip)


@PROPERTY
@given(a=CELL, b=CELL, twice=st.booleans(), longest=st.integers(14, 60))
def test_characters_are_cut_off_the_longest_fields_alone(a: str, b: str, twice: bool, longest: int) -> None:
    tokenize, texts_of = tokenizer(".")
    template = Template.parse("Q: {a} / {b}. {{R}}" + "{a}" * twice, ["a", "b"])
    whole = template.render({"a": a, "b": b})
    (ids,), num_cut = template.prompts([{"a": a, "b": b}], tokenize, longest)
    assert "".join(texts_of(ids)) == cut_by_trying(template, {"a": a, "b": b}, longest)
    assert num_cut == (len(whole) > longest)


@PROPERTY
@given(
    cells=st.lists(WORDS, min_size=3, max_size=3),
    longest=st.integers(4, 40),
    prefix=st.sampled_from([(), (1,), (1, 2)]),
)
def test_words_are_cut_off_the_longest_fields_alone(cells: list[str], longest: int, prefix: tuple[int, ...]) -> None:
    tokenize, texts_of = tokenizer(r"\S+", prefix)
    # A word says which field it is of.
    row = {name: " ".join(f"{name}{word}" for word in cell.split()) for name, cell in zip("123", cells, strict=True)}
    template = Template.parse("( {1} , {2} ; {3} )", list(row))
    longest += len(prefix)
    (ids,), num_cut = template.prompts([row], tokenize, longest)
    tokens = texts_of(ids)
    assert tuple(ids[: len(prefix)]) == prefix
    assert len(ids) <= longest
    assert [token for token in tokens if token in "(,;)"] == list("(,;)")
    kept = [re.split(r" ?[(,;)] ?", " ".join(tokens))[1 + place].split() for place in range(3)]
    lengths = [len(cell.split()) for cell in cells]
    level = max(map(len, kept))
    for words, cell, length in zip(kept, row.values(), lengths, strict=True):
        assert words == cell.split()[: len(words)]
        assert len(words) == min(length, level)
    room = longest - len(prefix) - 4
    assert num_cut == (sum(lengths) > room)
    if num_cut:  # no room is wasted: one word more of each long field would be too long
        assert sum(min(length, level + 1) for length in lengths) > room


@PROPERTY
@given(
    a=st.text("abcdx", max_size=30),
    b=st.text("abcdx", max_size=30),
    longest=st.integers(3, 20),
    pattern=st.sampled_from(["xa|abcd|.", "..?", "[abc]+|.", "abcdabcd|dx|.", r"\w+|."]),
)
def test_tokens_that_change_at_the_seams_still_fit(a: str, b: str, longest: int, pattern: str) -> None:
    tokenize, texts_of = tokenizer(pattern)
    template = Template.parse("x{a}-{b}", ["a", "b"])
    (ids,), _ = template.prompts([{"a": a, "b": b}], tokenize, longest)
    assert len(ids) <= longest
    first, dash, second = "".join(texts_of(ids)).partition("-")
    assert dash == "-"
    assert ("x" + a).startswith(first)
    assert first
    assert b.startswith(second)


def test_seams_that_take_more_tokens() -> None:
    tokenize, texts_of = tokenizer("xa|abcd|.")
    template = Template.parse("x{a}", ["a"])
    prompts, num_cut = template.prompts([{"a": "abcd" * 5}, {"a": "abcd"}, {"a": "dddd"}], tokenize, 4)
    assert [texts_of(ids) for ids in prompts] == [["xa", "b", "c", "d"], ["xa", "b", "c", "d"], ["x", "d", "d", "d"]]
    assert num_cut == 2


def test_only_prompts_that_are_too_long_are_cut_and_counted() -> None:
    tokenize, texts_of = tokenizer(r"\S+")
    template = Template.parse("say {a} now", ["a"])
    rows = [{"a": " ".join("abcdefg"[:length])} for length in (2, 3, 4, 7, 0)]
    prompts, num_cut = template.prompts(rows, tokenize, 5)
    assert [" ".join(texts_of(ids)) for ids in prompts] == [
        "say a b now",
        "say a b c now",
        "say a b c now",
        "say a b c now",
        "say now",
    ]
    assert num_cut == 2
    assert template.prompts([], tokenize, 5) == ([], 0)


def test_a_template_that_leaves_no_room_keeps_itself() -> None:
    tokenize, texts_of = tokenizer(r"\S+")
    template = Template.parse("one two {a} three", ["a"])
    (ids,), num_cut = template.prompts([{"a": "four five"}], tokenize, 3)
    assert (texts_of(ids), num_cut) == (["one", "two", "three"], 1)
    with pytest.raises(TemplateError, match=r"a template of at most 2 tokens, found 3 tokens without any field"):
        template.prompts([{"a": "four"}], tokenize, 2)
