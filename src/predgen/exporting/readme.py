"""The README of an exported model: what it is, and an example that gives its answers without PredGen."""

from collections.abc import Mapping, Sequence
from typing import Any

_CLASSES = "import torch\nfrom transformers import AutoModelForSequenceClassification, AutoTokenizer"
_IMPORTS = {
    "transformers": _CLASSES,
    "adapter": f"{_CLASSES.replace('Auto', 'AutoConfig, Auto', 1)}\nfrom peft import PeftModel",
    "onnx": "import onnxruntime\nimport torch\nfrom transformers import AutoTokenizer",
}
_MODEL = {
    "transformers": "model = AutoModelForSequenceClassification.from_pretrained(folder).eval()",
    "adapter": "config = AutoConfig.from_pretrained(folder)\n"
    'base = AutoModelForSequenceClassification.from_pretrained(how["base"], revision=how["revision"], config=config)\n'
    "model = PeftModel.from_pretrained(base.float(), folder).eval()",
    "onnx": 'model = onnxruntime.InferenceSession(f"{folder}/model.onnx")',
}
_TOKENS = """
def tokens(row):
    texts = ["".join(p if isinstance(p, str) else str(row[p["field"]]).strip() for p in text) for text in how["texts"]]
    split = how["split_special_tokens"]
    parts = [tokenizer(t, add_special_tokens=False, split_special_tokens=split)["input_ids"] for t in texts]
    inside = sum([(how["between"] if n else []) + part for n, part in enumerate(parts)], [])
    return how["before"] + inside + how["after"]
"""
_BATCH = """
batch = tokenizer.pad({"input_ids": [tokens(row) for row in rows]}, return_tensors="pt")"""
_TYPES = """
ends = (batch["input_ids"] == how["between"][-1]).long()
batch["token_type_ids"] = (ends.cumsum(1) > ends).long() * batch["attention_mask"]"""
_LOGITS = {
    "transformers": "\nwith torch.no_grad():\n    logits = model(**batch).logits",
    "adapter": "\nwith torch.no_grad():\n    logits = model(**batch).logits",
    "onnx": '\nfeed = {name: batch[name].numpy() for name in ("input_ids", "attention_mask")}\n'
    'logits = torch.from_numpy(model.run(["logits"], feed)[0])',
}
_ANSWERS = {
    "number": 'answers = logits[:, 0].clamp(answer["low"], answer["high"]).tolist()',
    "date": "from datetime import date, timedelta\n\n"
    'days = logits[:, 0].clamp(answer["low"], answer["high"]).round().tolist()\n'
    "answers = [str(date(1970, 1, 1) + timedelta(days=day)) for day in days]",
    "label": 'answers = [answer["labels"][i] for i in logits.argmax(-1).tolist()]\n'
    'u = answer["uniform_fraction"]\nprobabilities = (1 - u) * logits.softmax(-1) + u / logits.shape[1]',
    "ordinal": "probabilities = logits.softmax(-1)\n"
    'answers = [answer["labels"][i] for i in (probabilities[:, :-1].cumsum(-1) < 0.5).sum(-1).tolist()]',
    "set": "probabilities = logits.sigmoid()\n"
    'inside = (probabilities >= torch.tensor(answer["thresholds"])).tolist()\n'
    'answers = [[label for label, is_in in zip(answer["labels"], row) if is_in] for row in inside]',
}
_WHAT = {
    "number": "`logits` has one column: the number in the target's unit.",
    "date": "`logits` has one column: the days since 1970-01-01.",
    "label": "`logits` has a column for each label; their softmax is the probabilities.",
    "ordinal": "`logits` has a column for each label, from the lowest; their softmax is the probabilities, which no "
    "calibration has changed, and the answer is the median.",
    "set": "`logits` has a column for each label; their logistic function is the probability of its being in the set.",
}


def example_of(facts: Mapping[str, Any]) -> str:
    """Returns the example as Python; it is run in the folder.

    Args:
        facts: the content of `predgen_prompt.json`.
    """
    to = facts["to"]
    row = ", ".join(f"{field!r}: '…'" for field in facts["inputs"])
    return "\n".join(
        [
            f"import json\nfrom pathlib import Path\n\n{_IMPORTS[to]}",
            '\nfolder, rows = ".", [{' + row + "}]",
            'how = json.loads(Path(folder, "predgen_prompt.json").read_text(encoding="utf-8"))',
            'answer, tokenizer = how["answer"], AutoTokenizer.from_pretrained(folder)',
            _MODEL[to],
            "",
            _TOKENS,
            _BATCH.lstrip("\n") + (_TYPES if facts["token_types"] else "") + _LOGITS[to],
            _ANSWERS[facts["answer"]["kind"]],
            "print(answers)",
        ]
    )


def readme_of(facts: Mapping[str, Any], notes: Sequence[str]) -> str:
    """Returns the page as Markdown.

    Args:
        facts: the content of `predgen_prompt.json`.
        notes: what people must know of the weights.
    """
    inputs, to = ", ".join(facts["inputs"]), facts["to"]
    loads = {"transformers": "transformers", "adapter": "transformers and peft", "onnx": "ONNX Runtime"}[to]
    points = [
        f"It was fitted with PredGen and is loaded by {loads}; PredGen is not needed.",
        _WHAT[facts["answer"]["kind"]],
        "`predgen_prompt.json` says how a row becomes tokens: `texts` are filled with the row's cells, without blanks "
        "at their ends; `before`, `between` and `after` are tokens around them. No text may give a control token: the "
        "name of one inside a cell is to be read as plain text.",
        f"A prompt may have {facts['max_tokens']} tokens. PredGen cuts longer ones inside their longest cell; the "
        "example does not.",
        f"Pad on the {facts['padding_side']}, with the token {facts['pad_token_id']}, as the tokenizer here does, and "
        "hand the attention mask over.",
        *notes,
    ]
    body = "\n".join(f"- {point}" for point in points)
    return f"# {facts['target']} from {inputs}\n\n{body}\n\n```python\n{example_of(facts)}\n```\n"
