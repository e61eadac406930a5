"""The tokenizer doctor: how a backbone's tokenizer writes numbers, labels and their parts."""

from collections.abc import Sequence
from typing import Any

from predgen.backbones import Backbone
from predgen.codec.codec import Codec
from predgen.errors import TargetError
from predgen.targets.field import ALONE, Field
from predgen.targets.record import Target

CHARACTERS = "0123456789-."
RUNNING_NUMBER = "13.4"
SPECIAL_TOKENS = {
    "begin": "bos_token",
    "classification": "cls_token",
    "end": "eos_token",
    "padding": "pad_token",
    "separator": "sep_token",
}


def tokenizer_report(backbone: Backbone) -> dict[str, Any]:
    """Returns how a backbone's tokenizer splits numbers, and its special tokens, as JSON holds them.

    Args:
        backbone: the backbone, before tokens are added for a target.
    """
    tokenizer = backbone.tokenizer
    vocabulary = len(tokenizer)
    rows = int(backbone.model.get_input_embeddings().weight.shape[0])
    special = {}
    for name, attribute in SPECIAL_TOKENS.items():
        token = getattr(tokenizer, attribute)
        special[name] = None if token is None else {"token": str(token), "id": getattr(tokenizer, f"{attribute}_id")}
    running = tokenizer.convert_ids_to_tokens(tokenizer(RUNNING_NUMBER, add_special_tokens=False)["input_ids"])
    return {
        "class": type(tokenizer).__name__,
        "vocabulary": vocabulary,
        "embedding_rows": rows,
        "padded_rows": rows - vocabulary,
        "special": special,
        "symbols": [_symbol(backbone, character) for character in CHARACTERS],
        "running_number": {
            "text": RUNNING_NUMBER,
            "pieces": running,
            "merged": any(sum(character.isdecimal() for character in piece) > 1 for piece in running),
        },
    }


def _symbol(backbone: Backbone, character: str) -> dict[str, Any]:
    """Returns how one character is written as one token."""
    tokenizer = backbone.tokenizer
    token = backbone.target_tokens.piece_of(character)
    piece = None if token is None else str(tokenizer.convert_ids_to_tokens(token))
    how = "added" if piece is None else "bare" if piece == character else "prefixed"
    return {"character": character, "how": how, "piece": piece, "id": token}


def target_report(backbone: Backbone, target: Target) -> tuple[dict[str, Any], Codec | None]:
    """Returns how a target is written as tokens, as JSON holds it, and its codec if it can be told apart.

    Args:
        backbone: the backbone; tokens that the target needs are added to it.
        target: what is predicted.
    """
    problems = [problem for field in target.fields.values() for problem in _collisions(backbone, field)]
    codec = None
    try:
        codec = Codec(target, backbone)
    except TargetError as error:
        problems = problems or [str(error)]
    examples = [
        {**example, "field": name} if name != ALONE else example
        for name, field in target.fields.items()
        for example in _examples(backbone, field)
    ]
    report = {
        "kind": target.kind,
        "description": target.describe(),
        "examples": examples,
        "longest_tokens": None if codec is None else codec.max_length,
        "decisions": None if codec is None else codec.num_decisions,
        "values": None if codec is None else codec.num_targets,
        "added_tokens": [backbone.text_of([token]) for token in backbone.added_token_ids],
        "problems": problems,
    }
    return report, codec


def _collisions(backbone: Backbone, field: Field) -> list[str]:
    """Returns a sentence for each group of label words with the same tokens, and for each word without tokens."""
    if field.numeric:
        return []
    groups: dict[tuple[int, ...], list[str]] = {}
    words = field.texts
    for word, path in zip(words, backbone.word_ids(words), strict=True):
        groups.setdefault(tuple(path), []).append(word)
    problems = []
    for tokens, same in groups.items():
        names = ", ".join(f"'{word}'" for word in same)
        if len(same) > 1:
            pieces = " ".join(_pieces(backbone, tokens)) or "no token"
            problems.append(
                f"Expected different tokens for every label, found the same ones ({pieces}) for {names}. Give other "
                "words with --label-text, or letter codes with --set label_codes=true."
            )
        elif not tokens:
            problems.append(
                f"Expected at least one token for the label word {names}, found none with this backbone's tokenizer. "
                "Give another word with --label-text."
            )
    return problems


def _examples(backbone: Backbone, field: Field) -> list[dict[str, Any]]:
    """Returns how some values are written: every label word, or the ends and the middle of a range."""
    texts = field.texts
    if field.numeric:  # character by character
        paths = [[backbone.symbol_id(character) for character in text] for text in texts]
    else:
        paths = backbone.word_ids(texts)
    written = zip(texts, paths, strict=True)
    return [
        {"text": text, "pieces": _pieces(backbone, path), "tokens": len(path), "unknown": _unknown(backbone, path)}
        for text, path in written
    ]


def _pieces(backbone: Backbone, path: Sequence[int]) -> list[str]:
    """Returns the pieces of a path as the tokenizer spells them."""
    convert = backbone.tokenizer.convert_ids_to_tokens
    return [
        str(convert(piece)) if piece is not None else backbone.text_of([token])
        for token, piece in zip(path, backbone.target_tokens.tokenizer_ids(path), strict=True)
    ]


def _unknown(backbone: Backbone, path: Sequence[int]) -> bool:
    """Returns whether a path holds the token for what the tokenizer does not know."""
    unknown = backbone.tokenizer.unk_token_id
    is_used = unknown is not None and unknown != backbone.tokenizer.eos_token_id
    return is_used and unknown in backbone.target_tokens.tokenizer_ids(path)
