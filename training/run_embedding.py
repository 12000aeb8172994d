"""Make the file of gene features, on one process or many.

    accelerate launch training/run_embedding.py --fasta genome.fa --annotation genes.gtf --model enformer/ \\
        --output features.safetensors

Options may also stand in one YAML or JSON file, given in their place. Stopped runs go on where they were.
"""

import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import Any, Literal

from transformers import HfArgumentParser

from omics_transformers.training.embedding import embed_promoters, process_state

logger = logging.getLogger("run_embedding")


def _option(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass
class EmbeddingArguments:
    """One field an option of `embed_promoters`, which describes them in full."""

    fasta: str = _option(None, "genome: FASTA, plain, gzip or BGZF")
    annotation: str = _option(None, "genes: GTF, GFF3, UCSC genePred or a table of TSSs")
    output: str = _option(None, "file to write, ending in .safetensors")
    model: str = _option(None, "folder or Hub repository of an Enformer")
    vcf: str | None = _option(None, "donors' phased variants")
    window_bp: int = _option(196_608, "length of the window around each TSS")
    layer: Literal["final_pointwise", "transformer", "conv_tower"] = _option("final_pointwise", "layer to average")
    pool: str = _option("all", "positions to average: all, or how many at the centre")
    batch_size: int = _option(1, "windows that go through the model together")
    dtype: Literal["float32", "bfloat16"] | None = _option(
        None, "computing precision; bfloat16 on a GPU without --vcf, else float32"
    )
    features_dtype: Literal["float32", "float16"] = _option("float32", "precision of the features in the file")
    tss_choice: Literal["canonical", "most_common", "five_prime_most", "median", "longest"] = _option(
        "canonical", "which transcript gives a gene's TSS"
    )
    orient_by_strand: bool = _option(False, "reverse-complement windows of genes on the minus strand")
    gene_ids: str | None = _option(None, "file of gene ids, one a line, or a JSON token dictionary: only these genes")
    gene_symbols: str | None = _option(None, "JSON of symbol: gene id, for annotations that know symbols only")
    protein_coding_only: bool = _option(False, "only genes that the annotation says are protein-coding")
    missing_contigs: Literal["error", "drop"] = _option("error", "genes on contigs that the genome lacks")
    beyond_contig: Literal["error", "drop"] = _option("error", "genes whose TSS is outside the contig")
    alternative_contigs: Literal["drop", "keep"] = _option("drop", "contigs named *_alt, *_fix, *_hap")
    table_coordinates: Literal["0-based", "1-based"] = _option("0-based", "of a table of TSSs")
    offsets: str | None = _option(None, 'JSON of contig: first coordinate, for pieces, e.g. {"22": 20000000}')
    unphased: Literal["error", "as_written"] = _option("error", "heterozygous genotypes without phase")
    missing_genotypes: Literal["error", "reference", "drop"] = _option("error", "genotypes that are not called")
    other_variants: Literal["error", "drop"] = _option("error", "alleles such as <INS>, <CNV>, * and breakends")
    overlapping: Literal["error", "first"] = _option("error", "variants that change the same bases of one haplotype")
    unsorted: Literal["error", "sort"] = _option("error", "a VCF whose lines are out of order")
    haplotypes: Literal["mean", "separate"] = _option("mean", "average a donor's two haplotypes, or keep both")
    assembly: str | None = _option(None, "name of the assembly, for the metadata, e.g. GRCh38")
    cache_folder: str | None = _option(None, "keep the decompressed genome here for the next time")
    part_size: int = _option(32, "windows between two saves")
    overwrite: bool = _option(False, "replace a file or parts that were made from something else")


def main() -> None:
    """Read the options and embed; errors of the user's input end with one line, not a traceback."""
    arguments = _parse()
    process = process_state()
    logging.basicConfig(level=logging.INFO if process.is_main_process else logging.ERROR)
    try:
        settings = resolve(arguments)
        logger.info("settings: %s", settings)
        embed_promoters(**settings)
        process.destroy_process_group()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on where this one was")


def resolve(arguments: EmbeddingArguments) -> dict[str, Any]:
    """The keywords of `embed_promoters` for these options."""
    settings = dataclasses.asdict(arguments)
    required = [name for name in ("fasta", "annotation", "output", "model") if not settings[name]]
    if required:
        raise ValueError("these options are needed: " + ", ".join(f"--{name}" for name in required))
    if settings["pool"] != "all":
        if not settings["pool"].isdecimal():
            raise ValueError(f'--pool is {settings["pool"]!r}; expected "all" or a number of positions')
        settings["pool"] = int(settings["pool"])
    settings["offsets"] = json.loads(settings["offsets"]) if settings["offsets"] else None
    settings["gene_ids"] = _read_gene_ids(settings["gene_ids"]) if settings["gene_ids"] else None
    return settings


def _read_gene_ids(path: str) -> list[str]:
    text = Path(path).read_text()
    names = list(json.loads(text)) if path.endswith(".json") else text.split()
    return [name for name in names if not name.startswith("<")]


def _parse() -> EmbeddingArguments:
    parser = HfArgumentParser(EmbeddingArguments)  # type: ignore[arg-type]
    if len(sys.argv) == 2 and sys.argv[1].endswith((".yaml", ".yml")):
        return parser.parse_yaml_file(sys.argv[1])[0]
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        return parser.parse_json_file(sys.argv[1])[0]
    return parser.parse_args_into_dataclasses()[0]


if __name__ == "__main__":
    main()
