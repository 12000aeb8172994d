"""Counts of RNA and ATAC of new cells -> the bins of genes that a multiome model was trained on.

Source: chapter 4 of the thesis behind the multiome Performer. Alignment (columns to genes, peaks to genes by rings of
distance) and binning (edges and scales as they were fitted) are kept apart, so that either can be done elsewhere. Saved
as preprocessor_config.json beside a model.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from transformers import BatchFeature, FeatureExtractionMixin

from .gene_lookup import GeneLookup
from .peak_gene_rings import (
    MINIMUM_TSS_ENRICHMENT,
    GeneLoci,
    Rings,
    checked_loci,
    contig_key,
    peak_gene_weights,
    require_same_assembly,
    weighted_gene_sums,
)
from .raw_counts import checked_counts
from .value_bins import ValueBins

logger = logging.getLogger(__name__)

MODALITIES = ("rna", "atac")
COUNTS_ARE = ("reads", "fragments")
_OPTIONS = ("gene_ids", "gene_symbols", "gene_loci", "rna_bins", "atac_bins", "rings", "assembly")
_OF_TRANSFORMERS = ("auto_map", "feature_extractor_type", "processor_class")
_N_EXAMPLES = 5


class AlignedCounts(NamedTuple):
    """Counts of a model's genes, and what became of the columns they come from."""

    counts: sp.csr_matrix  # (cells, genes) float32
    report: dict[str, Any]  # numbers and examples, for JSON


