"""Attention of a sequence, layer by layer and head by head, laid on the bases of its tokens.

Each layer's weights are summed up as soon as the layer has run and then let go, so that memory holds one layer of
(heads, tokens, tokens) at a time, and what is kept: a window of 5,001 tokens would fill 19 GB at 12 layers of 16 heads.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .segmentation_target import EncodedSequence, encode_sequence, evaluating

if TYPE_CHECKING:
    import pandas as pd

LARGEST_MAPS_BYTES = 4 << 30


@dataclass(frozen=True)
class SequenceAttention:
    """Attention of one sequence.

    Attributes:
        encoded: the sequence and its tokens.
        queries: (queries,) int64, the tokens whose attention is looked at.
        received: (layers, heads, tokens) float64, the attention that a token receives, averaged over the queries; adds
            up to 1 over the tokens.
        entropy: (layers, heads) float64, bits, averaged over the queries: 0 where all attention goes to one token, and
            log2(tokens) where it is spread evenly.
        distance: (layers, heads) float64, bp between the middles of a query and what it attends to, weighted by the
            attention and averaged over the queries; <cls> is left out on both sides. NaN where nothing else is left.
        binned: (layers, heads, query bins, token bins) float32, the map at the resolution of a figure: mean over the
            queries of a bin, sum over the tokens of a bin, so that rows add up to 1.
        query_edges, token_edges: (bins + 1,) int64, where the bins begin and end, among the queries and the tokens.
        maps: (layers, heads, queries, tokens) float32; None where they were not kept.
    """

    encoded: EncodedSequence
    queries: np.ndarray
    received: np.ndarray
    entropy: np.ndarray
    distance: np.ndarray
    binned: np.ndarray
    query_edges: np.ndarray
    token_edges: np.ndarray
    maps: np.ndarray | None

    def token_table(self) -> "pd.DataFrame":
        """One row a token: start, end (bases of the sequence), token, received (mean over all heads), and one column
        layer{i}_head{j} for each, counted from 0. <cls> is the first row: heads often rest there.
        """
        import pandas as pd

        spans = self.encoded.spans
        letters = [text or "<cls>" for text in self.encoded.letters()]
        table = {"start": spans[:, 0], "end": spans[:, 1], "token": letters, "received": self.received.mean((0, 1))}
        for layer, heads in enumerate(self.received):
            table |= {f"layer{layer}_head{head}": values for head, values in enumerate(heads)}
        return pd.DataFrame(table)

    def head_table(self) -> "pd.DataFrame":
        """One row a head: layer, head, entropy_bits, distance_bp, cls_share (attention that <cls> receives), and
        top_start, top_end, top_received of the token that receives most, <cls> aside.
        """
        import pandas as pd

        layers, heads, _ = self.received.shape
        layer, head = np.divmod(np.arange(layers * heads), heads)
        is_special = self.encoded.spans[:, 0] == self.encoded.spans[:, 1]
        received = self.received.reshape(layers * heads, -1)
        top = np.where(is_special, -1.0, received).argmax(1)
        return pd.DataFrame(
            {
                "layer": layer,
                "head": head,
                "entropy_bits": self.entropy.ravel(),
                "distance_bp": self.distance.ravel(),
                "cls_share": received[:, is_special].sum(1),
                "top_start": self.encoded.spans[top, 0],
                "top_end": self.encoded.spans[top, 1],
                "top_received": received[np.arange(len(top)), top],
            }
        )

    def received_by_base(self) -> np.ndarray:
        """(layers, heads, bases) a token's received attention, spread evenly over its bases."""
        sizes = np.diff(self.encoded.spans, axis=1)[:, 0]
        return np.repeat(self.received / np.maximum(sizes, 1), sizes, axis=2)


