"""Edits of promoters as users name them, on a toy genome and a DNA model that counts bases, so that all is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omics_transformers.perturbation_options import EditOptions
from omics_transformers.pipelines.perturbation_dna import list_mutations, mutate_at_random
from omics_transformers.promoter_edits import MadeEdit, changed_bases, make_edits, motif_changes, read_single_sequence
from omics_transformers.promoter_windows import WindowLayout

SEQUENCE = "".join(np.random.default_rng(1).choice(list("ACGT"), 600))
WINDOW_BP, TSS = 64, {"G1": 199, "G2": 420}
JASPAR = ">M1 GAT\nA [ 0 9 0 ]\nC [ 0 0 0 ]\nG [ 9 0 0 ]\nT [ 0 0 9 ]\n>M2 TWICE\nA [9]\nC [0]\nG [0]\nT [0]\n"
JASPAR += ">M3 TWICE\nA [0]\nC [9]\nG [0]\nT [0]\n"


class CountsG:
    """Expression is the number of G, in two tracks; the second doubles it."""

    def predicted_expression(
        self, sequences: list[str], *, tracks: list[int], head: str = "human", centre_bins: int = 3
    ) -> torch.Tensor:
        counts = torch.tensor([[sequence.count("G")] for sequence in sequences]).float()
        return counts * torch.tensor([1.0, 2.0])[list(tracks)]


@pytest.fixture
def reference(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "genome.fa").write_text(f">chr1\n{SEQUENCE}\n")
    line = 'chr1\tx\ttranscript\t{}\t{}\t.\t{}\t.\tgene_id "{}"; transcript_id "T{}";\n'
    rows = [line.format(TSS["G1"] + 1, 300, "+", "G1", 1), line.format(350, TSS["G2"] + 1, "-", "G2", 2)]
    (tmp_path / "genes.gtf").write_text("".join(rows))
    (tmp_path / "motifs.jaspar").write_text(JASPAR)
    return {"genome": tmp_path / "genome.fa", "annotation": tmp_path / "genes.gtf"}


def make(edit: str, reference: dict[str, Path], *genes: str, seed: int = 0, **options: Any) -> list[MadeEdit]:
    chosen = EditOptions(**reference, **options)
    return make_edits(edit, genes, chosen, layout=WindowLayout(WINDOW_BP), dna_model=CountsG(), seed=seed)


def window(gene: str) -> str:
    return SEQUENCE[TSS[gene] - 32 : TSS[gene] + 32]


def test_random_mutations_are_those_of_the_pipelines_own_edit(reference: dict[str, Path]) -> None:
    (made,) = make("random-mutations", reference, "G1", mutations=5, mutation_window_bp=20, seed=3)
    assert made.edit.reference_sequence == window("G1")
    assert made.edit.sequence == mutate_at_random(window("G1"), count=5, window_bp=20, seed=3)
    assert made.description["mutations"] == list_mutations(window("G1"), made.edit.sequence)
    assert (
        "5 bases of the 20 bp around the TSS" in made.notes[0] and len(made.notes) == 1
    )  # without tracks no prediction


def test_mutagenesis_takes_the_candidate_with_fewest_g(reference: dict[str, Path]) -> None:
    made = make("mutagenesis", reference, "G1", "G2", tracks=[0], candidates=8, mutations=6, mutation_window_bp=40)
    assert [one.gene for one in made] == ["G1", "G2"]
    for one in made:
        table = one.tables["candidates"]
        chosen = table[table["is_chosen"]].iloc[0]
        assert chosen["expression"] == table["expression"].min() == one.edit.sequence.count("G")
        assert set(table["gene"]) == {one.gene} and len(table) == 8
        assert one.description["predicted_change"] == pytest.approx(chosen["predicted_change"])
    up = make(
        "mutagenesis", reference, "G1", tracks=[0], candidates=8, rate=0.2, mutation_window_bp=40, direction="raise"
    )[0]
    assert up.edit.sequence.count("G") == up.tables["candidates"]["expression"].max()
    assert "is to be the highest" in up.notes[1]


def test_haplotypes_predict_the_mean_of_both(reference: dict[str, Path], tmp_path: Path) -> None:
    place = next(place for place in range(190, 210) if SEQUENCE[place] == "A")
    row = f"chr1\t{place + 1}\t.\tA\tG\t.\t.\t.\tGT\t0|1\n"
    header = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tdonor\n"
    (tmp_path / "donor.vcf").write_text(header + row)
    (made,) = make("variants", reference, "G1", vcf=tmp_path / "donor.vcf", sample="donor", tracks=[1])
    assert made.edit.kind == "haplotypes" and made.edit.sequences[0] == window("G1") == made.edit.reference_sequence
    count = window("G1").count("G")
    assert made.description["expression"] == pytest.approx(2 * count + 1)  # one G more on one haplotype, doubled
    assert made.description["predicted_change"] == pytest.approx(np.log2((2 * count + 2) / (2 * count + 1)))
    assert made.phrase == "its promoter was given the variants of donor"
    assert made.views[0].mutations == [f"{place - TSS['G1'] + 32}A>G"]
    listed = make("variants", reference, "G1", variants=[f"chr1:{place + 1}:A>G"])[0]
    assert listed.edit.kind == "sequence" and listed.edit.sequence == made.edit.sequences[1]


def test_indels_are_shown_with_gaps(reference: dict[str, Path]) -> None:
    (made,) = make("variants", reference, "G1", variants=[f"chr1:201:{SEQUENCE[200:203]}>{SEQUENCE[200]}"])
    bases = changed_bases(made)
    assert made.views == [] and bases is not None
    changed = bases[bases["is_changed"]]
    assert changed["offset"].tolist() == [2, 3] and changed["edited"].tolist() == ["-", "-"]
    assert "".join(bases["reference"]) == SEQUENCE[201 - 20 : 203 + 20]
    assert made.tables["variants"]["kind"].tolist() == ["deletion"]


def test_a_motif_lies_in_the_genes_direction(reference: dict[str, Path], tmp_path: Path) -> None:
    options = {"motifs": tmp_path / "motifs.jaspar", "motif": "GAT", "offset": 5}
    first, second = make("insert-motif", reference, "G1", "G2", **options)
    assert first.edit.sequence == window("G1")[:37] + "GAT" + window("G1")[40:]
    assert second.edit.sequence == window("G2")[:25] + "ATC" + window("G2")[28:]
    assert "+5 bp from the TSS" in first.notes[0]
    bases = changed_bases(second)
    assert bases is not None and set(bases.loc[bases["is_changed"], "offset"]) <= {5, 6, 7}
    turned = make_edits(
        "insert-motif",
        ["G2"],
        EditOptions(**reference, **options),
        layout=WindowLayout(WINDOW_BP, orient_by_strand=True),
        dna_model=CountsG(),
        seed=0,
    )[0]
    assert turned.edit.sequence[37:40] == "GAT"


def test_motif_hits_of_the_view(reference: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("memelite")
    options = {"motifs": tmp_path / "motifs.jaspar", "motif": "M1", "offset": 5, "threshold": 0.02}
    (made,) = make("insert-motif", reference, "G1", **options)
    hits = motif_changes(made, EditOptions(**options))
    assert hits is not None and 37 in set(hits.loc[(hits["motif"] == "GAT") & (hits["change"] == "gained"), "start"])
    assert motif_changes(made, EditOptions()) is None
    other = motif_changes(make("insert-motif", reference, "G2", **options)[0], EditOptions(**options))
    assert other is not None and other.loc[other["start"] == 25, "offset"].tolist() == [5]
    (gone,) = make("delete-motif", reference, "G1", **(options | {"offset": 0, "mutation_window_bp": 60}))
    assert "GAT" not in gone.edit.sequence[2:62] and "ATC" not in gone.edit.sequence[2:62]


def test_sequences_and_features_of_files(reference: dict[str, Path], tmp_path: Path) -> None:
    edited = window("G1")[:32] + "n" + window("G1")[33:]
    (tmp_path / "edited.fa").write_text(f">edited\n{edited}\n")
    (made,) = make("sequence", reference, "G1", sequence=tmp_path / "edited.fa", tracks=[0])
    assert made.edit.reference_sequence == window("G1") and made.description["n_mutations"] == 1
    (alone,) = make("sequence", {}, "G1", sequence=tmp_path / "edited.fa")
    assert alone.edit.reference_sequence is None and alone.views == []
    np.save(tmp_path / "features.npy", np.arange(4.0))
    (features,) = make("features", {}, "G1", features=tmp_path / "features.npy")
    np.testing.assert_array_equal(features.edit.features, np.arange(4, dtype=np.float32))
    (tmp_path / "two.fa").write_text(">a\nACGT\n>b\nACGT\n")
    with pytest.raises(ValueError, match="has 2 sequences, expected one"):
        read_single_sequence(tmp_path / "two.fa")


@pytest.mark.parametrize(
    ("motif", "message"),
    [("GATT", "no motif of the name or id 'GATT': give one of GAT"), ("TWICE", "2 motifs of the name or id 'TWICE'")],
)
def test_motifs_that_are_not_one(reference: dict[str, Path], tmp_path: Path, motif: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("insert-motif", reference, "G1", motifs=tmp_path / "motifs.jaspar", motif=motif, offset=0)
    by_id = make("insert-motif", reference, "G1", motifs=tmp_path / "motifs.jaspar", motif="M1", offset=0)
    assert by_id[0].description["motif"] == "GAT"
