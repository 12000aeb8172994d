"""Focal loss of two classes a base and element.

Source: Lin et al. 2017 (https://arxiv.org/abs/1708.02002); SegmentNT trains with gamma 2.
"""

import torch
import torch.nn.functional as F


def focal_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    gamma: float = 2.0,
    *,
    class_weights: torch.Tensor | None = None,
    num_items: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """-(1 - p)^gamma log p, p the probability of the true class, averaged over the scored labels.

    Args:
        logits: (..., elements, 2) of absence and presence.
        labels: (..., elements) integers: 1 present, 0 absent, -100 not scored.
        gamma: the larger, the less do bases count that are already right; 0 is the cross-entropy.
        class_weights: (elements,) factor at labels of 1.
        num_items: what the sum is divided by; the number of scored labels where None.

    Returns:
        Scalar float32; 0 where nothing is scored.
    """
    is_scored = labels != -100
    margin = (logits[..., 1] - logits[..., 0]).float()
    signed = torch.where(labels == 1, margin, -margin)  # log-odds of the true class
    losses = -F.logsigmoid(signed)
    if gamma:
        losses = losses * torch.sigmoid(-signed) ** gamma
    if class_weights is not None:
        losses = torch.where(labels == 1, losses * class_weights.to(losses), losses)
    total = torch.where(is_scored, losses, 0.0).sum()
    return total / (is_scored.sum().clamp(min=1) if num_items is None else num_items)
