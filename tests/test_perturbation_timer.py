"""The timer counts what it calls, and nothing else."""

import time

import pytest
import torch

from omics_transformers.pipelines.perturbation_timer import ModelTimer


def test_only_calls_are_counted() -> None:
    timer = ModelTimer(torch.device("cpu"))

    def slow(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        time.sleep(0.02)
        return inputs["x"] + 1

    assert timer.seconds() == 0
    for _ in range(3):
        assert timer(slow, {"x": torch.ones(1)}).item() == 2
    time.sleep(0.3)
    assert 0.06 <= timer.seconds() < 0.3


@pytest.mark.gpu
def test_work_on_a_gpu_is_counted_though_calls_return_at_once() -> None:
    timer = ModelTimer(torch.device("cuda"))
    matrix = torch.randn(4096, 4096, device="cuda")
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(20):
        timer(lambda inputs: inputs["x"] @ inputs["x"], {"x": matrix})
    found = timer.seconds()
    assert 0 < found <= time.perf_counter() - started
