"""What the region ranker's configuration holds, keeps and refuses."""

from pathlib import Path

import pytest

from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig


def test_the_defaults_are_the_best_of_the_publication() -> None:
    config = NTRegionRankerConfig()
    assert (config.scorer_head, config.num_tokens, config.ranking_loss) == ("convolutional", 501, "softmax")
    assert (config.ranking_labels, config.cell_types, config.hidden_size) == ("counts", None, 512)


def test_all_fields_survive_save_and_load(tmp_path: Path) -> None:
    fields = {
        "scorer_head": "unet",
        "num_tokens": 1667,
        "ranking_loss": "listmle",
        "ranking_labels": "ranks",
        "cell_types": ["CD4 T", "B"],
        "region_bp": 500,
        "span_bp": 10_000,
    }
    NTRegionRankerConfig(**fields).save_pretrained(tmp_path)
    loaded = NTRegionRankerConfig.from_pretrained(tmp_path)
    assert {name: getattr(loaded, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scorer_head": "mlp"}, "scorer_head"),
        ({"ranking_loss": "hinge"}, "ranking_loss"),
        ({"num_tokens": 1}, "num_tokens is 1: expected <cls> and at least one"),
        ({"num_tokens": 15}, "num_tokens 15: the convolutional head pools both by 16.*linear"),
        ({"hidden_size": 8, "num_attention_heads": 2}, "hidden_size 8: the convolutional head"),
        ({"num_tokens": 5001}, r"num_tokens is 5,001.*at most 2,048.*rescaling_factor=2\.442"),
        ({"ranking_loss": "poisson", "ranking_labels": "ranks"}, 'ranking_labels="counts"'),
        ({"cell_types": []}, "one or more names, each once"),
        ({"cell_types": ["B", "B"]}, "one or more names, each once"),
        ({"cell_types": ["B", ""]}, "one or more names, each once"),
        ({"region_bp": 0}, "region_bp is 0: expected a positive number of bp"),
        ({"span_bp": -1}, "span_bp is -1: expected a positive number of bp"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(Exception, match=message):
        NTRegionRankerConfig(**fields)


def test_other_heads_take_small_sizes_and_rescaling_takes_long_ones() -> None:
    for head in ("linear", "transformer", "unet"):
        assert NTRegionRankerConfig(scorer_head=head, num_tokens=2).num_tokens == 2
    assert NTRegionRankerConfig(num_tokens=5001, rescaling_factor=2.45).num_tokens == 5001
