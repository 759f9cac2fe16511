"""Wavelet scattering: image features that are fixed in advance and learn from no patient.

S. Mallat, "Group Invariant Scattering" (2012); J. Bruna and S. Mallat, "Invariant Scattering
Convolution Networks" (2013); as features for differentially private learning: F. Tramèr and
D. Boneh (2021, arXiv 2011.11660). With wavelets ψ of scales j < J and L orientations and a
Gaussian low-pass φ of scale J, the features of an image x are

    x ⋆ φ,   |x ⋆ ψ₁| ⋆ φ,   ||x ⋆ ψ₁| ⋆ ψ₂| ⋆ φ   for j₂ > j₁,

sampled every 2^J pixels: 1 + J·L + L²·J(J−1)/2 channels. Since nothing here depends on
training data, features may be computed once and cost no privacy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from fedimg.errors import ConfigError
from fedimg.models.portions import portions

_PERIODS = 2  # copies of the filter summed on each side so that it lives on the torus
_IMAGES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class ScatteringGrid:
    """Where features sit: sizes along one axis, in pixels.

    The image is mirrored by `pad` = 3·2^(J−1) pixels in front, about the reach of the low-pass, and
    behind until the whole is a multiple of 2^J. 28 pixels at J = 2 become 40, with 7 samples inside,
    at the centres of 2^J-pixel cells.
    """

    size: int
    scales: int

    @property
    def pad(self) -> int:
        return 3 * (1 << self.scales) // 2

    @property
    def padded(self) -> int:
        step = 1 << self.scales
        return -(-(self.size + 2 * self.pad) // step) * step

    @property
    def samples(self) -> int:
        return max(self.size >> self.scales, 1)

    def check(self) -> None:
        """Raise ConfigError where mirroring would need more pixels than the image has."""
        if self.padded - self.size - self.pad >= self.size:
            raise ConfigError(
                f"an image larger than {self.padded - self.size - self.pad} pixels for scattering at "
                f"scales={self.scales}",
                f"{self.size} pixels",
                "set a smaller model.scales or a larger image size",
            )


def _torus(size: int) -> npt.NDArray[np.float64]:
    """Coordinates 0..size−1 shifted by every period, (2·_PERIODS + 1, size)."""
    shifts = np.arange(-_PERIODS, _PERIODS + 1)[:, None] * size
    return np.asarray(np.arange(size)[None, :] + shifts, dtype=np.float64)


def _gabor(
    shape: tuple[int, int], sigma: float, theta: float, xi: float, slant: float
) -> npt.NDArray[np.complex128]:
    """A Gaussian envelope, `slant` times narrower across the wave, times a plane wave; sums to 1 at xi = 0."""
    rows = _torus(shape[0])[:, None, :, None]
    columns = _torus(shape[1])[None, :, None, :]
    along = rows * np.cos(theta) + columns * np.sin(theta)
    across = -rows * np.sin(theta) + columns * np.cos(theta)
    wave = np.exp(-(along**2 + (slant * across) ** 2) / (2 * sigma**2) + 1j * xi * along)
    total: npt.NDArray[np.complex128] = wave.sum(axis=(0, 1)) * slant / (2 * np.pi * sigma**2)
    return total


def morlet(
    shape: tuple[int, int], scale: int, orientation: int, orientations: int
) -> npt.NDArray[np.complex128]:
    """The wavelet ψ on a torus of `shape` pixels: a Gabor function made to sum to zero.

    σ = 0.8·2^j, ξ = ¾π/2^j, slant 4/L, angles π/L apart: the values of the published codes
    (ScatNet; M. Andreux et al., "Kymatio", JMLR 2020).
    """
    sigma, xi, slant = 0.8 * 2**scale, 0.75 * np.pi / 2**scale, 4.0 / orientations
    theta = (orientations // 2 - 1 - orientation) * np.pi / orientations
    wave = _gabor(shape, sigma, theta, xi, slant)
    envelope = _gabor(shape, sigma, theta, 0.0, slant)
    return np.asarray(wave - wave.sum() / envelope.sum() * envelope, dtype=np.complex128)


def low_pass_sigma(scales: int) -> float:
    """Of φ, in pixels."""
    return 0.8 * 2.0 ** (scales - 1)


def low_pass(grid: ScatteringGrid, stride: int) -> torch.Tensor:
    """φ along one axis as a matrix (samples, padded / stride): convolve on the torus, then sample.

    A Gaussian of σ = 0.8·2^(J−1) pixels is separable, so two small products replace an FFT; in three
    dimensions three.
    """
    step, sigma = 2**grid.scales, low_pass_sigma(grid.scales)
    # Symmetric about the image's centre, which may lie between two pixels.
    centres = grid.pad + (grid.size - 1) / 2 + step * (np.arange(grid.samples) - (grid.samples - 1) / 2)
    offsets = _torus(grid.padded)[:, None, ::stride] - centres[None, :, None]
    weights = np.exp(-(offsets**2) / (2 * sigma**2)).sum(axis=0) / np.sqrt(2 * np.pi * sigma**2)
    return torch.from_numpy(weights * stride).to(torch.float32)


class Scattering:
    """Scattering features of 2-D images up to the second order; stateless and deterministic.

    Args:
        image_size: (H, W) pixels.
        scales: J, so that there is one feature cell per 2^J pixels.
        orientations: L.

    Raises:
        ConfigError: the image is too small for J.
    """

    def __init__(self, image_size: tuple[int, int], scales: int = 2, orientations: int = 8) -> None:
        self.scales, self.orientations = scales, orientations
        self._rows, self._columns = (ScatteringGrid(size, scales) for size in image_size)
        self._rows.check()
        self._columns.check()
        shape = (self._rows.padded, self._columns.padded)
        waves = [morlet(shape, j, k, orientations) for j in range(scales) for k in range(orientations)]
        # A Morlet wavelet is Hermitian, so its transform is real.
        spectra = torch.from_numpy(np.fft.fft2(np.stack(waves)).real).to(torch.float32)
        self._wavelets = spectra.reshape(scales, orientations, *shape)
        self._low_rows = [low_pass(self._rows, 2**j) for j in range(scales)]
        self._low_columns = [low_pass(self._columns, 2**j) for j in range(scales)]

    @property
    def channels(self) -> int:
        """Feature channels for each image channel."""
        first = self.scales * self.orientations
        return 1 + first + self.orientations**2 * self.scales * (self.scales - 1) // 2

    @property
    def feature_size(self) -> tuple[int, int]:
        return self._rows.samples, self._columns.samples

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float32 → (B, C·channels, H', W') float32.

        Order within an image channel: x⋆φ; first order by (j₁, θ₁); second by (j₁, θ₁, j₂, θ₂).
        """
        # A few images at a time stay in the processor's cache.
        return torch.cat([self._features(part) for part in portions(images, _IMAGES_AT_ONCE)])

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        batch, colours = images.shape[:2]
        rows, columns = self._rows, self._columns
        margins = (
            columns.pad,
            columns.padded - columns.size - columns.pad,
            rows.pad,
            rows.padded - rows.size - rows.pad,
        )
        planes = F.pad(images, margins, mode="reflect").reshape(batch * colours, rows.padded, columns.padded)
        spectrum = torch.fft.fft2(planes)
        parts = [self._smooth(planes, 0)[:, None]]
        second: list[torch.Tensor] = []
        for j1 in range(self.scales):
            modulus = self._modulus(spectrum[:, None], self._wavelets[j1], j1, 0)
            parts.append(self._smooth(modulus, j1))
            if j1 + 1 < self.scales:
                second.append(self._second_order(modulus, j1))
        features = torch.cat([*parts, *second], dim=1)
        return features.reshape(batch, colours * self.channels, *self.feature_size)

    def _second_order(self, modulus: torch.Tensor, j1: int) -> torch.Tensor:
        """Paths (θ₁, j₂, θ₂) above one first-order scale: (B, L, …) → (B, L·(J−1−j₁)·L, H', W')."""
        spectrum = torch.fft.fft2(modulus)[:, :, None]
        paths = [
            self._smooth(self._modulus(spectrum, self._wavelets[j2], j2, j1), j2)
            for j2 in range(j1 + 1, self.scales)
        ]
        return torch.cat(paths, dim=2).flatten(1, 2)

    def _modulus(
        self, spectrum: torch.Tensor, wavelets: torch.Tensor, scale: int, given: int
    ) -> torch.Tensor:
        """|· ⋆ ψ| sampled every 2^scale pixels, from a spectrum that is sampled every 2^given.

        ψ of scale j is nearly band-limited to 2^−j of the spectrum, so sampling at 2^j keeps
        the modulus; folding the spectrum is sampling in space, exactly.
        """
        # The sum over the grid of 2^given pixels stands for the sum over all: 4^given each.
        product = spectrum * (_fold(wavelets.to(spectrum.device), 1 << given) * 4**given)
        modulus: torch.Tensor = torch.fft.ifft2(_fold(product, 1 << (scale - given))).abs()
        return modulus

    def _smooth(self, planes: torch.Tensor, scale: int) -> torch.Tensor:
        """(…, H/2^scale, W/2^scale) → low-passed samples (…, H', W')."""
        rows, columns = self._low_rows[scale].to(planes.device), self._low_columns[scale].to(planes.device)
        return rows @ planes @ columns.T


def _fold(spectrum: torch.Tensor, times: int) -> torch.Tensor:
    """Spectrum of the same signal sampled every `times` pixels: the mean over its aliases."""
    if times == 1:
        return spectrum
    rows, columns = spectrum.shape[-2] // times, spectrum.shape[-1] // times
    # Slices added one by one: a reduction over the strided axes is ten times slower.
    slices = [part for band in spectrum.split(rows, dim=-2) for part in band.split(columns, dim=-1)]
    folded = slices[0]
    for part in slices[1:]:
        folded = folded + part
    mean: torch.Tensor = folded / times**2
    return mean
