"""Genes, loci and bin edges of an earlier build or of a saved feature extractor, so that new cells are made alike."""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..modeling.peak_gene_rings import GeneLoci, Rings
from ..modeling.value_bins import ValueBins
from .fragment_files import shown_names
from .multiome_sources import Modality

logger = logging.getLogger(__name__)

MULTIOME_FILE = "multiome.json"
EXTRACTOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class FittedAlignment:
    """What `MultiomeFeatureExtractor` knows.

    Attributes:
        source: file that it was read from.
        gene_ids, gene_symbols: in order; symbols "" where unknown.
        loci: None where no ATAC was aligned.
        bins: by modality, those that were fitted.
        rings: bounds and weights.
        assembly: None where not named.
    """

    source: str
    gene_ids: list[str]
    gene_symbols: list[str]
    loci: GeneLoci | None
    bins: dict[Modality, ValueBins]
    rings: Rings
    assembly: str | None

    @classmethod
    def from_folder(cls, folder: str | Path) -> "FittedAlignment":
        """Of a folder that `build multiome`, or the feature extractor's `save_pretrained`, wrote.

        Raises:
            FileNotFoundError: where it is neither.
            ValueError: where its parts do not go together: bins fitted on other genes, loci of another number.
        """
        folder = Path(folder)
        path = next((folder / name for name in (MULTIOME_FILE, EXTRACTOR_FILE) if (folder / name).is_file()), None)
        if path is None:
            raise FileNotFoundError(
                f"{folder} has neither {MULTIOME_FILE} of `build multiome` nor {EXTRACTOR_FILE} of a saved feature "
                "extractor"
            )
        content = json.loads(path.read_text(encoding="utf-8"))
        fitted = content.get("feature_extractor") if path.name == MULTIOME_FILE else content
        if not isinstance(fitted, dict) or not fitted.get("gene_ids"):
            raise ValueError(f"{path} names no genes; expected what MultiomeFeatureExtractor is made of")
        return _from_dictionary(fitted, str(path))

    def require(
        self,
        modalities: Collection[Modality],
        *,
        gene_list: Sequence[str] | None,
        binning: str | None,
        num_bins: int | None,
        rings: Rings | None,
        assembly: str | None,
    ) -> None:
        """ValueError where what is asked for is not what was fitted; None asks for nothing."""
        if gene_list is not None and list(gene_list) != self.gene_ids:
            differing = sorted(set(gene_list) ^ set(self.gene_ids))
            raise ValueError(
                f"the bins of {self.source} were fitted on other genes: {len(self.gene_ids):,} there, "
                f"{len(gene_list):,} listed, {len(differing):,} in one only ({shown_names(differing)}). Leave the list "
                "of genes out (theirs are taken), or fit bins anew (without bins_from)"
                if differing
                else f"the genes of {self.source} are those listed in another order: leave the list of genes out"
            )
        for modality in modalities:
            if modality not in self.bins or (modality == "atac" and self.loci is None):
                raise ValueError(
                    f"{self.source} has no {'bins' if modality not in self.bins else 'loci of genes'} for "
                    f"{modality.upper()}, which the sources have: fit bins anew (without bins_from)"
                )
            fitted = self.bins[modality]
            self._require_equal("binning", binning, fitted.strategy)
            self._require_equal("num_bins", num_bins, fitted.num_bins)
        self._require_equal("rings", rings, self.rings)
        self._require_equal("assembly", assembly, self.assembly)

    def _require_equal(self, name: str, asked: object, fitted: object) -> None:
        if asked is not None and fitted is not None and asked != fitted:
            raise ValueError(f"{name} is {asked!r}, {self.source} was made with {fitted!r}: leave it out")

    def to_dict(self) -> dict[str, Any]:
        """Keyword arguments of `MultiomeFeatureExtractor`, for JSON."""
        loci = None
        if self.loci is not None:
            loci = {name: np.asarray(value).tolist() for name, value in self.loci._asdict().items()}
        return {
            "gene_ids": self.gene_ids,
            "gene_symbols": self.gene_symbols,
            "gene_loci": loci,
            "rna_bins": self.bins["rna"].to_dict() if "rna" in self.bins else None,
            "atac_bins": self.bins["atac"].to_dict() if "atac" in self.bins else None,
            "rings": self.rings.to_dict(),
            "assembly": self.assembly,
        }


def _from_dictionary(fitted: dict[str, Any], source: str) -> FittedAlignment:
    genes = [str(gene) for gene in fitted["gene_ids"]]
    bins: dict[Modality, ValueBins] = {}
    modalities: tuple[Modality, ...] = ("rna", "atac")
    for modality in modalities:
        if fitted.get(f"{modality}_bins") is not None:
            found = ValueBins.from_dict(fitted[f"{modality}_bins"])
            if found.num_genes is not None and found.num_genes != len(genes):
                raise ValueError(
                    f"{source}: the bins of {modality.upper()} were fitted on {found.num_genes:,} genes, it names "
                    f"{len(genes):,}: they were fitted on other genes; take a folder as it was written"
                )
            bins[modality] = found
    loci = None
    if fitted.get("gene_loci") is not None:
        columns = fitted["gene_loci"]
        kinds = {"contig": object, "start": np.int64, "end": np.int64, "strand": object}
        loci = GeneLoci(*(np.array(columns[name], dtype=kind) for name, kind in kinds.items()))
        if {len(column) for column in loci} != {len(genes)}:
            raise ValueError(f"{source} has loci of {len(loci.contig):,} genes, it names {len(genes):,}")
    rings = Rings(**fitted["rings"]) if fitted.get("rings") is not None else Rings()
    symbols = fitted.get("gene_symbols") or [""] * len(genes)
    return FittedAlignment(source, genes, list(symbols), loci, bins, rings, fitted.get("assembly"))
