"""Tables of an edit's bases, and of the motif hits that it takes, makes and leaves."""

import numpy as np

from omics_transformers.pipelines.motif_hits import BASES, Motif, find_hits
from omics_transformers.pipelines.promoter_mutagenesis_edit import PromoterEdit
from omics_transformers.pipelines.promoter_mutagenesis_motifs import delete_motif, insert_motif
from omics_transformers.pipelines.promoter_mutagenesis_view import compare_hits, edited_bases


def motif_of(consensus: str) -> Motif:
    counts = np.ones((4, len(consensus)))
    counts[[BASES.index(base) for base in consensus], np.arange(len(consensus))] = 97
    return Motif(f"M_{consensus}", consensus.lower(), counts)


FIRST, SECOND = motif_of("CTTATCTC"), motif_of("GGATTAGC")
REFERENCE = "".join(np.random.default_rng(0).choice(list("ACGT"), 400))


def test_bases() -> None:
    edit = PromoterEdit(REFERENCE[:5] + "NN" + REFERENCE[7:], REFERENCE, {})
    table = edited_bases(edit, margin_bp=10)
    assert table["position"].tolist() == list(range(17)) and table["offset"].tolist() == list(range(-200, -183))
    assert "".join(table["reference"]) == REFERENCE[:17] and "".join(table["edited"]) == edit.sequence[:17]
    assert table["position"][table["is_changed"]].tolist() == [5, 6]
    nothing = edited_bases(PromoterEdit(REFERENCE, REFERENCE, {}))
    assert nothing.empty and list(nothing.columns) == list(table.columns)


def test_hits_that_are_lost_gained_and_kept() -> None:
    reference = insert_motif(REFERENCE, FIRST, offset=0).sequence
    reference = insert_motif(reference, SECOND, offset=20).sequence
    without = delete_motif(reference, FIRST, window_bp=30, method="shuffle", keep_out=[SECOND]).sequence
    edited = insert_motif(without, FIRST, offset=40, strand="-").sequence
    edit = PromoterEdit(edited, reference, {})
    table = compare_hits(edit, [FIRST, SECOND])
    planted = table[table["score_reference"].fillna(0) + table["score_edited"].fillna(0) > 12]
    found = planted[["motif", "start", "end", "offset", "strand", "change"]].to_numpy().tolist()
    assert found == [
        ["cttatctc", 200, 208, 0, "+", "lost"],
        ["ggattagc", 220, 228, 20, "+", "kept"],
        ["cttatctc", 240, 248, 40, "-", "gained"],
    ]
    hits = find_hits(reference, [FIRST]).set_index("start")
    row = table[table["start"] == 200].iloc[0]
    assert row["score_reference"] == hits.loc[200, "score"] and np.isnan(row["score_edited"])


def test_hits_where_nothing_differs() -> None:
    table = compare_hits(PromoterEdit(REFERENCE, REFERENCE, {}), [FIRST])
    assert table.empty and "change" in table.columns
