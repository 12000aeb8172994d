"""The data set of segments: what load_dataset reads, its counts, what is refused, and one gene of real sequence."""

import gzip
import json
import logging
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from omics_transformers.data_scripts.bed_files import BedSource
from omics_transformers.data_scripts.segment_elements import SEGMENT_ELEMENTS
from omics_transformers.data_scripts.segment_windows import unpack_labels
from omics_transformers.data_scripts.segments import build_segments

CONTIGS = ("1", "2", "3")
GENES = SEGMENT_ELEMENTS[:8]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Three contigs of 1,000 bp; on each two coding genes of three exons, one a strand, and a long RNA."""
    random = np.random.default_rng(1)
    fasta, lines = [], []
    for contig in CONTIGS:
        sequence = random.choice(list("ACGT"), 1000)
        for strand, first in (("+", 100), ("-", 400)):
            codon = first + 10 if strand == "+" else first + 217
            sequence[codon : codon + 3] = list("ATG" if strand == "+" else "CAT")
            starts, ends = (
                ",".join(str(first + place) for place in places) for places in ((0, 80, 190), (30, 120, 230))
            )
            fields = [f"NM_{first}", f"chr{contig}", strand, first, first + 230, first + 10, first + 220, 3]
            lines.append([*fields, f"{starts},", f"{ends},", 0, f"G{contig}{first}", "cmpl", "cmpl"])
        lines.append(["NR_1", f"chr{contig}", "+", 700, 950, 950, 950, 1, "700,", "950,", 0, f"LINC{contig}"])
        sequence[960:] = "N"
        fasta.append(f">{contig}\n{''.join(sequence)}\n")
    (tmp_path / "a.fa").write_text("".join(fasta[:2]))
    (tmp_path / "b.fa").write_text(fasta[2])
    (tmp_path / "genes.txt").write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    (tmp_path / "peaks.bed").write_text("".join(f"chr{contig}\t{50}\t{90}\tpeak\n" for contig in CONTIGS))
    (tmp_path / "blacklist.bed").write_text("chr2\t0\t130\n")
    return tmp_path


def options(world: Path, **changed) -> dict:
    return {
        "fasta": [world / "a.fa", world / "b.fa"],
        "annotation": world / "genes.txt",
        "output": world / "segments",
        "train": ["chr1"],
        "validation": ["chr2"],
        "test": ["chr3"],
        "beds": {"CTCF-bound": world / "peaks.bed", "open_chromatin": BedSource(world / "peaks.bed", name="peak")},
        "blacklist": world / "blacklist.bed",
        "window_bp": 120,
        "minimum_start_codons": 0.9,
        **changed,
    }


def build(world: Path, **changed) -> dict:
    chosen = options(world, **changed)
    return build_segments(chosen.pop("fasta"), chosen.pop("annotation"), chosen.pop("output"), **chosen)


def read(folder: Path, split: str) -> list[dict]:
    return pq.read_table(folder / "data" / f"{split}-00000-of-00001.parquet").to_pylist()


def test_load_dataset_reads_every_split(world: Path) -> None:
    from datasets import load_dataset

    report = build(world)
    folder = world / "segments"
    assert json.loads((folder / "report.json").read_text()) == report
    rows = load_dataset(str(folder), cache_dir=str(world / "cache"))
    assert {split: len(part) for split, part in rows.items()} == {"train": 8, "validation": 7, "test": 8}
    sequence = (world / "b.fa").read_text().split("\n")[1]
    for number, row in enumerate(rows["test"]):
        assert (row["contig"], row["start"], row["end"]) == ("3", 120 * number, 120 * number + 120)
        assert row["sequence"] == sequence[row["start"] : row["end"]]
        assert row["ignored"] == b""
    assert report["windows"]["validation"] == {
        "windows": 7,
        "windows dropped, N": 0,
        "windows dropped, blacklisted": 1,
        "bases behind the last window": 40,
        "bases scored": 7 * 120 - 10,
        "bases N or blacklisted, ignored": 10,
    }
    assert report["annotation"]["start codons"] == {"start codons": 6, "of them ATG": 6, "share": 1.0}


def test_elements_and_their_order(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        report = build(world)
    summary = json.loads((world / "segments/elements.json").read_text())
    assert summary["elements"] == [*GENES, "CTCF-bound", "open_chromatin"]
    assert list(summary["sources"]) == summary["elements"]
    assert report["elements without a source, left out"] == list(SEGMENT_ELEMENTS[9:])
    assert "elements without a source, left out: polyA_signal, enhancer_Tissue_specific" in caplog.text
    chosen = ["open_chromatin", "exon"]
    build(world, elements=chosen, overwrite=True)
    assert json.loads((world / "segments/elements.json").read_text())["elements"] == chosen


def test_counts_are_the_sums_of_scored_bits(world: Path) -> None:
    build(world, step_bp=50, ends="keep", maximum_masked=1.0)
    folder = world / "segments"
    summary = json.loads((folder / "elements.json").read_text())
    for split in ("train", "validation", "test"):
        positives, bases = np.zeros(len(summary["elements"]), dtype=int), 0
        rows = read(folder, split)
        assert rows[-1]["end"] == 1000 and rows[-1]["end"] - rows[-1]["start"] < 120
        for row in rows:
            n_bases = row["end"] - row["start"]
            labels = unpack_labels(row["labels"], len(summary["elements"]), n_bases)
            scored = 1 - unpack_labels(row["ignored"], 1, n_bases)[0] if row["ignored"] else np.ones(n_bases, int)
            positives += (labels * scored).sum(axis=1, dtype=int)
            bases += scored.sum(dtype=int)
        assert summary["counts"][split] == dict(zip(summary["elements"], positives.tolist(), strict=True))
        assert summary["bases"][split] == bases
    assert summary["counts"]["train"]["splice_donor"] > 0


def test_labels_of_planted_genes(world: Path) -> None:
    """One window a contig: what each element covers, written out."""
    build(world, window_bp=1000, blacklist=None)
    (row,) = read(world / "segments", "train")
    labels = unpack_labels(row["labels"], 10, 1000)
    found = {}
    for name, bits in zip([*GENES, "CTCF-bound"], labels, strict=False):
        steps = np.flatnonzero(np.diff(np.concatenate([[0], bits.astype(int), [0]])))
        found[name] = steps.reshape(-1, 2).tolist()
    assert found == {
        "protein_coding_gene": [[100, 330], [400, 630]],
        "lncRNA": [[700, 950]],
        "exon": [[100, 130], [180, 220], [290, 330], [400, 430], [480, 520], [590, 630], [700, 950]],
        "intron": [[130, 180], [220, 290], [430, 480], [520, 590]],
        "splice_donor": [[130, 132], [220, 222], [478, 480], [588, 590]],
        "splice_acceptor": [[178, 180], [288, 290], [430, 432], [520, 522]],
        "5UTR": [[100, 110], [620, 630]],
        "3UTR": [[320, 330], [400, 410]],
        "CTCF-bound": [[50, 90]],
    }


def test_the_same_input_gives_the_same_bytes(world: Path) -> None:
    build(world)
    build(world, output=world / "again")
    one, other = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (world / "segments", world / "again")
    )
    assert one == other and len(one) == 6
    build(world, output=world / "fewer", elements=["exon", "intron"])
    build(world, output=world / "turned", elements=["intron", "exon"])
    names = {
        (world / name / "README.md").read_text().split("content-")[1][:12] for name in ("again", "fewer", "turned")
    }
    assert len(names) == 3


def test_regions_of_one_contig_in_two_splits(world: Path) -> None:
    build(world, train=["1:1-400", "2"], validation=[("1", 520, 1000)], test=[], step_bp=60)
    for split, regions in (("train", [("1", 0, 400), ("2", 0, 1000)]), ("validation", [("1", 520, 1000)])):
        for row in read(world / "segments", split):
            assert any(row["contig"] == name and a <= row["start"] and row["end"] <= b for name, a, b in regions)
    with pytest.raises(ValueError, match="119 bp lie between"):
        build(world, train=["1:1-400"], validation=[("1", 519, 1000)], test=[], overwrite=True)


def test_bed_files_take_the_place_of_the_annotation(world: Path) -> None:
    (world / "lncrna.bed").write_text("1\t10\t20\n2\t200\t210\n3\t10\t20\n")
    build(world, beds={"lncRNA": world / "lncrna.bed"})
    summary = json.loads((world / "segments/elements.json").read_text())
    assert summary["elements"] == list(GENES)
    assert {split: counts["lncRNA"] for split, counts in summary["counts"].items()} == {
        "train": 10, "validation": 10, "test": 10,
    }  # fmt: skip


def test_bed_files_alone_and_tissues(world: Path) -> None:
    tissues = {}
    for tissue, start in (("heart", 10), ("liver", 12), ("lung", 500)):
        tissues[tissue] = world / f"{tissue}.bed"
        tissues[tissue].write_text("".join(f"{contig}\t{start}\t{start + 20}\n" for contig in CONTIGS))
    build(world, annotation=None, beds=None, tissue_beds={"enhancer": tissues}, invariant_share=0.6)
    summary = json.loads((world / "segments/elements.json").read_text())
    assert summary["counts"]["train"] == {"enhancer_Tissue_specific": 20, "enhancer_Tissue_invariant": 22}


def test_an_element_without_a_base_in_a_split_is_told(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    (world / "one.bed").write_text("1\t10\t20\n")
    with caplog.at_level(logging.WARNING):
        build(world, beds={"x": world / "one.bed"})
    assert "one.bed has no interval on 2, 3: labels there are 0" in caplog.text
    assert "test has no base of x" in caplog.text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"elements": ["exon", "polyA_signal"]}, "without a source: polyA_signal. There are protein_coding_gene"),
        ({"elements": []}, "asked for: none"),
        ({"elements": ["exon", "exon"]}, "expected each once"),
        ({"annotation": None, "beds": {}}, "There are none"),
        ({"beds": {"a b": "peaks.bed"}}, "'a b' is no name of an element"),
        ({"test": ["chr1"]}, "share bases"),
        ({"test": ["chr9"]}, "no contig 'chr9' in .*which has 1, 2, 3"),
        ({"train": [], "validation": [], "test": []}, "no split has a contig"),
        ({"window_bp": 2000}, "no window is left in train: 0 have"),
        ({"maximum_masked": 50}, "maximum_masked is 50"),
        ({"window_bp": 0}, "window_bp is 0"),
        ({"offsets": {"1": 50, "2": 50, "3": 50}}, r"of 6 coding sequences begin with ATG in .*a\.fa"),
        ({"fasta": ["b.fa"], "train": [], "validation": [], "beds": {"x": "two.bed"}}, "it is on 2"),
        ({"beds": {"x": "far.bed"}}, r"far\.bed, line 1: 1:1,001-1,010"),
        ({"beds": {"x": "empty.bed"}}, r"empty\.bed is empty"),
        ({"annotation": "chr7.txt"}, r"chr7\.txt has no gene on the contigs used, 1, 2, 3; it is on chr7"),
        ({"annotation": "far.txt"}, r"far\.txt, line 9: 3:701-1,050 .* ends beyond the contig"),
    ],
)
def test_what_is_refused_leaves_no_folder(changed: dict, message: str, world: Path, monkeypatch) -> None:
    monkeypatch.chdir(world)
    (world / "two.bed").write_text("2\t1\t5\n")
    (world / "far.bed").write_text("1\t1000\t1010\n")
    (world / "empty.bed").write_text("# nothing\n")
    genes = (world / "genes.txt").read_text()
    (world / "chr7.txt").write_text("".join(line.replace("chr1", "chr7") for line in genes.splitlines(True)[:3]))
    (world / "far.txt").write_text(genes[: genes.rindex("NR_1")] + genes[genes.rindex("NR_1") :].replace("950", "1050"))
    with pytest.raises(ValueError, match=message):
        build(world, **changed)
    assert not list(world.glob("segments*"))


def test_a_folder_is_replaced_on_request_only(world: Path) -> None:
    build(world)
    before = (world / "segments/elements.json").read_bytes()
    with pytest.raises(FileExistsError, match="overwrite"):
        build(world)
    with pytest.raises(ValueError, match="no window is left"):
        build(world, window_bp=2000, overwrite=True)
    assert (world / "segments/elements.json").read_bytes() == before
    build(world, overwrite=True, elements=["exon"])
    assert (world / "segments/elements.json").read_bytes() != before


GATA5 = ("20", 61_020_000, 61_200_000)


@pytest.fixture(scope="module")
def real_segments(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("real") / "segments"
    annotation = data_folder / "annotation"
    regulatory = annotation / "ensembl100_regulatory_build.hg38.bed.gz"
    report = build_segments(
        data_folder / "genome/chr20.GRCh37.fa.gz",
        annotation / "ncbiRefSeq_genePred.hg19.txt.gz",
        folder,
        test=[GATA5],
        beds={"promoter": BedSource(regulatory, "promoter", annotation / "hg38ToHg19.over.chain.gz")},
        blacklist=annotation / "hg19-blacklist.v2.bed",
        maximum_masked=1,  # the stretch has a run of N
    )
    return folder, report


@pytest.mark.real_data
def test_labels_of_gata5_by_plain_loops(real_segments: tuple[Path, dict], data_folder: Path) -> None:
    folder, report = real_segments
    assert report["annotation"]["start codons"]["share"] > 0.99
    assert report["sources"]["promoter"]["files"][0]["lift"]["share lost"] < 0.005
    _, first, last = GATA5
    expected = {name: [0] * (last - first) for name in GENES}
    with gzip.open(data_folder / "annotation/ncbiRefSeq_genePred.hg19.txt.gz", "rt") as lines:
        transcripts = [fields for fields in (line.split("\t") for line in lines) if fields[2] == "chr20"]
    coding_genes = {fields[12] for fields in transcripts if fields[6] != fields[7]}

    def mark(name: str, start: int, end: int) -> None:
        for base in range(max(start, first), min(end, last)):
            expected[name][base - first] = 1

    seen = set()
    for fields in transcripts:
        start, end, coding_start, coding_end = map(int, fields[4:8])
        if end <= first or start >= last:
            continue
        starts, ends = ([int(place) for place in column.split(",")[:-1]] for column in fields[9:11])
        is_long = sum(ends) - sum(starts) >= 200
        seen.add(fields[12])
        if fields[12] in coding_genes:
            mark("protein_coding_gene", start, end)
        elif is_long and fields[1].startswith("NR_"):
            mark("lncRNA", start, end)
        for exon_start, exon_end in zip(starts, ends, strict=True):
            mark("exon", exon_start, exon_end)
            if coding_start < coding_end:
                mark("5UTR" if fields[3] == "+" else "3UTR", exon_start, min(exon_end, coding_start))
                mark("3UTR" if fields[3] == "+" else "5UTR", max(exon_start, coding_end), exon_end)
        for intron_start, intron_end in zip(ends[:-1], starts[1:], strict=True):
            mark("intron", intron_start, intron_end)
            mark("splice_donor" if fields[3] == "+" else "splice_acceptor", intron_start, intron_start + 2)
            mark("splice_acceptor" if fields[3] == "+" else "splice_donor", intron_end - 2, intron_end)
    assert seen == {"GATA5", "CRMA", "MIR1-1HG", "MIR1-1", "MIR133A2"}
    rows = read(folder, "test")
    assert [row["start"] for row in rows] == list(range(first, last, 6_000))
    labels = np.concatenate([unpack_labels(row["labels"], 9, 6_000) for row in rows], axis=1)
    for bits, name in zip(labels, GENES, strict=False):
        assert bits.tolist() == expected[name], name
    assert all(sum(expected[name]) for name in GENES)
    assert labels[8].any()


@pytest.mark.real_data
def test_files_of_hg38_beside_sequence_of_hg19(data_folder: Path, tmp_path: Path) -> None:
    genome, annotation = data_folder / "genome/chr20.GRCh37.fa.gz", data_folder / "annotation"
    genes = annotation / "ncbiRefSeq_genePred.hg38.txt.gz"
    with pytest.raises(ValueError, match="ends beyond the contig, which has 63,025,520 bp"):
        build_segments(genome, genes, tmp_path / "x", test=["20"], cache_folder=tmp_path)
    with pytest.raises(ValueError, match="coding sequences begin with ATG"):
        build_segments(genome, genes, tmp_path / "x", test=["20"], offsets={"20": 0}, cache_folder=tmp_path)
    beds = {"promoter": BedSource(annotation / "ensembl100_regulatory_build.hg38.bed.gz", "promoter")}
    with pytest.raises(ValueError, match=r"regulatory_build\.hg38\.bed\.gz, line \d+: 20:.* ends beyond the contig"):
        build_segments(genome, None, tmp_path / "x", test=["20"], beds=beds, cache_folder=tmp_path)
