"""Cell model and DNA encoder in one backward pass: against all genes encoded at once, and against one process."""

import copy
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from omics_transformers.data_scripts.gene_features import read_gene_features
from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.modeling.modeling_enformer import EnformerForGeneFeatures
from omics_transformers.training.dna_encoder_setup import with_lora
from omics_transformers.training.end_to_end_dna import BioDTAWithDNAEncoder
from omics_transformers.training.gene_windows import open_gene_windows

SPECIAL, GENES = 2, 40
TARGETS = ["attention", "convolutions", "feed_forward"]


@pytest.fixture(scope="module")
def make(toy_promoters: Path) -> Any:
    """A function that makes the joint module, the same weights at each call; LoRA is not zero at first."""
    features = read_gene_features(toy_promoters / "gene_features.safetensors")
    windows = open_gene_windows(
        toy_promoters / "genome.fa",
        toy_promoters / "tss.tsv",
        features.gene_ids,
        features.metadata,
        num_special_tokens=SPECIAL,
    )
    encoder = EnformerForGeneFeatures.from_pretrained(toy_promoters / "enformer").eval()
    torch.manual_seed(0)
    cells = BioDTAForMaskedLM(
        BioDTAConfig(
            vocab_size=SPECIAL + GENES,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=16,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            dna_feature_size=48,
        )
    )
    cells.set_gene_features(torch.cat([torch.zeros(SPECIAL, 48), torch.from_numpy(features.features)]))

    def make(*, tuning: str = "lora", **settings: Any) -> BioDTAWithDNAEncoder:
        torch.manual_seed(1)
        tuned: Any = copy.deepcopy(encoder)
        if tuning == "lora":
            tuned = with_lora(tuned, rank=2, targets=TARGETS)
            for name, parameter in tuned.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(parameter, std=0.1)
        settings = {"windows_per_step": GENES, "windows_per_chunk": 7, "seed": 5, **settings}
        return BioDTAWithDNAEncoder(copy.deepcopy(cells), tuned, windows, **settings).train()

    return make


def batch(cells: int = 6, seed: int = 0) -> dict[str, torch.Tensor]:
    """Cells of 8 genes each, two of them masked; the last gene of the vocabulary is never there."""
    random = np.random.default_rng(seed)
    genes = np.stack([random.permutation(GENES - 1)[:8] for _ in range(cells)]) + SPECIAL
    labels = np.full_like(genes, -100)
    labels[:, [1, 4]] = genes[:, [1, 4]]
    genes[:, [1, 4]] = 1
    return {"input_ids": torch.from_numpy(genes), "labels": torch.from_numpy(labels)}


