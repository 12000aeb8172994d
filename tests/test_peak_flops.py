"""Published peaks by device name, the user's own figure, and a measured CPU."""

import logging

import pytest
import torch

from omics_transformers.training import peak_flops as module
from omics_transformers.training.peak_flops import peak_flops, published_tflops


@pytest.mark.parametrize(
    ("name", "half", "single"),
    [
        ("NVIDIA A10G", 70.0, 31.5),
        ("NVIDIA A10", 125.0, 31.2),
        ("NVIDIA A100-SXM4-40GB", 312.0, 19.5),
        ("NVIDIA A100 80GB PCIe", 312.0, 19.5),
        ("NVIDIA H100 80GB HBM3", 989.4, 66.9),
        ("NVIDIA H100 PCIe", 756.0, 51.2),
        ("NVIDIA H100 NVL", 835.5, 60.0),
        ("NVIDIA H200", 989.4, 66.9),
        ("NVIDIA L4", 121.0, 30.3),
        ("NVIDIA L40S", 362.0, 91.6),
        ("NVIDIA GeForce RTX 4090", 165.2, 82.6),
        ("NVIDIA GeForce RTX 4070", None, None),
        ("Tesla K80", None, None),
    ],
)
def test_published_peaks_by_the_name_that_cuda_gives(name: str, half: float | None, single: float | None) -> None:
    assert published_tflops(name, torch.bfloat16) == published_tflops(name, torch.float16) == half
    assert published_tflops(name, torch.float32) == single
    assert published_tflops(name, torch.float64) is None


def test_float32_is_tf32_where_torch_may_use_it() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert published_tflops("NVIDIA A100-SXM4-40GB", torch.float32) == 156.0
    finally:
        torch.set_float32_matmul_precision(before)


def test_an_unknown_device_has_none_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, module.__name__):
        assert peak_flops("xpu") is None
    assert "no published peak in bfloat16 is known here for the device xpu" in caplog.text
    assert peak_flops("xpu", peak_tflops=2.5) == 2.5e12
    with pytest.raises(ValueError, match="peak_tflops is 0"):
        peak_flops("cpu", peak_tflops=0)


def test_a_cpu_is_measured_once() -> None:
    measured = peak_flops("cpu", torch.float32)
    assert measured is not None and 1e8 < measured < 1e14
    assert peak_flops(torch.device("cpu"), torch.float32) == measured


@pytest.mark.gpu
def test_no_product_is_faster_than_the_peak() -> None:
    peak = peak_flops("cuda", torch.bfloat16)
    assert peak is not None
    left = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        left @ left
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(10):
        left @ left
    end.record()
    torch.cuda.synchronize()
    assert 0.3 * peak < 10 * 2 * 8192**3 / (start.elapsed_time(end) / 1000) < 1.02 * peak
