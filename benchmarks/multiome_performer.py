"""Forward and training step of the multiome Performer at 10,733 genes, beside performer-pytorch's own Performer.

    python benchmarks/multiome_performer.py

scBERT's sizes, which performer-pytorch can make too (hidden 200, 6 layers, 10 heads of 64, 266 random features,
feed-forward 800), one modality, random weights and cells of which a sixth of the values are not zero. Theirs is
performer_pytorch.Performer between the same embeddings, final norm and bin head; both have the same number of
parameters, which is asserted. A training step is forward, loss over the masked 15 % of the non-zero values, backward
and AdamW. Every measurement is a process of its own, so that its peak memory is its own, and rounds alternate between
the contenders. float32 on the CPU; with a CUDA device also there, autocast to bf16, batches of 16.

`sdpa` is exact attention with the same weights; on a CPU one step at this length takes minutes, so it runs once, and
forward only unless --sdpa-training-step is given. Last, the thesis' own size (hidden 128, both modalities, batch 8)
takes one training step with gradient checkpointing, to see that it fits in 8 GiB.

Writes benchmarks/results/multiome_performer.json: median and range of the rounds, ratios of the rounds' pairs, peaks.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.modeling_multiome_performer import MultiomePerformerForPreTraining

TARGETS = {"performer-pytorch over ours, seconds on a CPU": 1.0, "on a GPU": 1.5, "thesis size, GiB": 8.0}
SIZES: dict[str, Any] = {
    "hidden_size": 200,
    "num_hidden_layers": 6,
    "num_attention_heads": 10,
    "head_dim": 64,
    "attention_bias": False,
    "num_random_features": 266,
    "intermediate_size": 800,
}
CONTENDERS = ("ours", "ours, checkpointing", "performer-pytorch")


def main() -> None:
    """Measure every contender in turn, or, as a process of its own, one."""
    options = parse()
    if options.measure:
        print(json.dumps(measure(options.measure, options.work, options)))
        return
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    results: dict[str, Any] = {}
    for device in [name for name in devices if options.device in (None, name)]:
        results[device] = {work: compare(work, device, options) for work in ("forward", "training step")}
        if device == "cuda" or not options.no_sdpa:
            works = ["forward"] + ["training step"] * (device == "cuda" or options.sdpa_training_step)
            results[device]["sdpa"] = {work: measured("ours, sdpa", work, device, options) for work in works}
    results["thesis size, one training step of 8 paired cells"] = measured("thesis", "training step", "cpu", options)
    write_results(results, options)


def compare(work: str, device: str, options: argparse.Namespace) -> dict[str, Any]:
    """Rounds of all contenders in turn."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for number in range(options.rounds):
        for name in CONTENDERS:
            rounds[name].append(measured(name, work, device, options))
            print(f"{device}, {work}, round {number + 1}, {name}: {rounds[name][-1]}", flush=True)
    summary: dict[str, Any] = {}
    for name, found in rounds.items():
        pairs = zip(rounds["performer-pytorch"], found, strict=True)
        summary[name] = {
            "seconds": spread([one["seconds"] for one in found]),
            "peak_mib": spread([one["peak_mib"] for one in found]),
            "performer-pytorch over it, seconds": spread([theirs["seconds"] / own["seconds"] for theirs, own in pairs]),
        }
    return summary


