"""The data of `predgen demo`: real text that any installation has, with nothing shipped.

Docstrings: which library does a sentence come from? They are read, never run, from the installed packages' source.
Diabetes: scikit-learn's 442 patients, each written as a sentence, and the progression of their disease.
"""

import ast
import importlib.util
import random
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

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
MIN_WORDS, MAX_WORDS = 5, 40
SEED = 0

# Rows and steps that keep the whole demonstration under five minutes on two cores.
DOCSTRINGS_SETTINGS: dict[str, Any] = {
    "inputs": ["sentence"],
    "max_train_rows": 1200,
    "max_eval_rows": 300,
    "epochs": 2,
}
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


def _sentences(package: str, own_name: str) -> Iterator[str]:
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
                    yield sentence


def _first_sentence(docstring: str) -> str:
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0]


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