def gradients(module: BioDTAWithDNAEncoder) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def all_at_once(module: BioDTAWithDNAEncoder, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The loss with the whole table computed by Enformer's own method, from one-hot windows, in one pass."""
    codes = module.windows.codes(np.arange(SPECIAL, SPECIAL + GENES))
    one_hot = torch.nn.functional.one_hot(codes.long(), 5)[..., :4].float()
    features = module.enformer.gene_features(one_hot, layer=module.layer)
    table = torch.cat([torch.zeros(SPECIAL, features.shape[1]), features])
    name = "bert.gene_token_embeddings.table.features"
    return torch.func.functional_call(module.model, {name: table}, (), inputs).loss


@pytest.mark.parametrize("checkpointing", ["none", "windows", "blocks"])
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_loss_and_gradients_are_those_of_all_genes_in_one_pass(make: Any, checkpointing: str, tuning: str) -> None:
    plain, module = make(tuning=tuning), make(tuning=tuning, checkpointing=checkpointing)
    expected = all_at_once(plain, batch())
    expected.backward()
    outputs = module(**batch())
    outputs.loss.backward()
    torch.testing.assert_close(outputs.loss, expected)
    found, wanted = gradients(module), gradients(plain)
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert found.keys() == wanted.keys() == trained  # every trained weight takes part: what distributed training needs
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
    encoders = [gradient for name, gradient in wanted.items() if name.startswith("dna_encoder")]
    assert len(encoders) > 10 and all(gradient.abs().max() > 0 for gradient in encoders)


@pytest.mark.parametrize("layer", ["transformer", "conv_tower"])
def test_layers_above_the_one_that_is_read_are_not_trained(make: Any, layer: str) -> None:
    with pytest.raises(ValueError, match=r"the encoder gives 24 features a gene .* and the model reads 48"):
        make(layer=layer)
    module = make(tuning="full")
    module.layer = layer
    module._freeze_unused()
    parts = {name.split(".")[1] for name, p in module.named_parameters() if p.requires_grad and "dna_encoder" in name}
    assert parts == {"stem", "conv_tower"} | ({"transformer"} if layer == "transformer" else set())


def test_genes_are_chosen_by_seed_and_pass_and_only_they_are_refreshed(make: Any) -> None:
    module = make(windows_per_step=5)
    present = set(batch()["input_ids"].unique().tolist()) - {1}
    before, fresh = module.table.features.clone(), module.encode(module.windows.codes(np.arange(SPECIAL, 42))).detach()
    chosen = []
    for _ in range(3):
        chosen.append(set(module._chosen_genes(batch()["input_ids"]).tolist()))
        module(**batch())
        assert len(chosen[-1]) == 5 and chosen[-1] <= present
    assert len(set.union(*chosen)) > 8  # not the same ones each time
    refreshed = sorted(set.union(*chosen))
    others = [token for token in range(SPECIAL + GENES) if token not in refreshed]
    torch.testing.assert_close(module.table.features[refreshed], fresh[np.array(refreshed) - SPECIAL])
    assert torch.equal(module.table.features[others], before[others])
    assert (module.table.features[refreshed] - before[refreshed]).abs().max() > 0.01
    resumed = make(windows_per_step=5)
    resumed.load_state_dict(module.state_dict())
    assert resumed.passes == 3
    assert set(resumed._chosen_genes(batch()["input_ids"])) == set(module._chosen_genes(batch()["input_ids"]))
    assert torch.equal(resumed.table.features, module.table.features)
    other = make(windows_per_step=5, seed=6)
    assert set(other._chosen_genes(batch()["input_ids"]).tolist()) != chosen[0]


def test_a_gene_that_is_not_chosen_enters_as_the_table_has_it(make: Any) -> None:
    module = make(windows_per_step=5)
    mixed = module.table.features.clone()
    genes = module._chosen_genes(batch()["input_ids"])
    mixed[genes] = module.encode(module.windows.codes(genes)).detach()
    loss = module(**batch()).loss
    reference = make().model
    reference.bert.gene_token_embeddings.table.features.copy_(mixed)
    torch.testing.assert_close(loss, reference(**batch()).loss)


def test_a_batch_of_masks_alone_still_reaches_every_weight(make: Any) -> None:
    module = make()
    inputs = batch()
    inputs["input_ids"][:] = 1
    module(**inputs).loss.backward()
    assert gradients(module).keys() == {name for name, p in module.named_parameters() if p.requires_grad}


def test_evaluation_is_the_cell_models_own_on_the_table_as_it_is(make: Any) -> None:
    module = make().eval()
    before = copy.deepcopy(module.state_dict())
    assert torch.equal(module(**batch()).loss, module.model(**batch()).loss)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_norms_of_processes_that_train_together_become_plain_ones(make: Any) -> None:
    """enformer_pytorch makes the synchronised kind where a process group is there."""
    plain = make()
    encoder = torch.nn.SyncBatchNorm.convert_sync_batchnorm(make().dna_encoder)
    module = BioDTAWithDNAEncoder(plain.model, encoder, plain.windows)
    kinds = {type(part) for part in module.modules()}
    assert torch.nn.BatchNorm1d in kinds and torch.nn.SyncBatchNorm not in kinds
    codes = module.windows.codes(np.array([2, 9]))
    torch.testing.assert_close(module.encode(codes), plain.encode(codes))
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in plain.named_parameters() if parameter.requires_grad}
    assert module.state_dict().keys() == plain.state_dict().keys()


def test_all_genes_are_encoded_at_the_end_and_the_statistics_stay(make: Any) -> None:
    module = make()
    mean = module.table.mean.clone()
    module.refresh_table()
    expected = module.encode(module.windows.codes(np.arange(SPECIAL, SPECIAL + GENES))).detach()
    torch.testing.assert_close(module.table.features[SPECIAL:], expected)
    assert not module.table.features[:SPECIAL].any() and torch.equal(module.table.mean, mean)
    module.merge_adapter()
    assert type(module.dna_encoder) is EnformerForGeneFeatures
    torch.testing.assert_close(module.encode(module.windows.codes(np.array([9]))), expected[[7]], rtol=1e-4, atol=1e-5)


