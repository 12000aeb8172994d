"""Peak floating-point operations per second of a device, by which a utilisation is measured.

Source: NVIDIA's data sheets, dense (without structured sparsity), with the clocks and the accumulation in float32 that
they state. Other devices have no figure here unless the user gives one; a CPU's is measured.
"""

import logging
import re
import time
from functools import lru_cache

import torch

logger = logging.getLogger(__name__)

# Words of the device's name -> dense TFLOPS in bfloat16 and float16, TF32, and float32.
_PEAK_TFLOPS: dict[str, tuple[float, float, float]] = {
    "A10": (125.0, 62.5, 31.2),
    "A10G": (70.0, 35.0, 31.5),
    "A100": (312.0, 156.0, 19.5),
    "B200": (2250.0, 1125.0, 75.0),
    "GH200": (989.4, 494.7, 66.9),
    "H100": (989.4, 494.7, 66.9),
    "H100 NVL": (835.5, 417.5, 60.0),
    "H100 PCIe": (756.0, 378.0, 51.2),
    "H200": (989.4, 494.7, 66.9),
    "H200 NVL": (835.5, 417.5, 60.0),
    "L4": (121.0, 60.5, 30.3),
    "L40": (181.0, 90.5, 90.5),
    "L40S": (362.0, 183.0, 91.6),
    "RTX 3090": (71.0, 35.6, 35.6),
    "RTX 4090": (165.2, 82.6, 82.6),
    "RTX A6000": (154.8, 77.4, 38.7),
}
_MEASURED_SIZE = 1024  # 2 GFLOP a product: far beyond the caches' start-up, and a second's work for the slowest core
_MEASURED_TIMES = 5


def peak_flops(
    device: torch.device | str, dtype: torch.dtype = torch.bfloat16, *, peak_tflops: float | None = None
) -> float | None:
    """Floating-point operations per second that the device can do in matrix products.

    Args:
        device: a CUDA device is looked up by its name; a CPU is measured, by the best of five products on the threads
            that torch uses, once a process.
        dtype: in which the products are; float32 is TF32 where torch may use that.
        peak_tflops: the user's own figure, in 10^12 a second, taken as it is.

    Returns:
        Operations per second; None, with a warning, where nothing is known of the device.

    Raises:
        ValueError: where `peak_tflops` is not positive.
    """
    device = torch.device(device)
    if peak_tflops is not None:
        if peak_tflops <= 0:
            raise ValueError(f"peak_tflops is {peak_tflops}: the peak of one device in 10^12 operations a second")
        return peak_tflops * 1e12
    if device.type == "cpu":
        return _measured_flops(dtype, torch.get_num_threads())
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    published = published_tflops(name, dtype)
    if published is None:
        logger.warning(
            "no published peak in %s is known here for the device %s: no utilisation is logged unless peak_tflops says "
            "what it can do",
            str(dtype).removeprefix("torch."),
            name,
        )
        return None
    return published * 1e12


def published_tflops(name: str, dtype: torch.dtype) -> float | None:
    """The data sheet's figure for a device name as CUDA gives it, e.g. `NVIDIA H100 80GB HBM3`; None if unknown."""
    words = re.split(r"[\s\-/]+", name)
    known = [device for device in _PEAK_TFLOPS if set(device.split()) <= set(words)]
    if not known:
        return None
    half, tf32, single = _PEAK_TFLOPS[max(known, key=lambda device: len(device.split()))]
    if dtype in (torch.bfloat16, torch.float16):
        return half
    if dtype != torch.float32:
        return None
    return single if torch.get_float32_matmul_precision() == "highest" else tf32


@lru_cache
def _measured_flops(dtype: torch.dtype, threads: int) -> float:
    left, right = (torch.ones(_MEASURED_SIZE, _MEASURED_SIZE, dtype=dtype) for _ in range(2))
    left @ right
    seconds = []
    for _ in range(_MEASURED_TIMES):
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    measured = 2 * _MEASURED_SIZE**3 / min(seconds)
    logger.info("measured peak of %d CPU threads: %.3g floating-point operations a second", threads, measured)
    return measured
