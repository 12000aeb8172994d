"""Speed of a perturbation, where its time goes, and what recomputing only what an edit reaches saves.

    python benchmarks/perturbation.py

Perturbations: Bio-DTA with random weights, at the paper's size (6 layers, hidden 256, cells of 2,048 genes of 25,424)
and at a small one (2 layers, hidden 64, 100 genes a cell). A gene that every cell has is deleted, or gets other DNA
features; ranked cells, one table of genes, its statistics and nothing else. Per second counts each cell once, though it
goes through the model as reference and as edited. The share of the model is that of its own calls in the pipeline's
passes over the cells, and in its whole call (with reading, tables and statistics).

Mutagenesis: a middle-size Enformer with random weights, 49,152 bp. The same edits through `gene_features`, all of each
window, and through `incremental`, which computes the convolutions only where edits reach and the transformer in full;
its preparation, the reference's pass through the convolutions, is timed apart. Of the 600 edits that saturate 200 bp,
and of candidates with 20 mutations, --edits are timed. Features of both are compared.

float32 on the CPU, and on a CUDA device too, where there is one. Rounds alternate between what is compared; each has
its own cells or edits. Writes benchmarks/results/perturbation.json: medians and ranges of the rounds.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.configuration_enformer import EnformerConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.modeling.modeling_enformer import EnformerForGeneFeatures
from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer
from omics_transformers.pipelines.gene_embedding_perturbation import GeneEmbeddingPerturbationPipeline
from omics_transformers.pipelines.perturbation_edits import ReplaceFeatures

RESULTS = Path(__file__).parent / "results" / "perturbation.json"
TARGETS = {"share of the model, CPU": 0.95, "share of the model, GPU": 0.90}
MUTATED_BP = 500
SATURATED_BP = 200
BASES = "ACGT"


class Size(NamedTuple):
    """Of a model and its cells."""

    model: dict[str, Any]
    n_genes: int
    genes_a_cell: int
    cells: dict[str, int]  # of a round, by device
    batch_size: dict[str, int]


SIZES = {
    "paper": Size(
        {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 512},
        *(25_424, 2_048, {"cpu": 4, "cuda": 512}, {"cpu": 4, "cuda": 32}),
    ),
    "small": Size(
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
        *(2_000, 100, {"cpu": 500, "cuda": 20_000}, {"cpu": 64, "cuda": 512}),
    ),
}
QUICK_SIZES = {
    "small": SIZES["small"]._replace(n_genes=150, genes_a_cell=20, cells={"cpu": 24, "cuda": 24}),
}
ENFORMER: dict[str, Any] = {"dim": 192, "depth": 2, "heads": 4, "attn_dim_key": 24, "dim_divisible_by": 24}
QUICK_ENFORMER: dict[str, Any] = {"dim": 48, "depth": 1, "heads": 4, "attn_dim_key": 8, "dim_divisible_by": 6}
DNA_FEATURE_SIZE = 3_072
LAYERS = {"final_pointwise": "", "conv_tower": ", convolutions alone"}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=["cpu", "cuda"], help="only this one")
    parser.add_argument("--window-bp", type=int, default=49_152, help="of the Enformer")
    parser.add_argument("--edits", type=int, default=8, help="of saturation and candidates to time, a round")
    parser.add_argument("--quick", action="store_true", help="so small that times mean nothing: whether all runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    measured = {device: measure(device, options) for device in devices if options.device in (None, device)}
    content = {
        "settings": {name: getattr(options, name) for name in ("rounds", "threads", "seed", "edits", "quick")},
        "targets": TARGETS,
        "machine": {"platform": platform.platform(), "cores": os.cpu_count(), "torch": torch.__version__},
        "results": measured,
    }
    if "cuda" in measured:
        content["machine"]["gpu"] = torch.cuda.get_device_name()
    options.results.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))


def measure(device: str, options: argparse.Namespace) -> dict[str, Any]:
    sizes = QUICK_SIZES if options.quick else SIZES
    return {
        "perturbation": {name: perturbation(size, device, options) for name, size in sizes.items()},
        "mutagenesis": mutagenesis(device, options),
    }


def perturbation(size: Size, device: str, options: argparse.Namespace) -> dict[str, Any]:
    """Rounds of both edits in turn, after one of each that is not counted."""
    pipe = make_pipeline(size, device, options.seed)
    token = pipe.tokenizer.convert_ids_to_tokens(2)
    edits = {"delete": "delete", "DNA features": ReplaceFeatures(np.ones(DNA_FEATURE_SIZE, dtype=np.float32))}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in edits}
    for number in range(-1, options.rounds):
        cells = make_cells(size, size.cells[device], seed=options.seed + number + 1)
        for name, edit in edits.items():
            started = time.perf_counter()
            result = pipe(cells, gene=token, edit=edit, batch_size=size.batch_size[device], noise_cells=0, bootstraps=0)
            seconds = time.perf_counter() - started
            if number >= 0:
                rounds[name].append(shares(result.summary["seconds"], seconds, result.summary["n_cells_with_gene"]))
                print(f"{device}, {size.genes_a_cell} genes a cell, {name}: {rounds[name][-1]}", flush=True)
    return {
        "model": size.model,
        "genes a cell": size.genes_a_cell,
        "cells": size.cells[device],
        "batch_size": size.batch_size[device],
        **{name: {key: spread([one[key] for one in found]) for key in found[0]} for name, found in rounds.items()},
    }


def shares(parts: dict[str, float], seconds: float, n_cells: int) -> dict[str, float]:
    """Cells a second of a whole call, and the model's share of the passes and of the call.

    Args:
        parts: seconds of reading, model, other and statistics, of which the passes over the cells are model and other.
        seconds: of the call.
        n_cells: that were perturbed.
    """
    return {
        "cells a second": n_cells / seconds,
        "share of the model in the passes": parts["model"] / (parts["model"] + parts["other"]),
        "share of the model in the call": parts["model"] / seconds,
    }


def make_pipeline(size: Size, device: str, seed: int) -> GeneEmbeddingPerturbationPipeline:
    gene_ids = [f"ENSG{number:011d}" for number in range(size.n_genes)]
    tokens = ["<pad>", "<mask>", *gene_ids]
    torch.manual_seed(seed)
    config = BioDTAConfig(vocab_size=len(tokens), gene_ids=tokens, dna_feature_size=DNA_FEATURE_SIZE, **size.model)
    model = BioDTAForMaskedLM(config)
    model.set_gene_features(torch.randn(len(tokens), DNA_FEATURE_SIZE))
    tokenizer = GeneRankTokenizer.from_dictionaries(
        {token: number for number, token in enumerate(tokens)}, dict.fromkeys(gene_ids, 1.0)
    )
    return GeneEmbeddingPerturbationPipeline(model=model, tokenizer=tokenizer, device=torch.device(device))


def make_cells(size: Size, count: int, *, seed: int) -> Any:
    """Tokenised cells of distinct genes in random order, in each the first gene of the vocabulary."""
    import datasets

    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        others = 1 + random.choice(size.n_genes - 1, size.genes_a_cell - 1, replace=False)
        rows.append((2 + random.permutation(np.r_[0, others])).tolist())
    return datasets.Dataset.from_dict({"input_ids": rows, "length": [len(row) for row in rows]})


def mutagenesis(device: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each set of edits, whole and incremental in turn, their ratio, and how far their features differ."""
    sizes = QUICK_ENFORMER if options.quick else ENFORMER
    model = make_enformer(sizes, options.seed).to(device)
    window_bp = 3_072 if options.quick else options.window_bp
    found: dict[str, Any] = {"window_bp": window_bp, "model": sizes}
    for name, make_edits in EDITS.items():
        rounds = []
        for number in range(-1, options.rounds):
            random = np.random.default_rng([options.seed, number + 1])
            reference = "".join(random.choice(list(BASES), window_bp))
            edits = make_edits(reference, random)[: 2 if options.quick or number < 0 else options.edits]
            compared = compare(model, reference, edits, device)
            if number >= 0:
                rounds.append(compared)
                print(f"{device}, {name}: {compared}", flush=True)
        found[name] = {"edits timed": len(edits)} | {key: spread([one[key] for one in rounds]) for key in rounds[0]}
    return found