def measured(name: str, work: str, device: str, options: argparse.Namespace) -> dict[str, float]:
    """What one process of its own finds."""
    command = [sys.executable, __file__, "--measure", name, "--work", work, "--device", device]
    command += ["--genes", str(options.genes), "--batch", str(options.batch), "--seed", str(options.seed)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, work: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of one forward or training step after one of warm-up, and peak memory; on CUDA the mean of ten."""
    torch.manual_seed(options.seed)
    device = torch.device(options.device or "cpu")
    is_cuda, is_thesis = device.type == "cuda", name == "thesis"
    model = make_model(name, options.genes).to(device)
    cells = 8 if is_thesis else 16 if is_cuda else options.batch
    batch = {key: tensor.to(device) for key, tensor in make_batch(cells, options.genes, both=is_thesis).items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=1e-4)
    before = peak_mib(device)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=is_cuda):
            if work == "forward":
                with torch.no_grad():
                    model(**batch)
                return
            loss = model(**batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    model.train(work != "forward")
    if not is_thesis:
        step()
    times = 10 if is_cuda else 1
    synchronize(device)
    start = time.perf_counter()
    for _ in range(times):
        step()
    synchronize(device)
    seconds = (time.perf_counter() - start) / times
    return {"seconds": round(seconds, 3), "peak_mib": round(peak_mib(device)), "before_mib": round(before)}


def make_model(name: str, n_genes: int) -> nn.Module:
    """A contender, randomly initialised."""
    if name == "performer-pytorch":
        model = PerformerPytorch(n_genes)
        count = sum(parameter.numel() for parameter in model.parameters())
        ours = sum(parameter.numel() for parameter in make_model("ours", n_genes).parameters())
        assert count == ours, f"{count:,} parameters, and ours has {ours:,}"
        return model
    if name == "thesis":
        config = MultiomePerformerConfig(num_genes=n_genes)
    else:
        attention = "sdpa" if name == "ours, sdpa" else "performer"
        config = MultiomePerformerConfig(num_genes=n_genes, modalities=["rna"], attention_type=attention, **SIZES)
    ours_model = MultiomePerformerForPreTraining(config)
    if name in ("thesis", "ours, checkpointing"):
        ours_model.gradient_checkpointing_enable()
    return ours_model


class PerformerPytorch(nn.Module):
    """performer_pytorch.Performer with the embeddings, the norm and the head that ours has."""

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        from performer_pytorch import Performer

        hidden = SIZES["hidden_size"]
        self.gene_embeddings = nn.Embedding(n_genes, hidden)
        self.value_embeddings = nn.Embedding(7, hidden)
        self.performer = Performer(
            dim=hidden,
            depth=SIZES["num_hidden_layers"],
            heads=SIZES["num_attention_heads"],
            dim_head=SIZES["head_dim"],
            nb_features=SIZES["num_random_features"],
            ff_mult=SIZES["intermediate_size"] // hidden,
            qkv_bias=SIZES["attention_bias"],
        )
        self.norm = nn.LayerNorm(hidden)
        self.head = make_model("ours", 2).rna_head  # type: ignore[assignment]

    def forward(self, rna_values: torch.Tensor, rna_labels: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden_states = self.gene_embeddings.weight + self.value_embeddings(rna_values)
        hidden_states = self.norm(self.performer(hidden_states))
        is_masked = rna_labels != -100
        logits = self.head(hidden_states[is_masked])
        return {"loss": F.cross_entropy(logits.float(), rna_labels[is_masked])}


def make_batch(cells: int, n_genes: int, *, both: bool) -> dict[str, torch.Tensor]:
    """Values and labels: a sixth of the genes is not zero, of these 15 % are masked."""
    batch = {}
    for modality in ("rna", "atac") if both else ("rna",):
        values = torch.randint(1, 6, (cells, n_genes)) * (torch.rand(cells, n_genes) < 1 / 6)
        is_masked = (torch.rand(cells, n_genes) < 0.15) & (values > 0)
        batch[f"{modality}_labels"] = values.masked_fill(~is_masked, -100)
        batch[f"{modality}_values"] = values.masked_fill(is_masked, 6)
    return batch


def peak_mib(device: torch.device) -> float:
    """Peak memory of the process, or of the GPU's allocator."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def write_results(results: dict[str, Any], options: argparse.Namespace) -> None:
    content = {
        "settings": {"genes": options.genes, "batch": options.batch, "rounds": options.rounds, "seed": options.seed},
        "sizes": SIZES,
        "targets": TARGETS,
        "machine": {"platform": platform.platform(), "cores": os.cpu_count(), "torch": torch.__version__},
        "results": results,
    }
    if torch.cuda.is_available():
        content["machine"]["gpu"] = torch.cuda.get_device_name()
    options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genes", type=int, default=10_733)
    parser.add_argument("--batch", type=int, default=2, help="cells a batch on the CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=["cpu", "cuda"], help="only this one")
    parser.add_argument("--no-sdpa", action="store_true", help="leave exact attention out on the CPU")
    parser.add_argument("--sdpa-training-step", action="store_true", help="also on the CPU")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "multiome_performer.json")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--work", default="forward", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
