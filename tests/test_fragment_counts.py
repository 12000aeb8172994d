"""Counts against a double loop and against pysam; tiles; accounts; what cannot be counted."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts import fragment_counts
from omics_transformers.data_scripts.fragment_counts import FragmentRule, count_fragments, tiles
from omics_transformers.data_scripts.fragment_files import fragment_blocks

Fragment = tuple[str, int, int, str]
CELLS = ["A-1", "B-1", "C-1"]
fragments = st.tuples(
    st.sampled_from(["chr1", "2", "chrM"]), st.integers(0, 40), st.integers(1, 20), st.sampled_from([*CELLS, "other"])
).map(lambda row: (row[0], row[1], row[1] + row[2], row[3]))


@st.composite
def intervals(draw: st.DrawFn) -> pd.DataFrame:
    """Disjoint, some of them touching, on chr1 and chr2."""
    rows = []
    for contig in draw(st.permutations(["chr1", "chr2"])):
        cuts = draw(st.lists(st.integers(0, 50), min_size=2, max_size=9, unique=True).map(sorted))
        kept = draw(st.lists(st.booleans(), min_size=len(cuts) - 1, max_size=len(cuts) - 1))
        rows += [(contig, a, b) for a, b, keep in zip(cuts, cuts[1:], kept, strict=False) if keep]
    return pd.DataFrame(rows or [("chr1", 3, 9)], columns=["contig", "start", "end"])


def write(path: Path, rows: list[Fragment]) -> Path:
    path.write_text("".join(f"{contig}\t{start}\t{end}\t{barcode}\t4\n" for contig, start, end, barcode in rows))
    return path


def naive(rows: list[Fragment], intervals: pd.DataFrame, rule: str, cells: list[str]) -> np.ndarray:
    counts = np.zeros((len(cells), len(intervals)), dtype=int)
    for contig, start, end, barcode in rows:
        for number, (other, first, last) in enumerate(intervals[["contig", "start", "end"]].itertuples(index=False)):
            if contig.removeprefix("chr") != other.removeprefix("chr") or barcode not in cells:
                continue
            if rule == "fragment":
                counts[cells.index(barcode), number] += start < last and first < end
            else:
                counts[cells.index(barcode), number] += (first <= start < last) + (first <= end - 1 < last)
    return counts


@pytest.mark.parametrize("rule", ["fragment", "insertion"])
@given(rows=st.lists(fragments, max_size=40), intervals=intervals(), pending=st.sampled_from([0, 5, 10**6]))
def test_counts_are_those_of_a_double_loop(
    rule: FragmentRule,
    rows: list[Fragment],
    intervals: pd.DataFrame,
    pending: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows = [*rows, (intervals["contig"].iloc[0], 2, 4, "A-1")]
    path = write(tmp_path_factory.mktemp("fragments") / "fragments.tsv", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fragment_counts, "ENTRIES_PENDING", pending)
        counted = count_fragments(path, intervals, CELLS, rule=rule, block_bytes=100)
    np.testing.assert_array_equal(counted.matrix.toarray(), naive(rows, intervals, rule, CELLS))
    assert counted.matrix.has_canonical_format
    assert counted.fragments_of_cell.tolist() == [sum(row[3] == cell for row in rows) for cell in CELLS]
    used = {contig.removeprefix("chr") for contig in intervals["contig"]}
    on_contig = [row[0].removeprefix("chr") in used for row in rows]
    assert counted.report["fragments in the file"] == len(rows)
    assert counted.report["fragments of other barcodes, left out"] == sum(row[3] == "other" for row in rows)
    n_elsewhere = sum(row[3] != "other" and not there for row, there in zip(rows, on_contig, strict=True))
    assert counted.report["fragments on contigs without an interval, left out"] == n_elsewhere
    is_counted = [naive([row], intervals, rule, CELLS).any() for row in rows]
    n_outside = sum(row[3] != "other" for row in rows) - n_elsewhere - sum(is_counted)
    assert counted.report["fragments outside the intervals, left out"] == n_outside


@pytest.mark.parity
@pytest.mark.real_data
@pytest.mark.parametrize("rule", ["fragment", "insertion"])
def test_counts_are_those_of_pysam(rule: FragmentRule, data_folder: Path, tmp_path: Path) -> None:
    pysam = pytest.importorskip("pysam")
    path = data_folder / "atac" / "heart_AVN_HCAHeartST10773171.fragments.hg38.tsv.gz"
    chosen = tmp_path / "fragments.tsv"
    with chosen.open("w") as file:
        for block in fragment_blocks(path):
            names = np.array(block.contigs, dtype=object)[block.contig_codes]
            for row in np.flatnonzero(names == "chr20"):
                barcode = block.barcodes[block.barcode_codes[row]]
                file.write(f"chr20\t{block.starts[row]}\t{block.ends[row]}\t{barcode}\t1\n")
    indexed = pysam.tabix_index(str(chosen), preset="bed", keep_original=True, force=True)
    cells = pd.read_csv(data_folder / "atac" / "heart_AVN_HCAHeartST10773171.metadata.csv")["barcode"].tolist()
    intervals = tiles({"chr20": 64_444_167}, 150_000).iloc[::2]
    expected = np.zeros((len(cells), len(intervals)), dtype=int)
    with pysam.TabixFile(indexed, parser=pysam.asBed()) as file:
        for number, (_, first, last, _) in enumerate(intervals.itertuples(index=False)):
            for fragment in file.fetch("chr20", first, last):
                if fragment.name in cells:
                    ends = sum(first <= place < last for place in (fragment.start, fragment.end - 1))
                    expected[cells.index(fragment.name), number] += 1 if rule == "fragment" else ends
    counted = count_fragments(indexed, intervals, cells, rule=rule)
    assert expected.sum() > 1000
    np.testing.assert_array_equal(counted.matrix.toarray(), expected)


@given(st.dictionaries(st.sampled_from(["chr1", "chr2", "M"]), st.integers(1, 60), min_size=1), st.integers(1, 25))
def test_tiles_cover_every_base_once(lengths: dict[str, int], tile_bp: int) -> None:
    table = tiles(lengths, tile_bp)
    covered = [(row.contig, base) for row in table.itertuples() for base in range(row.start, row.end)]
    assert covered == [(contig, base) for contig, length in lengths.items() for base in range(length)]
    assert (table["end"] - table["start"]).max() <= tile_bp
    assert table["name"].iloc[0] == f"{next(iter(lengths))}:0-{table['end'].iloc[0]}"


PEAKS = pd.DataFrame({"contig": ["chr1", "chr1"], "start": [0, 20], "end": [10, 30]})


def test_what_cannot_be_counted_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "fragments.tsv", [("chr1", 0, 5, "A-1"), ("chr1", 2, 5, "B-1")])
    message = "none of 2 fragments has one of the 2 barcodes asked for; its first is 'A-1', asked for are A, B. Are"
    with pytest.raises(ValueError, match=re.escape(message)):
        count_fragments(path, PEAKS, ["A", "B"])
    message = "none of 2 fragments is on a contig of the intervals; it is on chr1, the intervals are on GL1. Are both"
    with pytest.raises(ValueError, match=re.escape(message)):
        count_fragments(path, PEAKS.assign(contig="GL1"), CELLS)
    with pytest.raises(ValueError, match="barcode 'A' is given twice"):
        count_fragments(path, PEAKS, ["A", "B", "A"])
    with pytest.raises(ValueError, match="rule is 'reads'; expected one of fragment, insertion"):
        count_fragments(path, PEAKS, CELLS, rule="reads")  # type: ignore[arg-type]
    write(path, [("Chr1", 0, 5, "A-1")])
    with pytest.raises(ValueError, match=r"on both chr1 and 1: on which of them are the fragments of Chr1\?"):
        count_fragments(path, PEAKS.assign(contig=["chr1", "1"]), CELLS)


@pytest.mark.parametrize(("starts", "ends"), [([0, 9], [10, 30]), ([20, 0], [30, 10]), ([0, 20], [10, 20])])
def test_intervals_must_be_disjoint_and_in_order(starts: list[int], ends: list[int], tmp_path: Path) -> None:
    path = write(tmp_path / "fragments.tsv", [("chr1", 0, 5, "A-1")])
    with pytest.raises(ValueError, match=r"the interval chr1:.* expected disjoint intervals in order of start"):
        count_fragments(path, PEAKS.assign(start=starts, end=ends), CELLS)


def test_tiles_need_lengths() -> None:
    with pytest.raises(ValueError, match="tile_bp is 0"):
        tiles({"chr1": 5}, 0)
    for lengths in ({}, {"chr1": 0}):
        with pytest.raises(ValueError, match="expected one or more, each at least 1 long"):
            tiles(lengths, 5)
