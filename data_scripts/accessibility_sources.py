"""Where the accessibility of a sample comes from: a file, and all that must be known to read it."""

from dataclasses import dataclass
from pathlib import Path

from .peak_names import COORDINATES, Coordinates
from .source_text import path_and_options

_FORM = (
    "PATH[:peaks=BED][:tile=5000][:labels=CSV][:column=cell_type][:barcodes=COLUMN][:chain=CHAIN][:name=NAME]"
    "[:layer=LAYER][:modality=atac][:coordinates=0-based]"
)
_FIELD_OF_OPTION = {
    "peaks": "peaks",
    "tile": "tile_bp",
    "labels": "labels",
    "column": "label_column",
    "barcodes": "barcode_column",
    "chain": "chain",
    "name": "name",
    "layer": "layer",
    "modality": "modality",
    "coordinates": "coordinates",
}
_ENDINGS = (".gz", ".bgz", ".tsv", ".bed", ".txt", ".h5ad", ".h5mu", ".h5")


@dataclass(frozen=True)
class AccessibilitySource:
    """One sample.

    Attributes:
        path: counts, cells x peaks (.h5ad, .h5mu, 10x .h5, 10x folder), or fragments.tsv; told by the content.
        peaks: BED file of the peaks to count fragments in; for fragments only.
        tile_bp: length of tiles to count fragments in, instead of peaks; for fragments only.
        labels: table of barcodes and types of cells; without it, a column of obs, or else Leiden clusters.
        label_column: the column, of `labels` or of obs, that holds the types; found by its name by default.
        barcode_column: the column of `labels` that holds the barcodes; found by its values by default.
        chain: liftOver chain from the file's assembly to the genome's. It is not applied here.
        name: of the sample; that of the file by default.
        layer: matrix of an .h5ad or .h5mu that holds the counts, if not X.
        modality: part of an .h5mu.
        coordinates: how names of peaks count; BED and fragments are 0-based always.
    """

    path: str | Path
    peaks: str | Path | None = None
    tile_bp: int | None = None
    labels: str | Path | None = None
    label_column: str | None = None
    barcode_column: str | None = None
    chain: str | Path | None = None
    name: str | None = None
    layer: str | None = None
    modality: str = "atac"
    coordinates: Coordinates = "0-based"

    def __post_init__(self) -> None:
        if self.peaks is not None and self.tile_bp is not None:
            raise ValueError(f"{self.path}: both peaks and tiles are given; expected one of them to count fragments in")
        if self.tile_bp is not None and self.tile_bp < 1:
            raise ValueError(f"{self.path}: tiles of {self.tile_bp} bp; expected 1 or more")
        if self.barcode_column is not None and self.labels is None:
            raise ValueError(f"{self.path}: a column of barcodes is named, but no table of labels that has it")
        if self.coordinates not in COORDINATES:
            raise ValueError(
                f"{self.path}: coordinates are {self.coordinates!r}; expected one of {', '.join(COORDINATES)}"
            )

    @classmethod
    def from_text(cls, text: str) -> "AccessibilitySource":
        """Of `PATH[:peaks=BED][:tile=5000][:labels=CSV][:column=cell_type]...`, as on the command line.

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
    def sample(self) -> str:
        """The sample's name: as given, or that of the file without its endings."""
        if self.name is not None:
            return self.name
        name = Path(self.path).resolve().name
        while Path(name).suffix in _ENDINGS:
            name = Path(name).stem
        return name
