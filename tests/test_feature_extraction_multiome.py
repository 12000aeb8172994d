"""Feature extractor: alignment by hand, bins as they were fitted, saved and loaded without the package, bad input."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from omics_transformers.modeling.feature_extraction_multiome import MultiomeFeatureExtractor
from omics_transformers.modeling.value_bins import ValueBins, ValueBinsFitter

GENES = [f"ENSG{number:011d}" for number in range(1, 5)]
SYMBOLS = ["AAA", "BBB", "DUP", "DUP"]
LOCI = {
    "contig": ["chr1", "chr1", "2", None],
    "start": [100_000, 200_000, 50_000, None],
    "end": [101_000, 202_000, 53_000, None],
    "strand": ["+", "-", "+", None],
}
PEAKS = {
    "contig": ["1", "chr1", "1", "chr2", "chr3"],
    "start": [100_500, 116_000, 170_000, 48_000, 100],
    "end": [100_900, 116_500, 171_000, 49_000, 900],
}
RELOAD = """
import json, sys
import numpy as np
from transformers import AutoFeatureExtractor
extractor = AutoFeatureExtractor.from_pretrained(sys.argv[1], trust_remote_code=True)
rna = extractor.align_rna(np.arange(12).reshape(3, 4), extractor.gene_ids)
atac = extractor.align_atac(np.arange(15).reshape(3, 5), **json.loads(sys.argv[2]))
batch = extractor(rna=rna.counts, atac=atac.counts, return_tensors="pt")
probabilities = np.eye(6)[batch["rna_values"].numpy()]
extractor.save_pretrained(sys.argv[3])
print(json.dumps([{name: values.tolist() for name, values in batch.items()}, [rna.report, atac.report],
                  extractor.expected_values(probabilities, "rna").tolist()]))
