"""Which words say something about the answer: pointwise information of each input token and what the model wrote.

A critic learns, over many rows, from the state of a random token of each prompt and what the model wrote for it (of a
predictor, which writes nothing, its answer). A token's value is T(h_i, y) − log E exp T, with E over tokens and answers
that do not belong together: the estimate of log p(y | h_i) / p(y), in nats (the paper's figure, arXiv 2502.17817, by
the Donsker–Varadhan form of MINE).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from predgen.errors import ConfigError, DataError
from predgen.information.bounds import even_weights, log_mean_exp
from predgen.information.estimators import FittedCritic, Pairs, check_rows, estimate, summary
from predgen.information.measuring import Parts, answers_of, check_target, is_discrete, rows_of
from predgen.information.states import padded, prompts_of, states_of
from predgen.methods.buckets import answer_all
from predgen.models.model import Model
from predgen.tables.reading import TableLike, read_table
from predgen.version import __version__

ESTIMATOR = "mine"
# Tokens of a prompt that critics learn from: random ones.
TOKENS_PER_ROW = 8
# What stands for a character that is not whole yet.
UNFINISHED = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class _Read:
    """Rows as a model reads and answers them.

    Attributes:
        prompts: the rows with a valid answer.
        values: what the model wrote for them; a predictor's answers.
        texts: what it wrote, as text; None for a predictor.
        num_invalid: rows without a valid answer, which are left out.
    """

    prompts: list[list[int]]
    values: list[Any]
    texts: list[str | None]
    num_invalid: int

    @classmethod
    def of(cls, model: Model, table: pd.DataFrame) -> "_Read":
        """Returns a table as the model reads it."""
        prompts = prompts_of(model, table)
        answers = answer_all(model.method, prompts, model.contents.answering, batch_size=model.limits)
        # The text itself: the answer may be the Director's, or an estimate of a number.
        values = answers.values
        if model.method.writes:
            values = [None if text is None else model.target.from_text(text) for text in answers.written]
        kept = [row for row, value in enumerate(values) if value is not None]
        return cls(
            [prompts[row] for row in kept],
            [values[row] for row in kept],
            [answers.written[row] for row in kept],
            len(prompts) - len(kept),
        )

    def pairs(self, model: Model, *, every_token: bool = False) -> Pairs:
        """Returns tokens with answers; a critic sees one token of a row at a time."""
        most = None if every_token else TOKENS_PER_ROW
        states = states_of(model, self.prompts, ["prompt"], most_prompt=most).last["prompt"]
        labels = is_discrete(model.target)
        return Pairs(*padded(states), answers_of(model.target, self.values), labels, one_position=True)


def token_information(
    model: Model,
    texts: TableLike,
    data: TableLike | None = None,
    *,
    seeds: int = 3,
    rows: int = 3_000,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Returns how much each word of some texts says about what a model writes for them, as JSON holds it, in nats.

    A word's value is the sum over its tokens. Beside it stands the control: the value by a critic that learned from
    the answers of other rows. Values are means over seeds of the critic.

    Args:
        model: a fitted model.
        texts: rows with its input columns.
        data: the data that it was fitted on; where its settings say if not given.
        seeds: critics; the standard error of `information` is over them.
        rows: the most rows that critics learn from.
        progress: called with what comes next.

    Raises:
        ConfigError: the target is a record or a set of labels.
        DataError: there is no text, an input is missing, a text has no valid answer, there are too few rows, or the
            rows are not the ones that the model was fitted with.
    """
    if seeds < 1 or rows < 1:
        raise ConfigError(f"Expected seeds and rows, found {seeds} and {rows}. Give at least one of each.")
    check_target(model.target)
    shown = _Read.of(model, read_table(texts))
    if shown.num_invalid:
        raise DataError(
            f"Expected texts for which the model writes a {model.target.kind}, found {shown.num_invalid} for which it "
            "does not. Leave them out."
        )
    parts = Parts(rows_of({"the model": (model.config, model.record)}, data), model.config.data.group, rows)
    progress(f"states and answers of {len(parts.learn) + len(parts.held_out)} rows")
    read = [_Read.of(model, rows) for rows in (parts.learn, parts.held_out)]
    check_rows(*(len(answered.prompts) for answered in read))
    learn, held_out = (answered.pairs(model) for answered in read)
    shown_pairs = shown.pairs(model, every_token=True)
    values: dict[bool, list[Tensor]] = {False: [], True: []}
    estimates: dict[bool, list[Any]] = {False: [], True: []}
    for seed in range(seeds):
        progress(f"critic {seed + 1} of {seeds}, and its control")
        for shuffle in (False, True):
            fitted = estimate(ESTIMATOR, learn, held_out, seed, shuffle=shuffle)
            assert fitted.critic is not None  # this estimator has one
            assert fitted.scores is not None
            estimates[shuffle].append(fitted)
            baseline = float(log_mean_exp(fitted.scores, even_weights(fitted.scores))[0])
            with torch.no_grad():
                values[shuffle].append(_of_tokens(fitted.critic, shown_pairs).double() - baseline)
    means = {shuffle: torch.stack(each).mean(dim=0) for shuffle, each in values.items()}
    return {
        "version": __version__,
        "unit": "nats",
        "method": model.config.model.method,
        "seeds": seeds,
        "rows": {"learn": len(learn), "estimate": len(held_out)},
        "learned_from": parts.learned_from,
        "information": summary(ESTIMATOR, estimates[False]),
        "control": summary(ESTIMATOR, estimates[True]),
        "texts": [
            {
                "answer": value,
                "written": written,
                "words": words_of(_pieces(model, prompt), means[False][row].tolist(), means[True][row].tolist()),
            }
            for row, (prompt, value, written) in enumerate(zip(shown.prompts, shown.values, shown.texts, strict=True))
        ],
    }


