"""Every saved model and tokenizer through the Auto classes, in a fresh process, with the package and without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

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
BIO_DTA = """
import json, sys, torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline
folder, options = sys.argv[1], json.loads(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(folder, **options)
encoded = tokenizer.encode_counts([[5, 0, 3, 1, 0, 0, 9, 0, 0, 2]], tokenizer.convert_ids_to_tokens(list(range(2, 12))))
input_ids = torch.as_tensor(encoded["input_ids"][0]).long().unsqueeze(0)
hidden = AutoModel.from_pretrained(folder, **options).eval()(input_ids).last_hidden_state
logits = AutoModelForMaskedLM.from_pretrained(folder, **options).eval()(input_ids).logits
task = pipeline("gene-embedding-perturbation", model=folder, device="cpu", **options).task
print(json.dumps([input_ids.tolist(), hidden.sum().item(), logits.sum().item(), task]))
"""
ENFORMER = """
import json, sys, torch
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1], **json.loads(sys.argv[2])).eval()
with torch.no_grad():
    print(json.dumps(model.gene_features(["ACGT" * 64], layer="final_pointwise", pool="all").sum().item()))
"""

NUCLEOTIDE_TRANSFORMER = """
import json, sys, torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForTokenClassification, AutoTokenizer
folder, options = sys.argv[1], json.loads(sys.argv[2])
encoder = ([AutoModel, AutoModelForMaskedLM], ["last_hidden_state", "logits"])
classes, outputs = encoder if folder.endswith("/nt") else ([AutoModelForTokenClassification], ["logits"])
tokenizer = AutoTokenizer.from_pretrained(folder, **options)
batch = tokenizer(["ACGTACGTNACGTTTA", "acguac"], padding=True, return_tensors="pt")
sums = [
    getattr(cls.from_pretrained(folder, **options).eval()(**batch), output).double().sum().item()
    for cls, output in zip(classes, outputs)
]
print(json.dumps([batch["input_ids"].tolist(), [round(number, 3) for number in sums]]))
"""

REGION_RANKERS = """
import json, sys, torch
from pathlib import Path
from transformers import AutoModel, AutoTokenizer
options, answers = json.loads(sys.argv[2]), []
for folder in sorted(Path(sys.argv[1]).iterdir()):
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    batch = tokenizer(["ACGTACGTNACGTTTA", "acguac"], padding=True, return_tensors="pt")
    lists = {name: tensor.unsqueeze(0) for name, tensor in batch.items()}
    model = AutoModel.from_pretrained(folder, **options).eval()
    found = model(**lists, labels=torch.tensor([[0.5, 0.0]]), cell_type_ids=torch.tensor([1]))
    numbers = [*found.scores[0].tolist(), found.loss.item()]
    answers.append([type(model).__name__, model.config.scorer_head, [round(number, 4) for number in numbers]])
print(json.dumps(answers))
"""


def run(code: str, folder: Path, scratch: Path, **options: bool) -> object:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(scratch / "modules")}
    command = [sys.executable, "-c", code, str(folder), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=scratch, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def bio_dta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As run_mlm.py saves it."""
    folder = tmp_path_factory.mktemp("bio-dta")
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
    return folder


def test_bio_dta_with_and_without_the_package(bio_dta: Path, tmp_path: Path) -> None:
    with_package = run("import omics_transformers\n" + BIO_DTA, bio_dta, tmp_path)
    without = run(WITHOUT_PACKAGE + BIO_DTA, bio_dta, tmp_path, trust_remote_code=True)
    assert without == with_package
    assert with_package[0] == [[8, 2, 4, 11, 5]] and with_package[3] == "gene-embedding-perturbation"


def test_without_the_package_and_without_trust_nothing_runs(bio_dta: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="trust_remote_code"):
        run(WITHOUT_PACKAGE + BIO_DTA, bio_dta, tmp_path, trust_remote_code=False)


def test_enformer_without_the_package(tmp_path: Path) -> None:
    model = make_small_enformer(tmp_path / "enformer", seed=0, dim=48, depth=1)
    with torch.no_grad():
        expected = model.gene_features(["ACGT" * 64], layer="final_pointwise", pool="all").sum().item()
    found = run(WITHOUT_PACKAGE + ENFORMER, tmp_path / "enformer", tmp_path, trust_remote_code=True)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["nt", "segment"])
def test_nucleotide_transformers_with_and_without_the_package(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "nt":
        model = NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**sizes))
    else:
        model = SegmentNTForTokenClassification(SegmentNTConfig(**sizes))
    model.save_pretrained(tmp_path / kind)
    NucleotideKmerTokenizer().save_pretrained(tmp_path / kind)
    with_package = run("import omics_transformers\n" + NUCLEOTIDE_TRANSFORMER, tmp_path / kind, tmp_path)
    without = run(WITHOUT_PACKAGE + NUCLEOTIDE_TRANSFORMER, tmp_path / kind, tmp_path, trust_remote_code=True)
    assert without == with_package
    assert len(with_package[1]) == (2 if kind == "nt" else 1)
    assert with_package[0][1] == [3, *NucleotideKmerTokenizer().convert_tokens_to_ids(["ACGTAC"]), *[1] * 5]


def test_region_rankers_with_and_without_the_package(tmp_path: Path) -> None:
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    models = tmp_path / "models"
    for head in SCORERS:
        torch.manual_seed(0)
        model = NTRegionRanker(NTRegionRankerConfig(**sizes, num_tokens=17, scorer_head=head, cell_types=["B", "T"]))
        torch.nn.init.normal_(model.cell_type_embeddings.weight)
        model.save_pretrained(models / head)
        NucleotideKmerTokenizer().save_pretrained(models / head)
    with_package = run("import omics_transformers\n" + REGION_RANKERS, models, tmp_path)
    without = run(WITHOUT_PACKAGE + REGION_RANKERS, models, tmp_path, trust_remote_code=True)
    assert without == with_package
    assert [answer[:2] for answer in with_package] == [["NTRegionRanker", head] for head in sorted(SCORERS)]
    assert len({score for answer in with_package for score in answer[2]}) == 12
