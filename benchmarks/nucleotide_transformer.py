"""Tokenising DNA, and forward and training step of the 50M encoder, beside transformers' own ESM classes, in one run.

    python benchmarks/nucleotide_transformer.py

Tokenising: bases per second of `tokenizer(list)`, of the same padded into tensors, of `encode_batch_bases` and of the
Rust backend, beside EsmTokenizer with the same vocab.txt. That one splits a sequence at all tokens of its vocabulary,
so it is fed upper-case sequences without spaces, and made with eos_token=None, for else it puts <eos> last; the ids are
then the same, which is asserted. No parallelism, so rates are those of one core.

Encoder: the sizes of the published 50M model of the second version, random weights, beside transformers' EsmForMaskedLM
with as many parameters: rotary positions, SDPA, GELU with intermediate size 3,072, whose matrices have exactly the
numbers of SwiGLU's with 2,048 (it has 0.1 % more parameters, all biases). Batches of equal length, and of mixed lengths
drawn log-uniformly from 64 to 1,024 tokens, 8 sequences a batch, padded to the longest. A training step is forward,
backward and AdamW with 15 % of the tokens masked. float32 on the CPU; with a CUDA device also there, autocast to bf16.

Rounds alternate between the two. Written: median and range of the rounds, and of the ratio of the rounds' pairs.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
import transformers
from transformers import EsmConfig, EsmForMaskedLM, EsmTokenizer

from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerForMaskedLM
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer

TARGETS = {"tokenising over EsmTokenizer": 20.0, "equal lengths": 1.0, "mixed lengths": 1.3}
SHORTEST, LONGEST, SEQUENCES = 64, 1024, 8
MASKED = 0.15
MASK_ID, PAD_ID, CLS_ID, FIRST_KMER, BEHIND_KMERS = 2, 1, 3, 6, 4102

Batch = dict[str, torch.Tensor]


def main() -> None:
    """Measure all and write the results."""
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    results: dict[str, Any] = {}
    if "tokenising" in options.parts:
        results["tokenising"] = benchmark_tokenising(options)
    if "encoder" in options.parts:
        devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
        chosen = [device for device in devices if options.device in (None, device)]
        results["encoder"] = {device: benchmark_encoder(device, options) for device in chosen}
    write_results(results, options)


def benchmark_tokenising(options: argparse.Namespace) -> dict[str, Any]:
    """Bases per second of each way, and the ratio to EsmTokenizer in the same round."""
    sequences = random_sequences(options.sequence_bp, options.megabases * 10**6 // options.sequence_bp, options.seed)
    few = sequences[: max(1, 300_000 // options.sequence_bp)]  # EsmTokenizer takes seconds for these
    ours = NucleotideKmerTokenizer(model_max_length=10**9)
    with tempfile.TemporaryDirectory() as folder:
        ours.save_vocabulary(folder)
        esm = EsmTokenizer(str(Path(folder) / "vocab.txt"), eos_token=None, model_max_length=10**9)
    assert ours(few)["input_ids"] == esm(few)["input_ids"]
    ways: dict[str, tuple[Callable[[list[str]], Any], list[str]]] = {
        "EsmTokenizer": (esm, few),
        "tokenizer(list)": (ours, sequences),
        "tokenizer(list, padding=True, return_tensors='pt')": (
            lambda batch: ours(batch, padding=True, return_tensors="pt"),
            sequences,
        ),
        "encode_batch_bases": (ours.encode_batch_bases, sequences),
        "Rust backend alone": (ours.backend_tokenizer.encode_batch, sequences),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, (tokenize, given) in ways.items():
            rates[name].append(sum(map(len, given)) / seconds(partial(tokenize, given)))
    summary: dict[str, Any] = {"sequence_bp": options.sequence_bp, "sequences": len(sequences)}
    for name, found in rates.items():
        pairs = zip(found, rates["EsmTokenizer"], strict=True)
        summary[name] = {
            "megabases_per_second": spread([rate / 1e6 for rate in found]),
            "times_EsmTokenizer": spread([rate / slow for rate, slow in pairs]),
        }
        print(name, summary[name], flush=True)
    return summary


def random_sequences(length: int, number: int, seed: int) -> list[str]:
    """Sequences of A, C, G, T and a little N, which interrupts 6-mers."""
    letters = np.frombuffer(b"ACGTN", dtype=np.uint8)
    random = np.random.default_rng(seed)
    drawn = letters[random.choice(5, (number, length), p=[0.2499] * 4 + [0.0004])]
    return [row.tobytes().decode() for row in drawn]


def benchmark_encoder(device: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of forward and training step of both models, at equal and at mixed lengths."""
    models = {"ours": our_model(options), "theirs": their_model(options)}
    parameters = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    summary: dict[str, Any] = {"parameters": parameters, "precision": "float32" if device == "cpu" else "bf16 autocast"}
    scale = 1 if device == "cpu" else 16
    batches = {
        "equal lengths": equal_batches(options.equal_batches * scale, options),
        "mixed lengths": mixed_batches(options.mixed_batches * scale, options),
    }
    for model in models.values():
        model.to(device)
    for name, given in batches.items():
        on_device = [{key: tensor.to(device) for key, tensor in batch.items()} for batch in given]
        summary[name] = describe(given)
        for work in ("forward", "training step"):
            summary[name][work] = compare(models, on_device, work, device, options.rounds)
            print(device, name, work, summary[name][work], flush=True)
    return summary


