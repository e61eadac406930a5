"""The paper's method: a Writer, a Director over what was written, scheduled sampling, one aligned loss."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.backbones import Backbone, Memory
from predgen.backbones.base import dropout_off
from predgen.codec import Codec, EncodedTargets
from predgen.decoding import Decoded
from predgen.directors import Director, Reading
from predgen.losses import LINEAR, LossName, TokenLoss, join_at_means, join_of, token_accuracy
from predgen.methods.base import Answers, Scale
from predgen.methods.generator import Decoding, Writer
from predgen.methods.sampling import Draws, sample_parallel, sample_sequential, scores_after
from predgen.mixing import MIXES, Mix
from predgen.processes import mean_over_processes, num_processes
from predgen.scoring import score_all
from predgen.targets import Number


class PredGen(Writer):
    """Writes the target; the Director maps the states of the written tokens to the prediction (arXiv 2502.17817).

    The prompt is read once with gradients on; sampling passes and the write share that memory.

    Args:
        backbone: the language model.
        codec: the target automaton.
        scale: the standardization of numbers.
        full_vocabulary: as in `Writer`.
        token_loss: as in `Writer`.
        decoding: as in `Writer`.
        beam_width: as in `Writer`.
        estimate: as in `Writer`; read where the Writer has a share in the answer.
        director: how the Director reads the states.
        loss: how L_W and L_D are joined.
        sharpness: of `wdal_smooth`.
        passes: parallel sampling passes; None samples one token after the other.
        reports_accuracy: also return the Writer's accuracy after gold prefixes, which the adaptive schedule follows.
        mix: what shares Director and Writer have in an answer.
    """

    samples = True
    # The Director learns on tokens that are the likeliest one by one; on the likeliest number as a whole, often a short
    # one, it did far worse (docs/log.md).
    reads_greedily = True

    def __init__(
        self,
        backbone: Backbone,
        codec: Codec,
        scale: Scale,
        *,
        full_vocabulary: bool = False,
        token_loss: TokenLoss | None = None,
        decoding: Decoding = "auto",
        beam_width: int = 4,
        estimate: str = "text",
        director: Reading = "attention",
        loss: LossName = "wdal_stable",
        sharpness: float = 1.0,
        passes: int | None = 1,
        reports_accuracy: bool = False,
        mix: Mix = MIXES["director"],
    ) -> None:
        super().__init__(
            backbone,
            codec,
            scale,
            full_vocabulary=full_vocabulary,
            token_loss=token_loss,
            decoding=decoding,
            beam_width=beam_width,
            estimate=estimate,
        )
        self.director = Director(backbone.hidden_size, self.num_outputs, director)
        self.loss = loss
        self.join = join_of(loss, squared_error=isinstance(codec.target, Number), sharpness=sharpness)
        self.passes = passes
        self.reports_accuracy = reports_accuracy
        self.mix = mix

    def forward(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        symbols: Int[Tensor, "batch target"],
        symbol_mask: Bool[Tensor, "batch target"],
        states: Int[Tensor, "batch target"],
        truth: Tensor,
        draws: Draws | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Returns `loss`, `writer_loss` (L_W) and `director_loss` (L_D), and `writer_accuracy` if it is reported."""
        gold = EncodedTargets(symbols, symbol_mask, states)
        draws = draws or Draws()
        memory = self.backbone.read(prompt, prompt_mask)
        fed, gold_scores = self._fed(memory, gold, draws)
        written = self.backbone.write(memory, self.codec.symbols[fed], symbol_mask)
        loss_writer = self.writer_loss(memory, written.logits[:, :-1], gold, truth)
        read_states, read_mask = written.states[:, 1:], symbol_mask
        if draws.director_own is not None:
            read_symbols, read_mask = self._director_reads(memory, gold, draws.director_own)
            read_states = self.backbone.write(memory, self.codec.symbols[read_symbols], read_mask).states[:, 1:]
        loss_director = self.head_loss(self.director(read_states, read_mask), truth)
        parts = {
            "loss": self.joined(loss_writer, loss_director, len(truth)),
            "writer_loss": loss_writer,
            "director_loss": loss_director,
        }
        if self.reports_accuracy:
            if gold_scores is None:  # gold was fed
                gold_scores = self.codec.log_probabilities(written.logits[:, :-1].detach(), states)
            parts["writer_accuracy"] = token_accuracy(gold_scores.argmax(dim=-1), symbols, self.decided(gold))
        return parts

    @torch.no_grad()
    def _fed(
        self, memory: Memory, gold: EncodedTargets, draws: Draws
    ) -> tuple[Int[Tensor, "batch target"], Float[Tensor, "batch target symbol"] | None]:
        """Returns the symbols that the Writer is fed, and its scores after gold prefixes where they were needed."""
        if draws.own is None:
            return gold.symbols, None
        memory = self.backbone.detach(memory)
        scores = None
        if self.reports_accuracy:
            with dropout_off(self.backbone):
                scores = scores_after(self.backbone, memory, self.codec, gold, gold.symbols, full=self.full_vocabulary)
        parts = (self.backbone, memory, self.codec, gold, draws.own)
        if self.passes is None:
            return sample_sequential(*parts, full=self.full_vocabulary, noise=draws.noise), scores
        fed = sample_parallel(
            *parts, passes=self.passes, full=self.full_vocabulary, noise=draws.noise, gold_scores=scores
        )
        return fed, scores

    @torch.no_grad()
    def _director_reads(
        self, memory: Memory, gold: EncodedTargets, own: Bool[Tensor, " batch"]
    ) -> tuple[Int[Tensor, "batch read"], Bool[Tensor, "batch read"]]:
        """Returns what each row's Director reads: what the model writes freely, as in prediction, or gold."""
        with dropout_off(self.backbone):
            decoded, _, _ = self.write_target(self.backbone.detach(memory), with_states=False)
        length = max(decoded.symbols.shape[1], gold.symbols.shape[1])

        def chosen(written: Tensor, taught: Tensor) -> Tensor:
            written, taught = (nn.functional.pad(one, (0, length - one.shape[1])) for one in (written, taught))
            return torch.where(own.unsqueeze(1), written, taught)

        return chosen(decoded.symbols, gold.symbols), chosen(decoded.mask, gold.mask)

    def director_exposure(
        self, memory: Memory, gold: EncodedTargets, decoded: Decoded, truth: Tensor
    ) -> dict[str, Float[Tensor, ""]]:
        """Returns L_D on gold tokens and on the tokens that the model wrote freely."""
        assert decoded.states is not None  # `exposure` asks for them
        states = self.backbone.write(memory, self.codec.symbols[gold.symbols], gold.mask).states[:, 1:]
        return {
            "director_loss_gold": self.head_loss(self.director(states, gold.mask), truth),
            "director_loss_own": self.head_loss(self.director(decoded.states, decoded.mask), truth),
        }

    def joined(self, loss_writer: Float[Tensor, ""], loss_director: Float[Tensor, ""], count: int) -> Float[Tensor, ""]:
        """Returns the loss to minimize; its weights are those of the whole batch over all processes.

        Args:
            loss_writer: L_W of this process's examples.
            loss_director: L_D of them.
            count: how many they are.
        """
        if self.loss in LINEAR or num_processes() == 1:
            return self.join(loss_writer, loss_director)
        means = mean_over_processes(torch.stack([loss_writer, loss_director]), count)
        return join_at_means(self.join, loss_writer, loss_director, (means[0], means[1]))

    @torch.no_grad()
    def answer(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        *,
        probabilities: bool = False,
    ) -> Answers:
        """Returns the Director's answers over the states of the written tokens, mixed with the Writer's."""
        memory = self.backbone.read(prompt, prompt_mask)
        numbers = isinstance(self.target, Number)
        asks_writer = self.mix.writer != 0 or (probabilities and numbers)
        scores = None
        if self.trie is not None and (asks_writer or self.decoding == "trie"):
            scores = score_all(self.backbone, memory, self.trie)
        decoded, values, texts = self.write_target(memory, with_states=True, scores=scores)
        assert decoded.states is not None  # asked for above
        predictions = self.head_predictions(self.director(decoded.states, decoded.mask))
        distribution = self.number_distribution(memory, scores) if numbers and asks_writer else None
        if self.mix.writer != 0:
            if distribution is None:
                assert scores is not None  # labels have a trie
                own = scores.softmax(dim=-1)
            elif self.estimate == "text":
                own = torch.tensor(values, dtype=torch.float64, device=predictions.device)
            else:
                own = distribution.estimate(self.estimate)
            predictions = self.mix.of(predictions, own)
        answers = self.answers_of(predictions, list(texts), probabilities=probabilities)
        return answers.with_distribution(distribution, spread=probabilities)
