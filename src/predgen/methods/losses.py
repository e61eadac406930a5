"""The Writer's loss, the Director's loss, and the ways to join them.

L_W is the Writer's loss and L_D the Director's. A loss is given for each example; both parts are means over examples,
each times its weight (`Batch.mean`), so that micro-batches average by their number of examples.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from predgen.names import JOINS, WRITER_LOSSES

# Joins two losses into the one to minimize.
Join = Callable[[Float[Tensor, ""], Float[Tensor, ""]], Float[Tensor, ""]]


def writer_loss(
    log_probabilities: Float[Tensor, "batch target symbol"],
    symbols: Int[Tensor, "batch target"],
    counted: Bool[Tensor, "batch target"],
    *,
    smoothed: Float[Tensor, "batch target symbol"] | None = None,
) -> Float[Tensor, " batch"]:
    """Returns L_W of each example: cross-entropy in nats per counted token, averaged over the example's tokens.

    Averaging within the example first makes the loss of a batch the mean of its parts' losses, weighted by their
    number of examples, whatever the lengths of the targets.

    Args:
        log_probabilities: of every symbol at every position.
        symbols: the gold symbols.
        counted: positions that belong to the target and, if the softmax is over allowed symbols, had a choice. An
            example without any counts as 0.
        smoothed: the distribution that stands in for the gold symbol; 0 where a symbol is not allowed.
    """
    if smoothed is None:
        losses = -log_probabilities.gather(-1, symbols.unsqueeze(-1)).squeeze(-1)
    else:
        possible = log_probabilities.masked_fill(smoothed == 0, 0.0)  # 0 · log 0 = 0
        losses = -(smoothed * possible).sum(dim=-1)
    return _mean_over_counted(losses, counted)


def _mean_over_counted(
    losses: Float[Tensor, "batch target"], counted: Bool[Tensor, "batch target"]
) -> Float[Tensor, " batch"]:
    """Returns the mean over each example's counted positions."""
    losses = torch.where(counted, losses, torch.zeros_like(losses))
    return losses.sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def token_accuracy(
    chosen: Int[Tensor, "batch target"], symbols: Int[Tensor, "batch target"], counted: Bool[Tensor, "batch target"]
) -> Float[Tensor, ""]:
    """Returns the share of counted tokens that are gold's, averaged over each example's tokens, then over examples."""
    return _mean_over_counted((chosen == symbols).float(), counted).mean()


def number_token_loss(
    log_probabilities: Float[Tensor, "batch target symbol"],
    symbols: Int[Tensor, "batch target"],
    counted: Bool[Tensor, "batch target"],
    digits: Float[Tensor, " symbol"],
) -> Float[Tensor, " batch"]:
    """Returns the number token loss: how far, in digits, the Writer's mass lies from the gold digit.

    The Wasserstein-1 form NTL-WAS of arXiv 2411.02083: Σ_v p(v) |v − gold|, p over the digits alone, at the positions
    whose gold symbol is a digit. It is added to the cross-entropy, which does not know that 3 is nearer to 4 than to 9.

    Args:
        log_probabilities: of every symbol at every position.
        symbols: the gold symbols.
        counted: positions that count, as in `writer_loss`.
        digits: the value of each symbol, NaN for those that are no digit.
    """
    gold = digits[symbols]
    counted = counted & ~gold.isnan()
    scores = log_probabilities.masked_fill(digits.isnan(), float("-inf"))
    scores = scores.masked_fill(~counted.unsqueeze(-1), 0.0)  # a row of −inf alone would have a gradient of NaN
    distances = (digits.nan_to_num() - gold.nan_to_num().unsqueeze(-1)).abs()
    return _mean_over_counted((scores.softmax(dim=-1) * distances).sum(dim=-1), counted)


