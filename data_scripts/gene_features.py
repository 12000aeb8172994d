"""The file of DNA features a gene: one safetensors file that embedding writes and training and perturbation read.

Tensors: `features` (genes, size), and with donors `donor_features`, `donor_feature_genes`, `donor_feature_index`, of
each donor's two haplotypes apart or of their mean. What is not a number (gene ids, how the features were made) is in
the file's metadata, as strings. The same features give the same bytes: safetensors alone orders metadata at random.
"""

import json
import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

logger = logging.getLogger(__name__)

REFERENCE = -1  # in donor_feature_index: the donor has the reference's promoter
_DONOR_TENSORS = ("donor_features", "donor_feature_genes", "donor_feature_index")


@dataclass
class GeneFeatures:
    """DNA features of the reference's genes and, optionally, of the donors' promoters that differ from it.

    Attributes:
        gene_ids: the gene of each row of `features`; in an aligned table, the token of each row.
        features: (genes, size) float32.
        metadata: how the features were made (assembly, window_bp, layer, pool, model, orient_by_strand, tss_choice,
            content_hash, ...), strings only.
        donors: names of the donors, or None where there are none.
        donor_features: (donor promoters, size) float32, one row a distinct promoter that differs from the reference:
            the mean of two haplotypes, or one haplotype where they are kept apart.
        donor_feature_genes: (donor promoters,) int32, the row of `features` that each is a variant of.
        donor_feature_index: (donors, genes) int32, the row of `donor_features` that a donor has at a gene; -1 for the
            reference. Where haplotypes are kept apart (donors, genes, 2), in the order of the phased genotypes.

    Raises:
        ValueError: where the parts do not fit each other, or a value is not finite.
    """

    gene_ids: list[str]
    features: np.ndarray
    metadata: dict[str, str] = field(default_factory=dict)
    donors: list[str] | None = None
    donor_features: np.ndarray | None = None
    donor_feature_genes: np.ndarray | None = None
    donor_feature_index: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.features = np.asarray(self.features, dtype=np.float32)
        _check_genes(self)
        if self.donors is not None:
            _check_donors(self)

    def features_of_donor(self, donor: str) -> np.ndarray:
        """(genes, size) float32: the reference's features with this donor's promoters in their place.

        Where haplotypes are kept apart, the mean of the two.
        """
        first, second = self.features_of_haplotypes(donor)
        return first if self.haplotypes == "mean" else (first + second) / 2

    def features_of_haplotypes(self, donor: str) -> np.ndarray:
        """(2, genes, size) float32: features of a donor's haplotypes; both are the mean where only that is known."""
        if self.donors is None or donor not in self.donors:
            raise ValueError(f"no donor {donor!r} among the gene features' donors: {_shown(self.donors or [])}")
        assert self.donor_features is not None and self.donor_feature_index is not None
        rows = self.donor_feature_index[self.donors.index(donor)].reshape(len(self.gene_ids), -1)  # (genes, 1 or 2)
        features = np.stack((self.features, self.features))
        for haplotype, of_haplotype in zip(features, (rows[:, 0], rows[:, -1]), strict=True):
            changed = of_haplotype != REFERENCE
            haplotype[changed] = self.donor_features[of_haplotype[changed]]
        return features

    @property
    def haplotypes(self) -> Literal["mean", "separate"]:
        """Whether `donor_features` are means of a donor's two haplotypes or each by itself; "mean" without donors."""
        return "separate" if self.donor_feature_index is not None and self.donor_feature_index.ndim == 3 else "mean"

    def with_mean_haplotypes(self) -> "GeneFeatures":
        """The same with one row of `donor_features` a distinct pair of haplotypes, their mean."""
        if self.haplotypes == "mean":
            return self
        assert self.donor_features is not None and self.donor_feature_index is not None
        of_donors = np.sort(self.donor_feature_index.astype(np.int64), axis=2)  # a pair is the same in either order
        donor, gene = np.nonzero((of_donors != REFERENCE).any(axis=2))
        keys = np.column_stack((gene, of_donors[donor, gene]))
        pairs, numbers = np.unique(keys, axis=0, return_inverse=True)
        index = np.full(of_donors.shape[:2], REFERENCE, dtype=np.int32)
        index[donor, gene] = numbers.reshape(-1)
        genes = pairs[:, 0].astype(np.int32)
        first, second = (_rows_or_reference(self.features[genes], self.donor_features, one) for one in pairs.T[1:])
        return replace(
            self,
            metadata=dict(self.metadata) | ({"haplotypes": "mean"} if "haplotypes" in self.metadata else {}),
            donor_features=(first + second) / 2,
            donor_feature_genes=genes,
            donor_feature_index=index,
        )


