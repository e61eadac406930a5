"""Small tables that the tests make: no dataset is shipped."""

import random

import pandas as pd

WORDS = {
    "good": ["lovely", "bright", "warm", "honest", "clever", "gentle", "fine", "happy"],
    "bad": ["dull", "cold", "broken", "sad", "noisy", "cruel", "weak", "ugly"],
}


def reviews(num_rows: int, seed: int = 0) -> pd.DataFrame:
    """Returns sentences whose label, and whose number from 0 to 5, follow from their words."""
    draw = random.Random(seed)
    rows = []
    for row in range(num_rows):
        num_good = draw.randint(0, 4)
        words = draw.choices(WORDS["good"], k=num_good) + draw.choices(WORDS["bad"], k=4 - num_good)
        draw.shuffle(words)
        extra = " and more" * draw.randint(0, 5)
        rows.append(
            {
                "review": f"The {row} film was {' and '.join(words)}{extra}.",
                "mood": "good" if num_good >= 2 else "bad",
                "stars": round(num_good * 1.25, 2),
            }
        )
    return pd.DataFrame(rows).astype(object)
