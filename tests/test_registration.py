"""What `import omics_transformers` registers, whatever was imported before it, and what it costs."""

import json
import subprocess
import sys

import pytest

import omics_transformers

CHECK = """
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForTokenClassification, AutoTokenizer
from transformers import AutoModelForPreTraining, AutoModelForSequenceClassification
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING
from transformers.pipelines import PIPELINE_REGISTRY
config = AutoConfig.for_model("bio-dta", vocab_size=9, hidden_size=8, num_hidden_layers=1, dna_feature_size=3)
assert type(AutoModel.from_config(config)).__name__ == "BioDTAModel"
assert type(AutoModelForMaskedLM.from_config(config)).__name__ == "BioDTAForMaskedLM"
assert TOKENIZER_MAPPING[type(config)].__name__ == "GeneRankTokenizer"
task = PIPELINE_REGISTRY.check_task("gene-embedding-perturbation")[1]
assert task["impl"].__name__ == "GeneEmbeddingPerturbationPipeline"
assert task["pt"] == (AutoModelForMaskedLM,)
assert PIPELINE_REGISTRY.check_task("dna-segmentation")[1]["impl"].__name__ == "DNASegmentationPipeline"
assert PIPELINE_REGISTRY.check_task("region-ranking")[1]["impl"].__name__ == "RegionRankingPipeline"
for name in ("cell-embedding", "cell-type-classification", "multiome-imputation"):
    found = PIPELINE_REGISTRY.check_task(name)[1]["impl"].__name__
    assert found.removesuffix("Pipeline").lower() == name.replace("-", "")
config = AutoConfig.for_model("segment-nt", hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
assert type(AutoModelForTokenClassification.from_config(config)).__name__ == "SegmentNTForTokenClassification"
assert TOKENIZER_MAPPING[type(config)].__name__ == "NucleotideKmerTokenizer"
config = AutoConfig.for_model("nt-region-ranker", hidden_size=16, num_attention_heads=2, num_hidden_layers=1)
assert type(AutoModel.from_config(config)).__name__ == "NTRegionRanker"
assert TOKENIZER_MAPPING[type(config)].__name__ == "NucleotideKmerTokenizer"
config = AutoConfig.for_model("multiome-performer", num_genes=7, hidden_size=8, num_hidden_layers=1, head_dim=4)
assert type(AutoModel.from_config(config)).__name__ == "MultiomePerformerModel"
assert type(AutoModelForPreTraining.from_config(config)).__name__ == "MultiomePerformerForPreTraining"
model = AutoModelForSequenceClassification.from_config(config)
assert type(model).__name__ == "MultiomePerformerForCellTypeClassification"
assert FEATURE_EXTRACTOR_MAPPING[type(config)].__name__ == "MultiomeFeatureExtractor"
import sys
assert not [finder for finder in sys.meta_path if type(finder).__name__ == "_TransformersWatcher"]
"""
ORDERS = [
    "import omics_transformers",
    "import transformers, omics_transformers",
    "from transformers import AutoModel; import omics_transformers",
    "from transformers import pipeline; import omics_transformers",
    "import omics_transformers; from transformers import Trainer",
    "import omics_transformers; from transformers import pipeline",
    "import omics_transformers; import peft",
    "from omics_transformers import BioDTAForMaskedLM",
]
# A process for each order, forked from one that has imported what takes seconds and knows nothing of transformers.
FORKS = """
import json, os, sys, tempfile, traceback
import pandas, scipy.stats, sklearn, torch
assert not {"transformers", "omics_transformers"} & set(sys.modules)
orders, check = json.loads(sys.argv[1])
outcomes = {}
for order in orders:
    with tempfile.TemporaryFile("w+") as said:
        if not (child := os.fork()):
            try:
                exec(order + check, {})
            except BaseException:
                traceback.print_exc(file=said)
                said.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        outcomes[order] = said.read() or (f"ended with {status}" if status else "")
print(json.dumps(outcomes))
"""


def run_python(code: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=300
    ).stdout.strip()


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """For each order of imports what a process of its own said: nothing, or its error."""
    return json.loads(run_python(FORKS, json.dumps([ORDERS, CHECK])))


@pytest.mark.parametrize("before", ORDERS)
def test_everything_is_registered_whatever_the_order_of_imports(before: str, outcomes: dict[str, str]) -> None:
    assert outcomes[before] == ""


def test_importing_the_package_loads_neither_torch_nor_the_scientific_stack() -> None:
    """The cost of the import is held by what it loads; seconds would depend on the machine."""
    loaded = run_python(
        "import sys, transformers; before = set(sys.modules); import omics_transformers;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    assert loaded.split() == ["omics_transformers"]


def test_the_public_names_can_all_be_imported() -> None:
    names = run_python(
        "import omics_transformers as o; print(*[getattr(o, name).__name__ for name in o.__all__[1:]])"
    ).split()
    assert names == omics_transformers.__all__[1:]


def test_an_unknown_name_is_an_attribute_error() -> None:
    code = "import omics_transformers\ntry: omics_transformers.nothing\nexcept AttributeError as error: print(error)"
    assert "no attribute 'nothing'" in run_python(code)
