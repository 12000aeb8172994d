"""Every saved model and tokenizer through the Auto classes, in a fresh process, with the package and without it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from omics_transformers.modeling.accessibility_scorers import SCORERS
from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerForMaskedLM
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.training.pretraining_output import add_perturbation_pipeline
from omics_transformers.training.small_enformer import make_small_enformer

GENES = [f"ENSG{number:011d}" for number in range(10)]
TOKENS = {token: number for number, token in enumerate(["<pad>", "<mask>", *GENES])}
WITHOUT_PACKAGE = "import sys\nsys.modules['omics_transformers'] = None  # importing it now raises ImportError\n"
ANSWERS = """
import json, sys, torch
from pathlib import Path
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForTokenClassification, AutoTokenizer, pipeline
models, options = Path(sys.argv[1]), json.loads(sys.argv[2])

def opened(auto_class, name):
    return auto_class.from_pretrained(models / name, **options)

def bio_dta(name):
    tokenizer = opened(AutoTokenizer, name)
    genes = tokenizer.convert_ids_to_tokens(list(range(2, 12)))
    encoded = tokenizer.encode_counts([[5, 0, 3, 1, 0, 0, 9, 0, 0, 2]], genes)
    input_ids = torch.as_tensor(encoded["input_ids"][0]).long().unsqueeze(0)
    hidden = opened(AutoModel, name).eval()(input_ids).last_hidden_state
    logits = opened(AutoModelForMaskedLM, name).eval()(input_ids).logits
    task = pipeline("gene-embedding-perturbation", model=str(models / name), device="cpu", **options).task
    return [input_ids.tolist(), hidden.sum().item(), logits.sum().item(), task]

def enformer(name):
    model = opened(AutoModel, name).eval()
    return model.gene_features(["ACGT" * 64], layer="final_pointwise", pool="all").sum().item()

def nucleotides(name, outputs):
    batch = opened(AutoTokenizer, name)(["ACGTACGTNACGTTTA", "acguac"], padding=True, return_tensors="pt")
    sums = [
        getattr(opened(auto_class, name).eval()(**batch), output).double().sum().item()
        for auto_class, output in outputs.items()
    ]
    return [batch["input_ids"].tolist(), [round(number, 3) for number in sums]]

def region_ranker(name):
    batch = opened(AutoTokenizer, name)(["ACGTACGTNACGTTTA", "acguac"], padding=True, return_tensors="pt")
    lists = {key: tensor.unsqueeze(0) for key, tensor in batch.items()}
    model = opened(AutoModel, name).eval()
    found = model(**lists, labels=torch.tensor([[0.5, 0.0]]), cell_type_ids=torch.tensor([1]))
    numbers = [*found.scores[0].tolist(), found.loss.item()]
    return [type(model).__name__, model.config.scorer_head, [round(number, 4) for number in numbers]]

with torch.no_grad():
    answers = {
        "bio_dta": bio_dta("bio_dta"),
        "nt": nucleotides("nt", {AutoModel: "last_hidden_state", AutoModelForMaskedLM: "logits"}),
        "segment": nucleotides("segment", {AutoModelForTokenClassification: "logits"}),
        "rankers": [region_ranker(path.name) for path in sorted(models.glob("ranker-*"))],
    }
    if options:
        answers["enformer"] = enformer("enformer")  # the package does not register it
print(json.dumps(answers))
"""


def run(code: str, models: Path, scratch: Path, **options: bool) -> dict[str, Any]:
    """What a process of its own answers; all models in one, since each would import torch anew."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(scratch / "modules")}
    command = [sys.executable, "-c", code, str(models), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=scratch, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each model in a folder of its own, as `save_pretrained` leaves it."""
    folder = tmp_path_factory.mktemp("models")
    save_bio_dta(folder / "bio_dta")
    make_small_enformer(folder / "enformer", seed=0, dim=48, depth=1)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**sizes)).save_pretrained(folder / "nt")
    SegmentNTForTokenClassification(SegmentNTConfig(**sizes)).save_pretrained(folder / "segment")
    for head in SCORERS:
        torch.manual_seed(0)
        config = NTRegionRankerConfig(
            **{**sizes, "num_hidden_layers": 1}, num_tokens=17, scorer_head=head, cell_types=["B", "T"]
        )
        model = NTRegionRanker(config)
        torch.nn.init.normal_(model.cell_type_embeddings.weight)
        model.save_pretrained(folder / f"ranker-{head}")
    for path in folder.iterdir():
        if path.name not in ("bio_dta", "enformer"):
            NucleotideKmerTokenizer().save_pretrained(path)
    return folder


def save_bio_dta(folder: Path) -> None:
    """As run_mlm.py saves it."""
    torch.manual_seed(0)
    config = BioDTAConfig(
        vocab_size=12,
        hidden_size=16,
        num_hidden_layers=2,
        intermediate_size=20,
        max_position_embeddings=20,
        dna_feature_size=5,
        variant_encoding="difference",
        feature_scaling="whiten",
        gene_ids=list(TOKENS),
    )
    model = BioDTAForMaskedLM(config)
    model.set_gene_features(torch.randn(12, 5))
    add_perturbation_pipeline(model, folder)
    model.save_pretrained(folder)
    GeneRankTokenizer.from_dictionaries(TOKENS, dict.fromkeys(GENES, 2.0)).save_pretrained(folder)


@pytest.fixture(scope="module")
def with_package(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run("import omics_transformers\n" + ANSWERS, models, tmp_path_factory.mktemp("with"))


@pytest.fixture(scope="module")
def without_package(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(WITHOUT_PACKAGE + ANSWERS, models, tmp_path_factory.mktemp("without"), trust_remote_code=True)


@pytest.mark.parametrize("name", ["bio_dta", "nt", "segment", "rankers"])
def test_answers_are_the_same_with_and_without_the_package(
    name: str, with_package: dict[str, Any], without_package: dict[str, Any]
) -> None:
    assert without_package[name] == with_package[name]


def test_bio_dta_reads_counts_and_opens_its_pipeline(with_package: dict[str, Any]) -> None:
    answer = with_package["bio_dta"]
    assert answer[0] == [[8, 2, 4, 11, 5]] and answer[3] == "gene-embedding-perturbation"


def test_enformer_answers_as_the_model_that_was_saved(without_package: dict[str, Any], tmp_path: Path) -> None:
    model = make_small_enformer(tmp_path / "enformer", seed=0, dim=48, depth=1)
    with torch.no_grad():
        expected = model.gene_features(["ACGT" * 64], layer="final_pointwise", pool="all").sum().item()
    assert without_package["enformer"] == pytest.approx(expected, rel=1e-5)


def test_nucleotide_transformers_read_both_sequences(with_package: dict[str, Any]) -> None:
    for name, number_of_classes in (("nt", 2), ("segment", 1)):
        assert len(with_package[name][1]) == number_of_classes
        assert with_package[name][0][1] == [3, *NucleotideKmerTokenizer().convert_tokens_to_ids(["ACGTAC"]), *[1] * 5]


def test_each_region_ranker_has_scores_of_its_own(with_package: dict[str, Any]) -> None:
    answers = with_package["rankers"]
    assert [answer[:2] for answer in answers] == [["NTRegionRanker", head] for head in sorted(SCORERS)]
    assert len({score for answer in answers for score in answer[2]}) == 12


def test_without_the_package_and_without_trust_nothing_runs(models: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="trust_remote_code"):
        run(WITHOUT_PACKAGE + ANSWERS, models, tmp_path, trust_remote_code=False)
