"""Prompts as a model reads them: texts become tokens with special tokens around them, tokens become padded batches."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from predgen.backbones.template import SEPARATOR
from predgen.errors import BackboneError

# What a chat template is filled with to see what it puts around a message.
MESSAGE = "predgen-message"
# What stands for a template's separator where the model has no token for it; one character, as the separator is.
LINE_BREAK = "\n"
# The first tokens that all prompts of a batch share are read once if they are at least `LEAST_SHARED` tokens, and at
# least `LEAST_SHARED_FRACTION` of the longest prompt.
LEAST_SHARED = 16
LEAST_SHARED_FRACTION = 0.125

# The tokens of a text, and the characters that each of them is read from.
Tokens = tuple[list[int], list[tuple[int, int]]]
# The same with None for each token that is no text.
PlacedTokens = tuple[list[int], list[tuple[int, int] | None]]


@dataclass(frozen=True)
class SpecialTokens:
    """The tokens that a model expects around its prompts, and how it reads their names inside a text.

    Attributes:
        prefix: before a prompt.
        joint: in place of a template's separator; None for a line break.
        suffix: after a prompt.
        splits_specials: whether the name of a special token inside a text, such as "[SEP]", is read as plain text, as
            encoders and chat templates had it in 0.6.0.
        plain: whether no text gives a control token, whichever way the tokenizer would find its name in it; not of
            artifacts of 0.6.0.
    """

    prefix: list[int] = field(default_factory=list)
    joint: list[int] | None = None
    suffix: list[int] = field(default_factory=list)
    splits_specials: bool = False
    plain: bool = False

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values: an artifact keeps them, whatever becomes of the base model's files."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "SpecialTokens":
        """Returns what `to_json` returned the values of."""
        old = {"plain": False}  # what 0.6.0 did not write
        return cls(**{name: {**old, **values}[name] for name in cls.__dataclass_fields__})

    @classmethod
    def around_texts(cls, tokenizer: Any) -> "SpecialTokens":
        """Returns the special tokens that a tokenizer puts before a text, between two texts, and after them.

        Texts themselves are plain.
        """

        def encoded(*texts: str) -> tuple[list[int], list[bool]]:
            encoding = tokenizer(*texts, return_special_tokens_mask=True)
            return encoding["input_ids"], [bool(flag) for flag in encoding["special_tokens_mask"]]

        ids, special = encoded("a")
        first, last = special.index(False), len(special) - special[::-1].index(False)
        prefix, suffix = ids[:first], ids[last:]
        ids, special = encoded("a", "a")
        between = slice(len(prefix), len(ids) - len(suffix))
        joint = [token for token, is_special in zip(ids[between], special[between], strict=True) if is_special]
        return cls(prefix, joint, suffix, plain=True)


class PromptTokens:
    """Makes tokens of texts, and batches of tokens.

    Args:
        tokenizer: a Hugging Face tokenizer.
        special_tokens: what stands around each prompt.
        pad_id: the token that stands for padding.
        pads_left: whether padding stands before a prompt or after it.
    """

    def __init__(self, tokenizer: Any, special_tokens: SpecialTokens, *, pad_id: int, pads_left: bool) -> None:
        self.tokenizer = tokenizer
        self.special_tokens = special_tokens
        self.pad_id = pad_id
        self.pads_left = pads_left

    def tokenize(self, texts: list[str]) -> list[Tokens]:
        """Returns each text's tokens, special tokens included, and the character spans of the tokens that are text."""
        return [(ids, [span for span in spans if span is not None]) for ids, spans in self.placed(texts)]

    def placed(self, texts: list[str]) -> list[PlacedTokens]:
        """Returns each text's tokens, and the character span of each, None for a special token around the texts."""
        if not texts:
            return []
        special, joint = self.special_tokens, self.special_tokens.joint
        if joint is None:
            texts, joint = [text.replace(SEPARATOR, LINE_BREAK) for text in texts], []
        rows = [text.split(SEPARATOR) for text in texts]
        all_pieces = [piece for pieces in rows for piece in pieces]
        encode = plain_tokens if special.plain else partial(_tokens, splits_specials=special.splits_specials)
        encoded_pieces = iter(encode(self.tokenizer, all_pieces))
        prompts = []
        for pieces in rows:
            ids, start = list(special.prefix), 0
            spans: list[tuple[int, int] | None] = [None] * len(ids)
            for index, piece in enumerate(pieces):
                piece_ids, offsets = next(encoded_pieces)
                between = joint if index else []
                ids += [*between, *piece_ids]
                spans += [None] * len(between)
                spans += [(start + first, start + last) for first, last in offsets]
                start += len(piece) + 1
            prompts.append((ids + special.suffix, spans + [None] * len(special.suffix)))
        return prompts

    def collate(
        self, prompts: Sequence[Sequence[int]]
    ) -> tuple[Int[Tensor, "batch prompt"], Bool[Tensor, "batch prompt"]]:
        """Returns prompts as one padded batch and its mask."""
        length = max(len(prompt) for prompt in prompts)
        tokens = torch.full((len(prompts), length), self.pad_id, dtype=torch.long)
        mask = torch.zeros(len(prompts), length, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            columns = slice(length - len(prompt), length) if self.pads_left else slice(0, len(prompt))
            tokens[row, columns] = torch.tensor(prompt, dtype=torch.long)
            mask[row, columns] = True
        return tokens, mask

    def use_chat_template(self) -> None:
        """Wraps each prompt as a user's message, as the model was trained to be asked.

        Raises:
            BackboneError: the tokenizer has no chat template, or one that does not show the message.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            raise BackboneError(
                "Expected an instruct model with a chat template, found a tokenizer without one. Leave chat_template "
                "out."
            )
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": MESSAGE}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # a template that knows this setting then asks for the answer at once (Qwen3)
        )
        around = text.split(MESSAGE)
        if len(around) != 2:
            raise BackboneError(
                f"Expected a chat template that shows a message once, found it {len(around) - 1} times. Leave "
                "chat_template out."
            )
        before, after = (self.tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in around)
        self.special_tokens = replace(
            self.special_tokens,
            prefix=before,
            suffix=[*after, *self.special_tokens.suffix],
            splits_specials=True,  # no text may close the user's turn
        )


def _tokens(tokenizer: Any, texts: Sequence[str], *, splits_specials: bool) -> list[Tokens]:
    """Returns the tokens of texts and their spans, without any around them."""
    # Nothing is cut here: the template cuts a prompt's fields, a tokenizer would cut the template itself.
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_offsets_mapping=True,
        truncation=False,
        verbose=False,
        split_special_tokens=splits_specials,
    )
    return list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))


def plain_tokens(tokenizer: Any, texts: Sequence[str]) -> list[Tokens]:
    """Returns the tokens of texts as plain text, with their spans: no name in a text gives a control token.

    A tokenizer still finds names that were added to it as plain ones ("<think>"), and those that its own vocabulary
    holds ("</s>" of a unigram model). Such a text is cut behind the name's first character, and its parts are read.

    Args:
        tokenizer: a fast one.
        texts: the texts.
    """
    rows = _tokens(tokenizer, texts, splits_specials=True)
    controls = control_ids(tokenizer)
    return [
        _without_controls(tokenizer, text, controls) if controls.intersection(row[0]) else row
        for text, row in zip(texts, rows, strict=True)
    ]


def control_ids(tokenizer: Any) -> set[int]:
    """Returns the tokens that no text may give: the special ones, and those that were added, but for blanks.

    The token of unknown text, and tokens of a single character, which are symbols that a target is written with, are
    none of them.
    """
    added = {index: str(token.content) for index, token in tokenizer.added_tokens_decoder.items()}
    special = set(tokenizer.all_special_ids)
    controls = {index for index, name in added.items() if len(name.strip()) > 1} | special
    return controls - {tokenizer.unk_token_id}


def _without_controls(tokenizer: Any, text: str, controls: set[int]) -> Tokens:
    """Returns the tokens of a text, cut inside the names of control tokens until none of them is found."""
    edges = [0, len(text)]
    while True:
        rows = _tokens(tokenizer, [text[first:last] for first, last in pairwise(edges)], splits_specials=True)
        ids = [token for row_ids, _ in rows for token in row_ids]
        spans = [
            (edge + first, edge + last)
            for edge, (_, row_spans) in zip(edges, rows, strict=False)  # the last edge begins no piece
            for first, last in row_spans
        ]
        names = [span for token, span in zip(ids, spans, strict=True) if token in controls and span[1] - span[0] > 1]
        if not names:
            return ids, spans
        # Blanks before a name may be a part of its token.
        cuts = [first + len(text[first:last]) - len(text[first:last].lstrip()) + 1 for first, last in names]
        inside = [min(cut, last - 1) for cut, (_, last) in zip(cuts, names, strict=True)]
        edges = sorted({*edges, *inside})


def begin_tokens(tokenizer: Any) -> list[int]:
    """Returns the begin token if the model was trained with one before its texts."""
    begin = tokenizer.bos_token_id
    if begin is None:
        return []
    ids = tokenizer("a")["input_ids"]
    # Some tokenizers name their end token as begin token and never write it (GPT-2); others write it (OPT).
    return [begin] if ids[:1] == [begin] or begin != tokenizer.eos_token_id else []


def shared_beginning(tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]) -> int:
    """Returns how many first tokens all prompts of a batch share; 0 where so few are not worth a forward of their own.

    Args:
        tokens: the prompts, padded on the left.
        mask: which tokens are not padding.
    """
    first, lengths = mask.long().argmax(dim=1, keepdim=True), mask.sum(dim=1)
    shortest = int(lengths.min())
    if shortest <= LEAST_SHARED:  # each row needs a token that is not shared
        return 0
    begun = tokens.gather(1, first + torch.arange(shortest - 1, device=tokens.device))
    shared = int((begun == begun[:1]).all(dim=0).long().cumprod(dim=0).sum())
    return shared if shared >= LEAST_SHARED and shared >= LEAST_SHARED_FRACTION * tokens.shape[1] else 0
