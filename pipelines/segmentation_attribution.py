"""Which tokens a SegmentNT's answer rests on: input gradients and integrated gradients, by captum.

Source: Sundararajan et al. 2017 (integrated gradients, https://arxiv.org/abs/1703.01365). A token stands for up to six
bases and its attribution is one number, so bases of one token cannot be told apart here: `segmentation_mutagenesis.py`
can. Needs captum: pip install "omics-transformers[interpret]".
"""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from .segmentation_target import EncodedSequence, SegmentationTarget, TargetFunction, encode_sequence, evaluating

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

# Not zero: the model norms its embeddings first, and so answers alike all along the line from there but at its start.
Baseline = Literal["mask", "n"]
METHODS = ("gradient_norm", "gradient_times_input", "integrated_gradients")
# Beyond this share of the difference, the steps are too few or the precision too low.
LARGEST_COMPLETENESS_ERROR = 0.05


@dataclass(frozen=True)
class SequenceAttribution:
    """Attributions of one sequence's tokens to a target.

    Attributes:
        encoded: the sequence and its tokens.
        target: what is explained.
        baseline: what the sequence is compared with.
        gradient_norm: (tokens,) float64, length of the target's gradient by the token's embedding: how much the answer
            hangs on the token, without a direction.
        gradient_times_input: (tokens,) float64, that gradient times (embedding - baseline): first-order share in the
            difference of the targets.
        integrated_gradients: (tokens,) float64, the same with the gradient averaged along the line from the baseline:
            the shares add up to `target_value` - `baseline_value`.
        target_value, baseline_value: the target at the sequence and at its baseline.
        steps: gradients averaged.
    """

    encoded: EncodedSequence
    target: SegmentationTarget
    baseline: Baseline
    gradient_norm: np.ndarray
    gradient_times_input: np.ndarray
    integrated_gradients: np.ndarray
    target_value: float
    baseline_value: float
    steps: int

    @property
    def completeness_error(self) -> float:
        """|sum of the integrated gradients - difference of the targets| / |difference|; 0 where all is exact."""
        difference = self.target_value - self.baseline_value
        error = abs(float(self.integrated_gradients.sum()) - difference)
        return error / abs(difference) if difference else (0.0 if error == 0 else float("inf"))

    def tokens(self) -> "pd.DataFrame":
        """One row a token but <cls>: start, end (bases of the sequence), token, and a column a method."""
        import pandas as pd

        spans = self.encoded.spans
        table = pd.DataFrame({"start": spans[:, 0], "end": spans[:, 1], "token": self.encoded.letters()})
        table = table.assign(**{method: getattr(self, method) for method in METHODS})
        return table[table["end"] > table["start"]].reset_index(drop=True)

    def bases(self) -> "pd.DataFrame":
        """One row a base: position, base, token_start, and a column a method.

        Shares of a token (`gradient_times_input`, `integrated_gradients`) are spread evenly over its bases, so that
        sums stay what they were; `gradient_norm` is the token's at each of its bases.
        """
        tokens = self.tokens()
        sizes = (tokens["end"] - tokens["start"]).to_numpy()
        shares = tokens[["gradient_times_input", "integrated_gradients"]].div(sizes, axis=0)
        table = tokens.assign(**shares).loc[tokens.index.repeat(sizes)].reset_index(drop=True)
        table = table.rename(columns={"start": "token_start"}).drop(columns=["end", "token"])
        table.insert(0, "position", np.arange(len(table)))
        table.insert(1, "base", list(self.encoded.sequence))
        return table


def attribute_sequence(
    model: Any,
    tokenizer: Any,
    sequence: str | bytes,
    *,
    target: SegmentationTarget,
    baseline: Baseline = "mask",
    steps: int = 50,
    batch_size: int = 4,
) -> SequenceAttribution:
    """Input gradients and integrated gradients of a target by the tokens of one sequence.

    Args:
        model: SegmentNTForTokenClassification.
        tokenizer: its own.
        sequence: ACGTN.
        target: element, bases and quantity to explain.
        baseline: in place of each token's embedding: "mask", that of <mask>; "n", that of the letter N. <cls> stays.
        steps: gradients along the line (Gauss-Legendre). See `completeness_error` for whether they were enough.
        batch_size: steps that go through the model together.

    Raises:
        ImportError: without captum.
        ValueError: on a target outside the sequence or an unknown element or baseline.
    """
    attribution = _captum_attribution()
    if baseline not in get_args(Baseline):
        raise ValueError(f"baseline is {baseline!r}; expected one of {', '.join(get_args(Baseline))}")
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps is {steps} and batch_size {batch_size}: expected at least 1 each")
    encoded = encode_sequence(model, tokenizer, sequence)
    target.check(encoded.sequence)
    function = TargetFunction(model, target)
    embeddings, reference = _embeddings(model, encoded, baseline)
    with evaluating(model):
        gradient = attribution.Saliency(function).attribute(
            embeddings.clone().requires_grad_(), abs=False, additional_forward_args=encoded.input_ids
        )
        integrated = attribution.IntegratedGradients(function).attribute(
            embeddings,
            reference,
            additional_forward_args=encoded.input_ids,
            n_steps=steps,
            internal_batch_size=batch_size,
        )
        with torch.no_grad():
            ends = [float(function(point, encoded.input_ids)) for point in (embeddings, reference)]
    result = SequenceAttribution(
        encoded,
        target,
        baseline,
        gradient_norm=_numpy(gradient.norm(dim=-1)),
        gradient_times_input=_numpy((gradient * (embeddings - reference)).sum(-1)),
        integrated_gradients=_numpy(integrated.sum(-1)),
        target_value=ends[0],
        baseline_value=ends[1],
        steps=steps,
    )
    _warn_where_incomplete(result)
    return result


def _embeddings(model: Any, encoded: EncodedSequence, baseline: Baseline) -> tuple[torch.Tensor, torch.Tensor]:
    """Word embeddings of the sequence and of its baseline, (1, tokens, hidden) each."""
    words = model.get_input_embeddings()
    with torch.no_grad():
        embeddings = words(encoded.input_ids)
        token = model.config.mask_token_id if baseline == "mask" else model.config.n_token_id
        reference = words(torch.full_like(encoded.input_ids, token))
        stays = torch.as_tensor(encoded.spans[:, 0] == encoded.spans[:, 1], device=embeddings.device)
        return embeddings, torch.where(stays[None, :, None], embeddings, reference)


def _warn_where_incomplete(result: SequenceAttribution) -> None:
    if result.completeness_error > LARGEST_COMPLETENESS_ERROR:
        logger.warning(
            "integrated gradients add up to %.4g, and the target differs from its baseline by %.4g: take more than %d "
            "steps, or a model in float32",
            result.integrated_gradients.sum(),
            result.target_value - result.baseline_value,
            result.steps,
        )


def _captum_attribution() -> Any:
    try:
        from captum import attr
    except ImportError as error:
        raise ImportError('attributions need captum: pip install "omics-transformers[interpret]"') from error
    return attr


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    """(1, tokens) -> (tokens,) float64."""
    return tensor[0].detach().double().cpu().numpy()