def read_gene_features(path: str | Path, *, haplotypes: Literal["mean", "as_written"] = "mean") -> GeneFeatures:
    """Read a file that `write_gene_features` wrote; float16 becomes float32.

    Args:
        path: the file.
        haplotypes: what to do with donors' haplotypes that are kept apart: take the mean of each donor's two, which
            is what models read, or leave them so.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is not a whole safetensors file, or not one of gene features.
    """
    if haplotypes not in ("mean", "as_written"):
        raise ValueError(f'haplotypes is {haplotypes!r}; expected "mean" or "as_written"')
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no gene features at {path}: expected a .safetensors file that `embed` wrote")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(sorted((file.metadata() or {}).items()))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}): make it again with `embed`") from error
    if "features" not in tensors or "gene_ids" not in metadata:
        raise ValueError(
            f"{path} is not a file of gene features: it has the tensors {_shown(sorted(tensors))} and the metadata "
            f"{_shown(sorted(metadata))}, expected a tensor `features` and the metadata `gene_ids` (a JSON list)"
        )
    found = _from_tensors(path, tensors, metadata)
    return found.with_mean_haplotypes() if haplotypes == "mean" else found


def write_gene_features(
    path: str | Path, gene_features: GeneFeatures, *, dtype: Literal["float32", "float16"] = "float32"
) -> None:
    """Write the file, whole or not at all.

    Args:
        path: ends in .safetensors; an existing file is replaced.
        gene_features: what to write.
        dtype: of `features` in the file. float16 halves the file, and is refused with donors: what one variant changes
            is near the last bit of float16.

    Raises:
        ValueError: for float16 with donors.
        OSError: where the folder cannot be written or the disk is full; no partial file is left.
    """
    if dtype == "float16" and gene_features.donors is not None:
        raise ValueError(
            'dtype="float16" would round away what single variants change in the donors\' features: write float32'
        )
    tensors, metadata = _to_tensors(gene_features, np.dtype(dtype))
    header, data = _sorted_header(save(tensors, metadata=metadata))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(header)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def align_gene_features(
    gene_features: GeneFeatures,
    gene_ids_by_token: Sequence[str],
    *,
    missing: Literal["error", "drop"] = "error",
    special_tokens: Sequence[str] = ("<pad>", "<mask>", "<cls>", "<eos>"),
) -> GeneFeatures:
    """Reorder the rows to a vocabulary: row i belongs to token i.

    Args:
        gene_features: the genes in the file's order; genes outside the vocabulary are left out, and logged.
        gene_ids_by_token: the vocabulary, special tokens included, by token id.
        missing: what to do with genes of the vocabulary that have no DNA features: raise, or leave them out, so that
            `gene_ids` of the result is a shorter vocabulary and token ids must be mapped anew.
        special_tokens: tokens that are no genes; their rows are zero.

    Returns:
        Gene features whose `gene_ids` are the tokens; the donors' arrays refer to these rows.

    Raises:
        ValueError: where a token occurs twice, no gene has features, or `missing="error"` and some gene has none.
    """
    row_of = {gene: row for row, gene in enumerate(gene_features.gene_ids)}
    _check_distinct(gene_ids_by_token, "the vocabulary")
    lacking = [token for token in gene_ids_by_token if token not in row_of and token not in special_tokens]
    genes_found = sum(token in row_of for token in gene_ids_by_token)
    _check_missing(lacking, genes_found, missing)
    left_out = set(lacking)
    tokens = [token for token in gene_ids_by_token if token not in left_out]
    logger.info(
        "DNA features aligned to the vocabulary: %d genes found, %d without features, %d features of genes outside it",
        genes_found,
        len(lacking),
        len(row_of) - genes_found,
    )
    rows = np.array([row_of.get(token, -1) for token in tokens], dtype=np.int64)
    features = np.where(rows[:, None] >= 0, gene_features.features[rows], np.float32(0))
    donor_parts = {} if gene_features.donors is None else _align_donors(gene_features, rows)
    return GeneFeatures(tokens, features, dict(gene_features.metadata), gene_features.donors, **donor_parts)


