"""Generated images to try training on: three questions about people who do not exist, at 28 pixels.

    opacity   chest radiographs: is the lungs' haze more than a healthy person's varies?
    mass      axial chest CT slices: is there a calcified mass?
    lesion    axial head MR slices: is there a bright lesion?

The anatomy is the generated hospitals' own (`fedimg.cohort.anatomy`). Contrasts are set such that scattering
features with a linear head, trained without privacy, reach an AUROC near 0.98 on each: as hard as the
published small sets are said to be, and no image of any of those had a part in it. What tells the classes apart
is most of what varies, so a small budget finds it too: settings are tuned on `photographs`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedimg.cohort import anatomy

SIDE = 28
POSITIVE = 0.74  # share of class 1: as unbalanced as a hospital's own cases are
QUESTIONS = ("opacity", "mass", "lesion")
_LESION_DIAMETER = (0.15, 0.30)


@dataclass(frozen=True)
class Pictures:
    """images (N, 28, 28) uint8, labels (N,) of 0 and 1."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


def pictures(question: str, count: int, seed: int) -> Pictures:
    """`count` generated images of one of `QUESTIONS`; the same for the same arguments."""
    rng = np.random.default_rng([seed, QUESTIONS.index(question)])
    labels = (rng.uniform(size=count) < POSITIVE).astype(np.int64)
    drawn = [_drawn(rng, question, positive=bool(label)) for label in labels]
    return Pictures(np.stack(drawn), labels)


def _drawn(rng: np.random.Generator, question: str, *, positive: bool) -> npt.NDArray[np.uint8]:
    evidence, size = rng.uniform(0.4, 1.2), 2 * SIDE
    noise = rng.uniform(0.3, 1.0) * (0.03 if question == "opacity" else 0.05)
    if question == "opacity":
        values = _opacity(rng, 2.2 * evidence if positive else 0.0)
    elif question == "mass":
        mass = anatomy.place(rng, "CT", _LESION_DIAMETER, 0.0) if positive else None
        hounsfield = anatomy.chest_ct(rng, size, [0.0], mass, 0.4 * evidence)[0].values
        values = np.clip((hounsfield + 1000) / 1600, 0, 1)
    else:
        lesion = anatomy.place(rng, "MR", _LESION_DIAMETER, 0.0) if positive else None
        values = anatomy.head_mr(rng, size, [0.0], lesion, 0.6 * evidence)[0].values
    small = values.reshape(SIDE, 2, SIDE, 2).mean(axis=(1, 3)) + rng.normal(0, noise, (SIDE, SIDE))
    return np.asarray(np.clip(small * 255, 0, 255), dtype=np.uint8)


def _opacity(rng: np.random.Generator, disease: float) -> npt.NDArray[np.float32]:
    """A chest radiograph whose lungs are hazy: everybody's a little, unevenly, and an exposure that varies."""
    size = 2 * SIDE
    values, xy = anatomy.chest_cr(rng, size, None, 1.0).values, anatomy.grid(size, size)
    haze = abs(rng.normal(0, 0.5)) + disease
    for side in (-1, 1):
        lung = anatomy.ellipse(xy, (0.43 * side, -0.12), (0.31, 0.62), 0.15)
        values = values + 0.16 * haze * rng.uniform(0.2, 1) * lung * (
            1 + 0.6 * anatomy.texture(rng, (size, size), 8)
        )
    return np.asarray(values * rng.uniform(0.8, 1.2) + rng.normal(0, 0.05), dtype=np.float32)
