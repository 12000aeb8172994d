"""One training of `pretraining.py`: its speed, memory and where the time goes, or its held-out perplexity.

The baseline is transformers' own: `BertForMaskedLM`, `Trainer` with `train_sampling_strategy="group_by_length"`,
`DataCollatorForLanguageModeling` with a tokenizer that pads, cells in a `datasets.Dataset`. Ours is what `run_mlm.py`
makes of its flags. Both have the same vocabulary, sizes, dropout, optimizer, schedule and cells; the weights of the
adapter-free model are BERT's.

Speed is that of whole batches that `group_by_length` makes of the whole corpus, spread evenly over their lengths; the
baseline takes them as they are, ours the same cells in its own batches. One step is taken before the clock starts, and
where code is compiled, and on a GPU, a whole pass over the cells.
"""

import argparse
import json
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from omics_transformers.training import pretraining_setup, run_mlm
from omics_transformers.training.collators import IGNORED_LABEL, MaskedGeneCollator
from omics_transformers.training.masked_gene_data import MaskedGeneDataset
from omics_transformers.training.pretraining_arguments import Arguments, parse_arguments
from omics_transformers.training.pretraining_data import PretrainingData, prepare_pretraining_data

BASELINE = "BertForMaskedLM"
CELLS_A_BATCH = 12
PAPER = {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 512}
SMALL = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SIZES = {"paper": PAPER, "small": SMALL, "tiny": TINY}
DROPOUT, LONGEST, MASKED, LEARNING_RATE = 0.02, 2048, 0.15, 1e-3
FEATURES = "gene_features.safetensors"  # beside the cells, where an arm reads DNA
EVALUATED_TOGETHER = 16


class Arm(NamedTuple):
    """What is trained.

    Attributes:
        baseline: `BertForMaskedLM` by a plain `Trainer`.
        packed: cells laid end to end in one row.
        adapter: token embeddings from DNA features.
        bf16: autocast.
        compiled: `torch.compile`.
    """

    baseline: bool = False
    packed: bool = False
    adapter: bool = False
    bf16: bool = False
    compiled: bool = False