def attend_sequence(
    model: Any,
    tokenizer: Any,
    sequence: str | bytes,
    *,
    query: tuple[int, int] | None = None,
    bins: int = 64,
    keep_maps: bool = False,
) -> SequenceAttention:
    """Attention within one sequence.

    Args:
        model: SegmentNTForTokenClassification, or another with the Nucleotide Transformer's encoder.
        tokenizer: its own.
        sequence: ACGTN.
        query: bases [start, end), 0-based: look at the attention of the tokens there; of all tokens, <cls> too, where
            None.
        bins: of `binned`, at most, for the queries and for the tokens.
        keep_maps: keep the attention of each query to each token too.

    Raises:
        ValueError: for a query outside the sequence, or maps of more than 4 GB.
    """
    encoded = encode_sequence(model, tokenizer, sequence)
    queries = _queries(encoded, query)
    layers, heads, tokens = model.config.num_hidden_layers, model.config.num_attention_heads, len(encoded.spans)
    n_bytes = 4 * layers * heads * len(queries) * tokens
    if keep_maps and n_bytes > LARGEST_MAPS_BYTES:
        raise ValueError(
            f"maps of {layers} layers, {heads} heads, {len(queries):,} queries and {tokens:,} tokens fill "
            f"{n_bytes / 2**30:.1f} GB, and at most {LARGEST_MAPS_BYTES >> 30} are kept: give a shorter query or "
            "sequence"
        )
    if bins < 1:
        raise ValueError(f"bins is {bins}: expected at least 1")
    query_edges, token_edges = _edges(len(queries), bins), _edges(tokens, bins)
    summarise = _Summary(encoded, queries, query_edges, token_edges, keep_maps)
    collected: list[dict[str, np.ndarray]] = []
    with evaluating(model), torch.inference_mode(), _collecting(model, summarise, collected):
        model(input_ids=encoded.input_ids, output_attentions=True)
    stacked = {name: np.stack([layer[name] for layer in collected]) for name in collected[0]}
    return SequenceAttention(
        encoded,
        queries,
        received=stacked["received"],
        entropy=stacked["entropy"],
        distance=stacked["distance"],
        binned=stacked["binned"],
        query_edges=query_edges,
        token_edges=token_edges,
        maps=stacked.get("maps"),
    )


@contextmanager
def _collecting(model: Any, summarise: "_Summary", collected: list[dict[str, np.ndarray]]) -> Iterator[None]:
    """While it lasts, what is kept of each layer's weights goes to `collected`, and the weights no further."""

    def collect(module: Any, arguments: Any, output: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, None]:  # noqa: ARG001
        attended, weights = output
        collected.append(summarise(weights))
        return attended, None

    handles = [layer.attention.register_forward_hook(collect) for layer in model.base_model.layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class _Summary:
    """(1, heads, tokens, tokens) of one layer to what is kept of it, by the names of `SequenceAttention`."""

    encoded: EncodedSequence
    queries: np.ndarray
    query_edges: np.ndarray
    token_edges: np.ndarray
    keep_maps: bool

    def __call__(self, weights: torch.Tensor) -> dict[str, np.ndarray]:
        rows = torch.as_tensor(self.queries, device=weights.device)
        chosen = weights[0, :, rows].float()  # (heads, queries, tokens)
        entropy = torch.special.entr(chosen).sum(2).mean(1) / math.log(2)
        kept = {
            "received": chosen.mean(1).double().cpu().numpy(),
            "entropy": entropy.double().cpu().numpy(),
            "distance": _mean_distance(chosen, self.encoded.spans, self.queries),
            "binned": self._bin(chosen).cpu().numpy(),
        }
        return kept | ({"maps": chosen.cpu().numpy()} if self.keep_maps else {})

    def _bin(self, weights: torch.Tensor) -> torch.Tensor:
        """(heads, queries, tokens) -> (heads, query bins, token bins)."""
        queries, tokens = (_membership(edges).to(weights) for edges in (self.query_edges, self.token_edges))
        return (queries / queries.sum(1, keepdim=True)) @ weights @ tokens.T


def _edges(count: int, bins: int) -> np.ndarray:
    """(bins + 1,) int64: `count` things in at most `bins` bins as equal as can be."""
    bins = min(count, bins)
    return np.arange(bins + 1) * count // bins


def _membership(edges: np.ndarray) -> torch.Tensor:
    """(bins, things) of 1 and 0."""
    places = np.arange(edges[-1])
    return torch.as_tensor((places >= edges[:-1, None]) & (places < edges[1:, None]))


def _mean_distance(weights: torch.Tensor, spans: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(heads,) bp, over tokens that stand for bases."""
    has_bases = torch.as_tensor(spans[:, 1] > spans[:, 0], device=weights.device)
    middles = torch.as_tensor(spans.mean(1), dtype=torch.float32, device=weights.device)
    rows = torch.as_tensor(queries, device=weights.device)
    rows, chosen = rows[has_bases[rows]], weights[:, has_bases[rows]]  # (heads, queries with bases, tokens)
    kept = chosen * has_bases
    distances = (middles[rows, None] - middles).abs()
    mean = ((kept * distances).sum(2) / kept.sum(2)).mean(1)  # NaN where there is no such query
    return mean.double().cpu().numpy()


def _queries(encoded: EncodedSequence, query: tuple[int, int] | None) -> np.ndarray:
    if query is None:
        return np.arange(len(encoded.spans))
    start, end = query
    if not 0 <= start < end <= len(encoded.sequence):
        raise ValueError(
            f"the query spans bases {start:,}-{end:,} of a sequence of {len(encoded.sequence):,}: expected "
            "0 <= start < end <= length"
        )
    return encoded.tokens_within(start, end)
