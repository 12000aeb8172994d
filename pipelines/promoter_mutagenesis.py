"""Random mutations around a TSS, of which the DNA model's own prediction chooses.

Source: "Multi-modal single-cell foundation models via dynamic token adaptation", section "In silico mutagenesis":
random mutations around the TSS that lower Enformer's predicted expression. The paper does not say how many it tried;
here the number of candidates, their mutations and the seed are the user's, and the table keeps the other candidates.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from .perturbation_dna import mutate_at_random
from .promoter_mutagenesis_edit import PromoterEdit, bases_around, checked_reference
from .promoter_mutagenesis_expression import PromoterReader, Tracks

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

Direction = Literal["lower", "raise"]
# Draws for each candidate that is asked for, before fewer are given: a small window has few distinct ones.
MOST_DRAWS = 20


def random_candidates(
    reference: str | bytes,
    *,
    count: int | None = None,
    rate: float | None = None,
    window_bp: int = 500,
    n_candidates: int = 100,
    seed: int = 0,
) -> list[PromoterEdit]:
    """Distinct windows with random mutations around the TSS; N is left alone.

    Args:
        reference: the window, ACGTN, the TSS at its middle base.
        count: how many bases change, each to one of the three others. Either this or `rate`.
        rate: the chance of each base to change; a candidate in which none would change gets one.
        window_bp: mutations lie in the `window_bp` around the TSS.
        n_candidates: how many windows. Fewer, with a warning, where there are not so many distinct ones.
        seed: the same seed gives the same candidates; more of them begin with the same.

    Raises:
        ValueError: on neither or both of count and rate, a rate outside (0, 1], more mutations than known bases, or a
            `window_bp` beyond the reference.
    """
    text = checked_reference(reference)
    if (count is None) == (rate is None):
        raise ValueError(f"count is {count} and rate {rate}: give one of them")
    if rate is not None and not 0 < rate <= 1:
        raise ValueError(f"rate is {rate}: expected a chance a base, above 0 and at most 1")
    if n_candidates < 1:
        raise ValueError(f"n_candidates is {n_candidates}: expected at least 1")
    start, end = bases_around(text, window_bp)
    known = (end - start) - text.count("N", start, end)
    found: dict[str, PromoterEdit] = {}
    for draw in range(n_candidates * MOST_DRAWS):
        first, second = np.random.SeedSequence([seed, draw]).generate_state(2).tolist()
        number = count if rate is None else max(int(np.random.default_rng(second).binomial(known, rate)), 1)
        assert number is not None
        sequence = mutate_at_random(text, count=number, window_bp=window_bp, seed=first)
        how = {"how": "random mutations", "n_mutations": number, "rate": rate, "window_bp": window_bp, "seed": seed}
        found.setdefault(sequence, PromoterEdit(sequence, text, {**how, "candidate": len(found)}))
        if len(found) == n_candidates:
            break
    if len(found) < n_candidates:
        logger.warning("%d of %d random candidates are distinct: the others repeat them", len(found), n_candidates)
    return list(found.values())


class ExpressionChoice(NamedTuple):
    """The candidate that changes predicted expression most.

    Attributes:
        edit: the chosen one; its description holds the prediction.
        predicted_change: log2((edited + 1) / (reference + 1)), the mean over the tracks.
        moves_as_asked: whether that is below 0 where it should lower, above where it should raise.
        table: one row a candidate in the given order: candidate, n_mutations, mutations ("98304A>G", 0-based in the
            window, joined by commas), reference_expression and expression (mean over the tracks), predicted_change,
            rank (1 moves most as asked), is_chosen.
        noise_floor: changes up to this may be rounding.
        recomputed_share: of the DNA model's convolutions.
    """

    edit: PromoterEdit
    predicted_change: float
    moves_as_asked: bool
    table: "pd.DataFrame"
    noise_floor: float
    recomputed_share: float


def choose_by_expression(
    candidates: Sequence[PromoterEdit],
    dna_model: Any,
    *,
    tracks: Sequence[int],
    direction: Direction = "lower",
    head: str = "human",
    centre_bins: int = 3,
    batch_size: int = 8,
    progress: bool = False,
) -> ExpressionChoice:
    """Predict expression for each candidate, and take the one that lowers, or raises, it most.

    Args:
        candidates: edits of one reference window.
        dna_model: EnformerForGeneFeatures, or another with its `predicted_expression`.
        tracks, head, centre_bins: what to predict, as `EnformerForGeneFeatures.predicted_expression`.
        direction: "lower" (the paper) or "raise".
        batch_size: windows that go through the model together.
        progress: show a progress bar.

    Raises:
        ValueError: on no candidates, candidates of several references, another direction, or tracks and windows that
            the model refuses.
    """
    import pandas as pd

    if direction not in ("lower", "raise"):
        raise ValueError(f'direction is {direction!r}; expected "lower" or "raise"')
    references = {candidate.reference_sequence for candidate in candidates}
    if len(references) != 1:
        raise ValueError(
            f"{len(candidates):,} candidates of {len(references):,} reference windows: expected one window"
        )
    reader = PromoterReader(
        dna_model, references.pop(), Tracks(tracks, head, centre_bins), batch_size=batch_size, progress=progress
    )
    expression = reader.expression([candidate.sequence for candidate in candidates])
    change = reader.change(expression)
    towards = change if direction == "lower" else -change
    order = np.argsort(towards, kind="stable")
    best = int(order[0])
    mutations = [candidate.mutations for candidate in candidates]
    table = pd.DataFrame(
        {
            "candidate": np.arange(len(candidates)),
            "n_mutations": [len(one) for one in mutations],
            "mutations": [",".join(one) for one in mutations],
            "reference_expression": reader.reference_expression.mean(),
            "expression": expression.mean(axis=1),
            "predicted_change": change,
            "rank": np.argsort(order, kind="stable") + 1,
            "is_chosen": np.arange(len(candidates)) == best,
        }
    )
    moves_as_asked = bool(towards[best] < 0)
    if not moves_as_asked:
        logger.warning("none of %d candidates would %s predicted expression", len(candidates), direction)
    if abs(change[best]) <= reader.noise_floor:
        logger.warning(
            "the chosen change of %.2g in predicted expression is within the DNA model's rounding, %.2g: the choice "
            "is as good as random",
            change[best],
            reader.noise_floor,
        )
    edit = candidates[best].described(
        chosen_of=len(candidates),
        direction=direction,
        head=head,
        tracks=list(tracks),
        centre_bins=centre_bins,
        predicted_change=float(change[best]),
        moves_as_asked=moves_as_asked,
        noise_floor=reader.noise_floor,
    )
    return ExpressionChoice(
        edit, float(change[best]), moves_as_asked, table, reader.noise_floor, reader.recomputed_share
    )