def smoothed_digits(
    allowed: Bool[Tensor, "batch target symbol"],
    symbols: Int[Tensor, "batch target"],
    digits: Float[Tensor, " symbol"],
    *,
    deviation: float,
) -> Float[Tensor, "batch target symbol"]:
    """Returns the Writer's target distribution: digits are smoothed by a Gaussian (after arXiv 1806.04613).

    Where the gold symbol is a digit, each allowed digit v weighs exp(−(v − gold)² / 2σ²); everywhere else all the
    weight is on the gold symbol.

    Args:
        allowed: the symbols that may stand at each position.
        symbols: the gold symbols.
        digits: the value of each symbol, NaN for those that are no digit.
        deviation: σ, in digits, above 0.
    """
    gold = digits[symbols].unsqueeze(-1)
    exponents = -((digits - gold) ** 2) / (2 * deviation**2)
    weights = exponents.masked_fill(~allowed | exponents.isnan(), float("-inf"))
    exact = functional.one_hot(symbols, len(digits)).to(digits.dtype)
    return torch.where(gold.isnan(), exact, weights.nan_to_num(neginf=-1e9).softmax(dim=-1))


def expected_value_loss(
    log_probabilities: Float[Tensor, "batch number"],
    numbers: Float[Tensor, " number"],
    truth: Float[Tensor, " batch"],
    *,
    mean: float,
    deviation: float,
) -> Float[Tensor, " batch"]:
    """Returns the squared errors of the Writer's expected values, in standardized units.

    (E[v] − truth)² with E[v] = Σ_v p(v) v over every number that can be written: regression-aware fine-tuning (RAFT,
    arXiv 2403.04182). It trains the mean of what is written, which is the best answer to the squared error, and says
    nothing of the likeliest text.

    Args:
        log_probabilities: of every number, up to a constant of each row.
        numbers: their values.
        truth: the standardized gold numbers.
        mean: of the standardization.
        deviation: of the standardization.
    """
    standardized = ((numbers - mean) / deviation).to(log_probabilities.dtype)
    return ((log_probabilities.softmax(dim=-1) * standardized).sum(dim=-1) - truth) ** 2


@dataclass(frozen=True)
class TokenLoss:
    """L_W by name: plain cross-entropy, or one that knows that digits are numbers.

    Attributes:
        name: one of `predgen.names.WRITER_LOSSES` that is a loss of tokens (not of `scores_all`).
        weight: of the number token loss (0.3 in arXiv 2411.02083).
        deviation: σ of the smoothing, in digits.
    """

    name: str = "cross_entropy"
    weight: float = 0.3
    deviation: float = 0.5

    def __call__(
        self,
        log_probabilities: Float[Tensor, "batch target symbol"],
        symbols: Int[Tensor, "batch target"],
        counted: Bool[Tensor, "batch target"],
        allowed: Bool[Tensor, "batch target symbol"],
        digits: Float[Tensor, " symbol"],
    ) -> Float[Tensor, " batch"]:
        """Returns L_W of each example.

        Args:
            log_probabilities: of every symbol at every position.
            symbols: the gold symbols.
            counted: positions that count, as in `writer_loss`.
            allowed: the symbols that may stand at each position.
            digits: the value of each symbol, NaN for those that are no digit.
        """
        options = {name: getattr(self, name) for name in WRITER_LOSSES[self.name].takes}
        loss: Tensor = WRITER_LOSSES.load(self.name)(log_probabilities, symbols, counted, allowed, digits, **options)
        return loss


def cross_entropy(
    log_probabilities: Float[Tensor, "batch target symbol"],
    symbols: Int[Tensor, "batch target"],
    counted: Bool[Tensor, "batch target"],
    allowed: Bool[Tensor, "batch target symbol"],
    digits: Float[Tensor, " symbol"],
) -> Float[Tensor, " batch"]:
    """Returns the cross-entropy against the gold symbols; the arguments are those of `TokenLoss`."""
    return writer_loss(log_probabilities, symbols, counted)


def cross_entropy_and_distance(
    log_probabilities: Float[Tensor, "batch target symbol"],
    symbols: Int[Tensor, "batch target"],
    counted: Bool[Tensor, "batch target"],
    allowed: Bool[Tensor, "batch target symbol"],
    digits: Float[Tensor, " symbol"],
    *,
    weight: float,
) -> Float[Tensor, " batch"]:
    """Returns the cross-entropy and the number token loss times its weight; the arguments are those of `TokenLoss`."""
    loss = writer_loss(log_probabilities, symbols, counted)
    return loss + weight * number_token_loss(log_probabilities, symbols, counted, digits)


