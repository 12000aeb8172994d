"""One training of `samplers.py`: the same loop, model, masks and schedule for every order of the cells.

AdamW with linear warm-up over a twentieth of the steps and linear decay, gradients cut to norm 1, as `Trainer` does. A
step's loss is the mean over all masked tokens of its batches.
"""

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import samplers_orders as orders
import torch
import torch.nn.functional as F
from samplers_cells import GENES_KEPT
from transformers import get_constant_schedule_with_warmup, get_linear_schedule_with_warmup, set_seed

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.training.collators import IGNORED_LABEL, MaskedGeneCollator
from omics_transformers.training.masked_gene_data import MaskedGeneDataset
from omics_transformers.training.packed_cells import PackedGeneCollator
from omics_transformers.training.pretraining_arguments import DataArguments
from omics_transformers.training.pretraining_data import PretrainingData, prepare_pretraining_data

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
DROPOUT = {"hidden_dropout_prob": 0.02, "attention_probs_dropout_prob": 0.0}
LEARNING_RATE, WEIGHT_DECAY, WARM_UP, LARGEST_NORM = 2e-3, 0.001, 0.05, 1.0
LONGEST, TEST_SHARE, MASKED = 2048, 0.1, 0.15
EVALUATED_TOGETHER = 32


class Arm(NamedTuple):
    """An order of the cells, and how it is trained with.

    Attributes:
        order: gives an epoch's steps.
        packed: batches are laid end to end in one row, without padding.
        constant: the learning rate stays at its peak.
    """

    order: orders.Order
    packed: bool = False
    constant: bool = False


ARMS = {
    "random": Arm(orders.at_random),
    "group_by_length": Arm(orders.group_by_length),
    "batch_rebalance": Arm(orders.batch_rebalance),
    "sorted": Arm(orders.sorted_descending),
    "ours": Arm(orders.ours),
    "ours, lengths differ within a step": Arm(orders.ours_by_batch),
    "ours, packed": Arm(orders.of_a_budget, packed=True),
    "sorted, steps shuffled": Arm(orders.all_sorted_shuffled),
    "sorted, constant rate": Arm(orders.sorted_descending, constant=True),
    "random, constant rate": Arm(orders.at_random, constant=True),
}


class Plan(NamedTuple):
    """How long every arm is trained, and on how many held-out cells it is tested, on the way and in the end.

    Attributes:
        epochs: passes over the cells.
        most_steps: stop here; None for all of the epochs.
        looks: how often it is tested on the way.
        cells_a_look: on how many cells then.
        most_test_cells: and in the end; None for all that are held out.
    """

    epochs: int = 3
    most_steps: int | None = None
    looks: int = 24
    cells_a_look: int = 64
    most_test_cells: int | None = None


def train(cells: Path, name: str, seed: int, plan: Plan) -> dict[str, Any]:
    """Train one arm in this process, on one thread; what it did and how well it predicts in the end."""
    torch.set_num_threads(1)
    arm = ARMS[name]
    data = prepare_pretraining_data(
        DataArguments(cells=str(cells), restrict_genes=str(cells / GENES_KEPT), test_fraction=TEST_SHARE),
        reads_dna=False,
        max_length=LONGEST,
        seed=seed,
    )
    assert data.held_out is not None
    set_seed(seed)
    model = make_model(data)
    lengths = data.training.lengths
    schedule = [(epoch, step) for epoch in range(plan.epochs) for step in arm.order(lengths, seed, epoch)]
    schedule = schedule[: plan.most_steps]
    run = _Run(model, data, arm, seed, len(schedule))
    looks = np.unique(np.linspace(0, len(schedule) - 1, min(plan.looks, len(schedule))).astype(int))
    looked_at = np.linspace(0, len(data.held_out) - 1, min(plan.cells_a_look, len(data.held_out))).astype(int)
    seconds, trace, on_the_way = 0.0, [], []
    for number, (epoch, step) in enumerate(schedule):
        start = time.perf_counter()
        trace.append(run.step(epoch, step) | {"length": float(np.mean([lengths[b].mean() for b in step]))})
        seconds += time.perf_counter() - start
        if number in looks:
            losses, masked = run.losses(data.held_out, looked_at)
            on_the_way.append({"step": number + 1, "perplexity": perplexity(losses, masked)})
    real, padded = orders.padding_of(lengths, [step for _, step in schedule], packed=arm.packed)
    some_trained_on = MaskedGeneDataset(data.training.cells, data.training.numbers, fixed_masks=True)
    tested = np.arange(len(data.held_out))[: plan.most_test_cells]
    as_many = np.random.default_rng(seed).permutation(len(some_trained_on))[: len(tested)]
    return {
        "steps": len(schedule),
        "real_tokens": real,
        "padding_share": 1 - real / padded,
        "tokens_per_second": real / seconds,
        "train_perplexity": perplexity(*run.losses(some_trained_on, as_many)),
        **_tested(run, data.held_out, tested),
        "on_the_way": on_the_way,
        "trace": {key: [round(one[key], 4) for one in trace] for key in trace[0]},
        "lengths": np.quantile(lengths, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]).tolist(),
    }


