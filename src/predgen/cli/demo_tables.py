"""The data of `predgen demo`: real text that any installation has, with nothing shipped.

Docstrings: which library does a sentence come from? They are read, never run, from the installed packages' source.
Cities: on which continent is one, how far north, and which of two lies farther north? The places that name time zones,
in the package tzdata.
Colors: how light is the color that a name says? The 949 names of the XKCD survey, which matplotlib has.
Pairs: does a sentence say what the function beside it does? From the same docstrings.
Diabetes: scikit-learn's 442 patients, each written as a sentence, and the progression of their disease.
"""

import ast
import importlib.util
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from predgen.errors import DataError

# The package of each library, and the words that hold its own name, such as TorchScript.
LIBRARIES = {
    "numpy": ("numpy", r"\w*num-?py\w*|np"),
    "scipy": ("scipy", r"\w*sci-?py\w*"),
    "pandas": ("pandas", r"\w*pandas\w*|pd"),
    "scikit-learn": ("sklearn", r"\w*(?:scikit|sklearn)\w*(?:-learn)?"),
    "torch": ("torch", r"(?:py-)?\w*torch\w*"),
}
SENTENCES_PER_LIBRARY = 1000
# Reading all of torch would take longer than fitting a model to it.
SENTENCES_READ_PER_LIBRARY = 2500
PAIRS_PER_LIBRARY = 400
MIN_WORDS, MAX_WORDS = 5, 40
# By the first part of a time zone's name.
CONTINENTS = {name: name for name in ("Africa", "America", "Asia", "Europe")}
CONTINENTS |= {"Australia": "Oceania", "Pacific": "Oceania"}
SEED = 0

# Of a real language model the last layers alone are trained: the others read each row once for all methods and epochs.
TRAINED_LAYERS = 10
DOCSTRINGS_SETTINGS: dict[str, Any] = {
    "inputs": ["sentence"],
    "max_train_rows": 600,
    "max_eval_rows": 300,
    "epochs": 3,
}
CONTINENT_SETTINGS: dict[str, Any] = {"inputs": ["city", "country"], "split": (0.6, 0.1, 0.3), "epochs": 3}
LATITUDE_SETTINGS: dict[str, Any] = {"inputs": ["city", "country"], "split": (0.6, 0.1, 0.3), "epochs": 3}
NORTH_SETTINGS: dict[str, Any] = {"inputs": ["first", "second"], "epochs": 4}
# Where the cities of a part begin among all, and in how many pairs each city is.
NORTH_PARTS = {"train": 0.0, "validation": 0.6, "test": 0.7}
PAIRS_PER_CITY = 2
PAIRS_SETTINGS: dict[str, Any] = {
    "inputs": ["signature", "sentence"],
    "max_train_rows": 600,
    "max_eval_rows": 300,
    "epochs": 3,
}
COLORS_SETTINGS: dict[str, Any] = {"inputs": ["name"], "max_train_rows": 600, "max_eval_rows": 200, "epochs": 6}
DIABETES_SETTINGS: dict[str, Any] = {"inputs": ["patient"], "epochs": 3}


def docstring_sentences() -> pd.DataFrame:
    """Returns columns `sentence` and `library`: the first sentences of docstrings, shuffled with a fixed seed.

    A library's own name in them is masked; a sentence that two libraries share is left out; each library gives at
    most 1,000.
    """
    sentences_of_library = {
        name: sorted(set(islice(_sentences(*library), SENTENCES_READ_PER_LIBRARY)))
        for name, library in LIBRARIES.items()
    }
    counts = Counter(sentence for sentences in sentences_of_library.values() for sentence in sentences)
    draw = random.Random(SEED)
    rows = []
    for name, sentences in sentences_of_library.items():
        unshared = [sentence for sentence in sentences if counts[sentence] == 1]
        draw.shuffle(unshared)
        rows += [{"sentence": sentence, "library": name} for sentence in unshared[:SENTENCES_PER_LIBRARY]]
    draw.shuffle(rows)
    return pd.DataFrame(rows, dtype=object)


def docstring_pairs() -> pd.DataFrame:
    """Returns columns `signature`, `sentence` and `match`: does the sentence say what the function does?

    Half of the functions stand beside the first sentence of their own docstring (`yes`), half beside that of another
    function of the same library (`no`). Each function and each sentence is used once.
    """
    draw = random.Random(SEED)
    rows = []
    for package, own_name in LIBRARIES.values():
        known: dict[str, str] = {}
        for sentence, node in islice(_documented(package, own_name), SENTENCES_READ_PER_LIBRARY):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                known.setdefault(sentence, _signature(node))
        functions = list({signature: sentence for sentence, signature in known.items()}.items())
        draw.shuffle(functions)
        functions = functions[:PAIRS_PER_LIBRARY]
        half = len(functions) // 2
        others = functions[half + 1 :] + functions[half : half + 1]
        for (signature, sentence), (_, other) in zip(functions, functions[:half] + others, strict=False):
            rows.append({"signature": signature, "sentence": other, "match": "yes" if other == sentence else "no"})
    draw.shuffle(rows)
    return pd.DataFrame(rows, dtype=object)


def _signature(node: ast.FunctionDef) -> str:
    """Returns a function's name and the names of its arguments."""
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return f"{node.name}({', '.join(name for name in names if name not in ('self', 'cls'))})"


def _sentences(package: str, own_name: str) -> Iterator[str]:
    return (sentence for sentence, _ in _documented(package, own_name))