@torch.no_grad()
def compare(model: EnformerForGeneFeatures, reference: str, edits: Sequence[str], device: str) -> dict[str, float]:
    """One round; windows of a batch share a call in both ways."""
    batch = 4 if device == "cpu" else 32
    batches = [edits[start : start + batch] for start in range(0, len(edits), batch)]
    preparation, incremental = timed(partial(model.incremental, reference), device)
    row: dict[str, float] = {"preparation, seconds": preparation}
    for name, label in LAYERS.items():
        whole, expected = timed(partial(features_of, model, batches, name), device)
        seconds, found = timed(partial(features_of, incremental, batches, name), device)
        row |= {
            f"whole, seconds an edit{label}": whole / len(edits),
            f"incremental, seconds an edit{label}": seconds / len(edits),
            f"times as fast{label}": whole / seconds,
        }
        difference = float((found - expected).abs().max() / expected.std())
        row[f"greatest difference, standard deviations of features{label}"] = difference
    return row


def features_of(way: Any, batches: Sequence[Sequence[str]], layer: str) -> torch.Tensor:
    return torch.cat([way.gene_features(sequences, layer=layer) for sequences in batches])


def timed(call: Callable[[], Any], device: str) -> tuple[float, Any]:
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


def make_enformer(sizes: dict[str, Any], seed: int) -> EnformerForGeneFeatures:
    torch.manual_seed(seed)
    model = EnformerForGeneFeatures(EnformerConfig(**sizes, output_heads={"human": 1}, target_length=-1))
    for layer in model.transformer:
        layer[0].fn[1].to_out.reset_parameters()  # zero at first, which would leave out attention
    return model.eval()


