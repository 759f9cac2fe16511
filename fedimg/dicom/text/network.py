"""The convolutional half of the text detector: a heat map of "here is a line of text", one value for 4 × 4 pixels.

Fully convolutional, about 0.31 million weights, shipped as float16 beside this file and pinned by
SHA-256: other weights are refused. It sees an image in three ways, so that no window has to be guessed:
over its whole range, and normalised by the mean and deviation of two neighbourhoods, in which text
of a few grey values over a flat ground is as plain as white on black. Both polarities and all
turns were in its training; one pass answers for all. Letters of 5 to 30 pixels are its own; larger ones are
found in halved copies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from fedimg.errors import FedimgError

WEIGHTS = Path(__file__).with_name("weights.safetensors")
WEIGHTS_SHA256 = "f83a6c65349cb9818b1584ad299a55fd83e6dd23e5bf00c6462cb6ed85eddf1b"
CELL = 4  # pixels a side, of one value of the heat map

_WIDTHS = (24, 48, 88)
_DILATIONS = (1, 2, 4)
_TILE, _OVERLAP = 1024, 96  # pixels, multiples of 8
_QUANTUM = 0.3  # stored values: a deviation below this is rounding
_CLIP = 4.0  # deviations


class WeightsError(FedimgError):
    """The weights beside the code are not the ones it was tested with."""


class _Convolution(nn.Sequential):
    def __init__(
        self, inside: int, outside: int, kernel: int, *, stride: int = 1, dilation: int = 1, norm: bool
    ) -> None:
        padding = dilation * (kernel // 2)
        layers: list[nn.Module] = [
            nn.Conv2d(inside, outside, kernel, stride, padding, dilation, bias=not norm)
        ]
        if norm:
            layers.append(nn.BatchNorm2d(outside))
        super().__init__(*layers, nn.ReLU(inplace=True))


class TextNet(nn.Module):
    """(N, 3, H, W) views, H and W multiples of 8 → (N, H/4, W/4) logits. `norm` while it is trained only."""

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.norm = norm
        first, fine, coarse = _WIDTHS
        self.stem = _Convolution(3, first, 5, stride=2, norm=norm)
        self.down = _Convolution(first, fine, 3, stride=2, norm=norm)
        self.fine = _Convolution(fine, fine, 3, norm=norm)
        self.deep = _Convolution(fine, coarse, 3, stride=2, norm=norm)
        self.context = nn.ModuleList(
            _Convolution(coarse, coarse, 3, dilation=dilation, norm=norm) for dilation in _DILATIONS
        )
        self.back = _Convolution(coarse, fine, 1, norm=norm)
        self.join = _Convolution(fine, fine, 3, norm=norm)
        self.head = nn.Conv2d(fine, 1, 1)

    def forward(self, views: Tensor) -> Tensor:
        fine: Tensor = self.down(self.stem(views))
        fine = fine + self.fine(fine)
        coarse: Tensor = self.deep(fine)
        for block in self.context:
            coarse = coarse + block(coarse)
        up = functional.interpolate(self.back(coarse), scale_factor=2, mode="nearest")
        logits: Tensor = self.head(self.join(fine + up))
        return logits[:, 0]


def views_of(planes: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Grey planes (N, H, W) in stored values → (N, 3, H, W): whole range, and two neighbourhoods.

    Args:
        low, high: (N,), the range that the first view spans.
    """
    grey = planes[:, None]
    spread = torch.clamp(high - low, min=1e-6)[:, None, None, None]
    whole = torch.clamp((grey - low[:, None, None, None]) / spread, 0, 1) * 2 - 1
    return torch.cat([whole, _local(grey, _mean), _local(grey, _wide_mean)], dim=1)


def _local(grey: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
    # The mean is taken off before squaring: 16-bit squares leave float32 no digits for small steps.
    apart = grey - mean(grey)
    deviation = torch.sqrt(mean(apart * apart)) + _QUANTUM
    return torch.clamp(apart / deviation, -_CLIP, _CLIP) * 0.5


def _mean(grey: Tensor) -> Tensor:
    """Mean over 9 × 9, the edge continued: sums of two, four, eight and one more, each way."""
    rows = _sum_of_nine(functional.pad(grey, (4, 4, 4, 4), mode="replicate"))
    return _sum_of_nine(rows.transpose(2, 3)).transpose(2, 3) / 81


def _sum_of_nine(grey: Tensor) -> Tensor:
    two = grey[..., :-1] + grey[..., 1:]
    four = two[..., :-2] + two[..., 2:]
    eight = four[..., :-4] + four[..., 4:]
    return eight[..., :-1] + grey[..., 8:]


def _wide_mean(grey: Tensor) -> Tensor:
    """The same over 36 × 36, coarsely; sides are multiples of `CELL`."""
    coarse = _mean(functional.avg_pool2d(grey, CELL))
    return functional.interpolate(coarse, scale_factor=CELL, mode="bilinear")


@lru_cache(maxsize=1)
def shipped() -> TextNet:
    """The network with the shipped weights. Raises WeightsError where they are missing or changed."""
    try:
        data = WEIGHTS.read_bytes()
    except OSError:
        data = b""
    return opened(data, WEIGHTS_SHA256)


def opened(data: bytes, sha256: str) -> TextNet:
    """A network from the bytes of a safetensors file. Raises WeightsError unless their digest is `sha256`."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise WeightsError(
            f"text detector weights with SHA-256 {sha256[:16]}…", f"{found[:16]}…", "reinstall fedimg"
        )
    net = TextNet()
    net.load_state_dict({name: tensor.float() for name, tensor in load(data).items()})
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order on every machine; a pool of processes has a core for each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def heat(net: TextNet, plane: npt.NDArray[np.float32], low: float, high: float) -> npt.NDArray[np.float32]:
    """Probability of text for each cell of a plane (H, W): (⌈H/4⌉, ⌈W/4⌉).

    Planes are taken in tiles that overlap by more than the network sees, which bounds the memory.
    """
    rows, columns = plane.shape
    result = np.empty((-(-rows // CELL), -(-columns // CELL)), np.float32)
    with _one_thread(), torch.inference_mode():
        for top in range(0, rows, _TILE):
            for left in range(0, columns, _TILE):
                y, x = max(0, top - _OVERLAP), max(0, left - _OVERLAP)
                part = _tile_heat(
                    net, plane[y : top + _TILE + _OVERLAP, x : left + _TILE + _OVERLAP], low, high
                )
                inner = part[(top - y) // CELL :, (left - x) // CELL :][: _TILE // CELL, : _TILE // CELL]
                result[top // CELL :, left // CELL :][: inner.shape[0], : inner.shape[1]] = inner
    return result


def _tile_heat(
    net: TextNet, tile: npt.NDArray[np.float32], low: float, high: float
) -> npt.NDArray[np.float32]:
    rows, columns = tile.shape
    grey = torch.from_numpy(np.pad(tile, ((0, -rows % 8), (0, -columns % 8)), mode="edge"))[None]
    views = views_of(grey, torch.tensor([low]), torch.tensor([high]))
    logits = net(views.to(memory_format=torch.channels_last))
    probability: npt.NDArray[np.float32] = torch.sigmoid(logits[0]).numpy()
    return probability[: -(-rows // CELL), : -(-columns // CELL)]