def make_model(data: PretrainingData) -> BioDTAForMaskedLM:
    """A small adapter-free model with random weights."""
    sizes: dict[str, Any] = {**SIZES, **DROPOUT}
    config = BioDTAConfig(
        vocab_size=len(data.vocabulary),
        gene_ids=data.vocabulary.tokens,
        num_special_tokens=data.vocabulary.num_special_tokens,
        max_position_embeddings=LONGEST,
        adapter_type="none",
        **sizes,
    )
    return BioDTAForMaskedLM(config)


def perplexity(losses: npt.NDArray[np.float64], masked: npt.NDArray[np.int64]) -> float:
    """Summed losses and masked tokens a cell -> perplexity a masked token."""
    return math.exp(min(losses.sum() / masked.sum(), 700))


def _tested(run: "_Run", held_out: MaskedGeneDataset, chosen: npt.NDArray[np.int64]) -> dict[str, Any]:
    losses, masked = run.losses(held_out, chosen)
    fifths = np.array_split(np.argsort(held_out.lengths[chosen], kind="stable"), 5)
    return {
        "test_perplexity": perplexity(losses, masked),
        "test_perplexity_by_fifth_of_length": [perplexity(losses[fifth], masked[fifth]) for fifth in fifths],
    }


class _Run:
    """A model in training."""

    def __init__(self, model: BioDTAForMaskedLM, data: PretrainingData, arm: Arm, seed: int, steps: int) -> None:
        self.model, self.training = model, data.training
        self.padded = MaskedGeneCollator(len(data.vocabulary), mlm_probability=MASKED, seed=seed)
        packed = PackedGeneCollator(len(data.vocabulary), mlm_probability=MASKED, seed=seed)
        self.collator = packed if arm.packed else self.padded
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        warm_up = math.ceil(WARM_UP * steps)
        self.schedule = (
            get_constant_schedule_with_warmup(self.optimizer, warm_up)
            if arm.constant
            else get_linear_schedule_with_warmup(self.optimizer, warm_up, steps)
        )

    def step(self, epoch: int, batches: list[list[int]]) -> dict[str, float]:
        self.model.train()
        self.training.set_epoch(epoch)
        made = [self.collator(self.training.__getitems__(batch)) for batch in batches]
        masked = sum(int((batch["labels"] != IGNORED_LABEL).sum()) for batch in made)
        loss = 0.0
        for batch in made:
            part = self.model(**batch, num_items_in_batch=masked).loss
            part.backward()
            loss += float(part.detach())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_NORM)
        rate = self.schedule.get_last_lr()[0]
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return {"loss": loss, "gradient_norm": float(norm), "rate": rate * 1000}

    @torch.no_grad()
    def losses(
        self, dataset: MaskedGeneDataset, chosen: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Summed loss and masked tokens of each chosen cell; the same masks at every call."""
        self.model.eval()
        losses, masked = np.zeros(len(chosen)), np.zeros(len(chosen), dtype=np.int64)
        by_length = np.argsort(dataset.lengths[chosen], kind="stable")
        for places in np.array_split(by_length, -(-len(chosen) // EVALUATED_TOGETHER)):
            batch = self.padded(dataset.__getitems__(chosen[places]))
            outputs = self.model(**batch)
            targets = batch["labels"].reshape(-1)[outputs.logits_indices]
            found = F.cross_entropy(outputs.logits.float(), targets, reduction="none").double()
            cells = outputs.logits_indices // batch["labels"].shape[1]
            losses[places] = torch.zeros(len(places), dtype=torch.float64).index_add_(0, cells, found).numpy()
            masked[places] = (batch["labels"] != IGNORED_LABEL).sum(dim=1).numpy()
        return losses, masked
