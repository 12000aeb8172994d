"""The U-Net against one in plain NumPy loops; any length; the same alone and in a padded batch."""

import numpy as np
import pytest
import torch

from omics_transformers.modeling.segmentation_unet import SegmentationUNet


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Kernel 3, zeros beyond the ends: x (length, in), weight (out, in, 3)."""
    padded = np.pad(x, ((1, 1), (0, 0)))
    return np.stack([sum(weight[:, :, k] @ padded[i + k] for k in range(3)) + bias for i in range(len(x))])


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def plain_unet(x: np.ndarray, state: dict[str, np.ndarray], levels: int, convolutions: int = 2) -> np.ndarray:
    """x (length, hidden), a length that every level can halve."""

    def block(x: np.ndarray, name: str, *, turned: bool = False, last: bool = True) -> np.ndarray:
        for j in range(convolutions):
            weight, bias = (state[f"{name}.convolutions.{j}.{kind}"] for kind in ("weight", "bias"))
            # A transposed convolution of stride 1 is a convolution with the kernel turned round, (in, out, 3) stored.
            x = convolve(x, weight.transpose(1, 0, 2)[:, :, ::-1] if turned else weight, bias)
            x = silu(x) if last or j < convolutions - 1 else x
        return x

    skips = []
    for level in range(levels):
        x = block(x, f"down.{level}")
        skips.append(x)
        x = (x[::2] + x[1::2]) / 2
    for level in range(levels):
        x = np.repeat(block(x, f"up.{level}", turned=True), 2, axis=0) + skips[-1 - level]
    return block(x, "final", last=False)


def make_unet(channels: list[int], hidden: int = 5, convolutions: int = 2) -> SegmentationUNet:
    torch.manual_seed(0)
    unet = SegmentationUNet(hidden, channels, convolutions).eval()
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return unet


@pytest.mark.parity
@pytest.mark.parametrize(
    ("channels", "convolutions"), [([5, 10], 2), ([4], 2), ([3, 6, 7], 2), ([4, 6], 1), ([4, 6], 3)]
)
def test_it_is_the_plain_unet(channels: list[int], convolutions: int) -> None:
    unet = make_unet(channels, convolutions=convolutions)
    x = torch.randn(2, 16, 5)
    state = {name: tensor.double().numpy() for name, tensor in unet.state_dict().items()}
    with torch.no_grad():
        found = unet(x).numpy()
    for row in range(2):
        expected = plain_unet(x[row].double().numpy(), state, len(channels), convolutions)
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 7, 9, 14])
def test_any_length_is_taken_and_does_not_depend_on_the_batch(length: int) -> None:
    unet = make_unet([5, 10])
    x = torch.randn(1, length, 5)
    batch = torch.randn(3, 16, 5)
    batch[1, :length] = x[0]
    mask = torch.arange(16) < torch.tensor([[16], [length], [4]])
    with torch.no_grad():
        alone, together, full = unet(x), unet(batch, mask), unet(batch[:1])
    assert alone.shape == x.shape
    torch.testing.assert_close(together[1:2, :length], alone, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(together[:1], full, atol=1e-6, rtol=1e-5)


def test_what_lies_behind_a_sequence_cannot_be_seen() -> None:
    unet = make_unet([5, 10])
    x = torch.randn(1, 12, 5)
    mask = (torch.arange(12) < 7).unsqueeze(0)
    changed = torch.where(mask.unsqueeze(2), x, 100.0)
    with torch.no_grad():
        torch.testing.assert_close(unet(changed, mask)[:, :7], unet(x, mask)[:, :7])
