"""After end-to-end training: all genes encoded once more, and encoder and features written beside the cell model.

The statistics that standardise features stay those of the start: the adapter was trained on them. What is written fits
together: the table in the model, the file of gene features, and the encoder that `perturb --dna-model` is given.
"""

import logging
from pathlib import Path

from peft import PeftModel
from transformers import Trainer

from ..data_scripts.gene_features import GeneFeatures, write_gene_features
from .dna_encoder_arguments import DNAEncoderArguments
from .end_to_end_dna import BioDTAWithDNAEncoder

logger = logging.getLogger(__name__)

DNA_ENCODER = "dna_encoder"
GENE_FEATURES = "gene_features.safetensors"
ADAPTER = "adapter"


class TunedDNAEncoder:
    """What end-to-end training leaves behind; made by all processes, before the last evaluation.

    Args:
        trainer: after training.
        arguments: of the encoder.
        features: by token id, that the run began with.

    Attributes:
        module: with its table made anew.
        features: of all genes of the vocabulary, without special tokens, as the tuned encoder gives them.
    """

    def __init__(self, trainer: Trainer, arguments: DNAEncoderArguments, features: GeneFeatures) -> None:
        module = trainer.accelerator.unwrap_model(trainer.model)
        assert isinstance(module, BioDTAWithDNAEncoder)
        self.module = module
        self._saves_adapter = arguments.save_adapter
        self._is_main = trainer.is_world_process_zero()
        config = module.enformer.config
        config.weights_origin = _origin(config.weights_origin, arguments)
        bf16 = trainer.args.bf16
        logger.info("all %d genes are encoded with the tuned DNA encoder", len(module.windows))
        module.eval().refresh_table(bf16=bf16, progress=not trainer.args.disable_tqdm)
        self.features = self._as_gene_features(arguments, features, "bfloat16" if bf16 else "float32")
        module.model.config.gene_features_metadata = dict(self.features.metadata)

    def write(self, folder: Path) -> None:
        """The cell model, `dna_encoder/` with LoRA merged, and gene_features.safetensors; the main process writes."""
        if not self._is_main:
            return
        self.module.model.save_pretrained(folder)
        if self._saves_adapter and isinstance(self.module.dna_encoder, PeftModel):
            self.module.dna_encoder.save_pretrained(str(folder / DNA_ENCODER / ADAPTER), save_embedding_layers=False)
        self.module.merge_adapter()
        self.module.enformer.save_pretrained(folder / DNA_ENCODER)
        write_gene_features(folder / GENE_FEATURES, self.features)

    def _as_gene_features(
        self, arguments: DNAEncoderArguments, start: GeneFeatures, compute_dtype: str
    ) -> GeneFeatures:
        special = self.module.table.num_special_tokens
        metadata = {name: value for name, value in start.metadata.items() if name != "content_hash"}
        metadata |= {
            "model": DNA_ENCODER,
            "tuned_from": str(arguments.dna_model),
            "weights_origin": self.module.enformer.config.weights_origin or "",
            "compute_dtype": compute_dtype,
            "features_dtype": "float32",
        }
        table = self.module.table.features[special:].float().cpu().numpy()
        return GeneFeatures(list(start.gene_ids[special:]), table, metadata)


def _origin(before: str | None, arguments: DNAEncoderArguments) -> str | None:
    """What is unknown of the start stays unknown: reports warn of it."""
    return f"{before}; then trained end to end with a cell model ({arguments.tune_dna_model})" if before else None
