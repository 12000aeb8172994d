"""Whether a pipeline's tokenizer is its model's: both read the same k-mers under the same ids."""

from typing import Any


def require_fitting_tokenizer(tokenizer: Any, config: Any) -> None:
    """Raise ValueError for a tokenizer of another kind, or one whose ids are not those that the model was trained with.

    Args:
        tokenizer: as the pipeline has it, perhaps None.
        config: of a model that is made on a Nucleotide Transformer.
    """
    if tokenizer is None or not hasattr(tokenizer, "encode_batch_bases"):
        raise ValueError(
            f"the pipeline needs a NucleotideKmerTokenizer, and has {type(tokenizer).__name__}: save the tokenizer "
            "beside the model, or give tokenizer=NucleotideKmerTokenizer()"
        )
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in ("N", "A" * config.kmer_size, "<cls>", "<pad>")}
    expected = (config.n_token_id, config.kmer_token_ids[0], config.cls_token_id, config.pad_token_id)
    wrong = [f"{name} {ids[name]}, {value}" for name, value in zip(ids, expected, strict=True) if ids[name] != value]
    if wrong or tokenizer.kmer_size != config.kmer_size:
        raise ValueError(
            f"the tokenizer (k {tokenizer.kmer_size}) is not the model's (k {config.kmer_size}); ids that differ: "
            f"{'; '.join(wrong) or 'none'}. Load both from the same folder"
        )
