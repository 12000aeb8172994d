"""Losses of scores against counts within lists.

Source: the definitions of the Rax library (https://github.com/google/rax), with which the first four agree, ties,
masks and reductions included; "Region Ranking on scATAC" trains with the softmax loss. Written over pairs of regions:
lists are short, and nothing has to be sorted.
Shapes: B lists, R regions.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

RankingLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


def softmax_loss(scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """-sum_i y_i log softmax(s)_i: the cross-entropy of labels and scores. Labels are not normed to sum to 1.

    All losses of this module take and give:

    Args:
        scores: (lists, regions), any floating dtype; computed in float32, or in float64 where scores are.
        labels: (lists, regions), counts or ranks, at least 0.
        mask: (lists, regions) bool, False where a place of a list holds no region; None where all do.

    Returns:
        Scalar: the mean over lists with at least one region, 0 where there is none.
    """
    scores, labels, mask = _prepared(scores, labels, mask)
    chances = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).log_softmax(1)
    return _mean_of_lists(-(labels * chances.masked_fill(~mask, 0.0)).sum(1), mask)


def pairwise_logistic_loss(
    scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """log(1 + exp(s_j - s_i)) where y_i > y_j (Burges et al. 2005), over the pairs of all lists together.

    The mean is over pairs, as in Rax: a list counts by its pairs, and ties make none. 0 where there is no pair.
    """
    scores, labels, mask = _prepared(scores, labels, mask)
    is_pair = (labels.unsqueeze(2) > labels.unsqueeze(1)) & _both(mask)  # (B, R, R)
    losses = F.softplus(scores.unsqueeze(1) - scores.unsqueeze(2))
    return losses.masked_fill(~is_pair, 0.0).sum() / is_pair.sum().clamp(min=1)


def listmle_loss(scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """-log of the chance that regions drawn one after another by softmax come in the labels' order (Xia et al. 2008).

    Ties are put in the order in which they stand in the list, as in Rax without a random key.
    """
    scores, labels, mask = _prepared(scores, labels, mask)
    first, second = labels.unsqueeze(2), labels.unsqueeze(1)
    is_left = ((second < first) | ((second == first) & ~_stands_before(labels))) & _both(mask)  # j when i is drawn
    remaining = scores.unsqueeze(1).masked_fill(~is_left, torch.finfo(scores.dtype).min).logsumexp(2)  # (B, R)
    return _mean_of_lists((remaining - scores).masked_fill(~mask, 0.0).sum(1), mask)


def approx_ndcg_loss(scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """-NDCG with gains 2^y - 1, where the rank of i is 1 + sum_j sigmoid(s_j - s_i) (Qin et al. 2010).

    -1 is the best; a list of zeros only gives 0.
    """
    scores, labels, mask = _prepared(scores, labels, mask)
    labels = labels.masked_fill(~mask, 0.0)  # a gain of 0
    highest = labels.amax(1, keepdim=True)
    gains = torch.exp2(labels - highest) * -torch.expm1(-labels * math.log(2))  # (2^y - 1) / 2^highest: no overflow
    others = _both(mask) & ~torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
    ranks = 1 + (others * torch.sigmoid(scores.unsqueeze(1) - scores.unsqueeze(2))).sum(2)
    first, second = gains.unsqueeze(2), gains.unsqueeze(1)
    best_ranks = 1 + (others & ((second > first) | ((second == first) & _stands_before(labels)))).sum(2)
    gained, best = ((gains / torch.log2(1 + rank)).sum(1) for rank in (ranks, best_ranks))
    return _mean_of_lists(-gained / best.masked_fill(best == 0, 1.0), mask)


def poisson_loss(scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Negative log likelihood of a list's counts, each Poisson with rate exp(score): the regression that was rejected.

    Counts may be means: the factorial is the gamma function's.
    """
    scores, labels, mask = _prepared(scores, labels, mask)
    labels = labels.masked_fill(~mask, 0.0)
    losses = scores.masked_fill(~mask, 0.0).exp() - labels * scores + torch.lgamma(labels + 1)
    return _mean_of_lists(losses.masked_fill(~mask, 0.0).sum(1), mask)


RANKING_LOSSES: dict[str, RankingLoss] = {
    "softmax": softmax_loss,
    "pairwise_logistic": pairwise_logistic_loss,
    "listmle": listmle_loss,
    "approx_ndcg": approx_ndcg_loss,
    "poisson": poisson_loss,
}


def dense_ranks(labels: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """How many different labels of a region's list are lower than its own: (lists, regions) -> (lists, regions).

    Equal labels share a rank, the lowest is 0, masked regions count for nobody and have 0.
    """
    if mask is None:
        mask = torch.ones_like(labels, dtype=torch.bool)
    is_repeated = (labels.unsqueeze(2) == labels.unsqueeze(1)) & _stands_before(labels) & mask.unsqueeze(1)
    is_first = mask & ~is_repeated.any(2)  # of its value
    lower = (labels.unsqueeze(1) < labels.unsqueeze(2)) & is_first.unsqueeze(1)
    return lower.sum(2) * mask


def _prepared(
    scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    dtype = torch.float64 if scores.dtype == torch.float64 else torch.float32
    if mask is None:
        mask = torch.ones_like(scores, dtype=torch.bool)
    return scores.to(dtype), labels.to(dtype), mask


def _both(mask: torch.Tensor) -> torch.Tensor:
    return mask.unsqueeze(2) & mask.unsqueeze(1)


def _stands_before(values: torch.Tensor) -> torch.Tensor:
    """(R, R): True at [i, j] where j comes before i in the list."""
    return torch.ones(values.shape[1], values.shape[1], dtype=torch.bool, device=values.device).tril(-1)


def _mean_of_lists(losses: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    is_list = mask.any(1)
    return losses.masked_fill(~is_list, 0.0).sum() / is_list.sum().clamp(min=1)
