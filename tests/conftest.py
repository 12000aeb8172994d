"""Fixtures that several test files share: the folder of real data, the device, and a toy corpus."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings

from omics_transformers.data_scripts.gene_features import GeneFeatures, write_gene_features
from omics_transformers.data_scripts.multiome_shards import multiome_schema
from omics_transformers.data_scripts.region_rows import REGION_SCHEMA

# A busy machine is no failure: examples have no deadline. `derandomize`: the same examples in every run.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

# Before anything imports datasets, and for processes that tests start: leave the user's cache alone.
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="omics_transformers_tests_")

# Files that take longest, the longest first; any other takes a few seconds.
LONGEST = [
    *("test_docs.py", "test_demo.py", "test_registration.py", "test_run_region_ranking.py", "test_cli_perturbation.py"),
    *("test_run_multiome_pretraining.py", "test_run_mlm.py", "test_run_mlm_processes.py", "test_multiome.py"),
    *("test_run_segmentation.py", "test_cli.py", "test_run_cell_type_classification.py", "test_hub_models.py"),
    *("test_run_mlm_resume.py", "test_run_multiome_studies.py", "test_segmentation.py", "test_perturbation_figures.py"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that with a file a worker none ends long after the others."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data: OMICS_TRANSFORMERS_DATA, or ../shared/data beside the repository; skips without it."""
    folder = Path(os.environ.get("OMICS_TRANSFORMERS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set OMICS_TRANSFORMERS_DATA to the folder that holds it")
    return folder


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Each test that takes it runs on the CPU, and with `-m gpu` on a CUDA device too."""
    return request.param


@pytest.fixture
def in_two_processes(tmp_path: Path) -> Callable[[Callable[[], Any]], None]:
    """Calls a function in two processes that torch.distributed joins, as torchrun's are.

    They are forked from this one, since importing torch and transformers anew takes longer than a small training. What
    one of them raises is raised here.
    """
    from torch.multiprocessing import start_processes

    def run(function: Callable[[], Any]) -> None:
        start_processes(_join_and_call, (tmp_path / "store", function), nprocs=2, start_method="fork")

    return run


def _join_and_call(rank: int, store: Path, function: Callable[[], Any]) -> None:
    import torch
    from accelerate.state import AcceleratorState

    torch.set_num_threads(1)  # threads do not live on in a fork
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    joined = torch.distributed.FileStore(str(store), 2)
    torch.distributed.init_process_group("gloo", store=joined, rank=rank, world_size=2)
    function()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.fixture
def accelerate_launch(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[str, str]]:
    """`accelerate launch` of a script on one process, from a folder that is not the repository; its output and log."""
    from accelerate.commands.launch import launch_command, launch_command_parser

    def launch(script: Path, *arguments: str) -> tuple[str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        options = ["--num_processes=1", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--cpu"]
        capfd.readouterr()
        launch_command(launch_command_parser().parse_args([*options, str(script), *arguments]))
        return capfd.readouterr()

    return launch


@pytest.fixture(scope="session")
def toy_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `build cells` writes it, and gene_features.safetensors: 240 cells of four types and four donors.

    Gene g of 40 belongs to type g % 4, and a cell expresses 4 to 9 genes of its own type, the lower the earlier: known
    the type, a masked gene is one of ten. Each donor has its own promoter at every even gene.
    """
    folder = tmp_path_factory.mktemp("toy_corpus") / "cells"
    (folder / "data").mkdir(parents=True)
    random = np.random.default_rng(0)
    types = np.arange(240) % 4
    genes = [np.sort(random.permutation(10)[: random.integers(4, 10)]) * 4 + kind for kind in types]
    table = pa.table(
        {
            "input_ids": pa.array([cell + 2 for cell in genes], pa.list_(pa.uint16())),
            "length": pa.array(map(len, genes), pa.int32()),
            "donor": [f"donor{number // 4 % 4}" for number in range(240)],
        }
    )
    pq.write_table(table, folder / "data" / "train-00000-of-00001.parquet", row_group_size=100)
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: data/*.parquet\n---\n")
    gene_ids = [f"ENSG{number:011d}" for number in range(40)]
    tokens = {token: number for number, token in enumerate(["<pad>", "<mask>", *gene_ids])}
    (folder / "token_dictionary.json").write_text(json.dumps(tokens))
    (folder / "gene_medians.json").write_text(json.dumps(dict.fromkeys(gene_ids, 2.0)))
    features = random.normal(size=(40, 6)).astype(np.float32)
    donor_genes = np.tile(np.arange(0, 40, 2, dtype=np.int32), 4)
    index = np.full((4, 40), -1, dtype=np.int32)
    index[:, ::2] = np.arange(80).reshape(4, 20)
    write_gene_features(
        folder / "gene_features.safetensors",
        GeneFeatures(
            gene_ids,
            features,
            {"assembly": "toy", "layer": "transformer", "window_bp": "1000"},
            [f"donor{number}" for number in range(4)],
            features[donor_genes] + 0.1 * random.normal(size=(80, 6)),
            donor_genes,
            index,
        ),
    )
    return folder


@pytest.fixture(scope="session")
def toy_promoters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DNA of the genes of `toy_corpus`: genome.fa, tss.tsv, enformer/ and gene_features.safetensors, windows of 256 bp.

    The promoters of genes of one type carry its motif of 12 bp eight times, so that DNA tells the types apart. Every
    third gene is on the minus strand; the first window begins beyond the contig.
    """
    from omics_transformers.training.embedding import embed_promoters
    from omics_transformers.training.small_enformer import make_small_enformer

    folder = tmp_path_factory.mktemp("toy_promoters")
    random = np.random.default_rng(3)
    bases = random.choice(list("ACGT"), 40 * 300)
    motifs = random.choice(list("ACGT"), (4, 12))
    rows = []
    for gene in range(40):
        tss = 100 + 300 * gene
        for place in range(tss - 96, tss + 96, 24):
            bases[place : place + 12] = motifs[gene % 4]
        rows.append(f"ENSG{gene:011d}\tchr1\t{'-' if gene % 3 == 2 else '+'}\t{tss}")
    (folder / "genome.fa").write_text(f">chr1\n{''.join(bases)}\n")
    (folder / "tss.tsv").write_text("gene_id\tcontig\tstrand\ttss\n" + "\n".join(rows) + "\n")
    make_small_enformer(folder / "enformer", seed=0, dim=24, depth=1, calibrated=True)
    embed_promoters(
        folder / "genome.fa",
        folder / "tss.tsv",
        folder / "gene_features.safetensors",
        model=folder / "enformer",
        window_bp=256,
        orient_by_strand=True,
        progress=False,
    )
    return folder


@pytest.fixture(scope="session")
def toy_segments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `build segments` writes it: windows of 240 bp, 160 to train, 24 to validate and 48 to test.

    Of each window one stretch of 40 to 90 bp is an `island`, made of C and G only; its first two bases are an
    `island_start`; `absent` is nowhere. Every eighth window has 5 N, and every fifth has 30 bases that are ignored.
    """
    folder = tmp_path_factory.mktemp("toy_segments") / "segments"
    (folder / "data").mkdir(parents=True)
    elements, random = ["island", "island_start", "absent"], np.random.default_rng(0)
    described: dict = {"elements": elements, "sources": {}, "counts": {}, "bases": {}}
    for split, contig, number in (("train", "chrA", 160), ("validation", "chrB", 24), ("test", "chrC", 48)):
        letters = random.choice(np.frombuffer(b"ACGT", dtype=np.uint8), (number, 240))
        labels, ignored = np.zeros((number, 3, 240), dtype=np.uint8), np.zeros((number, 240), dtype=np.uint8)
        for row in range(number):
            start, length = random.integers(0, 150), random.integers(40, 91)
            letters[row, start : start + length] = random.choice(np.frombuffer(b"CG", dtype=np.uint8), length)
            labels[row, 0, start : start + length] = labels[row, 1, start : start + 2] = 1
        letters[::8, 100:105] = ord("N")
        ignored[::5, 200:230] = 1
        table = pa.table(
            {
                "contig": [contig] * number,
                "start": pa.array(np.arange(number) * 240),
                "end": pa.array(np.arange(1, number + 1) * 240),
                "sequence": [row.tobytes().decode() for row in letters],
                "labels": pa.array([np.packbits(row, axis=-1).tobytes() for row in labels], pa.binary()),
                "ignored": pa.array([np.packbits(row).tobytes() if row.any() else b"" for row in ignored], pa.binary()),
            }
        )
        pq.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet", row_group_size=50)
        is_scored = (letters != ord("N")) & (ignored == 0)
        counts = (labels * is_scored[:, None]).sum(axis=(0, 2)).tolist()
        described["counts"][split] = dict(zip(elements, counts, strict=True))
        described["bases"][split] = int(is_scored.sum())
    files = "".join(f"  - split: {name}\n    path: data/{name}-*.parquet\n" for name in described["bases"])
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: toy\n  data_files:\n{files}---\n")
    (folder / "elements.json").write_text(json.dumps(described))
    return folder


@pytest.fixture(scope="session")
def toy_regions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `build regions` writes it: spans of 600 bp, 256 to train, 48 to validate and 64 to test.

    Two regions of a span carry the motif GATTACAGATTA, once or three times; the third, which has none, is the zero
    region, and stands at any of the three places. Counts are 0.2 a copy in `alpha` cells and 0.1 in `beta`. Every
    sixteenth span has an N in its first region. The sequence between motifs is random.
    """
    folder = tmp_path_factory.mktemp("toy_regions") / "regions"
    (folder / "data").mkdir(parents=True)
    random, motif = np.random.default_rng(0), np.frombuffer(b"GATTACAGATTA", dtype=np.uint8)
    sizes = {"train": ("chrA", 256), "validation": ("chrB", 48), "test": ("chrC", 64)}
    for split, (contig, number) in sizes.items():
        rows: dict[str, list] = {name: [] for name in REGION_SCHEMA.names}
        for row in range(number):
            lengths = random.integers(90, 131, 3)
            starts = 600 * row + np.array([0, 200, 400]) + random.integers(0, 60, 3)
            copies = random.permutation([0, 1, 3])
            sequences = [random.choice(np.frombuffer(b"ACGT", dtype=np.uint8), length) for length in lengths]
            for sequence, times in zip(sequences, copies, strict=True):
                for at in random.choice(len(sequence) // 12, times, replace=False) * 12:
                    sequence[at : at + 12] = motif
            if row % 16 == 0:
                sequences[0][-1] = ord("N")
            cell_type = ("alpha", "beta")[row % 2]
            values = {
                "contig": contig,
                "span_start": 600 * row,
                "span_end": 600 * (row + 1),
                "tiling": 0,
                "sample": "toy",
                "cell_type": cell_type,
                "starts": starts.tolist(),
                "ends": (starts + lengths).tolist(),
                "counts": (copies * (0.2 if cell_type == "alpha" else 0.1)).tolist(),
                "peaks": [f"{contig}:{start}-{start + length}" for start, length in zip(starts, lengths, strict=True)],
                "sequences": [sequence.tobytes().decode() for sequence in sequences],
                "padding_share": random.random(3).tolist(),
            }
            for name, value in values.items():
                rows[name].append(value)
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        pq.write_table(pa.table(rows, schema=REGION_SCHEMA), path, row_group_size=50)
    files = "".join(f"  - split: {name}\n    path: data/{name}-*.parquet\n" for name in sizes)
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: toy\n  data_files:\n{files}---\n")
    described = {"span_bp": 600, "shift_factor": 1, "samples": ["toy"], "cell_types": ["alpha", "beta"]}
    (folder / "regions.json").write_text(json.dumps(described))
    return folder


@pytest.fixture(scope="session")
def toy_multiome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `build multiome` writes it: 40 genes; 120 cells of RNA, 80 of ATAC, 120 of both.

    Gene g belongs to type g % 4. A cell expresses about three quarters of its own type's genes, with 4 to 12 counts,
    and a tenth of the others', with 1 or 2; its ATAC is open at the same genes, with half as many fragments. Bins begin
    at counts of 1, 2, 4, 8 and 10, whatever the edges in the description say. Four donors; the last RNA-only cell has
    no label.
    """
    folder = tmp_path_factory.mktemp("toy_multiome") / "multiome"
    (folder / "data").mkdir(parents=True)
    random, n_genes = np.random.default_rng(0), 40
    datasets = [("rna-only", "rna", 120), ("atac-only", "atac", 80), ("paired", "both", 120)]
    rows: dict[str, list] = {name: [] for name in multiome_schema(n_genes, keep_counts=True).names}
    for name, modality, number in datasets:
        for cell in range(number):
            kind = cell % 4
            own = np.arange(n_genes) % 4 == kind
            is_on = random.random(n_genes) < np.where(own, 0.75, 0.1)
            counts = np.where(own, random.integers(4, 13, n_genes), random.integers(1, 3, n_genes)) * is_on
            counts[kind] = max(counts[kind], 4)  # no cell without a value
            row: dict = {"dataset": name, "cell": f"{name}-{cell}", "donor": f"donor{cell // 4 % 4}", "batch": name}
            row["cell_type"] = None if name == "rna-only" and cell == number - 1 else f"type{kind}"
            for part, values in (("rna", counts), ("atac", np.ceil(counts / 2).astype(int))):
                is_present = modality in (part, "both")
                genes = np.flatnonzero(values)
                row[f"{part}_values"] = np.digitize(values, [1, 2, 4, 8, 10]).tolist() if is_present else None
                row[f"{part}_total"] = float(values.sum()) if is_present else None
                row[f"{part}_genes"] = genes.tolist() if is_present else None
                row[f"{part}_counts"] = values[genes].astype(float).tolist() if is_present else None
            for key, value in row.items():
                rows[key].append(value)
    table = pa.table(rows, schema=multiome_schema(n_genes, keep_counts=True))
    pq.write_table(table, folder / "data" / "train-00000-of-00001.parquet", row_group_size=100)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: toy_multiome\n  data_files:\n  - split: train\n"
        "    path: data/train-*.parquet\n---\n"
    )
    bins = {"strategy": "quartile", "num_bins": 5, "target_total": 10_000.0, "scales": None}
    bins |= {"edges": [4.0, 5.0, 6.0, 7.0], "centres": [0.0, 3.5, 4.5, 5.5, 6.5, 7.5]}
    gene_ids = [f"ENSG{number:011d}" for number in range(n_genes)]
    symbols = [f"GENE{number}" for number in range(n_genes)]
    starts = [100_000 * number + 10_000 for number in range(n_genes)]
    loci = {"contig": ["chr1"] * n_genes, "start": starts, "end": [start + 2000 for start in starts]}
    loci["strand"] = ["+", "-"] * (n_genes // 2)
    extractor = {"gene_ids": gene_ids, "gene_symbols": symbols, "gene_loci": loci, "rna_bins": bins, "atac_bins": bins}
    described = {
        "gene_ids": gene_ids,
        "gene_symbols": symbols,
        "feature_extractor": extractor,
        "datasets": [{"name": name, "modality": kind, "cells": number} for name, kind, number in datasets],
        "cell_types": [f"type{kind}" for kind in range(4)],
        "assembly": None,
    }
    (folder / "multiome.json").write_text(json.dumps(described))
    return folder