def test_a_damaged_encoder_is_mended_by_the_loss_of_the_cells_alone(make: Any) -> None:
    """Masked genes are of their cell's type, which only the DNA of the others tells; the cell model is trained before.

    Then the encoder's weights are disturbed, and the cell model is fixed: what falls is what the gradient through the
    features can do.
    """
    random = np.random.default_rng(0)
    genes = SPECIAL + 4 * np.stack([random.permutation(10)[:8] for _ in range(160)]) + np.arange(160)[:, None] % 4
    inputs = {"input_ids": torch.from_numpy(genes), "labels": torch.full((160, 8), -100)}
    inputs["labels"][:, :3] = inputs["input_ids"][:, :3]
    inputs["input_ids"][:, :3] = 1
    module = make(tuning="full", checkpointing="none", windows_per_chunk=GENES)
    steps(module.model, inputs, 40, rate=0.01)
    good = module(**inputs).loss.item()
    torch.manual_seed(0)
    for parameter in module.dna_encoder.parameters():
        if parameter.requires_grad and parameter.ndim > 1:
            parameter.data += 0.1 * parameter.std().detach() * torch.randn_like(parameter)
    module.model.requires_grad_(False)
    losses = steps(module, inputs, 13, rate=0.001)
    assert good < 2.6 < 4 < losses[0], (good, losses)
    assert losses[-1] < losses[0] - 0.7 * (losses[0] - good), (good, losses)


def steps(model: torch.nn.Module, inputs: dict[str, torch.Tensor], count: int, *, rate: float) -> list[float]:
    optimizer = torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], lr=rate)
    losses = []
    for _ in range(count):
        loss = model(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_bfloat16_autocast_is_near_float32(make: Any) -> None:
    expected = make()(**batch()).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        module = make()
        loss = module(**batch()).loss
    loss.backward()
    torch.testing.assert_close(loss.float(), expected, rtol=0.02, atol=0.02)
    assert all(gradient.isfinite().all() for gradient in gradients(module).values())


def test_recomputing_windows_holds_less_for_the_backward_pass(make: Any) -> None:
    held = {}
    for checkpointing in ("none", "windows"):
        storages: dict[int, int] = {}

        def note(tensor: torch.Tensor, storages: dict[int, int] = storages) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        module = make(checkpointing=checkpointing, windows_per_chunk=5)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            features = module.encode(module.windows.codes(np.arange(SPECIAL, SPECIAL + 20)))
        held[checkpointing] = sum(storages.values())
        features.sum().backward()
    assert held["windows"] < held["none"] / 10, held


def test_what_does_not_fit_together_is_refused(make: Any) -> None:
    module = make()
    with pytest.raises(ValueError, match="donors' DNA cannot be trained end to end"):
        module(**batch(), variant_ids=torch.zeros(6, 8).long(), variant_features=torch.zeros(1, 48))
    module.model.config.variant_encoding = "difference"
    with pytest.raises(ValueError, match="variant_encoding is difference"):
        module._check()


def test_two_processes_get_the_gradients_of_one(make: Any, tmp_path: Path) -> None:
    if torch.cuda.is_initialized():
        pytest.skip("a process that holds a GPU cannot be forked")
    settings = {"windows_per_step": 9, "windows_per_chunk": 2}
    processes = [
        multiprocessing.get_context("fork").Process(target=_one_of_two, args=(r, make(**settings), tmp_path))
        for r in (0, 1)
    ]
    for process in processes:
        process.start()
    one = make(**settings)
    for _ in range(2):
        one.zero_grad()
        one(**batch()).loss.backward()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    for r in (0, 1):
        found, table = torch.load(tmp_path / f"{r}.pt", weights_only=True)
        torch.testing.assert_close(table, one.table.features)
        expected = gradients(one)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def _one_of_two(r: int, module: BioDTAWithDNAEncoder, folder: Path) -> None:
    """Half of the cells each; the second pass chooses other genes, and no weight may be left without gradient."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=r, world_size=2)
    distributed = DistributedDataParallel(module)
    half = {name: tensor[3 * r : 3 * r + 3] for name, tensor in batch().items()}
    for _ in range(2):
        distributed.zero_grad()
        distributed(**half).loss.backward()
    torch.save((gradients(module), module.table.features), folder / f"{r}.pt")
    torch.distributed.destroy_process_group()
