"""Odd cells, odd texts, and odd values of JSON and YAML."""

import datetime
import decimal
import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd

TEXTS = (
    *("", " ", "\t", "\n", "a\r\nb", "a\rb", "\x00", "\x1b[2J", "\u202eabc", "\ufeff", "\u2028", "\x85", "\xa0"),
    *('"', "'", ",", ";", "|", "a,b", 'say "no"', '"open', "a;b", "a\tb", "a|b", "\\", "\\n", "#", "=1+1", "<sep>"),
    *(
        "nan",
        "NaN",
        "null",
        "None",
        "NA",
        "n/a",
        "-",
        "inf",
        "-inf",
        "Infinity",
        "1e309",
        "-1e309",
        "1e-320",
        "1e-5000",
    ),
    *("0", "1", "-0", "+1", "1.", ".5", "1e5", "0x10", "1_000", "1,5", "1.000,5", "1,000", "12%", "$3", "٣", "½", "²"),
    *("0042", "1.0", "01", "1e", "1e+400", "9" * 25, "9" * 400, "0." + "1" * 40, "-99999999999999999", "5e-324"),
    *(
        "true",
        "True",
        "false",
        "yes",
        "no",
        "on",
        "~",
        "good",
        "GOOD",
        "good ",
        "bad",
        "é",
        "e\u0301",
        "日本",
        "😀",
        "ß",
    ),
    *("[]", "[1]", '["a", "b"]', '["a", "a"]', "[good]", "{}", '{"a": 1}', "[[1]]", "[null]", '"a"', "2020-01-01"),
    *("</s>", "<pad>", "<|endoftext|>", "{review}", "{", "}", "{}", "{{", "%s", "a" * 300, "word " * 200, "\u0301" * 9),
)
NAMES = (
    *("review", "mood", "stars", "tags", "prediction", "written", "invalid", "label", "", " ", "a b", "a,b", "é", "0"),
    *("index", "Unnamed: 0", "__index_level_0__", "std", "low", "probability_good", "{x}", "x" * 200, "\x1b[2J", "nan"),
)
NUMBERS = (0.0, -0.0, 1.0, -1.0, 0.1, 2.5, 1e-9, 1e-320, 1e15, 1e16, -1e15, 1e300, 1e308, -1e308, 2.0**53, math.pi)
HUGE = (10**18, -(10**18), 2**63, 2**64, 10**40, 10**400)


def texts() -> st.SearchStrategy[str]:
    """Texts that readers, tokenizers and targets have stumbled over, and any other."""
    return st.one_of(st.sampled_from(TEXTS), st.text(max_size=12))


def numbers() -> st.SearchStrategy[float]:
    """Usual, tiny and huge numbers, and those that are none."""
    return st.one_of(
        st.sampled_from(NUMBERS),
        st.integers(-5, 200),
        st.floats(-10, 10),
        st.floats(),
        st.sampled_from(HUGE),
    )


def plain_cells() -> st.SearchStrategy[Any]:
    """Cells that a JSON file can hold."""
    nested = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(TEXTS[:20])),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts(), inner, max_size=2)),
        max_leaves=4,
    )
    return st.one_of(texts(), numbers(), st.none(), st.booleans(), nested)


def cells_in_memory() -> st.SearchStrategy[Any]:
    """Cells that only Python can hold, and all others."""
    odd = (
        *(b"bytes", b"\xff\xfe", datetime.date(2020, 1, 1), datetime.datetime(1, 1, 1), decimal.Decimal("1.10")),
        *(decimal.Decimal("NaN"), np.float32(0.1), np.int64(3), np.bool_(True), np.array([1, 2]), np.array(1.5)),
        *(np.float64("nan"), pd.NA, pd.NaT, pd.Timestamp("2020-01-01"), ("a", "b"), frozenset({"a"}), {"b"}, 1 + 2j),
        *("\ud800", "a\udfffb", object, ..., range(3)),
    )
    return st.one_of(plain_cells(), st.sampled_from(odd))


def values() -> st.SearchStrategy[Any]:
    """Values that settings and descriptions may be given, right or wrong."""
    leaf = st.one_of(st.none(), st.booleans(), numbers(), texts(), st.sampled_from(NAMES))
    return st.one_of(
        leaf, st.lists(leaf, max_size=3), st.dictionaries(st.one_of(texts(), st.integers(-2, 2)), leaf, max_size=3)
    )
