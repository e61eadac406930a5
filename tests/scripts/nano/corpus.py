"""A small corpus for the scripts that prepare and pretrain."""

import gzip
import random
from pathlib import Path

Corpus = dict[str, list[str]]
HELD_OUT = 0.15
ODD_TEXTS = ["naïve café: 東京 🙂", "two  spaces\tand a tab", "it says </s> and <s> and <pad> inside", "2024", "é"]


def sentences(seed: int, num_documents: int, num_sentences: int) -> list[str]:
    draw = random.Random(seed)
    legs = {"hen": 2, "cow": 4, "ant": 6}
    animals = [draw.choices(list(legs), k=draw.randint(1, num_sentences)) for _ in range(num_documents)]
    return [
        f"{number}: " + " ".join(f"The {one} has {legs[one]} legs and weighs 1313." for one in each)
        for number, each in enumerate(animals)
    ]


def write_corpus(folder: Path, corpus: Corpus) -> Path:
    folder.mkdir()
    for name, texts in corpus.items():
        with gzip.open(folder / f"{name}.txt.gz", "wt", encoding="utf-8") as file:
            file.write("".join(f" {text} \n\n" for text in texts))
    return folder


def corpus_of(seed: int = 0) -> Corpus:
    stories = sentences(seed, 160, 6)
    return {
        "stories-00": stories[:100],
        "stories-01": [*stories[100:], *ODD_TEXTS],
        "facts-00": [*sentences(seed + 1, 60, 2), *stories[:20]],  # some texts stand in both
        "nc_x-00": ["Of unclear terms."],
        "train_text-00": ["Of a benchmark."],
    }