def cross_entropy_of_smoothed_digits(
    log_probabilities: Float[Tensor, "batch target symbol"],
    symbols: Int[Tensor, "batch target"],
    counted: Bool[Tensor, "batch target"],
    allowed: Bool[Tensor, "batch target symbol"],
    digits: Float[Tensor, " symbol"],
    *,
    deviation: float,
) -> Float[Tensor, " batch"]:
    """Returns the cross-entropy against smoothed digits; the arguments are those of `TokenLoss`."""
    smoothed = smoothed_digits(allowed, symbols, digits, deviation=deviation)
    return writer_loss(log_probabilities, symbols, counted, smoothed=smoothed)


def number_loss(outputs: Float[Tensor, "batch 1"], truth: Float[Tensor, "batch 1"]) -> Float[Tensor, " batch"]:
    """Returns the squared errors of standardized numbers."""
    return (outputs.squeeze(-1) - truth.squeeze(-1)) ** 2


def huber_loss(outputs: Float[Tensor, "batch 1"], truth: Float[Tensor, "batch 1"]) -> Float[Tensor, " batch"]:
    """Returns the Huber losses of standardized numbers, twice the usual one: the squared error of small errors.

    e² for |e| ≤ 1, 2 |e| − 1 beyond (Huber 1964, with a bound of one standard deviation of the training numbers).
    """
    return 2 * functional.huber_loss(outputs.squeeze(-1), truth.squeeze(-1), reduction="none")


def quantile_loss(outputs: Float[Tensor, "batch level"], truth: Float[Tensor, "batch 1"]) -> Float[Tensor, " batch"]:
    """Returns the mean pinball loss of each example's quantiles of its standardized number.

    Of K outputs, k = 1 … K, output k is the quantile of the level τ = (k − ½) / K, whose loss is max(τ e, (τ − 1) e)
    with e = truth − output (Koenker and Bassett 1978). The mean over the levels is divided by that of a standard normal
    distribution's own quantiles, so that the best constant answer has a loss of about 1, as with squared errors.
    """
    num_levels = outputs.shape[-1]
    levels = (torch.arange(num_levels, dtype=outputs.dtype, device=outputs.device) + 0.5) / num_levels
    errors = truth - outputs
    # The pinball loss of a normal distribution's own quantile z is the density there.
    of_normal = torch.exp(-(torch.special.ndtri(levels) ** 2) / 2).mean() / math.sqrt(2 * math.pi)
    return torch.maximum(levels * errors, (levels - 1) * errors).mean(dim=-1) / of_normal


