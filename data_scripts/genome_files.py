"""One genome out of several FASTA files: whole chromosomes, and pieces of contigs with the place where each
begins."""

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from .genomes import Genome, contig_alias, open_genome

_REGION = re.compile(r":\d+-\d+$")


class GenomeFiles:
    """The contigs of several FASTA files. Coordinates are 0-based, half-open.

    Attributes:
        contigs: name of each contig -> the coordinate behind its last base.
        starts: name of each contig -> the coordinate of its first base.
        paths, offsets: as given.
        pieces: contigs that were given an offset (0 too): what lies outside them is elsewhere, not beyond the contig.
    """

    def __init__(
        self,
        fasta: str | Path | Sequence[str | Path],
        *,
        offsets: Mapping[str, int] | None = None,
        cache_folder: str | Path | None = None,
    ) -> None:
        """Open the files; `offsets` and `cache_folder` as `open_genome`, offsets over all files.

        Raises:
            FileNotFoundError, ValueError: as `open_genome`; for a contig in two files, an offset of a contig in none.
        """
        paths = [Path(path) for path in ([fasta] if isinstance(fasta, str | Path) else fasta)]
        if not paths:
            raise ValueError("no FASTA file is given; expected one or more")
        self.paths = paths
        self.offsets = dict(offsets or {})
        self._stack = ExitStack()
        try:
            self._genomes = self._open(dict(offsets or {}), cache_folder)
        except BaseException:
            self._stack.close()
            raise
        self.contigs = {name: end for genome in self._genomes for name, end in genome.contigs.items()}
        self.starts = {name: start for genome in self._genomes for name, start in genome.starts.items()}
        self.pieces = {name for name in self.contigs if name in (offsets or {})}
        self._by_contig = {name: genome for genome in self._genomes for name in genome.contigs}

    def __enter__(self) -> "GenomeFiles":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and remove what was decompressed for them."""
        self._stack.close()

    def __str__(self) -> str:
        return ", ".join(map(str, self.paths))

    @property
    def ambiguous_letters(self) -> dict[str, int]:
        """Of each contig how many of the bases fetched are IUPAC letters, read as N."""
        return {name: number for genome in self._genomes for name, number in genome.ambiguous_letters.items()}

    def find(self, contig: str) -> str | None:
        """The files' name for a contig (`chr20` and `20` are the same), or None."""
        names = [name for genome in self._genomes if (name := genome.find(contig)) is not None]
        return names[0] if names else None

    def resolve(self, contig: str) -> str:
        """As `find`, and a ValueError that names the contigs there are where it finds none."""
        name = self.find(contig)
        if name is None:
            names = list(self.contigs)
            shown = ", ".join(names[:8]) + (f", ... ({len(names) - 8:,} more)" if len(names) > 8 else "")
            raise ValueError(
                f"no contig {contig!r} in {self}, which has {shown}. A piece of a contig needs its offset, e.g. "
                'offsets={"22": 20_000_000}'
            )
        return name

    def fetch(self, contig: str, start: int, end: int) -> bytes:
        """The bases of [start, end) of a contig under its own name: upper-case ACGTN; errors as `Genome.fetch`."""
        return self._by_contig[contig].fetch(contig, start, end)

    def _open(self, offsets: dict[str, int], cache_folder: str | Path | None) -> list[Genome]:
        """Each file once to learn its contigs, and then with its own offsets."""
        if cache_folder is None:
            cache_folder = tempfile.mkdtemp(prefix="genomes-")
            self._stack.callback(shutil.rmtree, cache_folder, ignore_errors=True)
        own_offsets: list[dict[str, int]] = []
        owner: dict[str, Path] = {}
        for path in self.paths:
            with open_genome(path, cache_folder=cache_folder) as genome:
                records = list(genome.contigs)
            aliases = {contig_alias(name) for record in records for name in (record, _REGION.sub("", record))}
            own_offsets.append({name: first for name, first in offsets.items() if contig_alias(name) in aliases})
        unused = set(offsets).difference(*own_offsets)
        if unused:
            raise ValueError(f"offsets name {', '.join(sorted(unused))}, which none of {self} holds")
        genomes = []
        for path, own in zip(self.paths, own_offsets, strict=True):
            genome = self._stack.enter_context(open_genome(path, offsets=own, cache_folder=cache_folder))
            for alias, name in ((contig_alias(name), name) for name in genome.contigs):
                if owner.setdefault(alias, path) != path:
                    raise ValueError(f"contig {name} is in {owner[alias]} and in {path}: give it once")
            genomes.append(genome)
        return genomes