def compare(
    models: dict[str, torch.nn.Module], batches: list[Batch], work: str, device: str, rounds: int
) -> dict[str, Any]:
    """Rounds of both models in turn, the first of each round alternating; one unmeasured batch before."""
    do = forward if work == "forward" else training_step
    optimizers = {name: torch.optim.AdamW(model.parameters(), lr=1e-4) for name, model in models.items()}
    for name, model in models.items():
        do(model, batches[:1], optimizers[name], device)
    found: dict[str, list[float]] = {name: [] for name in models}
    for number in range(rounds):
        for name in sorted(models, reverse=bool(number % 2)):
            model, optimizer = models[name], optimizers[name]
            found[name].append(seconds(partial(do, model, batches, optimizer, device)))
    ratios = [theirs / ours for theirs, ours in zip(found["theirs"], found["ours"], strict=True)]
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    return {
        "seconds": {name: spread(values) for name, values in found.items()},
        "tokens_per_second": {name: round(tokens / statistics.median(values)) for name, values in found.items()},
        "times_as_fast": spread(ratios),
    }


def forward(model: torch.nn.Module, batches: list[Batch], optimizer: torch.optim.Optimizer, device: str) -> None:  # noqa: ARG001
    """The encoder's hidden states."""
    encoder = model.encoder if hasattr(model, "encoder") else model.esm
    encoder.eval()
    with torch.inference_mode(), autocast(device):
        for batch in batches:
            encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    synchronize(device)


def training_step(model: torch.nn.Module, batches: list[Batch], optimizer: torch.optim.Optimizer, device: str) -> None:
    """Forward with the head and the loss, backward, AdamW."""
    model.train()
    for batch in batches:
        with autocast(device):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    synchronize(device)


def our_model(options: argparse.Namespace) -> NucleotideTransformerForMaskedLM:
    """The published sizes, which are the defaults."""
    torch.manual_seed(options.seed)
    config = NucleotideTransformerConfig(attn_implementation="sdpa")
    return NucleotideTransformerForMaskedLM(config)


def their_model(options: argparse.Namespace) -> EsmForMaskedLM:
    """As many parameters in transformers' class; no contact head, which only predicts contacts of proteins."""
    torch.manual_seed(options.seed)
    config = EsmConfig(
        vocab_size=4107,
        hidden_size=512,
        num_hidden_layers=12,
        num_attention_heads=16,
        intermediate_size=3072,
        position_embedding_type="rotary",
        max_position_embeddings=2050,
        tie_word_embeddings=False,
        token_dropout=False,
        emb_layer_norm_before=False,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=PAD_ID,
        mask_token_id=MASK_ID,
        attn_implementation="sdpa",
    )
    model = EsmForMaskedLM(config)
    model.esm.contact_head = None
    return model