def _documented(package: str, own_name: str) -> Iterator[tuple[str, ast.AST]]:
    """Yields the first sentence of each docstring, the library's name masked, and what it documents."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return
    root = Path(spec.submodule_search_locations[0])
    name = re.compile(rf"\b(?:{own_name})\b\.?", re.IGNORECASE)
    paths = sorted(root.rglob("*.py"))
    random.Random(SEED).shuffle(paths)
    for path in paths:
        path_names = path.relative_to(root).parts
        if any(path_name.startswith(("test", "_test", "conftest")) for path_name in path_names):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                sentence = _first_sentence(ast.get_docstring(node) or "")
                sentence = " ".join(name.sub("it ", sentence).split())
                if MIN_WORDS <= len(sentence.split()) <= MAX_WORDS:
                    yield sentence, node


def _first_sentence(docstring: str) -> str:
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0]


def cities() -> pd.DataFrame:
    """Returns columns `city`, `country`, `continent` and `latitude`, in whole degrees north of the equator.

    Places on islands of the Atlantic and the Indian Ocean, and around the poles, are left out.
    """
    folder = files("tzdata") / "zoneinfo"
    countries = dict(line.split("\t")[:2] for line in _lines_of(folder / "iso3166.tab"))
    rows = []
    for line in _lines_of(folder / "zone.tab"):
        code, place, zone = line.split("\t")[:3]
        area, *_, city = zone.split("/")
        sign, degrees, minutes = place[0], int(place[1:3]), int(place[3:5])  # +4852+00220: 48 degrees, 52 minutes north
        if area in CONTINENTS:
            rows.append(
                {
                    "city": city.replace("_", " "),
                    "country": countries[code],
                    "continent": CONTINENTS[area],
                    "latitude": round((degrees + minutes / 60) * (-1 if sign == "-" else 1)),
                }
            )
    random.Random(SEED).shuffle(rows)
    return pd.DataFrame(rows, dtype=object)


def city_pairs() -> dict[str, pd.DataFrame]:
    """Returns columns `first`, `second` and `north`, of two places with their countries the one farther north.

    Each part (train, validation, test) has cities of its own, so that none is learned by its name, and each answer is
    half of the rows.
    """
    places = cities().to_dict("records")
    draw = random.Random(SEED)
    begins = [round(share * len(places)) for share in NORTH_PARTS.values()]
    parts = {}
    for part, begin, end in zip(NORTH_PARTS, begins, [*begins[1:], len(places)], strict=True):
        group: list[dict[Any, Any]] = places[begin:end]
        rows: list[dict[str, str]] = []
        for _ in range(PAIRS_PER_CITY):
            draw.shuffle(group)
            for one, other in zip(group[::2], group[1::2], strict=False):
                if one["latitude"] != other["latitude"]:
                    ordered = sorted((one, other), key=lambda place: -int(place["latitude"]))
                    answer = ("first", "second")[len(rows) % 2]
                    first, second = ordered if answer == "first" else reversed(ordered)
                    rows.append({"first": _named(first), "second": _named(second), "north": answer})
        parts[part] = pd.DataFrame(rows, dtype=object)
    return parts


def _named(place: Mapping[Any, Any]) -> str:
    return f"{place['city']}, {place['country']}"


def _lines_of(path: Traversable) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def color_names() -> pd.DataFrame:
    """Returns columns `name` and `lightness`: 949 names of colors, and CIE 1976 L* from 0 (black) to 100 (white).

    Raises:
        DataError: matplotlib is not installed.
    """
    try:
        from matplotlib.colors import XKCD_COLORS, to_rgb
    except ImportError as error:
        raise DataError(
            "Expected matplotlib, whose names of colors this table is made of, found none. Install it with pip install "
            "'predgen[plots]', or choose another --task."
        ) from error
    rows = [
        {"name": name.removeprefix("xkcd:"), "lightness": round(_lightness(to_rgb(code)))}
        for name, code in XKCD_COLORS.items()
    ]
    random.Random(SEED).shuffle(rows)
    return pd.DataFrame(rows, dtype=object)


def _lightness(channels: tuple[float, float, float]) -> float:
    """Returns CIE 1976 L* of an sRGB color (IEC 61966-2-1; ISO/CIE 11664-4)."""
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    luminance = sum(share * one for share, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * math.cbrt(luminance) - 16 if luminance > (6 / 29) ** 3 else luminance * (29 / 3) ** 3


def diabetes_patients() -> pd.DataFrame:
    """Returns columns `patient` and `progression`: 442 patients as sentences, and a number from 25 to 346."""
    from sklearn.datasets import load_diabetes

    patients = load_diabetes(as_frame=True, scaled=False)
    rows = []
    for patient, progression in zip(patients.data.itertuples(index=False), patients.target, strict=True):
        # The data set does not say which sex is which.
        text = (
            f"A patient of {patient.age:.0f} years and sex {patient.sex:.0f} has a body mass index of "
            f"{patient.bmi:.1f}, a blood pressure of {patient.bp:.0f}, a total cholesterol of {patient.s1:.0f}, "
            f"LDL {patient.s2:.0f}, HDL {patient.s3:.0f}, a cholesterol ratio of {patient.s4:.1f}, "
            f"log triglycerides of {patient.s5:.1f} and a blood sugar of {patient.s6:.0f}."
        )
        rows.append({"patient": text, "progression": int(progression)})
    random.Random(SEED).shuffle(rows)
    return pd.DataFrame(rows, dtype=object)
