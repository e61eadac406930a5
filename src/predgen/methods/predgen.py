"""The paper's method: a Writer, a Director over what was written, scheduled sampling, one aligned loss."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.backbones import Backbone, Memory
from predgen.backbones.base import dropout_off
from predgen.codec.codec import Codec, EncodedTargets
from predgen.measures.choices import MIXES, Mix
from predgen.methods.answers import Answers
from predgen.methods.directors import Director, Reading
from predgen.methods.heads import Scale
from predgen.methods.losses import LINEAR, LossName, TokenLoss, join_at_means, join_of, token_accuracy
from predgen.methods.writer import Decoding, Writer
from predgen.processes import mean_over_processes, num_processes
from predgen.targets.record import field_values, fields_of
from predgen.writing.decoding import Decoded
from predgen.writing.sampling import Draws, sample_parallel, sample_sequential, scores_after


class PredGen(Writer):
    """Writes the target; the Director maps the states of the written tokens to the prediction (arXiv 2502.17817).

    The prompt is read once with gradients on; sampling passes and the write share that memory.

    Args:
        backbone: the language model.
        codec: the target automaton.
        scales: what the training values say, for each field.
        full_vocabulary: as in `Writer`.
        token_loss: as in `Writer`.
        decoding: as in `Writer`.
        beam_width: as in `Writer`.
        estimates: as in `Writer`; read where the Writer has a share in the answer.
        trie_mass: as in `Writer`.
        director: how the Director reads the states.
        loss: how L_W and L_D are joined.
        sharpness: of `wdal_smooth`.
        passes: parallel sampling passes; None samples one token after the other.
        reports_accuracy: also return the Writer's accuracy after gold prefixes, which the adaptive schedule follows.
        mixes: what shares Director and Writer have in the answer of each field; all the Director's if not given.
    """

    samples = True
    # The Director learns on tokens that are the likeliest one by one; on the likeliest number as a whole, often a short
    # one, it did far worse (docs/log.md).
    reads_greedily = True

    def __init__(
        self,
        backbone: Backbone,
        codec: Codec,
        scales: Sequence[Scale],
        *,
        full_vocabulary: bool = False,
        token_loss: TokenLoss | None = None,
        decoding: Decoding = "auto",
        beam_width: int = 4,
        estimates: Sequence[str] | None = None,
        trie_mass: float = 1.0,
        director: Reading = "attention",
        loss: LossName = "wdal_stable",
        sharpness: float = 1.0,
        passes: int | None = 1,
        reports_accuracy: bool = False,
        mixes: Sequence[Mix] | None = None,
    ) -> None:
        super().__init__(
            backbone,
            codec,
            scales,
            full_vocabulary=full_vocabulary,
            token_loss=token_loss,
            decoding=decoding,
            beam_width=beam_width,
            estimates=estimates,
            trie_mass=trie_mass,
        )
        self.director = Director(backbone.hidden_size, self.num_outputs, director)
        self.loss = loss
        self.join = join_of(
            loss, squared_error=len(self.fields) == 1 and self.fields[0].SQUARED_ERROR, sharpness=sharpness
        )
        self.passes = passes
        self.reports_accuracy = reports_accuracy
        self.mixes = [MIXES["director"]] * len(self.fields) if mixes is None else list(mixes)

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
        memory = self.read(prompt, prompt_mask)
        fed, gold_scores = self._fed(memory, gold, draws)
        written = self.backbone.write(memory, self.codec.symbols[fed], symbol_mask)
        loss_writer = self.writer_loss(memory, written.logits[:, :-1], gold, truth)
        read_states, read_mask, fields = written.states[:, 1:], symbol_mask, self.codec.field_of_state[states]
        if draws.director_own is not None:
            read_symbols, read_mask = self._director_reads(memory, gold, draws.director_own)
            read_states = self.backbone.write(memory, self.codec.symbols[read_symbols], read_mask).states[:, 1:]
            fields = self.codec.fields_along(read_symbols, read_mask)
        loss_director = self.head_loss(self.directed(read_states, read_mask, fields), truth)
        parts = {
            "loss": self.joined(loss_writer, loss_director, len(truth)),
            "writer_loss": loss_writer,
            "director_loss": loss_director,
        }
        if self.reports_accuracy:
            if gold_scores is None:  # gold was fed
                logits = written.logits[:, :-1].detach()
                gold_scores = self.codec.log_probabilities(logits, states, vocabulary=memory.vocabulary)
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
            decoded = self.write_target(self.backbone.detach(memory), with_states=False).decoded
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
        own_fields = self.codec.fields_along(decoded.symbols, decoded.mask)
        outputs = {
            "director_loss_gold": self.directed(states, gold.mask, self.codec.field_of_state[gold.states]),
            "director_loss_own": self.directed(decoded.states, decoded.mask, own_fields),
        }
        found = {name: self.head_loss(one, truth) for name, one in outputs.items()}
        if len(self.fields) > 1:
            own = self.field_losses(outputs["director_loss_own"], truth)
            found |= {f"{name}.director_loss_own": loss for name, loss in zip(fields_of(self.target), own, strict=True)}
        return found

    def directed(
        self,
        states: Float[Tensor, "batch target hidden"],
        mask: Bool[Tensor, "batch target"],
        fields: Int[Tensor, "batch target"],
    ) -> Float[Tensor, "batch output"]:
        """Returns the Director's outputs; those of a field are read from the states of its own tokens.

        Args:
            states: H[1..m].
            mask: which positions were written.
            fields: the place of the field that each belongs to.
        """
        if len(self.fields) == 1:
            outputs: Tensor = self.director(states, mask)
            return outputs
        spans = [self.director(states, mask & (fields == place)) for place in range(len(self.fields))]
        return torch.cat([read[:, one.outputs] for read, one in zip(spans, self.fields, strict=True)], dim=1)

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
        marginal: bool = False,
    ) -> Answers:
        """Returns the Director's answers over the states of the written tokens, mixed with the Writer's.

        With `marginal` the Writer's part is its marginals; the Director's stays what it reads in the written record.
        """
        memory = self.read(prompt, prompt_mask)
        # The fields whose Writer's distribution is asked for; its text is there already.
        places = [place for place in range(len(self.fields)) if self._asks(place, probabilities, marginal)]
        written = self.write_target(memory, with_states=True, scored=() if marginal else places)
        decoded = written.decoded
        assert decoded.states is not None  # asked for above
        fields = self.codec.fields_along(decoded.symbols, decoded.mask)
        predictions = self.head_predictions(self.directed(decoded.states, decoded.mask, fields))
        if marginal and places:
            beliefs = dict(enumerate(self.marginals(memory)))
        else:
            beliefs = {place: self.belief(place, written.memories[place], written.scores[place]) for place in places}
        for place, name in enumerate(fields_of(self.target)):
            if self.mixes[place].writer != 0:
                belief, estimate = beliefs.get(place), self.estimates[place]
                if self.fields[place].field.numeric and estimate == "text" and not marginal:
                    values = field_values(self.target, written.values, name)
                    own = torch.tensor(values, dtype=torch.float64, device=self.device)
                elif belief is not None and belief.distribution is not None:
                    own = belief.distribution.estimate("mode" if estimate == "text" else estimate)
                else:
                    assert belief is not None  # asked for above
                    assert belief.probabilities is not None
                    own = belief.probabilities
                predictions[place] = self.fields[place].mixed(self.mixes[place], predictions[place], own)
        answers = self.answers_of(predictions, [list(one) for one in written.field_texts], probabilities=probabilities)
        answers = [
            one.with_distribution(beliefs[place].distribution, spread=probabilities) if place in beliefs else one
            for place, one in enumerate(answers)
        ]
        return Answers.of_record(self.target, answers, list(written.texts))

    def _asks(self, place: int, probabilities: bool, marginal: bool) -> bool:
        """Returns whether the Writer's distribution of a field is needed."""
        number = self.fields[place].field.numeric
        shares = self.mixes[place].writer != 0
        return (probabilities and number) or (shares and (marginal or not number or self.estimates[place] != "text"))
