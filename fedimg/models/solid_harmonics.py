"""Solid harmonic wavelet scattering of volumes: numbers that turning and moving a body leave as they are.

M. Eickenberg, G. Exarchakis, M. Hirn and S. Mallat, "Solid Harmonic Wavelet Scattering: Predicting Quantum
Molecular Energy from Invariant Descriptors of 3D Electronic Densities", NeurIPS 2017. Of degree l and scale j
there are 2l + 1 wavelets, a Gaussian times the real solid harmonics,

    ψ_jlm(r) ∝ P_lm(r / σ_j) · exp(−‖r‖² / 2σ_j²),   σ_j = 0.6 · 2^j,   Σ_m P_lm(r)² = ‖r‖^2l,

and their modulus U_jl x = √(Σ_m |x ⋆ ψ_jlm|²) turns with x: what one orientation loses another gains. Coefficients are

    S_jl = mean of U_jl x,   S_jlk = mean of U_kl U_jl x   for scales k > j,

over the image, and beside them x ⋆ φ sampled every 2^J voxels, the only ones that say where something is. Degree 0 is
left out: it is a low-pass, and φ stands for it. All wavelets are scaled by one public constant, as large as
|φ̂|² + Σ |ψ̂_jlm|² ≤ 1 leaves it, so that nothing is amplified. Nothing here depends on data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from fedimg.models.portions import portions
from fedimg.models.scattering import ScatteringGrid, low_pass, low_pass_sigma

_SIGMA = (
    0.6  # voxels, of the finest scale: about as fine as a grid carries, since thin walls tell bodies apart
)
_PERIODS = 2  # copies of a filter summed on each side so that it lives on the torus
_VOLUMES_AT_ONCE = 4

Floats = npt.NDArray[np.float64]
Polynomial = Mapping[tuple[int, int, int], float]
"""Coefficients by the exponents of the three coordinates."""

_15, _5, _3 = math.sqrt(15), math.sqrt(5 / 8), math.sqrt(3 / 8)

# By degree l: homogeneous, harmonic, and of squares that add up to ‖r‖^2l.
HARMONICS: tuple[tuple[Polynomial, ...], ...] = (
    ({(1, 0, 0): 1.0}, {(0, 1, 0): 1.0}, {(0, 0, 1): 1.0}),
    (
        {(1, 1, 0): math.sqrt(3)},
        {(0, 1, 1): math.sqrt(3)},
        {(1, 0, 1): math.sqrt(3)},
        {(2, 0, 0): math.sqrt(3) / 2, (0, 2, 0): -math.sqrt(3) / 2},
        {(0, 0, 2): 1.0, (2, 0, 0): -0.5, (0, 2, 0): -0.5},
    ),
    (
        {(1, 1, 1): _15},
        {(2, 0, 1): _15 / 2, (0, 2, 1): -_15 / 2},
        {(3, 0, 0): _5, (1, 2, 0): -3 * _5},
        {(0, 3, 0): _5, (2, 1, 0): -3 * _5},
        {(1, 0, 2): 4 * _3, (3, 0, 0): -_3, (1, 2, 0): -_3},
        {(0, 1, 2): 4 * _3, (2, 1, 0): -_3, (0, 3, 0): -_3},
        {(0, 0, 3): 1.0, (2, 0, 1): -1.5, (0, 2, 1): -1.5},
    ),
)
DEGREES = len(HARMONICS)


def _on_torus(size: int, sigma: float, exponent: int = 0) -> Floats:
    """(t/σ)^exponent times a Gaussian of sum 1, along one axis of the torus."""
    t = np.arange(size) + size * np.arange(-_PERIODS, _PERIODS + 1)[:, None]
    bell = np.exp(-((t / sigma) ** 2) / 2) / math.sqrt(2 * math.pi * sigma**2)
    return np.asarray(((t / sigma) ** exponent * bell).sum(axis=0))


def wavelets(shape: tuple[int, int, int], scale: int, degree: int) -> Floats:
    """ψ_jlm on a torus of `shape` voxels, (2l + 1, D, H, W), of which Σ_m |ψ̂_jlm|² is at most about 1."""
    sigma = _SIGMA * 2**scale
    axes = [np.stack([_on_torus(size, sigma, n) for n in range(degree + 1)]) for size in shape]
    found = np.zeros((2 * degree + 1, *shape))
    for m, polynomial in enumerate(HARMONICS[degree - 1]):
        for (a, b, c), factor in polynomial.items():
            found[m] += factor * axes[0][a][:, None, None] * axes[1][b][:, None] * axes[2][c]
    # P·exp(−‖r‖²/2) is its own Fourier transform but for (−i)^l, and longest at ‖ω‖ = √l.
    highest: float = (degree / math.e) ** (degree / 2)
    return found / highest


class SolidHarmonics:
    """Scattering coefficients of volumes; stateless and deterministic.

    Args:
        image_size: (D, H, W) voxels.
        scales: J.

    Raises:
        ConfigError: the volume is too small for J.
    """

    def __init__(self, image_size: tuple[int, int, int], scales: int = 2) -> None:
        self.scales = scales
        self._grids = [ScatteringGrid(size, scales) for size in image_size]
        for grid in self._grids:
            grid.check()
        d, h, w = (grid.padded for grid in self._grids)
        self._shape = (d, h, w)
        spectra = {
            (j, degree): np.fft.rfftn(wavelets(self._shape, j, degree), axes=(1, 2, 3))
            for j in range(scales)
            for degree in range(1, DEGREES + 1)
        }
        factor = self._admissible(sum((np.abs(s) ** 2).sum(axis=0) for s in spectra.values()))
        self._wavelets = {
            key: torch.from_numpy(value * factor).to(torch.complex64) for key, value in spectra.items()
        }
        self._low = [low_pass(grid, 1) for grid in self._grids]

    @property
    def paths(self) -> list[tuple[int, ...]]:
        """(j, l) and (j, l, k) in the order of the coefficients: each first-order path before those that go on from it."""
        found: list[tuple[int, ...]] = []
        for j in range(self.scales):
            for degree in range(1, DEGREES + 1):
                found += [(j, degree), *((j, degree, k) for k in range(j + 1, self.scales))]
        return found

    @property
    def cells(self) -> int:
        """Samples of x ⋆ φ."""
        return math.prod(grid.samples for grid in self._grids)

    def __call__(self, volumes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, D, H, W) float32 → (B, cells) of x ⋆ φ, and (B, len(paths)) coefficients."""
        parts = [self._coefficients(part) for part in portions(volumes, _VOLUMES_AT_ONCE)]
        local, invariant = zip(*parts, strict=True)
        return torch.cat(local), torch.cat(invariant)

    def _admissible(self, power: Floats) -> float:
        """By what all wavelets may be multiplied, if their |ψ̂|² add up to `power` on the spectrum's half."""
        bells = [
            np.abs(np.fft.fft(_on_torus(grid.padded, low_pass_sigma(self.scales)))) ** 2
            for grid in self._grids
        ]
        half = self._shape[2] // 2 + 1
        low = bells[0][:, None, None] * bells[1][:, None] * bells[2][:half]
        # at frequency zero both sides are nothing
        used = power > 1e-12 * power.max()
        return math.sqrt(float(((1 - low[used]) / power[used]).min()))

    def _coefficients(self, volumes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        margins = [n for g in reversed(self._grids) for n in (g.pad, g.padded - g.size - g.pad)]
        padded = F.pad(volumes[:, None], margins, mode="reflect")[:, 0]
        planes, rows, columns = (low.to(volumes.device) for low in self._low)
        # One axis after the other: a product of all at once could not be exported for any number of volumes.
        in_planes = rows @ padded @ columns.T
        local = (in_planes.movedim(1, -1) @ planes.T).movedim(-1, 1).flatten(1)
        means = []
        spectrum = torch.fft.rfftn(padded, dim=(1, 2, 3))
        for j in range(self.scales):
            for degree in range(1, DEGREES + 1):
                modulus = self._modulus(spectrum, j, degree)
                means.append(self._mean(modulus))
                if j + 1 < self.scales:
                    again = torch.fft.rfftn(modulus, dim=(1, 2, 3))
                    means += [self._mean(self._modulus(again, k, degree)) for k in range(j + 1, self.scales)]
        return local, torch.stack(means, dim=1)

    def _modulus(self, spectrum: torch.Tensor, scale: int, degree: int) -> torch.Tensor:
        """(B, D, H, W // 2 + 1) → U (B, D, H, W) on the torus."""
        bank = self._wavelets[scale, degree].to(spectrum.device)
        waves = torch.fft.irfftn(spectrum[:, None] * bank, s=self._shape, dim=(-3, -2, -1))
        modulus: torch.Tensor = waves.square().sum(dim=1).sqrt()
        return modulus

    def _mean(self, modulus: torch.Tensor) -> torch.Tensor:
        """(B, D, H, W) → (B,), without the margins."""
        d, h, w = (slice(grid.pad, grid.pad + grid.size) for grid in self._grids)
        return modulus[:, d, h, w].mean(dim=(1, 2, 3))
