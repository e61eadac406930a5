"""The tokens that targets are written with: those of a model's tokenizer, or those of a Writer beside an encoder."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from predgen.backbones.prompts import plain_tokens

# The first two tokens of a Writer.
START, END = 0, 1


class TargetTokens(ABC):
    """The vocabulary that targets are written with.

    Args:
        model: the pretrained Hugging Face model, without a PEFT wrapper.
        tokenizer: its tokenizer.

    Attributes:
        end_id: the token that ends a target.
        added_token_ids: tokens that were added to the tokenizer and to the model's embeddings.
        plain: whether no word gives a control token, as in `predgen.backbones.prompts.SpecialTokens`.
    """

    end_id: int
    plain: bool = True

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.added_token_ids: list[int] = []

    @property
    @abstractmethod
    def size(self) -> int:
        """How many tokens each step of writing has logits for."""

    @abstractmethod
    def symbol_id(self, character: str) -> int:
        """Returns the single token of a character that numbers, sets and records are written with."""

    @abstractmethod
    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        """Returns the tokens of each label's word, all with or all without a leading space."""

    @abstractmethod
    def text_of(self, ids: Sequence[int]) -> str:
        """Returns the text of written tokens, up to the end token."""

    @abstractmethod
    def tokenizer_ids(self, ids: Sequence[int]) -> list[int | None]:
        """Returns the tokenizer's token for each written token; None for a symbol that the tokenizer lacks."""

    def piece_of(self, character: str) -> int | None:
        """Returns the tokenizer's single token of a character, bare or with a word's prefix; None if it has none."""
        vocabulary = self.tokenizer.get_vocab()
        for piece in (character, f"▁{character}", f"##{character}", f"Ġ{character}"):
            if piece in vocabulary:
                return int(vocabulary[piece])
        return None

    def pieces_of_words(self, words: Sequence[str]) -> list[list[int]]:
        """Returns the tokenizer's tokens of each word, with a leading space if that takes no more tokens."""
        spaced, bare = ([self._ids_of(space + word.strip()) for word in words] for space in (" ", ""))
        return spaced if sum(map(len, spaced)) <= sum(map(len, bare)) else bare

    def _ids_of(self, text: str) -> list[int]:
        if self.plain:
            return plain_tokens(self.tokenizer, [text])[0][0]
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def add_token(self, piece: str) -> int:
        """Returns the id of a token that the vocabulary lacked, with a row of its own in the embeddings."""
        self.tokenizer.add_tokens([piece])
        token = int(self.tokenizer.convert_tokens_to_ids(piece))
        if token >= embedding_rows(self.model):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(token)  # the new row depends on its token alone: the same after a reload
                self.model.resize_token_embeddings(token + 1, mean_resizing=False)
        if token not in self.added_token_ids:
            self.added_token_ids.append(token)
        return token


class TokenizerTokens(TargetTokens):
    """The tokenizer's own tokens, for models that write by themselves; an end token is added where there is none."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__(model, tokenizer)
        eos_id = special_id(model, tokenizer, "eos_token_id")
        self.end_id = eos_id if eos_id is not None else self.add_token(tokenizer.eos_token or "<|end|>")

    @property
    def size(self) -> int:
        """The rows of the embeddings."""
        return embedding_rows(self.model)

    def symbol_id(self, character: str) -> int:
        """Returns the single token of a character: the bare piece, the prefixed piece, or an added token."""
        piece = self.piece_of(character)
        return self.add_token(character) if piece is None else piece

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        """Returns the tokens of each label's word, with a leading space if that takes no more tokens."""
        return self.pieces_of_words(words)

    def text_of(self, ids: Sequence[int]) -> str:
        """Returns the text of written tokens, up to the end token."""
        return str(self.tokenizer.decode(_before(self.end_id, ids), skip_special_tokens=True)).strip()

    def tokenizer_ids(self, ids: Sequence[int]) -> list[int | None]:
        """Returns the same tokens."""
        return list(ids)


class WriterTokens(TargetTokens):
    """A small vocabulary of a Writer beside an encoder: a start, an end, and a row for each symbol that is needed.

    Args:
        model: the encoder.
        tokenizer: its tokenizer.
        writer: the decoder beside it, whose embeddings have a row for each token.
        start_and_end: the encoder's tokens that begin and end texts, whose embeddings the first two rows copy; None
            where the encoder has no such token.

    Attributes:
        pieces: the encoder's token that each row stands for; None for a symbol that the encoder's vocabulary lacks.
    """

    end_id = END

    def __init__(self, model: Any, tokenizer: Any, writer: Any, start_and_end: Sequence[int | None]) -> None:
        super().__init__(model, tokenizer)
        self.writer = writer
        self.pieces: list[int | None] = list(start_and_end)
        self._symbols: dict[str, int] = {}

    @property
    def size(self) -> int:
        """The rows of the Writer's embeddings."""
        return len(self.pieces)

    def symbol_id(self, character: str) -> int:
        """Returns the Writer's token of a digit, a sign or a point."""
        if character not in self._symbols:
            self._symbols[character] = self._row_of(self.piece_of(character))
        return self._symbols[character]

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        """Returns the Writer's tokens of each label's word."""
        return [[self._row_of(piece) for piece in pieces] for pieces in self.pieces_of_words(words)]

    def text_of(self, ids: Sequence[int]) -> str:
        """Returns the text of written tokens, up to the end token."""
        rows = _before(END, ids)
        characters = {row: character for character, row in self._symbols.items()}
        if all(row in characters for row in rows):  # a number: its digits stand together
            return "".join(characters[row] for row in rows)
        pieces = [self.pieces[row] for row in rows]
        return str(self.tokenizer.decode([piece for piece in pieces if piece is not None])).strip()

    def tokenizer_ids(self, ids: Sequence[int]) -> list[int | None]:
        """Returns the encoder's token that each row stands for."""
        return [self.pieces[row] for row in ids]

    @torch.no_grad()
    def copy_embeddings(self) -> None:
        """Copies the encoder's embeddings of the pieces that it knows, if they are as wide as the Writer's."""
        source = self.model.get_input_embeddings().weight
        rows = self.writer.get_input_embeddings().weight
        if source.shape[1] == rows.shape[1]:
            for row, piece in enumerate(self.pieces):
                if piece is not None:
                    rows[row] = source[piece]

    def _row_of(self, piece: int | None) -> int:
        """Returns the row of a piece of the encoder's vocabulary, a new row if the piece has none yet."""
        if piece is not None and piece in self.pieces[END + 1 :]:
            return self.pieces.index(piece, END + 1)
        self.pieces.append(piece)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(len(self.pieces))
            self.writer.resize_token_embeddings(len(self.pieces), mean_resizing=False)
        self.copy_embeddings()
        return len(self.pieces) - 1


def embedding_rows(model: Any) -> int:
    """Returns how many rows a model's input embeddings have."""
    return int(model.get_input_embeddings().weight.shape[0])


def special_id(model: Any, tokenizer: Any, name: str) -> int | None:
    """Returns a special token of a tokenizer; None if the model has no row for it.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        name: such as `eos_token_id`; a token that was added to the tokenizer alone has no row.
    """
    token = getattr(tokenizer, name)
    return token if token is not None and token < embedding_rows(model) else None


def _before(end_id: int, ids: Sequence[int]) -> list[int]:
    kept = list(ids)
    return kept[: kept.index(end_id)] if end_id in kept else kept