def _of_tokens(critic: FittedCritic, pairs: Pairs) -> Float[Tensor, "row position"]:
    """Returns the critic's score of each token with the answer of its own row."""
    alone = torch.ones(pairs.states.shape[1], 1, dtype=torch.bool)
    each = [
        critic(states.unsqueeze(1), alone, answer.unsqueeze(0)).squeeze(1)
        for states, answer in zip(pairs.states, pairs.answers, strict=True)
    ]
    return torch.stack(each)


def _pieces(model: Model, prompt: Sequence[int]) -> list[str]:
    """Returns the text of each token of a prompt, with the spaces before it; special tokens stand between spaces.

    Of a character that takes several tokens the first one has the text.
    """
    tokenizer = model.method.backbone.tokenizer
    specials = set(tokenizer.all_special_ids)
    texts, before, open_since = [], "", 0
    for index, token in enumerate(prompt):
        texts.append("")
        # Pieces decoded alone would lose their spaces (SentencePiece) or show their marks (WordPiece).
        whole = tokenizer.decode(prompt[: index + 1], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if whole.endswith(UNFINISHED) and index + 1 < len(prompt):
            continue
        piece = whole[len(before) :] if whole.startswith(before) else tokenizer.decode(prompt[open_since : index + 1])
        texts[open_since] = f" {piece} " if token in specials else piece
        before, open_since = whole, index + 1
    return texts


def words_of(pieces: Sequence[str], values: Sequence[float], controls: Sequence[float]) -> list[dict[str, Any]]:
    """Returns words with the sums of their tokens' values; a piece that begins with a space begins a word.

    Args:
        pieces: the text of each token.
        values: of each token; there may be more for padding.
        controls: the values of the control, of each token.
    """
    words: list[dict[str, Any]] = []
    for piece, value, control in zip(pieces, values, controls, strict=False):
        if not words or re.match(r"\s", piece) or words[-1]["text"].endswith(("\n", " ")):
            words.append({"text": "", "value": 0.0, "control": 0.0, "tokens": 0})
        word = words[-1]
        word["text"] += piece
        word["value"] += value
        word["control"] += control
        word["tokens"] += 1
    return [{**word, "text": word["text"].strip()} for word in words if word["text"].strip()]
