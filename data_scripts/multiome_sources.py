"""Where the cells of one data set come from: a file of RNA, ATAC or both, or two files paired by barcode."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from .peak_names import COORDINATES, Coordinates
from .source_text import path_and_options

Modality = Literal["rna", "atac"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
ModalityChoice = Literal["rna", "atac", "both"]
Counts = Literal["reads", "fragments"]

_FORM = (
    "PATH[:atac=PATH2][:modality=rna|atac|both][:peaks=BED][:tile=5000][:labels=CSV][:column=cell_type][:donor=COLUMN]"
    "[:batch=COLUMN][:barcodes=COLUMN][:chain=CHAIN][:name=NAME][:layer=LAYER][:counts=reads|fragments]"
    "[:coordinates=0-based]"
)
_FIELD_OF_OPTION = {
    "atac": "atac",
    "modality": "modality",
    "peaks": "peaks",
    "tile": "tile_bp",
    "labels": "labels",
    "column": "label_column",
    "donor": "donor_column",
    "batch": "batch_column",
    "barcodes": "barcode_column",
    "chain": "chain",
    "name": "name",
    "layer": "layer",
    "counts": "counts",
    "coordinates": "coordinates",
}
_ENDINGS = (".gz", ".bgz", ".tsv", ".bed", ".txt", ".h5ad", ".h5mu", ".h5")


@dataclass(frozen=True)
class MultiomeSource:
    """One data set.

    Attributes:
        path: counts (.h5ad, .h5mu, 10x .h5, 10x folder) of genes, peaks or both, or fragments.tsv; told by the content.
        atac: counts of peaks, or fragments, of the same cells, where `path` holds their RNA; paired by barcode.
        modality: what to read of `path`; by default what its content is: both where there are genes and peaks.
        peaks: BED file of the peaks to count fragments in; for fragments only.
        tile_bp: length in bp of tiles to count fragments in, instead of peaks; for fragments only.
        labels: table of barcodes and labels of cells; without it, columns of obs. Of fragments it also names the cells.
        label_column: of cell types, in `labels` or obs; found by its name by default.
        donor_column, batch_column: of donors and batches, in `labels` or obs; without them they are unknown.
        barcode_column: of `labels`; found by its values by default.
        chain: liftOver chain from the peaks' assembly to the annotation's.
        name: of the data set; that of the file by default.
        layer: matrix of an .h5ad or .h5mu that holds the counts, if not X.
        counts: what a matrix of peaks holds: "reads", made fragments as `fragments_of_reads` does, or "fragments".
            fragments.tsv holds fragments whatever is said here.
        coordinates: how names of peaks count; BED and fragments are 0-based always.
    """

    path: str | Path
    atac: str | Path | None = None
    modality: ModalityChoice | None = None
    peaks: str | Path | None = None
    tile_bp: int | None = None
    labels: str | Path | None = None
    label_column: str | None = None
    donor_column: str | None = None
    batch_column: str | None = None
    barcode_column: str | None = None
    chain: str | Path | None = None
    name: str | None = None
    layer: str | None = None
    counts: Counts = "reads"
    coordinates: Coordinates = "0-based"

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("modality", self.modality, (None, *get_args(ModalityChoice))),
            ("counts", self.counts, get_args(Counts)),
            ("coordinates", self.coordinates, COORDINATES),
        ):
            if value not in choices:
                raise ValueError(
                    f"{self.path}: {name} is {value!r}; expected one of {', '.join(filter(None, choices))}"
                )
        if self.atac is not None and self.modality not in (None, "rna"):
            raise ValueError(
                f"{self.path}: modality is {self.modality!r} and the ATAC is of {self.atac}; expected that the first "
                "file holds the RNA"
            )
        if self.peaks is not None and self.tile_bp is not None:
            raise ValueError(f"{self.path}: both peaks and tiles are given; expected one of them to count fragments in")
        if self.tile_bp is not None and self.tile_bp < 1:
            raise ValueError(f"{self.path}: tiles of {self.tile_bp} bp; expected 1 or more")
        if self.barcode_column is not None and self.labels is None:
            raise ValueError(f"{self.path}: a column of barcodes is named, but no table of labels that has it")

    @classmethod
    def from_text(cls, text: str) -> "MultiomeSource":
        """Of `PATH[:atac=PATH2][:modality=rna|atac|both]...`, as on the command line.

        Raises:
            ValueError: for an option that there is not, a tile that is no number, and what cannot go together.
        """
        path, options = path_and_options(text, _FIELD_OF_OPTION, expected=_FORM)
        fields: dict = {_FIELD_OF_OPTION[key]: value for key, value in options.items()}
        if "tile" in options:
            if not options["tile"].isdecimal():
                raise ValueError(f"{text!r}: tile={options['tile']!r}; expected a number of base pairs, such as 5000")
            fields["tile_bp"] = int(options["tile"])
        return cls(path, **fields)

    @property
    def dataset(self) -> str:
        """The data set's name: as given, or that of the file without its endings."""
        if self.name is not None:
            return self.name
        name = Path(self.path).resolve().name
        while Path(name).suffix in _ENDINGS:
            name = Path(name).stem
        return name
