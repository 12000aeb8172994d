"""The k-mer tokenizer: the fast path against Rust and transformers' ESM tokenizer, save and load, bad input."""

import copy
import logging
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, DataCollatorForLanguageModeling, EsmTokenizer

from omics_transformers.modeling.nucleotide_kmers import KmerVocabulary
from omics_transformers.modeling.tokenization_nucleotide_kmer import KmerBatchEncoding, NucleotideKmerTokenizer

LETTERS = "ACGTNacgtnuURYSWKMBDHVryswkmbdhv"
SEQUENCES = ["ATTCCGATTCCGATTCCAACGGA", "acgnACGTUURya", "", "N", "ACGTACG"]


class BackendOnly(NucleotideKmerTokenizer):
    """Everything goes to Rust."""

    def _is_plain(self, sequences: Any, options: dict[str, Any]) -> bool:
        return False


FAST, RUST = NucleotideKmerTokenizer(), BackendOnly()


def same(found: Any, expected: Any) -> None:
    """Equal keys, types and values."""
    assert list(found) == list(expected)
    for name in found:
        assert type(found[name]) is type(expected[name]), name
        if isinstance(found[name], list):
            assert found[name] == expected[name], name
        else:
            assert found[name].dtype == expected[name].dtype and found[name].shape == expected[name].shape, name
            equal = torch.equal if torch.is_tensor(found[name]) else np.array_equal
            assert equal(found[name], expected[name]), name


@pytest.mark.parity
@given(sequences=st.lists(st.text(LETTERS, max_size=40), min_size=1, max_size=4), options=st.data())
def test_the_fast_path_equals_rust(sequences: list[str], options: st.DataObject) -> None:
    padding = options.draw(st.sampled_from([False, True, "max_length"]))
    truncation = options.draw(st.booleans())
    max_length = options.draw(st.sampled_from([2, 5, 30]))
    chosen: dict[str, Any] = {
        "padding": padding,
        "truncation": truncation,
        "max_length": max_length if truncation or padding == "max_length" else None,
        "return_offsets_mapping": options.draw(st.booleans()),
        "return_attention_mask": options.draw(st.sampled_from([None, True, False])),
        "pad_to_multiple_of": options.draw(st.sampled_from([None, 1, 8])) if padding and not truncation else None,
    }
    same(FAST(sequences, **chosen), RUST(sequences, **chosen))
    same(FAST(sequences[0], **chosen), RUST(sequences[0], **chosen))
    if padding is True:
        for kind in ("np", "pt"):
            same(FAST(sequences, **chosen, return_tensors=kind), RUST(sequences, **chosen, return_tensors=kind))
    for kind in ("np", "pt"):
        same(FAST(sequences[0], **chosen, return_tensors=kind), RUST(sequences[0], **chosen, return_tensors=kind))


@given(sequences=st.lists(st.text(LETTERS, max_size=40), min_size=1, max_size=4))
def test_encode_bases_equals_rust(sequences: list[str]) -> None:
    expected = RUST(sequences, padding=True, return_tensors="np")
    found = FAST.encode_batch_bases(sequences)
    assert {name: array.tolist() for name, array in found.items()} == {k: v.tolist() for k, v in expected.items()}
    assert found["input_ids"].dtype == found["attention_mask"].dtype == np.int64
    ragged = FAST.encode_batch_bases([sequence.encode() for sequence in sequences], padding=False)["input_ids"]
    assert [ids.tolist() for ids in ragged] == RUST(sequences)["input_ids"]
    alone = FAST.encode_bases(sequences[0].encode())
    assert alone.dtype == np.uint16 and alone.tolist() == ragged[0].tolist()


@pytest.mark.parity
def test_equals_transformers_esm_tokenizer(tmp_path: Path) -> None:
    FAST.save_vocabulary(str(tmp_path))
    # Published with the models: <cls> in front, and no <eos>, which this class would put at the end.
    esm = EsmTokenizer(str(tmp_path / "vocab.txt"), eos_token=None)
    random = np.random.default_rng(0)
    sequences = ["".join(random.choice(list("ACGTN"), size, p=[0.24] * 4 + [0.04])) for size in range(1, 120, 7)]
    assert FAST(sequences)["input_ids"] == esm(sequences)["input_ids"]
    assert FAST("ACGTACG<mask>ACGTAC")["input_ids"] == esm("ACGTACG<mask>ACGTAC")["input_ids"]


def test_ragged_tensors_fail_as_in_rust() -> None:
    for tokenizer in (FAST, RUST):
        with pytest.raises(ValueError, match="you should probably activate truncation and/or padding"):
            tokenizer(SEQUENCES, return_tensors="pt")
    # Longer ones than max_length keep their length.
    chosen = {"padding": "max_length", "max_length": 3}
    same(FAST(SEQUENCES, **chosen), RUST(SEQUENCES, **chosen))
    assert sorted(map(len, FAST(SEQUENCES, **chosen)["input_ids"])) == [3, 3, 3, 9, 9]


