"""The orders of the cells that `samplers.py` compares, each as optimizer steps of four batches.

Those of transformers are made by the very classes that `Trainer` takes for `train_sampling_strategy`. A step is
`BATCHES_A_STEP` batches of `CELLS_A_BATCH` cells, whose gradients are summed: what as many processes with one batch
each would do. `batch_rebalance` divides a step's cells among the batches by their cost, so it needs several.
"""

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from transformers.trainer_pt_utils import BatchRebalanceSampler, LengthGroupedSampler

from omics_transformers.training.samplers import ShuffledLengthGroupedSampler
from omics_transformers.training.token_budget_sampler import TokenBudgetBatchSampler

CELLS_A_BATCH, BATCHES_A_STEP = 4, 4
CELLS_A_STEP = CELLS_A_BATCH * BATCHES_A_STEP
STEPS_A_MEGABATCH = 50  # ours and transformers'

Steps = list[list[list[int]]]  # the steps' batches' cells
Order = Callable[[npt.NDArray[np.int64], int, int], Steps]  # of lengths, seed and epoch


def at_random(lengths: npt.NDArray[np.int64], seed: int, epoch: int) -> Steps:
    """`train_sampling_strategy="random"`."""
    return _in_steps(np.random.default_rng((seed, epoch)).permutation(len(lengths)))


def group_by_length(lengths: npt.NDArray[np.int64], seed: int, epoch: int) -> Steps:
    """`train_sampling_strategy="group_by_length"`: megabatches in descending order, one after the other."""
    generator = torch.Generator().manual_seed(seed * 1000 + epoch)
    return _in_steps(np.array(list(LengthGroupedSampler(CELLS_A_STEP, lengths=lengths.tolist(), generator=generator))))


def batch_rebalance(lengths: npt.NDArray[np.int64], seed: int, epoch: int) -> Steps:
    """`train_sampling_strategy="batch_rebalance"`, which leaves out an epoch's last cells where they fill no step."""
    sampler = BatchRebalanceSampler(lengths.tolist(), CELLS_A_STEP, 1, BATCHES_A_STEP, seed=seed * 1000)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    return [batches[start : start + BATCHES_A_STEP] for start in range(0, len(batches), BATCHES_A_STEP)]


def sorted_descending(lengths: npt.NDArray[np.int64], seed: int, epoch: int) -> Steps:
    """All cells from the longest to the shortest, every epoch; equal lengths are shuffled."""
    order = np.random.default_rng((seed, epoch)).permutation(len(lengths))
    return _in_steps(order[np.argsort(-lengths[order], kind="stable")])


def grouped(
    lengths: npt.NDArray[np.int64], seed: int, epoch: int, *, megabatch_size: int, together: int = CELLS_A_STEP
) -> Steps:
    """Ours: megabatches are sorted and cut into groups of `together` cells, which are shuffled."""
    sampler = ShuffledLengthGroupedSampler(
        lengths, CELLS_A_BATCH, length_group=together, megabatch_size=megabatch_size, seed=seed
    )
    sampler.set_epoch(epoch)
    return _in_steps(np.array(list(sampler)))


def of_a_budget(lengths: npt.NDArray[np.int64], seed: int, epoch: int) -> Steps:
    """Ours without padding: random batches of nearly as many tokens each, about as many steps as the others."""
    batches = -(-len(lengths) // CELLS_A_STEP) * BATCHES_A_STEP
    longest, total = int(lengths.max()), int(lengths.sum())
    budget = max(2 * longest, longest - -total // batches)
    sampler = TokenBudgetBatchSampler(lengths, budget, accumulation=BATCHES_A_STEP, seed=seed)
    sampler.set_epoch(epoch)
    drawn = list(sampler)
    return [drawn[start : start + BATCHES_A_STEP] for start in range(0, len(drawn), BATCHES_A_STEP)]


def padding_of(lengths: npt.NDArray[np.int64], steps: Steps, *, packed: bool = False) -> tuple[int, int]:
    """Real tokens of the steps, and tokens with padding."""
    batches = [lengths[batch] for step in steps for batch in step]
    real = sum(int(batch.sum()) for batch in batches)
    return real, real if packed else sum(len(batch) * int(batch.max()) for batch in batches)


def _in_steps(order: npt.NDArray[np.int64]) -> Steps:
    steps = [order[start : start + CELLS_A_STEP] for start in range(0, len(order), CELLS_A_STEP)]
    return [
        [step[start : start + CELLS_A_BATCH].tolist() for start in range(0, len(step), CELLS_A_BATCH)] for step in steps
    ]


ours = functools.partial(grouped, megabatch_size=STEPS_A_MEGABATCH * CELLS_A_STEP)
ours_by_batch = functools.partial(grouped, megabatch_size=STEPS_A_MEGABATCH * CELLS_A_STEP, together=CELLS_A_BATCH)
all_sorted_shuffled = functools.partial(grouped, megabatch_size=10**12)