def label_loss(logits: Float[Tensor, "batch label"], truth: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Returns the cross-entropy of each label, in nats."""
    return functional.cross_entropy(logits, truth, reduction="none")


def shares_cross_entropy(
    log_probabilities: Float[Tensor, "batch label"], shares: Float[Tensor, "batch label"]
) -> Float[Tensor, " batch"]:
    """Returns the cross-entropy −Σ_k p_k log q_k of each row in nats, of the shares p and the probabilities q.

    Its gradient is that of the Kullback-Leibler divergence KL(p ‖ q): both differ by the entropy of p alone.

    Args:
        log_probabilities: log q of each label.
        shares: p of each label; a label without a share counts nothing, whatever its probability.
    """
    possible = log_probabilities.masked_fill(shares == 0, 0.0)  # 0 · log 0 = 0
    return -(shares * possible).sum(dim=-1)


def set_loss(logits: Float[Tensor, "batch label"], truth: Float[Tensor, "batch label"]) -> Float[Tensor, " batch"]:
    """Returns the binary cross-entropy of each set of labels, in nats per label."""
    return functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=-1)


def wdal(writer: Float[Tensor, ""], director: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Returns the paper's Writer-Director alignment loss.

    max(L_W², L_D²) · exp(−|log L_W − log L_D|) (arXiv 2502.17817). As exp(−|log a − log b|) = min(a, b) / max(a, b),
    its value is L_W · L_D, and each part's gradient is weighted by the other part's loss: a part whose partner has
    gone to zero stops learning. Computed from logs.
    """
    # The smallest normal number stands in for 0, whose log has no gradient.
    tiny = torch.finfo(writer.dtype).tiny
    log_writer, log_director = writer.clamp(min=tiny).log(), director.clamp(min=tiny).log()
    return torch.exp(2 * torch.maximum(log_writer, log_director) - (log_writer - log_director).abs())


def wdal_stable(writer: Float[Tensor, ""], director: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Returns log(1+L_W) + log(1+L_D) + (1+L_W)(1+L_D), the closed form of what the paper's program optimizes.

    Its gradients never die: ∂/∂L_W = 1/(1+L_W) + 1 + L_D ≥ 1.
    """
    return torch.log1p(writer) + torch.log1p(director) + (1 + writer) * (1 + director)


def wdal_smooth(writer: Float[Tensor, ""], director: Float[Tensor, ""], *, sharpness: float = 1.0) -> Float[Tensor, ""]:
    """Returns the log-sum-exp form of the alignment loss.

    exp((1/τ) · logsumexp(2τ log L_W, 2τ log L_D) − |log L_W − log L_D|): `wdal` with its maximum smoothed. It goes to
    `wdal` as τ grows, and is 2^(1/τ) times as large where both losses are equal.

    Args:
        writer: L_W.
        director: L_D.
        sharpness: τ, above 0.
    """
    tiny = torch.finfo(writer.dtype).tiny
    log_writer, log_director = writer.clamp(min=tiny).log(), director.clamp(min=tiny).log()
    smooth = torch.logaddexp(2 * sharpness * log_writer, 2 * sharpness * log_director) / sharpness
    return torch.exp(smooth - (log_writer - log_director).abs())


def add(writer: Float[Tensor, ""], director: Float[Tensor, ""], *, writer_weight: float = 1.0) -> Float[Tensor, ""]:
    """Returns λ L_W + L_D.

    Args:
        writer: L_W.
        director: L_D.
        writer_weight: λ, at least 0.
    """
    return writer_weight * writer + director


class UncertaintyWeights(nn.Module):
    """Learned weights: exp(−s_W) L_W + s_W/2 + c exp(−s_D) L_D + s_D/2 (Kendall et al., arXiv 1705.07115).

    c is 1/2 for a squared error and 1 for a cross-entropy. s is the logarithm of a variance; both begin at 0.

    Args:
        squared_error: whether L_D is a squared error.
    """

    def __init__(self, *, squared_error: bool) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(2))
        self.factor = 0.5 if squared_error else 1.0

    def forward(self, writer: Float[Tensor, ""], director: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Returns the weighted loss; it may be below 0."""
        weights = (-self.log_variances).exp()
        joined: Tensor = weights[0] * writer + self.factor * weights[1] * director + self.log_variances.sum() / 2
        return joined


def join_of(name: str, *, squared_error: bool, sharpness: float = 1.0, writer_weight: float = 1.0) -> Join:
    """Returns how a name joins the two losses; `uncertainty` is a module with parameters of its own.

    Args:
        name: one of `predgen.names.JOINS`.
        squared_error: whether L_D is a squared error.
        sharpness: τ of `wdal_smooth`.
        writer_weight: λ of `sum`.
    """
    given = {"squared_error": squared_error, "sharpness": sharpness, "writer_weight": writer_weight}
    join = JOINS.load(name)
    options = {argument: given[argument] for argument in JOINS[name].takes}
    if isinstance(join, type):  # a module: its arguments are those of its constructor
        made: Join = join(**options)
        return made
    return partial(join, **options)


def join_at_means(
    join: Join,
    writer: Float[Tensor, ""],
    director: Float[Tensor, ""],
    means: tuple[Float[Tensor, ""], Float[Tensor, ""]],
) -> Float[Tensor, ""]:
    """Returns the joined loss at the means, with gradients through this process's share of each mean.

    A join that is no weighted sum does not commute with averaging. Its two weights ∂L/∂L_W and ∂L/∂L_D are therefore
    taken at the means over all processes; each process's part is multiplied by them. Averaged over the processes by
    their number of examples, that is the gradient of the joined loss of the whole batch.

    Args:
        join: how the losses are joined.
        writer: L_W of this process's examples.
        director: L_D of this process's examples.
        means: both, over the examples of all processes.
    """
    with torch.enable_grad():
        at = [mean.detach().requires_grad_() for mean in means]
        joined = join(*at)
        weights = torch.autograd.grad(joined, at)
    linear = weights[0] * writer + weights[1] * director
    return joined.detach() + linear - linear.detach()