def _align_donors(gene_features: GeneFeatures, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The donors' arrays for tokens whose genes are these rows (tokens,), -1 for special tokens."""
    assert gene_features.donor_features is not None
    assert gene_features.donor_feature_genes is not None and gene_features.donor_feature_index is not None
    token_of_row = np.full(len(gene_features.gene_ids), -1, dtype=np.int32)
    token_of_row[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    tokens = token_of_row[gene_features.donor_feature_genes]
    kept = np.flatnonzero(tokens >= 0)
    new_row = np.full(len(tokens) + 1, REFERENCE, dtype=np.int32)  # the last entry answers for -1, the reference
    new_row[kept] = np.arange(len(kept))
    is_gene = (rows >= 0).reshape(-1, *[1] * (gene_features.donor_feature_index.ndim - 2))
    index = np.where(is_gene, new_row[gene_features.donor_feature_index[:, rows]], REFERENCE)
    return {
        "donor_features": gene_features.donor_features[kept],
        "donor_feature_genes": tokens[kept],
        "donor_feature_index": index.astype(np.int32),
    }


def _rows_or_reference(reference: np.ndarray, features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(rows, size): of `features`, and the reference's where the row is -1."""
    found = reference.copy()
    found[rows != REFERENCE] = features[rows[rows != REFERENCE]]
    return found


def _check_missing(lacking: list[str], genes_found: int, missing: str) -> None:
    if missing not in ("error", "drop"):
        raise ValueError(f'missing is {missing!r}; expected "error" or "drop"')
    if genes_found == 0:
        raise ValueError(
            f"no gene of the vocabulary has DNA features; it has e.g. {_shown(lacking)}: are both Ensembl ids?"
        )
    if lacking and missing == "error":
        raise ValueError(
            f"{len(lacking):,} genes of the vocabulary have no DNA features: {_shown(lacking)}. Embed their promoters, "
            'or leave these genes out of the cells with missing="drop"'
        )
    if lacking:
        logger.warning("%d genes of the vocabulary have no DNA features and are left out", len(lacking))


def _check_genes(gene_features: GeneFeatures) -> None:
    shape = gene_features.features.shape
    if len(shape) != 2 or shape[0] != len(gene_features.gene_ids):
        raise ValueError(
            f"features have shape {shape}; expected (genes, size) with {len(gene_features.gene_ids)} genes"
        )
    _check_distinct(gene_features.gene_ids, "the gene features")
    bad = np.flatnonzero(~np.isfinite(gene_features.features).all(axis=1))
    if len(bad):
        names = _shown([gene_features.gene_ids[row] for row in bad])
        raise ValueError(f"{len(bad)} genes have features that are NaN or infinite: {names}")


def _check_donors(gene_features: GeneFeatures) -> None:
    donors, genes, size = gene_features.donors or [], len(gene_features.gene_ids), gene_features.features.shape[1]
    absent = [name for name in _DONOR_TENSORS if getattr(gene_features, name) is None]
    if absent:
        raise ValueError(f"gene features with donors lack {_shown(absent)}")
    _check_distinct(donors, "the donors")
    features = gene_features.donor_features = np.asarray(gene_features.donor_features, dtype=np.float32)
    of_gene = gene_features.donor_feature_genes = np.asarray(gene_features.donor_feature_genes, dtype=np.int32)
    index = gene_features.donor_feature_index = np.asarray(gene_features.donor_feature_index, dtype=np.int32)
    pair = index.shape[2:] if index.shape[2:] == (2,) else ()
    expected = ((len(of_gene), size), (len(donors), genes, *pair))
    if (features.shape, index.shape) != expected:
        raise ValueError(
            f"donor_features and donor_feature_index have shapes {features.shape} and {index.shape}; expected "
            f"(donor promoters, size) and (donors, genes) or (donors, genes, 2) = {expected[0]} and {expected[1]}"
        )
    if not np.isfinite(features).all():
        raise ValueError("donor_features hold values that are NaN or infinite")
    places = np.nonzero(index != REFERENCE)
    rows, gene = index[places], places[1]
    if len(rows) and (rows.min() < 0 or rows.max() >= len(of_gene) or (of_gene[rows] != gene).any()):
        raise ValueError("donor_feature_index names rows of donor_features that do not exist or are another gene's")


def _check_distinct(names: Sequence[str], where: str) -> None:
    unique, counts = np.unique(np.asarray(names, dtype=object).astype(str), return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{(counts > 1).sum()} names occur twice in {where}: {_shown(unique[counts > 1].tolist())}")


def _from_tensors(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> GeneFeatures:
    try:
        gene_ids, donors = (json.loads(metadata.pop(key, "null")) for key in ("gene_ids", "donors"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: the metadata `gene_ids` or `donors` is not JSON ({error})") from error
    donor_parts = {name: tensors[name] for name in _DONOR_TENSORS if name in tensors and donors is not None}
    try:
        return GeneFeatures(gene_ids, tensors["features"], metadata, donors, **donor_parts)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _to_tensors(gene_features: GeneFeatures, dtype: np.dtype) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    tensors = {"features": np.ascontiguousarray(gene_features.features.astype(dtype))}
    metadata = {**gene_features.metadata, "gene_ids": json.dumps(list(gene_features.gene_ids))}
    if gene_features.donors is not None:
        metadata["donors"] = json.dumps(list(gene_features.donors))
        tensors |= {name: np.ascontiguousarray(getattr(gene_features, name)) for name in _DONOR_TENSORS}
    return tensors, metadata


def _sorted_header(serialized: bytes) -> tuple[bytes, memoryview]:
    """The bytes of a safetensors file as (header with its metadata sorted, tensors)."""
    data_start = 8 + int.from_bytes(serialized[:8], "little")
    header = json.loads(serialized[8:data_start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text, memoryview(serialized)[data_start:]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _shown(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = f", ... ({len(names) - limit:,} more)" if len(names) > limit else ""
    return ", ".join(map(str, names[:limit])) + more