"""
WITHOUT_PACKAGE = "import sys\nsys.modules['omics_transformers'] = None  # importing it now raises ImportError\n"


def fitted(genes: int = 4, **options) -> dict:
    counts = np.random.default_rng(0).poisson(3, (60, genes))
    fitter = ValueBinsFitter("gene_normalized", genes, **options)
    fitter.add(counts)
    return fitter.finish().to_dict()


def make(**options) -> MultiomeFeatureExtractor:
    defaults = {"gene_symbols": SYMBOLS, "gene_loci": LOCI, "rna_bins": fitted(), "atac_bins": fitted()}
    return MultiomeFeatureExtractor(GENES, **{**defaults, **options})


def test_rna_is_aligned_by_id_and_symbol_and_accounted_for() -> None:
    names = ["BBB", "ENSG00000000001.3", "ENSG00000000002", "DUP", "unheard", "ENSG00000000003"]
    counts = np.array([[1, 2, 4, 8, 16, 0], [0, 0, 0, 1, 1, 0]])
    aligned = make().align_rna(sp.csc_matrix(counts), names)
    assert aligned.counts.toarray().tolist() == [[2, 5, 0, 0], [0, 0, 0, 0]]
    assert aligned.counts.dtype == np.float32 and aligned.counts.format == "csr"
    assert aligned.report == {
        "columns": 6,
        "columns_left_out": 2,
        "columns_left_out_examples": ["DUP", "unheard"],
        "columns_of_ambiguous_symbols": 1,
        "columns_summed_into_another": 1,
        "genes": 4,
        "genes_found": 3,
        "genes_missing": 1,
        "genes_missing_examples": [GENES[3]],
        "counts_left_out_share": 1 - 7 / 33,
        "cells": 2,
        "cells_without_counts": 1,
    }


def test_atac_is_aligned_by_rings_and_accounted_for(caplog: pytest.LogCaptureFixture) -> None:
    counts = np.array([[3, 1, 4, 5, 6], [0, 0, 0, 0, 2]])  # as fragments 2, 1, 2, 3, 3
    with caplog.at_level(logging.WARNING):
        aligned = make().align_atac(counts, **PEAKS)
    # Gene 1: body, then 16 kb; gene 2 starts at 201,999: 31 kb; gene 3: 1 kb upstream; gene 4 has no locus.
    expected = np.array([[2 / 2 + 1 / 3, 2 / 6, 3 / 2, 0], [0, 0, 0, 0]], dtype=np.float32)
    np.testing.assert_allclose(aligned.counts.toarray(), expected, rtol=1e-6)
    report = aligned.report
    assert (report["peaks"], report["peaks_left_out"], report["contigs_without_gene"]) == (5, 1, ["chr3"])
    assert (report["genes_without_locus"], report["genes_without_peak"]) == (1, 1)
    assert report["counts_left_out_share"] == pytest.approx(4 / 12) and report["cells_without_counts"] == 1
    assert json.loads(json.dumps(report)) == report
    assert "cannot tell" in caplog.text and "1 of 2 cells have no atac count" in caplog.text
    as_fragments = make().align_atac(counts, **PEAKS, counts_are="fragments").counts.toarray()
    np.testing.assert_allclose(as_fragments[0], [3 / 2 + 1 / 3, 4 / 6, 5 / 2, 0], rtol=1e-6)


def test_rings_are_options() -> None:
    extractor = make(rings={"bounds_bp": [20_000], "weights": [1.0], "gene_body": False})
    assert extractor.align_atac(np.eye(5), **PEAKS).counts.toarray()[:4].argmax(axis=1).tolist() == [0, 0, 0, 2]


def test_values_are_those_of_the_fitted_bins() -> None:
    extractor, random = make(), np.random.default_rng(1)
    rna, atac = random.poisson(3, (7, 4)), random.poisson(3, (7, 4)) / 6
    batch = extractor(rna=rna, atac=sp.csr_matrix(atac), return_tensors="pt")
    assert list(batch) == ["rna_values", "atac_values"]
    assert batch["rna_values"].dtype == torch.uint8
    np.testing.assert_array_equal(batch["rna_values"].numpy(), ValueBins.from_dict(fitted()).bin(rna))
    np.testing.assert_array_equal(extractor(atac=atac)["atac_values"], batch["atac_values"].numpy())
    expected = extractor.expected_values(np.eye(6)[batch["rna_values"].numpy()], "rna")
    assert expected.shape == (7, 4) and np.corrcoef(expected.ravel(), np.log1p(rna).ravel())[0, 1] > 0.8


def test_a_cell_without_values_is_zero_throughout() -> None:
    assert not make()(rna=np.zeros((1, 4)))["rna_values"].any()


def test_saved_and_loaded_without_the_package(tmp_path: Path) -> None:
    extractor = make(assembly="toy", rings={"bounds_bp": [20_000, 60_000], "weights": [1.0, 0.5]})
    extractor.save_pretrained(tmp_path / "first")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    arguments = [str(tmp_path / "first"), json.dumps(PEAKS), str(tmp_path / "second")]
    command = [sys.executable, "-c", WITHOUT_PACKAGE + RELOAD, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    batch, reports, expected = json.loads(done.stdout.splitlines()[-1])
    rna = extractor.align_rna(np.arange(12).reshape(3, 4), GENES)
    atac = extractor.align_atac(np.arange(15).reshape(3, 5), **PEAKS)
    here = extractor(rna=rna.counts, atac=atac.counts)
    assert batch == {name: values.tolist() for name, values in here.items()}
    assert reports == [rna.report, atac.report]
    assert expected == extractor.expected_values(np.eye(6)[here["rna_values"]], "rna").tolist()
    first, second = ((tmp_path / name / "preprocessor_config.json").read_text() for name in ("first", "second"))
    assert json.loads(first) == json.loads(second)
    assert {path.name for path in (tmp_path / "second").glob("*.py")} >= {"feature_extraction_multiome.py"}


def test_loaded_by_its_class_it_is_the_same(tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)
    assert MultiomeFeatureExtractor.from_pretrained(tmp_path).to_dict() == make(**{}).to_dict() | {
        "auto_map": {"AutoFeatureExtractor": "feature_extraction_multiome.MultiomeFeatureExtractor"}
    }


def test_options_without_effect_are_told(caplog: pytest.LogCaptureFixture) -> None:
    make(gene_locus={})
    assert "without effect: gene_locus" in caplog.text
    assert "4 genes, bins of rna and atac" in repr(make())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rna_bins": fitted(3)}, "rna_bins were fitted on 3 genes and gene_ids are 4"),
        ({"gene_loci": {**LOCI, "start": [1]}}, "gene_loci have the lengths .*'start': 1.* for 4 gene_ids"),
        ({"gene_loci": {"contig": ["chr1"] * 4}}, "expected contig, start, end, strand"),
        ({"gene_loci": {**LOCI, "end": [101_000, 7, 53_000, 0]}}, "1 genes are no intervals, the first number 1"),
        ({"gene_symbols": ["A"]}, "1 gene_symbols for 4 gene_ids"),
        ({"rings": {"bounds_bp": [5, 3], "weights": [1, 1]}}, "ascending"),
    ],
)
def test_options_that_disagree_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "no counts: give rna, atac or both"),
        (
            {"rna": np.ones((2, 5))},
            r"rna counts have 5 columns and the model 4 genes: align them first",
        ),
        ({"atac": np.ones((2, 3))}, "atac counts have 3 columns"),
        ({"rna": np.ones((2, 4)), "atac": np.ones((3, 4))}, "2 cells of rna and 3 cells of atac"),
        ({"rna": np.full((1, 4), 0.5)}, "4 rna counts are no whole numbers"),
        ({"atac": np.full((1, 4), -0.5)}, "4 atac counts are negative"),
        ({"rna": np.full((1, 4), np.nan)}, "not finite"),
    ],
)
def test_counts_that_cannot_be_binned_are_refused(counts: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()(**counts)


def test_a_modality_without_bins_or_loci_is_refused() -> None:
    extractor = make(atac_bins=None, gene_loci=None)
    with pytest.raises(ValueError, match="has no atac_bins: the model was trained without atac"):
        extractor(atac=np.ones((1, 4)))
    with pytest.raises(ValueError, match="no atac_bins"):
        extractor.expected_values(np.ones((1, 4, 6)), "atac")
    with pytest.raises(ValueError, match="no modality 'protein'"):
        extractor.expected_values(np.ones((1, 4, 6)), "protein")
    with pytest.raises(ValueError, match="peaks cannot be aligned: the feature extractor has no gene_loci"):
        extractor.align_atac(np.ones((1, 5)), **PEAKS)


def test_columns_of_another_organism_are_refused() -> None:
    names = ["ENSMUSG00000000001", "ENSG00000000001", "x", "y"]
    with pytest.raises(ValueError, match=r"1 of the model's 4 genes are among the 4 columns.*50%.*ENSMUSG00000000001"):
        make().align_rna(np.ones((2, 4)), names)
    assert make().align_rna(np.ones((2, 4)), names, minimum_share=0.2).report["genes_missing"] == 3
    with pytest.raises(ValueError, match="as it knows no symbols"):
        make(gene_symbols=None).align_rna(np.ones((2, 2)), ["AAA", "BBB"])
    with pytest.raises(ValueError, match="0 of the model's 4 genes"):
        make().align_rna(np.ones((2, 1)), ["x"], minimum_share=0)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        (np.full((1, 5), -1), {}, "5 atac counts are negative, the first -1 in cell 0, 1:100500-100900"),
        (np.full((1, 5), 0.5), {}, "no whole numbers"),
        (np.ones((1, 4)), {}, "4 columns and 5 names"),
        (np.ones((1, 5)), {"counts_are": "cuts"}, "counts_are is 'cuts': give 'reads' or 'fragments'"),
        (np.ones((1, 5)), {"contig": ["chr9"] * 5}, r"none of the 5 peaks is within 50,000 bp of a gene.*chr9.*hg38"),
        (np.ones((1, 5)), {"end": PEAKS["start"]}, "5 peaks are no intervals"),
    ],
)
def test_peaks_that_cannot_be_aligned_are_refused(counts: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(assembly="hg38").align_atac(counts, **{**PEAKS, **options})


def test_peaks_of_another_assembly_are_refused_unless_told_not_to_look() -> None:
    genes = [f"ENSG{number:011d}" for number in range(300)]
    starts = 100_000 * np.arange(1, 301)
    loci = {"contig": ["chr1"] * 300, "start": starts.tolist(), "end": (starts + 9).tolist(), "strand": ["+"] * 300}
    extractor = MultiomeFeatureExtractor(genes, gene_loci=loci, assembly="hg38")
    peaks = np.concatenate([starts[:240] - 9, starts[:110] + 4_999])
    counts, contig = np.ones((1, 350)), ["1"] * 350
    report = extractor.align_atac(counts, contig, peaks, peaks + 10).report
    assert report["tss_enrichment"] == pytest.approx(4 / (110 / 1090))
    with pytest.raises(ValueError, match=r"another assembly than the genes' \(hg38\)"):
        extractor.align_atac(counts, contig, peaks + 5_000, peaks + 5_010)
    unchecked = extractor.align_atac(counts, contig, peaks + 5_000, peaks + 5_010, minimum_tss_enrichment=None)
    assert unchecked.report["tss_enrichment"] is None and unchecked.counts.nnz == 240