def equal_batches(number: int, options: argparse.Namespace) -> list[Batch]:
    """Batches of 8 sequences of 256 tokens."""
    random = np.random.default_rng(options.seed)
    return [make_batch(np.full(SEQUENCES, 256), random) for _ in range(number)]


def mixed_batches(number: int, options: argparse.Namespace) -> list[Batch]:
    """Batches whose lengths are log-uniform between 64 and 1,024 tokens."""
    random = np.random.default_rng(options.seed)
    lengths = np.exp(random.uniform(np.log(SHORTEST), np.log(LONGEST), (number, SEQUENCES))).astype(int)
    return [make_batch(row, random) for row in lengths]


def make_batch(lengths: np.ndarray, random: np.random.Generator) -> Batch:
    """Random 6-mers behind <cls>, padded to the longest; labels at the masked 15 %."""
    shape = (len(lengths), int(lengths.max()))
    is_token = np.arange(shape[1]) < lengths[:, None]
    input_ids = random.integers(FIRST_KMER, BEHIND_KMERS, shape)
    input_ids[:, 0] = CLS_ID
    is_masked = (random.random(shape) < MASKED) & is_token
    is_masked[:, 0] = False
    labels = np.where(is_masked, input_ids, -100)
    input_ids = np.where(is_masked, MASK_ID, np.where(is_token, input_ids, PAD_ID))
    columns = {"input_ids": input_ids, "attention_mask": is_token.astype(np.int64), "labels": labels}
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def describe(batches: list[Batch]) -> dict[str, Any]:
    """How many tokens, and which share of the padded batches they are."""
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    places = sum(batch["input_ids"].numel() for batch in batches)
    lengths = torch.cat([batch["attention_mask"].sum(1) for batch in batches])
    return {
        "batches": len(batches),
        "shortest_and_longest": [int(lengths.min()), int(lengths.max())],
        "sequences_a_batch": SEQUENCES,
        "tokens": tokens,
        "share_of_tokens_in_padded_batches": round(tokens / places, 3),
    }


def autocast(device: str) -> torch.autocast:
    """bf16 on CUDA, nothing on the CPU."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda")


def synchronize(device: str) -> None:
    """Wait for what was sent to the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock time of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def write_results(results: dict[str, Any], options: argparse.Namespace) -> None:
    """The JSON file, with the machine, how busy it was, and which targets were reached."""
    content = {
        "benchmark": "nucleotide_transformer",
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__},
        "load_average_at_end": [round(load, 2) for load in os.getloadavg()],
        "rounds": options.rounds,
        "seed": options.seed,
        "targets": TARGETS,
        "reached": reached(results),
        "results": results,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content["reached"], indent=1))


def reached(results: dict[str, Any]) -> dict[str, bool]:
    """By the medians."""
    verdicts = {}
    if "tokenising" in results:
        times = results["tokenising"]["tokenizer(list)"]["times_EsmTokenizer"]["median"]
        verdicts["tokenising over EsmTokenizer"] = times >= TARGETS["tokenising over EsmTokenizer"]
    for device, summary in results.get("encoder", {}).items():
        for name in ("equal lengths", "mixed lengths"):
            for work in ("forward", "training step"):
                times = summary[name][work]["times_as_fast"]["median"]
                verdicts[f"{name}, {work}, {device}"] = times >= TARGETS[name]
    return verdicts


def parse() -> argparse.Namespace:
    """Options; the defaults are those of the committed results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=["tokenising", "encoder"], default=["tokenising", "encoder"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of torch; its own choice by default")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="only this one; all there are by default")
    parser.add_argument("--sequence-bp", type=int, default=6_000)
    parser.add_argument("--megabases", type=int, default=20, help="tokenised in each round, but by EsmTokenizer")
    parser.add_argument("--equal-batches", type=int, default=2, help="a round on the CPU")
    parser.add_argument("--mixed-batches", type=int, default=2, help="a round on the CPU")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "nucleotide_transformer.json"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