@pytest.mark.parametrize(
    "options",
    [
        {"add_special_tokens": False},
        {"return_special_tokens_mask": True},
        {"return_length": True},
        {"return_token_type_ids": True},
        {"truncation": True, "max_length": 4, "stride": 1, "return_overflowing_tokens": True},
        {"padding": True, "padding_side": "left"},
    ],
)
def test_what_the_fast_path_does_not_do_goes_to_rust(options: dict[str, Any]) -> None:
    found = FAST(SEQUENCES, **options)
    assert type(found) is not KmerBatchEncoding
    same(found, RUST(SEQUENCES, **options))
    assert type(FAST(SEQUENCES)) is KmerBatchEncoding


def test_encodings_are_made_on_request() -> None:
    found, expected = FAST(SEQUENCES, padding=True), RUST(SEQUENCES, padding=True)
    assert found.is_fast and found._made is None
    assert found.tokens(4) == expected.tokens(4) == ["<cls>", "ACGTAC", "G", *["<pad>"] * 6]
    assert found.char_to_token(0, 7) == 2 and found.token_to_chars(0, 2) == (6, 12)
    assert [encoding.ids for encoding in found.encodings] == found["input_ids"]
    assert FAST.tokenize("acgtacg") == ["ACGTAC", "G"]
    assert copy.copy(FAST(SEQUENCES)).tokens(3) == ["<cls>", "N"]
    sent = pickle.loads(pickle.dumps(FAST(SEQUENCES)))  # noqa: S301 (our own)
    assert sent.data == FAST(SEQUENCES).data and not sent.is_fast and sent.n_sequences == 1


def test_padding_is_1_and_on_the_right() -> None:
    found = FAST(["ACGTACG", "A"], padding=True)
    assert found["input_ids"] == [[3, 728, 4105], [3, 4102, 1]]
    assert found["attention_mask"] == [[1, 1, 1], [1, 1, 0]]
    padded = FAST.pad({"input_ids": [[3, 728, 4105], [3, 4102]]}, return_tensors="np")
    assert padded["input_ids"].tolist() == found["input_ids"]
    assert FAST.encode_batch_bases([])["input_ids"].shape == (0, 0)
    assert FAST.encode_batch_bases([], padding=False) == {"input_ids": []}


def test_special_tokens_in_the_text() -> None:
    found = FAST("acgtac<mask>AC<pad>GT<cls>", return_offsets_mapping=True)
    assert found["input_ids"] == [3, 728, 2, 4102, 4104, 1, 4105, 4103, 3]
    assert found["offset_mapping"][1:4] == [(0, 6), (6, 12), (12, 13)]
    assert FAST(["ACG", "<mask>"], padding=True)["input_ids"] == [[3, 4102, 4104, 4105], [3, 2, 1, 1]]


def test_special_tokens_may_be_refused_in_the_text() -> None:
    tokenizer = NucleotideKmerTokenizer()
    with pytest.raises(ValueError, match="the sequence has '<' at position 2"):
        tokenizer("AC<mask>", split_special_tokens=True)
    assert tokenizer("ACGTAC", split_special_tokens=True)["input_ids"] == [3, 728]


@given(sequence=st.text("ACGTN", max_size=80))
def test_decoding_gives_the_bases_back(sequence: str) -> None:
    ids = FAST(sequence)["input_ids"]
    assert FAST.decode(ids) == "<cls>" + sequence
    assert FAST.decode(ids, skip_special_tokens=True) == sequence
    assert FAST.batch_decode([FAST.encode_bases(sequence)], skip_special_tokens=True) == [sequence]


@given(sequence=st.text(LETTERS, max_size=80))
def test_bases_of_tokens_from_ids(sequence: str) -> None:
    found = FAST([sequence], return_tensors="np", return_offsets_mapping=True)
    assert np.array_equal(FAST.token_base_offsets(found["input_ids"]), found["offset_mapping"])


def test_bases_of_special_tokens() -> None:
    offsets = FAST.token_base_offsets(torch.tensor([3, 2, 4102, 1, 1]))  # <mask> stands for a 6-mer
    assert offsets.tolist() == [[0, 0], [0, 6], [6, 7], [7, 7], [7, 7]]
    with pytest.raises(ValueError, match=r"ids reach from -100 to 3, and the vocabulary has 4,107 tokens"):
        FAST.token_base_offsets([3, -100])


def test_any_k_and_any_order_of_a_checkpoints_vocabulary(tmp_path: Path) -> None:
    tokens = KmerVocabulary.published(3).tokens
    shuffled = [tokens[number] for number in np.random.default_rng(0).permutation(len(tokens))]
    (tmp_path / "vocab.txt").write_text("\n".join(shuffled))
    tokenizer = NucleotideKmerTokenizer(tmp_path / "vocab.txt")
    backend = BackendOnly(vocab=shuffled)
    assert tokenizer.kmer_size == 3 and len(tokenizer) == 75 and tokenizer.unk_token_id == shuffled.index("<unk>")
    assert tokenizer.convert_ids_to_tokens(tokenizer("ACGTTNAC")["input_ids"]) == ["<cls>", "ACG", *"TTNAC"]
    same(tokenizer(SEQUENCES, padding=True), backend(SEQUENCES, padding=True))


