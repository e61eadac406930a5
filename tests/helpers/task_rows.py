"""Made-up rows in the exact formats of the benchmark's sources, and what must come of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def write_rows(folder: Path, parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """Writes a folder of JSONL files, one for each split."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def problem(question: str, answer: str, equation: str = "x=1") -> dict[str, Any]:
    return {"id": 1, "question": question, "equation": equation, "answer": answer}


# For each task: rows as its source has them; the prompts; the answers in the table; and the texts that are written.
MADE: dict[str, tuple[Rows, list[str], list[Any], list[str]]] = {
    "wassa": (
        [
            {"id": 1, "text": "So glad it is over!", "emotion": "joy", "intensity": 0.712},
            {"id": 2, "text": "I shake all day.", "emotion": "fear", "intensity": 0.5},
        ],
        [
            "Rate how strongly the author of the tweet feels the emotion, from 0 (not at all) to 1 (as strongly as can "
            "be).\n\nTweet: So glad it is over!\nEmotion: joy\n\nIntensity:",
            "Rate how strongly the author of the tweet feels the emotion, from 0 (not at all) to 1 (as strongly as can "
            "be).\n\nTweet: I shake all day.\nEmotion: fear\n\nIntensity:",
        ],
        [0.712, 0.5],
        ["0.712", "0.500"],
    ),
    "sick": (
        [
            {
                "id": 4,
                "sentence_A": "A cat naps.",
                "sentence_B": "A cat is asleep.",
                "relatedness_score": 4.75,
                "entailment_label": "ENTAILMENT",
            },
            {
                "id": 5,
                "sentence_A": "A cat naps.",
                "sentence_B": "A train leaves.",
                "relatedness_score": 1,
                "entailment_label": "NEUTRAL",
            },
        ],
        [
            "Rate how related in meaning the two sentences are, from 1 (not at all) to 5 (they mean the same).\n\n"
            f"Sentence 1: A cat naps.\nSentence 2: {second}\n\nRelatedness:"
            for second in ("A cat is asleep.", "A train leaves.")
        ],
        [4.75, 1],
        ["4.75", "1.00"],
    ),
    "stsb": (
        [
            {"sentence1": "A man runs.", "sentence2": "A man is running.", "label": 4.8, "idx": 0},
            {"sentence1": "A man runs.", "sentence2": "Tea is hot.", "label": 0.0, "idx": 1},
        ],
        [
            "Rate how similar in meaning the two sentences are, from 0 (not at all) to 5 (they mean the same).\n\n"
            f"Sentence 1: A man runs.\nSentence 2: {second}\n\nSimilarity:"
            for second in ("A man is running.", "Tea is hot.")
        ],
        [4.8, 0.0],
        ["4.80", "0.00"],
    ),
    "lcp": (
        [
            {"id": "A1", "corpus": "bible", "sentence": "He saw a hill.", "token": "hill", "complexity": 0.0},
            {"id": "B2", "corpus": "biomed", "sentence": "The ligand binds.", "token": "ligand", "complexity": 0.6125},
        ],
        [
            "Rate how hard the word is to understand in its sentence, from 0 (very easy) to 1 (very hard).\n\n"
            f"Sentence: {sentence}\nWord: {word}\n\nComplexity:"
            for sentence, word in (("He saw a hill.", "hill"), ("The ligand binds.", "ligand"))
        ],
        [0.0, 0.6125],
        ["0.000", "0.612"],
    ),
    "clear": (
        [
            {"Excerpt": "The dog ran.\nIt was glad.", "BT_easiness": 1.25},
            {"Excerpt": "Epistemic warrant is contested.", "BT_easiness": -3.5},
        ],
        [
            f"Rate how easy the text is to read, from -5 (very hard) to 3 (very easy).\n\nText: {text}\n\nEase:"
            for text in ("The dog ran.\nIt was glad.", "Epistemic warrant is contested.")
        ],
        [1.25, -3.5],
        ["1.25", "-3.50"],
    ),
    "humicroedit": (
        [
            {
                "id": "7",
                "original": "Mayor opens new <bridge/> ",
                "edit": "fridge",
                "grades": "32100",
                "meanGrade": 1.2,
            },
            {
                "id": "8",
                "original": "<White House/> delays 1/2 of report",
                "edit": "Dog",
                "grades": "00000",
                "meanGrade": 0.0,
            },
        ],
        [
            "Rate how funny the edited headline is, from 0 (not funny) to 3 (very funny).\n\n"
            f"Headline: {before}\nEdited headline: {after}\n\nFunniness:"
            for before, after in (
                ("Mayor opens new bridge", "Mayor opens new fridge"),
                ("White House delays 1/2 of report", "Dog delays 1/2 of report"),
            )
        ],
        [1.2, 0.0],
        ["1.2", "0.0"],
    ),
    "boolq": (
        [
            {"question": "is tea hot", "passage": "Tea is served hot or cold.", "answer": True},
            {"question": "can a stone swim", "passage": "Stones sink.", "answer": False},
        ],
        [
            "Please answer the following question with true or false, question: is tea hot?\n\n"
            "Answer format: true/false",
            "Please answer the following question with true or false, question: can a stone swim?\n\n"
            "Answer format: true/false",
        ],
        [True, False],
        ["true", "false"],
    ),
    "piqa": (
        [
            {"goal": "dry a cup", "sol1": "Use a towel.", "sol2": "Use a fork.", "label": 0},
            {"goal": "cool soup", "sol1": "Boil it.", "sol2": "Wait.", "label": 1},
        ],
        [
            "Please choose the correct solution to the question: dry a cup\n\nSolution1: Use a towel.\n\n"
            "Solution2: Use a fork.\n\nAnswer format: solution1/solution2",
            "Please choose the correct solution to the question: cool soup\n\nSolution1: Boil it.\n\n"
            "Solution2: Wait.\n\nAnswer format: solution1/solution2",
        ],
        [0, 1],
        ["solution1", "solution2"],
    ),
    "social_i_qa": (
        [
            {
                "context": "Kim lost a key.",
                "question": "What will Kim do next?",
                "answerA": "sing",
                "answerB": "search",
                "answerC": "sleep",
                "label": label,
            }
            for label in ("2", "3")
        ],
        [
            "Please choose the correct answer to the question: Kim lost a key. What will Kim do next?\n\n"
            "Answer1: sing Answer2: search Answer3: sleep\n\nAnswer format: answer1/answer2/answer3"
        ]
        * 2,
        ["2", "3"],
        ["answer2", "answer3"],
    ),
    "hellaswag": (
        [
            {
                "activity_label": "Baking",
                "ctx": "A woman mixes dough. she",
                "endings": ["flies off.", "bakes it.", "paints a wall.", "naps."],
                "label": label,
            }
            for label in ("1", "3")
        ],
        [
            "Please choose the correct ending to complete the given sentence: Baking: A woman mixes dough. she\n\n"
            "Ending1: flies off. Ending2: bakes it. Ending3: paints a wall. Ending4: naps.\n\n"
            "Answer format: ending1/ending2/ending3/ending4"
        ]
        * 2,
        ["1", "3"],
        ["ending2", "ending4"],
    ),
    "winogrande": (
        [
            {"sentence": "Al thanked Bo because _ had helped.", "option1": "Al", "option2": "Bo", "answer": answer}
            for answer in ("2", "1")
        ],
        [
            "Please choose the correct answer to fill in the blank to complete the given sentence: Al thanked Bo "
            "because _ had helped.\n\nOption1: Al Option2: Bo Answer format: option1/option2"
        ]
        * 2,
        ["2", "1"],
        ["option2", "option1"],
    ),
    "arc_easy": (
        [
            {
                "id": "X_1",
                "question": "What melts ice?",
                "choices": {"text": ["heat", "wind", "sand"], "label": ["A", "B", "C"]},
                "answerKey": "A",
            },
            {
                "id": "X_2",
                "question": "What is a planet?",
                "choices": {"text": ["Mars", "Sun", "Moon", "Sky", "Sea"], "label": ["1", "2", "3", "4", "5"]},
                "answerKey": "5",
            },
        ],
        [
            "Please choose the correct answer to the question: What melts ice?\n\nAnswer1: heat Answer2: wind Answer3: "
            "sand\n\nAnswer format: answer1/answer2/answer3",
            "Please choose the correct answer to the question: What is a planet?\n\nAnswer1: Mars Answer2: Sun "
            "Answer3: Moon Answer4: Sky Answer5: Sea\n\nAnswer format: answer1/answer2/answer3/answer4/answer5",
        ],
        ["1", "5"],
        ["answer1", "answer5"],
    ),
    "openbookqa": (
        [
            {
                "id": "9-1",
                "question_stem": "Rain comes from",
                "choices": {"text": ["clouds", "rocks", "roots", "coins"], "label": ["A", "B", "C", "D"]},
                "answerKey": key,
            }
            for key in ("A", "D")
        ],
        [
            "Please choose the correct answer to the question: Rain comes from\n\nAnswer1: clouds Answer2: rocks "
            "Answer3: roots Answer4: coins\n\nAnswer format: answer1/answer2/answer3/answer4"
        ]
        * 2,
        ["1", "4"],
        ["answer1", "answer4"],
    ),
    "sst2": (
        [
            {"sentence": "a warm and clever film ", "label": 1, "idx": 0},
            {"sentence": "dull", "label": 0, "idx": 1},
        ],
        [
            f"Is the review positive or negative?\n\nReview: {text}\n\nSentiment:"
            for text in ("a warm and clever film", "dull")
        ],
        [1, 0],
        ["positive", "negative"],
    ),
    "multiarith": (
        [problem("Ann has 2 pens and buys 3. How many now?", "5"), problem("Half of 18?", "9")],
        [
            f"Answer the question with a number.\n\nQuestion: {question}\n\nAnswer:"
            for question in ("Ann has 2 pens and buys 3. How many now?", "Half of 18?")
        ],
        ["5", "9"],
        ["5", "9"],
    ),
    "svamp": (
        [
            {
                "ID": "chal-1",
                "Body": "Ben had 9 eggs. He ate 2.",
                "Question": "How many are left?",
                "Equation": "( 9.0 - 2.0 )",
                "Type": "Subtraction",
                "Answer": "7.0",
            },
            {
                "ID": "chal-2",
                "Body": "A box of 3 costs $ 6.",
                "Question": "What does one cost?",
                "Equation": "( 6.0 / 3.0 )",
                "Type": "Common-Division",
                "Answer": "2",
            },
        ],
        [
            f"Answer the question with a number.\n\nQuestion: {question}\n\nAnswer:"
            for question in (
                "Ben had 9 eggs. He ate 2. How many are left?",
                "A box of 3 costs $ 6. What does one cost?",
            )
        ],
        ["7.0", "2"],
        ["7.00", "2.00"],
    ),
    "gsm8k": (
        [
            {"question": "What is 2 times 600?", "answer": "2 * 600 = <<2*600=1200>>1200.\n#### 1,200"},
            {"question": "What is 3 - 5?", "answer": "It is below 0.\n#### -2", "final_answer": "-2"},
        ],
        [
            f"Answer the question with a number.\n\nQuestion: {question}\n\nAnswer:"
            for question in ("What is 2 times 600?", "What is 3 - 5?")
        ],
        ["1200", "-2"],
        ["1200", "-2"],
    ),
    "mawps": (
        [problem("A rope of 1.5 and one of 2 ?", "3.5", "x=1.5+2"), problem("7 / 6 ?", "1.1666666666666667", "x=7/6")],
        [
            f"Answer the question with a number.\n\nQuestion: {question}\n\nAnswer:"
            for question in ("A rope of 1.5 and one of 2 ?", "7 / 6 ?")
        ],
        ["3.5", "1.1666666666666667"],
        ["3.500", "1.167"],
    ),
}
MADE["arc_challenge"] = MADE["arc_easy"]
for one in ("addsub", "singleeq"):
    rows, prompts, answers, _ = MADE["multiarith"]
    MADE[one] = (rows, prompts, answers, ["5.000", "9.000"])
