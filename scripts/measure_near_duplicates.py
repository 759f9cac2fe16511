"""Measure how many changed copies of images `fedimg quality` finds, and how many unlike images it takes for one.

    python scripts/measure_near_duplicates.py
    python scripts/measure_near_duplicates.py --arrays pneumoniamnist.npz      # of real images, MedMNIST's layout

Copies are recompressed, made brighter, scaled, blurred or moved; every other image is of another generated patient.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from fedimg.cohort import anatomy as phantoms
from fedimg.cohort.scanners import acquire, scanner_of
from fedimg.imaging.thumbnails import area_mean, windowed
from fedimg.quality.near import SIDE, NearConfig, candidate_pairs, correlations, near_pairs
from fedimg.values import FloatArray

MODALITIES = ("CT", "MR", "CR", "US")


def generated(count: int, seed: int) -> list[FloatArray]:
    """Images of as many patients, a quarter of each modality."""
    rng, images = np.random.default_rng(seed), []
    for number in range(count):
        modality, size = MODALITIES[number % 4], 128
        lesion = phantoms.place(rng, modality, (0.11, 0.18), 0.1)
        z = float(rng.uniform(-0.1, 0.1))
        if modality == "CT":
            values = phantoms.chest_ct(rng, size, [z], lesion, 1.0)[0].values
        elif modality == "MR":
            values = phantoms.head_mr(rng, size, [z], lesion, 1.0)[0].values
        elif modality == "CR":
            values = phantoms.chest_cr(rng, size, lesion, 1.0).values
        else:
            values = phantoms.ultrasound(rng, (size, size), 1, lesion, 1.0)[0].values
        images.append(acquire(values, modality, scanner_of(int(rng.integers(8))), 1.0, rng))
    return images


def unit(image: FloatArray) -> FloatArray:
    return np.asarray((image - image.min()) / max(float(image.max() - image.min()), 1e-6), np.float32)


def jpeg(image: FloatArray, quality: int) -> FloatArray:
    stream = io.BytesIO()
    Image.fromarray(np.rint(unit(image) * 255).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream), np.float32)


def moved(image: FloatArray, share: float) -> FloatArray:
    by = share * image.shape[0]
    return np.asarray(ndimage.shift(image, (by, by / 2), order=1, mode="nearest"), np.float32)


CHANGES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "JPEG, quality 90": lambda image: jpeg(image, 90),
    "JPEG, quality 50": lambda image: jpeg(image, 50),
    "JPEG, quality 20": lambda image: jpeg(image, 20),
    "brightness × 1.4 + 30": lambda image: np.asarray(image * 1.4 + 30, np.float32),
    "gamma 0.7": lambda image: unit(image) ** np.float32(0.7),
    "brighter by 20 %, clipped": lambda image: np.clip(unit(image) * np.float32(1.2), 0, 1),
    "half the size": lambda image: area_mean(image, image.shape[0] // 2),
    "blurred by 1 pixel": lambda image: ndimage.gaussian_filter(image, 1.0),
    "moved by 0.5 %": lambda image: moved(image, 0.005),
    "moved by 1 %": lambda image: moved(image, 0.01),
    "moved by 2 %": lambda image: moved(image, 0.02),
    "moved by 4 %": lambda image: moved(image, 0.04),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
}


def thumbnails(images: list[FloatArray]) -> np.ndarray:
    small = [windowed(area_mean(image, SIDE)) for image in images]
    return np.rint(np.stack(small) * 255).astype(np.uint8)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--arrays", type=Path)
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--seed", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.arrays is not None:
        with np.load(arguments.arrays, allow_pickle=False) as stored:
            images = [np.asarray(image, np.float32) for image in stored["train_images"][: arguments.images]]
    else:
        images = generated(arguments.images, arguments.seed)
    config, own = NearConfig(), thumbnails(images)
    began = time.monotonic()
    candidates = candidate_pairs(own, config)
    pairs, _ = near_pairs(own, config)
    possible = len(own) * (len(own) - 1) // 2
    print(
        f"{len(own)} images of as many patients, {possible} pairs: {len(candidates)} candidates, {len(pairs)} taken for"
    )
    print(f"copies ({time.monotonic() - began:.1f} s for both)")
    for pair in pairs[:20].tolist():
        print("  ", *pair)
    for name, change in CHANGES.items():
        copies = thumbnails([change(image) for image in images])
        both = np.concatenate([own, copies])
        wanted = np.stack([np.arange(len(own)), np.arange(len(own)) + len(own)], axis=1)
        near = {tuple(pair) for pair in near_pairs(both, config)[0].tolist()}
        hit = [tuple(pair) in near for pair in wanted.tolist()]
        low = np.percentile(correlations(both, wanted), 5)
        print(f"{name:28s} found {np.mean(hit):.3f}; correlation of all but 5 % ≥ {low:.3f}")


if __name__ == "__main__":
    main()