def test_the_collator_for_masked_language_models() -> None:
    collator = DataCollatorForLanguageModeling(FAST, mlm_probability=0.5, seed=0)
    batch = collator([FAST(sequence) for sequence in SEQUENCES])
    is_special = torch.isin(FAST(SEQUENCES, padding=True, return_tensors="pt")["input_ids"], torch.tensor([1, 3]))
    assert (batch["labels"][is_special] == -100).all() and (batch["labels"] > 3).any()


def test_long_sequences_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("transformers").propagate = True
    try:
        tokenizer = NucleotideKmerTokenizer(model_max_length=4)
        tokenizer("ACGTACG" * 4)
        assert "(9 > 4)" in caplog.text
    finally:
        logging.getLogger("transformers").propagate = False
    assert len(tokenizer("ACGTACG" * 4, truncation=True)["input_ids"]) == 4


@pytest.mark.parametrize("tokenizer", [FAST, RUST])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ACGX", r"the sequence has 'X' at position 3 \(0-based\)"),
        (["ACG", "AC GT"], r"sequence 1 has ' ' at position 2 \(0-based\)"),
        ("ACGT\n", r"'\\n' at position 4"),
        ("AC<mask>GT<maks>", r"'<' at position 10"),
        (["AC", "<mask>Z"], r"sequence 1 has 'Z' at position 6"),
        ("é", "'é' at position 0"),
    ],
)
def test_characters_that_are_no_dna_are_named(tokenizer: NucleotideKmerTokenizer, text: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tokenizer(text)


def test_words_are_checked_too() -> None:
    assert FAST(["ACGTACG", "NA"], is_split_into_words=True)["input_ids"] == [3, 728, 4105, 4106, 4102]
    with pytest.raises(ValueError, match=r"sequence 1 has '!' at position 1"):
        FAST([["AC", "A!"]], is_split_into_words=True)


def test_the_bare_backend_has_no_silent_unk() -> None:
    with pytest.raises(Exception, match="Missing"):
        FAST.backend_tokenizer.encode("ACX")


@pytest.mark.parametrize("pair", [{"text": "A", "text_pair": "C"}, {"text": ["A"], "text_pair": ["C"]}])
def test_pairs_are_refused(pair: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="reads single ones"):
        FAST(**pair)
    with pytest.raises(ValueError, match="reads single ones"):
        FAST([("ACG", "ACG")])


def test_save_and_load(tmp_path: Path) -> None:
    tokenizer = NucleotideKmerTokenizer(vocab=KmerVocabulary.published(4).tokens, model_max_length=77)
    tokenizer.save_pretrained(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    for loaded in (
        NucleotideKmerTokenizer.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=True),
    ):
        assert loaded.get_vocab() == tokenizer.get_vocab() and loaded.model_max_length == 77
        same(loaded(SEQUENCES, padding=True), tokenizer(SEQUENCES, padding=True))
        assert loaded("ACGT<mask>")["input_ids"] == tokenizer("ACGT<mask>")["input_ids"]
        assert loaded.decode(loaded("ACGTC")["input_ids"], skip_special_tokens=True) == "ACGTC"
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "vocab.txt").read_bytes() == (tmp_path / "vocab.txt").read_bytes()
    revived = pickle.loads(pickle.dumps(tokenizer))  # noqa: S301 (our own)
    same(revived(SEQUENCES), tokenizer(SEQUENCES))


def test_auto_tokenizer_in_a_process_without_the_package(tmp_path: Path) -> None:
    FAST.save_pretrained(tmp_path / "tokenizer")
    code = (
        "import sys; sys.modules['omics_transformers'] = None\n"
        "from transformers import AutoTokenizer\n"
        f"tokenizer = AutoTokenizer.from_pretrained({str(tmp_path / 'tokenizer')!r}, trust_remote_code=True)\n"
        "print(tokenizer('ACGTACGn<mask>')['input_ids'], tokenizer.encode_bases('acgtacR').tolist())"
    )
    environment = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "[3, 728, 4105, 4106, 2] [3, 728, 4106]"


def test_added_tokens_work_and_are_not_lost_in_silence(tmp_path: Path) -> None:
    tokenizer = NucleotideKmerTokenizer()
    tokenizer.add_tokens(["<human>", "GATTACA"])
    assert tokenizer(["<human>ACG", "GATTACAC"])["input_ids"] == [[3, 4107, 4102, 4104, 4105], [3, 4108, 4104]]
    with pytest.raises(ValueError, match=r"2 tokens were added.*put them into vocab\.txt"):
        tokenizer.save_pretrained(tmp_path)
