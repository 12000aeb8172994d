"""A saved model of this package, opened whole and in float32, whatever it was saved in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def open_saved_model(
    source: str | Path, model_class: Any, *, check: Callable[[Any, str], None], device: str | None = None
) -> Any:
    """Load a model, ready to be asked; no code but this package's runs.

    Args:
        source: folder or Hub repository with config.json and safetensors.
        model_class: that it is loaded as.
        check: raises a ValueError for another kind of model, from its configuration and what to call it.
        device: e.g. cpu or cuda:0; a GPU where there is one.

    Raises:
        ValueError: of `check`, or where tensors are missing.
        OSError: where there is no model.
    """
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source)
    check(config, str(source))
    model, report = model_class.from_pretrained(source, config=config, dtype=torch.float32, output_loading_info=True)
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"{source} lacks {len(missing):,} tensors, e.g. {', '.join(missing[:3])}: it is no whole "
            f"{config.model_type}; train its head first, or convert the checkpoint again"
        )
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
