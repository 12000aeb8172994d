"""Windows of genes as base codes: against the genome's own letters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omics_transformers.data_scripts.genomes import reverse_complement
from omics_transformers.training.gene_windows import GeneWindows, open_gene_windows

GENES = [f"ENSG{number:011d}" for number in (0, 7, 5)]
METADATA = {"window_bp": "256", "tss_choice": "canonical", "orient_by_strand": "true"}


def opened(folder: Path, **changes: Any) -> GeneWindows:
    settings = {"gene_ids": GENES, "metadata": METADATA, "num_special_tokens": 2, **changes}
    return open_gene_windows(folder / "genome.fa", folder / "tss.tsv", **settings)


@pytest.mark.parametrize("held_bytes", [0, 10_000])
def test_codes_are_the_genomes_letters_oriented_and_padded(toy_promoters: Path, held_bytes: int) -> None:
    contig = (toy_promoters / "genome.fa").read_text().splitlines()[1]
    padded = "N" * 300 + contig
    expected = []
    for gene in (0, 7, 5):
        tss = 300 + 100 + 300 * gene
        window = padded[tss - 128 : tss + 128]
        if gene % 3 == 2:  # turned round, the TSS stays base 128
            window = reverse_complement(padded[tss - 127 : tss + 129].encode()).decode()
        expected.append(["ACGTN".index(base) for base in window])
    windows = opened(toy_promoters, held_bytes=held_bytes)
    assert (len(windows), windows.window_bp) == (3, 256)
    for token_ids in ([2, 3, 4], [4, 2], [3, 3]):  # whatever was read before
        codes = windows.codes(np.array(token_ids))
        assert codes.numpy().dtype == np.uint8
        np.testing.assert_array_equal(codes, [expected[token - 2] for token in token_ids])


def test_genes_that_the_annotation_lacks_are_named(toy_promoters: Path) -> None:
    with pytest.raises(ValueError, match=r"1 genes of the vocabulary are not in .*tss.tsv: ENSGX; it has e.g. ENSG0"):
        opened(toy_promoters, gene_ids=[*GENES, "ENSGX"])


def test_features_that_do_not_say_how_windows_lie_are_refused(toy_promoters: Path) -> None:
    with pytest.raises(ValueError, match=r"no tss_choice, orient_by_strand in the metadata.*`embed`"):
        opened(toy_promoters, metadata={"window_bp": "256"})