def one_variant(reference: str, random: np.random.Generator) -> list[str]:
    """One edit: a single base in the middle."""
    return [changed(reference, [len(reference) // 2], random)]


def random_mutations(reference: str, random: np.random.Generator) -> list[str]:
    """100 candidates of mutagenesis: 20 bases of the middle 500 each."""
    first = len(reference) // 2 - MUTATED_BP // 2
    choices = [first + random.choice(MUTATED_BP, 20, replace=False) for _ in range(100)]
    return [changed(reference, places.tolist(), random) for places in choices]


def saturation(reference: str, random: np.random.Generator) -> list[str]:
    """Each base of the middle to each of the three others, in random order."""
    first = len(reference) // 2 - SATURATED_BP // 2
    edits = [
        reference[:place] + base + reference[place + 1 :]
        for place in range(first, first + SATURATED_BP)
        for base in BASES
        if base != reference[place]
    ]
    return [edits[number] for number in random.permutation(len(edits))]


EDITS: dict[str, Callable[[str, np.random.Generator], list[str]]] = {
    "1 SNV": one_variant,
    "20 mutations in 500 bp": random_mutations,
    "saturation of 200 bp": saturation,
}


def changed(sequence: str, places: Sequence[int], random: np.random.Generator) -> str:
    letters = list(sequence)
    for place in places:
        letters[place] = str(random.choice([base for base in BASES if base != sequence[place]]))
    return "".join(letters)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range, four digits."""
    median, low, high = statistics.median(values), min(values), max(values)
    return {name: float(f"{value:.4g}") for name, value in (("median", median), ("min", low), ("max", high))}


if __name__ == "__main__":
    main()
