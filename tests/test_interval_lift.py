"""Lifted intervals against a walk along the chain in plain Python, what is lost, and files that are refused."""

import gzip
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.bed_files import BedSource, read_bed
from omics_transformers.data_scripts.interval_lift import lift_intervals

BEFORE = 7  # bases before the chain, in both assemblies


def write_chain(path: Path, blocks: list[tuple[int, int, int]], strand: str) -> dict[int, int]:
    """A chain of blocks of (size, gap in the old assembly, gap in the new), and the new place of each old base."""
    places, old, new = {}, BEFORE, BEFORE
    for size, old_gap, new_gap in blocks:
        places |= {old + base: new + base for base in range(size)}
        old, new = old + size + old_gap, new + size + new_gap
    old_end, new_end = (old - blocks[-1][1], new - blocks[-1][2])
    lines = [f"chain 1000 chrA 500 + {BEFORE} {old_end} chrB 500 {strand} {BEFORE} {new_end} 1"]
    lines += ["\t".join(map(str, block)) for block in blocks[:-1]] + [str(blocks[-1][0]), ""]
    path.write_text("\n".join(lines) + "\n")
    # Places on the minus strand count from the contig's other end.
    return {old: 499 - new if strand == "-" else new for old, new in places.items()}


blocks = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=6)
spans = st.lists(st.tuples(st.integers(0, 160), st.integers(1, 40)), min_size=1, max_size=12)


@pytest.mark.parity
@given(blocks, st.sampled_from("+-"), spans, st.sampled_from([0.5, 0.95, 1.0]))
def test_intervals_agree_with_a_walk_along_the_chain(
    blocks: list[tuple[int, int, int]], strand: str, spans: list[tuple[int, int]], minimum_match: float
) -> None:
    table = pd.DataFrame([("chrA", start, start + length) for start, length in spans]).set_axis(
        ["contig", "start", "end"], axis=1
    )
    expected, lost = [], {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.chain"
        places = write_chain(path, blocks, strand)
        for row, (start, length) in enumerate(spans):
            ends = places.get(start), places.get(start + length - 1)
            if None in ends:
                lost["an end has no place"] = lost.get("an end has no place", 0) + 1
                continue
            new = min(ends), max(ends) + 1
            shorter, longer = sorted([length, new[1] - new[0]])
            if shorter / longer < minimum_match:
                lost["length changed"] = lost.get("length changed", 0) + 1
            else:
                expected.append(["chrB", *new, row])
        table["row"] = range(len(table))
        if not expected:
            with pytest.raises(ValueError, match="a place for none of"):
                lift_intervals(table, path, minimum_match=minimum_match)
            return
        lifted, report = lift_intervals(table, path, minimum_match=minimum_match)
    assert lifted.to_numpy().tolist() == expected
    assert report["lifted"] == len(expected) and report["lost"] == lost
    assert report["share lost"] == pytest.approx(1 - len(expected) / len(spans), abs=1e-6)


def test_ends_on_two_contigs_are_lost(tmp_path: Path) -> None:
    path = tmp_path / "x.chain"
    header = "chain 9 chrA 100 + {0} {1} {2} 100 + {0} {1} {3}\n10\n\n"
    path.write_text(header.format(0, 10, "chrB", 1) + header.format(10, 20, "chrC", 2))
    table = pd.DataFrame({"contig": ["A", "A"], "start": [2, 8], "end": [6, 14]})
    lifted, report = lift_intervals(table, path)
    assert lifted.to_numpy().tolist() == [["chrB", 2, 6]]
    assert report["lost"] == {"ends on two contigs or strands": 1}


def test_files_that_are_no_chains(tmp_path: Path) -> None:
    table = pd.DataFrame({"contig": ["A"], "start": [2], "end": [6]})
    path = tmp_path / "x.chain.gz"
    with pytest.raises(FileNotFoundError, match="no chain file"):
        lift_intervals(table, path)
    write_chain(tmp_path / "x.chain", [(50, 0, 0)], "+")
    whole = gzip.compress((tmp_path / "x.chain").read_bytes() * 50)
    path.write_bytes(whole[:-15])
    with pytest.raises(ValueError, match=r"x\.chain\.gz is damaged or truncated"):
        lift_intervals(table, path)
    (tmp_path / "y.chain").write_text("1\t0\t5\n")
    with pytest.raises(ValueError, match=r"y\.chain is not a liftOver chain file"):
        lift_intervals(table, tmp_path / "y.chain")
    (tmp_path / "z.chain").write_text("")
    with pytest.raises(ValueError, match=r"z\.chain is not a liftOver chain file"):
        lift_intervals(table, tmp_path / "z.chain")
    with pytest.raises(ValueError, match="minimum_match is 0"):
        lift_intervals(table, tmp_path / "x.chain", minimum_match=0)


@pytest.mark.real_data
def test_there_and_back_again(data_folder: Path) -> None:
    """hg38 to hg19 to hg38 by the chains that UCSC made separately for either direction."""
    annotation = data_folder / "annotation"
    table, _ = read_bed(BedSource(annotation / "ensembl100_regulatory_build.hg38.bed.gz"))
    table = table[table["contig"] == "chr20"].reset_index(drop=True)
    lifted, there = lift_intervals(table, annotation / "hg38ToHg19.over.chain.gz")
    back, again = lift_intervals(lifted, annotation / "hg19ToHg38.over.chain.gz")
    assert len(table) > 6_000
    # Chromosome 20 of hg38 has sequence that hg19 lacks.
    assert there["share lost"] < 0.01 and again["share lost"] < 0.001
    places = table.set_index("line").loc[back["line"]]
    columns = ["contig", "start", "end"]
    is_same = (back[columns].to_numpy() == places[columns].to_numpy()).all(axis=1)
    assert is_same.mean() > 0.999