class MultiomeFeatureExtractor(FeatureExtractionMixin):
    """Aligns raw counts to a model's genes, and bins aligned counts as the model's training cells were.

    Args:
        gene_ids: the model's genes, in its order.
        gene_symbols: a symbol a gene, "" where unknown; then columns may be named by symbols too.
        gene_loci: `contig`, `start`, `end`, `strand`, a list a key and an entry a gene, 0-based and half-open; the
            contig "" (or None) where unknown. Needed for ATAC.
        rna_bins, atac_bins: what `ValueBins.to_dict()` gives; a modality without them cannot be binned.
        rings: `bounds_bp`, `weights` and `gene_body` of `Rings`; its defaults where None.
        assembly: of the loci, for messages.

    Raises:
        ValueError: on genes given twice, lists of other lengths than `gene_ids`, bins that were fitted on another
            number of genes, and broken loci or rings.
    """

    model_input_names = ["rna_values", "atac_values"]  # noqa: RUF012 (transformers' own form)

    def __init__(
        self,
        gene_ids: Sequence[str],
        *,
        gene_symbols: Sequence[str] | None = None,
        gene_loci: Mapping[str, Sequence[Any]] | None = None,
        rna_bins: Mapping[str, Any] | None = None,
        atac_bins: Mapping[str, Any] | None = None,
        rings: Mapping[str, Any] | None = None,
        assembly: str | None = None,
        **kwargs: Any,
    ) -> None:
        unknown = [name for name in kwargs if name not in _OF_TRANSFORMERS]
        if unknown:
            logger.warning("options of the feature extractor without effect: %s", ", ".join(unknown))
        super().__init__(**kwargs)
        self.gene_ids = [str(gene) for gene in gene_ids]
        self.gene_symbols = None if gene_symbols is None else [str(symbol or "") for symbol in gene_symbols]
        self.gene_loci = None if gene_loci is None else {name: list(values) for name, values in gene_loci.items()}
        self.rna_bins = None if rna_bins is None else dict(rna_bins)
        self.atac_bins = None if atac_bins is None else dict(atac_bins)
        self.rings = None if rings is None else dict(rings)
        self.assembly = assembly
        self._lookup = GeneLookup(self.gene_ids, self.gene_symbols)
        self._bins = {modality: self._fitted_bins(modality) for modality in MODALITIES}
        self._rings = Rings(**self.rings) if self.rings is not None else Rings()
        self._loci = None if self.gene_loci is None else _loci(self.gene_loci, len(self.gene_ids))

    def __call__(self, rna: Any = None, atac: Any = None, return_tensors: str | None = None) -> BatchFeature:
        """Bins of aligned counts; both are of the same cells where both are given.

        Args:
            rna: (cells, genes) raw counts of the model's genes, as `align_rna` gives them; sparse or dense.
            atac: (cells, genes) weighted sums of fragments, as `align_atac` gives them.
            return_tensors: "pt", "np" or None, which is "np".

        Returns:
            `rna_values`, `atac_values` or both: uint8 `(cells, genes)`, 0 for zero, then 1 to the number of bins.

        Raises:
            ValueError: without counts; on a modality without fitted bins, another number of genes, different numbers of
                cells, counts that are negative or not finite, and RNA that is no whole numbers.
        """
        given = {modality: counts for modality, counts in (("rna", rna), ("atac", atac)) if counts is not None}
        if not given:
            raise ValueError("no counts: give rna, atac or both, aligned to the model's genes")
        binned = {}
        for modality, counts in given.items():
            bins = self._bins_for(modality)
            checked = checked_counts(counts, what=modality, whole=modality == "rna")
            if checked.shape[1] != len(self.gene_ids):
                raise ValueError(
                    f"the {modality} counts have {checked.shape[1]:,} columns and the model {len(self.gene_ids):,} "
                    f"genes: align them first, with align_{modality}(...).counts"
                )
            binned[f"{modality}_values"] = bins.bin(checked)
        if len({len(values) for values in binned.values()}) > 1:
            numbers = " and ".join(f"{len(values):,} cells of {name[:-7]}" for name, values in binned.items())
            raise ValueError(f"{numbers}: rna and atac given together are of the same cells, in the same order")
        return BatchFeature(binned, tensor_type=return_tensors)

    def align_rna(self, counts: Any, names: Sequence[str], *, minimum_share: float = 0.5) -> AlignedCounts:
        """Counts of the model's genes; columns of one gene are summed, genes that no column names are zero.

        Args:
            counts: (cells, columns) raw counts, sparse or dense.
            names: (columns,) gene ids, with or without version, or symbols that one gene bears.
            minimum_share: of the model's genes that must be found.

        Returns:
            float32 counts `(cells, genes)` and the report: columns and counts that were left out, genes missing.

        Raises:
            ValueError: on too few genes found, another number of names than columns, and counts that are negative, not
                finite or no whole numbers.
        """
        names = [str(name) for name in names]
        checked = checked_counts(
            counts, what="rna", whole=True, n_columns=len(names), column_name=lambda column: names[column]
        )
        genes = self._lookup.find(names)
        columns = np.flatnonzero(genes >= 0)
        columns_of_gene = np.bincount(genes[columns], minlength=len(self.gene_ids))
        found = int((columns_of_gene > 0).sum())
        if found < minimum_share * len(self.gene_ids) or not found:
            raise ValueError(
                f"{found:,} of the model's {len(self.gene_ids):,} genes are among the {len(names):,} columns, and at "
                f"least {minimum_share:.0%} are needed: the columns are e.g. {_examples(names)}, the genes e.g. "
                f"{_examples(self.gene_ids)}; give names of the model's kind (gene ids"
                f"{' or symbols' if self.gene_symbols else ', as it knows no symbols'}), or cells of the same organism"
            )
        to_gene = sp.csr_matrix(
            (np.ones(len(columns)), (columns, genes[columns])), shape=(len(names), len(self.gene_ids))
        )
        aligned = weighted_gene_sums(checked, to_gene)
        missing = np.flatnonzero(columns_of_gene == 0)
        left_out = np.flatnonzero(genes < 0)
        report = {
            "columns": len(names),
            "columns_left_out": len(left_out),
            "columns_left_out_examples": [names[column] for column in left_out[:_N_EXAMPLES]],
            "columns_of_ambiguous_symbols": sum(names[column] in self._lookup.ambiguous_symbols for column in left_out),
            "columns_summed_into_another": int(len(columns) - found),
            "genes": len(self.gene_ids),
            "genes_found": found,
            "genes_missing": len(missing),
            "genes_missing_examples": [self.gene_ids[gene] for gene in missing[:_N_EXAMPLES]],
            **_what_was_kept(checked, genes >= 0, aligned),
        }
        return _logged("rna", AlignedCounts(aligned, report))

    def align_atac(
        self,
        counts: Any,
        contig: Sequence[str] | np.ndarray,
        start: Any,
        end: Any,
        *,
        counts_are: Literal["reads", "fragments"] = "reads",
        minimum_tss_enrichment: float | None = MINIMUM_TSS_ENRICHMENT,
    ) -> AlignedCounts:
        """Weighted sums of the fragments in the peaks around each gene of the model.

        Args:
            counts: (cells, peaks) whole numbers, sparse or dense.
            contig, start, end: (peaks,) where the peaks lie: 0-based, half-open, of the loci's assembly; `chr1` and `1`
                are one contig.
            counts_are: "reads" (cut sites; both ends of a fragment are counted, so they are rounded up to even and
                halved) or "fragments".
            minimum_tss_enrichment: below it the peaks count as another assembly's, see `require_same_assembly`; None
                does not look.

        Returns:
            float32 sums `(cells, genes)` and the report: peaks and fragments that were left out, genes without peak.

        Raises:
            ValueError: without loci; on peaks of another assembly or near no gene, on broken peaks, and on counts that
                are negative, not finite or no whole numbers.
        """
        if counts_are not in COUNTS_ARE:
            raise ValueError(f"counts_are is {counts_are!r}: give {' or '.join(map(repr, COUNTS_ARE))}")
        if self._loci is None:
            raise ValueError(
                "peaks cannot be aligned: the feature extractor has no gene_loci; load one of a model that was trained "
                "on ATAC, or give gene_loci"
            )
        contigs, starts, ends = np.asarray(contig, dtype=object), np.asarray(start), np.asarray(end)
        checked = checked_counts(
            counts,
            what="atac",
            whole=True,
            n_columns=len(contigs),
            column_name=lambda peak: f"{contigs[peak]}:{starts[peak]}-{ends[peak]}",
        )
        weights = peak_gene_weights(contigs, starts, ends, self._loci, self._rings)
        if not weights.nnz:
            raise ValueError(
                f"none of the {len(contigs):,} peaks is within {self._rings.bounds_bp[-1]:,} bp of a gene: the peaks "
                f"are on e.g. {_examples(sorted(set(contigs)))}, the genes ({self.assembly or 'assembly not named'}) "
                f"on e.g. {_examples(sorted(set(self._loci.contig) - {''}))}"
            )
        found = None
        if minimum_tss_enrichment is not None:
            found = require_same_assembly(
                contigs, starts, ends, self._loci, minimum_ratio=minimum_tss_enrichment, assembly=self.assembly
            )
        if counts_are == "reads":
            checked.data = np.ceil(checked.data / 2)
        aligned = weighted_gene_sums(checked, weights)
        linked = np.diff(weights.indptr) > 0
        gene_contigs = set(map(contig_key, set(self._loci.contig)))
        report = {
            "peaks": len(contigs),
            "peaks_left_out": int((~linked).sum()),
            "contigs_without_gene": sorted(name for name in set(contigs) if contig_key(name) not in gene_contigs),
            "genes": len(self.gene_ids),
            "genes_without_locus": int((self._loci.contig == "").sum()),
            "genes_without_peak": int((np.bincount(weights.indices, minlength=weights.shape[1]) == 0).sum()),
            "counts_are": counts_are,
            "tss_enrichment": float(found.odds_ratio) if found is not None and np.isfinite(found.odds_ratio) else None,
            **_what_was_kept(checked, linked, aligned),
        }
        return _logged("atac", AlignedCounts(aligned, report))

    def expected_values(self, probabilities: Any, modality: Literal["rna", "atac"]) -> np.ndarray:
        """What bins' probabilities mean: log(1 + count normalised to the bins' target total), its expectation.

        Args:
            probabilities: (cells, genes, bins + 1), zero among the bins; each gene's sum to 1.
            modality: whose bins.

        Returns:
            float64 `(cells, genes)`, from the centres of the bins and the genes' scales.

        Raises:
            ValueError: on a modality without fitted bins, and on another shape.
        """
        return self._bins_for(modality).expected_log_values(probabilities)

    def to_dict(self) -> dict[str, Any]:
        """The options, for JSON."""
        kept = (*_OPTIONS, *(name for name in ("auto_map",) if hasattr(self, name)))
        return {**{name: getattr(self, name) for name in kept}, "feature_extractor_type": type(self).__name__}

    def __repr__(self) -> str:
        binned = [modality for modality in MODALITIES if self._bins[modality] is not None]
        return f"{type(self).__name__}({len(self.gene_ids):,} genes, bins of {' and '.join(binned) or 'nothing'})"

    def _fitted_bins(self, modality: str) -> ValueBins | None:
        fitted = getattr(self, f"{modality}_bins")
        if fitted is None:
            return None
        bins = ValueBins.from_dict(fitted)
        if bins.num_genes not in (None, len(self.gene_ids)):
            raise ValueError(
                f"{modality}_bins were fitted on {bins.num_genes:,} genes and gene_ids are {len(self.gene_ids):,}: "
                "give bins that were fitted on these genes, in this order"
            )
        return bins

    def _bins_for(self, modality: str) -> ValueBins:
        if modality not in MODALITIES:
            raise ValueError(f"no modality {modality!r}: give {' or '.join(map(repr, MODALITIES))}")
        bins = self._bins[modality]
        if bins is None:
            raise ValueError(
                f"the feature extractor has no {modality}_bins: the model was trained without {modality}; leave it "
                f"out, or give {modality}_bins"
            )
        return bins


