"""Rows of a region-ranking data set: one span of DNA in one cell type, three of its regions, and their accessibility.

Coordinates are 0-based, half-open, on the contigs of the genome that the sequences are taken from.
"""

import pyarrow as pa

REGIONS_A_ROW = 3

REGION_SCHEMA = pa.schema(
    [
        ("contig", pa.string()),
        ("span_start", pa.int64()),
        ("span_end", pa.int64()),
        ("tiling", pa.int32()),  # which of the shifted tilings of the contig the span belongs to, from 0
        ("sample", pa.string()),  # file or donor that the cells come from
        ("cell_type", pa.string()),
        ("starts", pa.list_(pa.int64())),  # of the three regions
        ("ends", pa.list_(pa.int64())),
        ("counts", pa.list_(pa.float64())),  # mean fragments a cell, shared by length where a span cuts a peak
        ("peaks", pa.list_(pa.string())),  # the peak as the input names it, in the input's assembly; "" where none
        ("sequences", pa.list_(pa.string())),  # ACGTN of the plus strand
        ("padding_share", pa.list_(pa.float32())),  # share of a region's padding tokens that stand in front, 0 to 1
    ]
)