ARMS = {
    BASELINE: Arm(baseline=True),
    "ours, padded": Arm(),
    "ours, packed": Arm(packed=True),
    f"{BASELINE}, bf16": Arm(baseline=True, bf16=True),
    "ours, padded, bf16": Arm(bf16=True),
    "ours, packed, bf16": Arm(packed=True, bf16=True),
    "ours, padded, compiled": Arm(compiled=True),
    "ours, packed, compiled": Arm(packed=True, compiled=True),
    "ours, packed, bf16, compiled": Arm(packed=True, bf16=True, compiled=True),
    "ours, packed, adapter": Arm(packed=True, adapter=True),
    "ours, packed, adapter, bf16": Arm(packed=True, adapter=True, bf16=True),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one arm, and write what was found to `--result`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", choices=["speed", "perplexity"])
    parser.add_argument("--cells", type=Path, required=True)
    parser.add_argument("--genes", type=Path, required=True, help="the genes to train on, one a line")
    parser.add_argument("--arm", choices=ARMS, required=True)
    parser.add_argument("--sizes", choices=SIZES, default="paper")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--steps", type=int, default=6, help="speed: batches of the baseline")
    parser.add_argument("--epochs", type=float, default=1.0, help="perplexity: passes over the cells")
    parser.add_argument("--most-steps", type=int, default=-1, help="perplexity: stop here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        result = (measure_speed if options.work == "speed" else measure_perplexity)(options, Path(folder))
    options.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure_speed(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Real tokens a second, peak memory, and the shares of model, optimizer and data in the time."""
    arm = ARMS[options.arm]
    on_cuda = options.device == "cuda"
    epochs = 3 if on_cuda else 2 if arm.compiled else 1
    arguments, data = prepare(options, folder, epochs=epochs)
    batches = batches_of_corpus(data.training.lengths, options.steps, options.seed)
    chosen = MaskedGeneDataset(data.training.cells, data.training.numbers[batches.ravel()])
    data.training, data.held_out = chosen, None
    trainer = make_trainer(arm, arguments, data, strategy="sequential")
    clock = Clock(timed=epochs - 1, synchronized=max(epochs - 2, 0) if on_cuda else epochs - 1, on_cuda=on_cuda)
    trainer.add_callback(clock)
    if not on_cuda:
        warm_up(trainer)
    before = peak_mib(on_cuda)
    trainer.train()
    real = int(chosen.lengths.sum())
    return {
        "real_tokens": real,
        "cells": len(chosen),
        "steps": trainer.state.global_step // epochs,
        "vocabulary": len(data.vocabulary),
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "seconds": clock.seconds,
        "tokens_per_second": real / clock.seconds,
        "shares": clock.shares(),
        "peak_mib": peak_mib(on_cuda),
        "before_training_mib": before,
    }


def measure_perplexity(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Perplexity of held-out cells after a training; the same masks for every arm."""
    arm = ARMS[options.arm]
    arguments, data = prepare(options, folder, epochs=options.epochs, most_steps=options.most_steps)
    assert data.held_out is not None
    trainer = make_trainer(arm, arguments, data, strategy="group_by_length")
    trainer.train()
    return {
        "steps": trainer.state.global_step,
        "real_tokens": int(data.training.lengths.sum() * options.epochs) if options.most_steps < 0 else None,
        "held_out_cells": len(data.held_out),
        "vocabulary": len(data.vocabulary),
        "perplexity": held_out_perplexity(trainer, data, options.seed),
    }


def prepare(
    options: argparse.Namespace, folder: Path, *, epochs: float, most_steps: int = -1
) -> tuple[Arguments, PretrainingData]:
    """The flags of `run_mlm.py`, and the cells that they name."""
    arm = ARMS[options.arm]
    flags: dict[str, Any] = {
        **SIZES[options.sizes],
        "cells": options.cells,
        "restrict_genes": options.genes,
        "output_dir": folder,
        "adapter_type": "linear" if arm.adapter else "none",
        "hidden_dropout_prob": DROPOUT,
        "attention_probs_dropout_prob": DROPOUT,
        "max_position_embeddings": LONGEST,
        "mlm_probability": MASKED,
        "per_device_train_batch_size": CELLS_A_BATCH,
        "learning_rate": LEARNING_RATE,
        "num_train_epochs": epochs,
        "max_steps": most_steps,
        "test_fraction": 0.1,
        "bf16": arm.bf16,
        "torch_compile": arm.compiled,
        "use_cpu": options.device == "cpu",
        "seed": options.seed,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 10**6,
    }
    if arm.adapter:
        flags["gene_features"] = options.cells / FEATURES
    flags["packed"] = arm.packed
    arguments = parse_arguments([f"--{name}={value}" for name, value in flags.items()])
    set_seed(options.seed)
    data = prepare_pretraining_data(arguments[1], reads_dna=arm.adapter, max_length=LONGEST, seed=options.seed)
    return arguments, data


def batches_of_corpus(lengths: npt.NDArray[np.int64], steps: int, seed: int) -> npt.NDArray[np.int64]:
    """(steps, cells) of the batches that `group_by_length` makes, spread evenly over their longest cells."""
    generator = torch.Generator().manual_seed(seed)
    order = np.array(list(LengthGroupedSampler(CELLS_A_BATCH, lengths=lengths.tolist(), generator=generator)))
    batches = order[: len(order) // CELLS_A_BATCH * CELLS_A_BATCH].reshape(-1, CELLS_A_BATCH)
    if len(batches) < steps:
        raise ValueError(f"{len(lengths)} cells make {len(batches)} batches of {CELLS_A_BATCH}, and --steps is {steps}")
    by_longest = np.argsort(lengths[batches].max(axis=1), kind="stable")
    places = ((np.arange(steps) + 0.5) * len(batches) / steps).astype(int)
    return batches[np.random.default_rng(seed).permutation(by_longest[places])]


def make_trainer(arm: Arm, arguments: Arguments, data: PretrainingData, *, strategy: str) -> Trainer:
    """Model, collator and trainer of an arm; `strategy` is the baseline's order of the cells."""
    if arm.baseline:
        return make_baseline(arguments, data, strategy)
    data_arguments = arguments[1]
    lengths = data.training.lengths
    if strategy == "sequential":
        data_arguments.megabatch_size = len(lengths)  # the cells are whole batches of like lengths
    if arm.packed:  # as many steps as the padded arms take
        longest, steps = int(lengths.max()), -(-len(lengths) // CELLS_A_BATCH)
        data_arguments.token_budget = max(2 * longest, longest - -int(lengths.sum()) // steps)
    return pretraining_setup.make_trainer(arguments, data, run_mlm.make_model(arguments[0], data), None)


def make_baseline(arguments: Arguments, data: PretrainingData, strategy: str) -> Trainer:
    """What a user of transformers would write."""
    model_arguments, data_arguments, ours, _ = arguments
    tokenizer = data.vocabulary.tokenizer(LONGEST)
    config = BertConfig(
        vocab_size=len(data.vocabulary),
        hidden_size=model_arguments.hidden_size,
        num_hidden_layers=model_arguments.num_hidden_layers,
        num_attention_heads=model_arguments.num_attention_heads,
        intermediate_size=model_arguments.intermediate_size,
        hidden_dropout_prob=model_arguments.hidden_dropout_prob,
        attention_probs_dropout_prob=model_arguments.attention_probs_dropout_prob,
        max_position_embeddings=LONGEST,
        type_vocab_size=1,
    )
    cells = [np.asarray(data.training[number].input_ids) for number in range(len(data.training))]
    same = ("output_dir", "per_device_train_batch_size", "learning_rate", "weight_decay", "warmup_steps", "bf16")
    same += ("num_train_epochs", "max_steps", "seed", "use_cpu", "save_strategy", "report_to", "disable_tqdm")
    settings = {name: getattr(ours, name) for name in (*same, "logging_steps", "torch_compile")}
    return Trainer(
        model=BertForMaskedLM(config),
        args=TrainingArguments(**settings, train_sampling_strategy=strategy),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=data_arguments.mlm_probability),
        train_dataset=datasets.Dataset.from_dict({"input_ids": cells, "length": list(map(len, cells))}),
        processing_class=tokenizer,
    )


def warm_up(trainer: Trainer) -> None:
    """Forward and backward on a batch, whose gradients are thrown away."""
    model = trainer.model
    assert model is not None
    model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    with trainer.compute_loss_context_manager():
        loss = model(**batch).loss
    loss.backward()
    model.zero_grad()


class Clock(TrainerCallback):
    """Seconds of one epoch, and how those of another, or the same, divide among model, optimizer and all else.

    All else is between the steps: reading and collating cells, and what `Trainer` does there.

    Args:
        timed, synchronized: the epochs. Only in the second is the GPU waited for at every mark.
    """

    def __init__(self, *, timed: int, synchronized: int, on_cuda: bool) -> None:
        self.timed, self.synchronized, self.on_cuda = timed, synchronized, on_cuda
        self.seconds = 0.0
        self._spent: dict[str, float] = defaultdict(float)
        self._epoch, self._start, self._last = -1, 0.0, 0.0

    def shares(self) -> dict[str, float]:
        whole = sum(self._spent.values())
        return {name: round(seconds / whole, 4) for name, seconds in self._spent.items()}

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self._epoch += 1
        self._start = self._last = self._now()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._mark("data and the rest")

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._mark("model")

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._mark("optimizer")

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self._mark("data and the rest")
        if self._epoch == self.timed:
            self.seconds = self._now() - self._start

    def _mark(self, name: str) -> None:
        if self._epoch == self.synchronized:
            now = self._now()
            self._spent[name] += now - self._last
            self._last = now

    def _now(self) -> float:
        if self.on_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


@torch.no_grad()
def held_out_perplexity(trainer: Trainer, data: PretrainingData, seed: int) -> float:
    """Perplexity a masked token, the same computation for both classes: encoder, then head at the masked positions."""
    assert data.held_out is not None
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    model.eval()
    collator = MaskedGeneCollator(len(data.vocabulary), mlm_probability=MASKED, seed=seed)
    loss, masked = 0.0, 0
    for places in np.array_split(np.argsort(data.held_out.lengths), -(-len(data.held_out) // EVALUATED_TOGETHER)):
        batch = {name: part.to(model.device) for name, part in collator(data.held_out.__getitems__(places)).items()}
        hidden = model.bert(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        is_masked = batch["labels"] != IGNORED_LABEL
        logits = model.cls(hidden[is_masked]).float()
        loss += float(F.cross_entropy(logits, batch["labels"][is_masked], reduction="sum"))
        masked += int(is_masked.sum())
    return math.exp(min(loss / masked, 700))


def peak_mib(on_cuda: bool) -> int:
    """Peak memory of this process, or of the GPU's allocator."""
    if on_cuda:
        return round(torch.cuda.max_memory_allocated() / 2**20)
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