def _loci(gene_loci: Mapping[str, list[Any]], n_genes: int) -> GeneLoci:
    if set(gene_loci) != set(GeneLoci._fields):
        raise ValueError(f"gene_loci have {', '.join(gene_loci)}: expected {', '.join(GeneLoci._fields)}")
    lengths = {name: len(values) for name, values in gene_loci.items()}
    if set(lengths.values()) != {n_genes}:
        raise ValueError(f"gene_loci have the lengths {lengths} for {n_genes:,} gene_ids: give one entry a gene")
    contig = np.array([name or "" for name in gene_loci["contig"]], dtype=object)
    start, end = (np.array([0 if at is None else at for at in gene_loci[name]]) for name in ("start", "end"))
    return checked_loci(GeneLoci(contig, start, end, np.array(gene_loci["strand"], dtype=object)))


def _what_was_kept(counts: sp.csr_matrix, is_used: np.ndarray, aligned: sp.csr_matrix) -> dict[str, Any]:
    """`is_used (columns,)` bool, of the columns of `counts`."""
    total = counts.data.sum()
    kept = counts.data[is_used[counts.indices]].sum()
    return {
        "counts_left_out_share": float(1 - kept / total) if total else 0.0,
        "cells": aligned.shape[0],
        "cells_without_counts": int((np.diff(aligned.indptr) == 0).sum()),
    }


def _logged(modality: str, aligned: AlignedCounts) -> AlignedCounts:
    report = aligned.report
    logger.info("%s aligned to %d genes: %s", modality, report["genes"], report)
    if report["cells_without_counts"]:
        logger.warning(
            "%d of %d cells have no %s count of any gene: all their values are zero",
            *(report["cells_without_counts"], report["cells"], modality),
        )
    return aligned


def _examples(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:3])) or "none"


MultiomeFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
