"""Sites of VCF files: with and without samples, compressed, and broken."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.variant_rows import VariantRow, read_variant_rows

HEADER = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
FIELD = st.text("ACGT<>DEL*.,rs19", min_size=1)
ROWS = st.lists(st.builds(VariantRow, st.sampled_from(["1", "chrX"]), st.integers(1, 10**9), FIELD, FIELD, FIELD))


@given(rows=ROWS, is_compressed=st.booleans(), has_samples=st.booleans())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[VariantRow], is_compressed: bool, has_samples: bool
) -> None:
    path = tmp_path_factory.mktemp("variants") / "sites.vcf"
    behind = "\t.\t.\t.\tGT\t0|1" if has_samples else "\t.\tPASS\t."
    text = HEADER + "".join("\t".join(map(str, row)) + behind + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if is_compressed else text.encode())
    assert read_variant_rows(path) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no header line"),
        ("##fileformat=VCFv4.3\n", "has no header line"),
        ("1\t5\t.\tA\tC\n", "line 1: expected `#CHROM POS ID REF ALT"),
        (HEADER + "1\tx\t.\tA\tC\n", "line 3: found '1\\\\tx"),
        (HEADER + "1\t5\t.\tA\n", "line 3: found"),
        (HEADER + "1 5 . A C\n", "line 3: found"),
        (HEADER + "1\t5\t.\t\tC\t.\n", "line 3: found"),
    ],
)
def test_files_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "sites.vcf").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_variant_rows(tmp_path / "sites.vcf")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no VCF file"):
        read_variant_rows(tmp_path / "absent.vcf")
