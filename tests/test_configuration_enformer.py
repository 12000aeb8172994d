"""Enformer's configuration: published files load, wrong sizes do not, and reading one stays cheap."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub.errors import StrictDataclassError

from omics_transformers.modeling.configuration_enformer import EnformerConfig

# As enformer_pytorch writes it.
PUBLISHED = {
    "architectures": ["Enformer"],
    "attn_dim_key": 64,
    "attn_dropout": 0.05,
    "depth": 11,
    "dim": 1536,
    "dropout_rate": 0.4,
    "heads": 8,
    "model_type": "enformer",
    "num_alphabet": 5,
    "output_heads": {"human": 5313, "mouse": 1643},
    "pos_dropout": 0.01,
    "target_length": 896,
    "torch_dtype": "float32",
    "use_checkpointing": False,
}


def test_published_configurations_load(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED))
    config = EnformerConfig.from_pretrained(tmp_path)
    assert (config.dim, config.depth, config.target_length, config.num_downsamples) == (1536, 11, 896, 7)
    config.save_pretrained(tmp_path / "again")
    assert EnformerConfig.from_pretrained(tmp_path / "again").to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("changes", "message"), [({"dim": 50}, "multiple of 6"), ({"dim_divisible_by": 5}, "multiple of")]
)
def test_sizes_that_do_not_fit(changes: dict[str, int], message: str) -> None:
    with pytest.raises(StrictDataclassError, match=message):
        EnformerConfig(**{"dim": 48, "heads": 4, "dim_divisible_by": 6, **changes})


def test_reading_a_configuration_does_not_import_the_model() -> None:
    code = (
        "import sys, omics_transformers.modeling.configuration_enformer; assert 'enformer_pytorch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
