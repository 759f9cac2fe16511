"""Train the classifier of views on generated images and write its weights.

    python scripts/train_view_classifier.py --out fedimg/sorting/weights.safetensors --log fedimg/sorting/weights.json

Nothing is read: chests, heads and echoes are the generated hospitals' (`fedimg/cohort/anatomy.py`, the scanners of
hospitals 1 to 4), and what is none of them are the text detector's backgrounds and decoys, bodies without lungs,
heads of CT and limbs. Each is windowed, turned, cut, blurred, inverted, framed and written upon at random, as exports
are. One thread; same seed and libraries, same weights. After a run put the printed SHA-256 into
`fedimg/sorting/classifier.py`, and measure with `scripts/measure_sorting.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save
from scipy import ndimage
from torch import nn

from fedimg.cohort import anatomy as phantoms
from fedimg.cohort.scanners import acquire, scanner_of
from fedimg.dicom.text.synthetic_anatomy import anatomy
from fedimg.dicom.text.synthetic_decoys import decoy
from fedimg.sorting.classifier import CLASSES, HIDDEN, ViewClassifier, features
from fedimg.values import FloatArray

Generator = np.random.Generator
SIZES = (48, 64, 96, 128, 192)
SCANNERS = 4  # of hospitals 1 to 4; later ones are held out
BACKGROUNDS = ("ct", "cr", "mr", "plain")
DECOYS = ("spine", "map", "collimated", "enlarged", "phantom", "branches")
OTHER_SHARE = 0.4
LEARNING_RATE, WEIGHT_DECAY, EPOCHS, BATCH = 3e-3, 1e-2, 30, 128


def draw(kind: int, rng: Generator) -> FloatArray:
    """One image (H, W) of a class, as it leaves the scanner."""
    size, scanner = int(rng.choice(SIZES)), scanner_of(int(rng.integers(SCANNERS)))
    modality = CLASSES[kind].modality
    if kind == len(CLASSES) - 1:
        return other(rng, size)
    half = float(rng.uniform(-0.5, 0.5))
    lesion = phantoms.place(rng, modality, (0.11, 0.18), 0.1) if rng.random() < 0.5 else None
    if modality == "CT":
        values = phantoms.chest_ct(rng, size, [half], lesion, 1.0)[0].values
    elif modality == "MR":
        values = phantoms.head_mr(rng, size, [half], lesion, 1.0)[0].values
    elif modality == "CR":
        values = phantoms.chest_cr(rng, size, lesion, 1.0).values
    else:
        values = echo(rng, size, lesion)
    return acquire(values, modality, scanner, 1.0, rng)


def echo(rng: Generator, size: int, lesion: phantoms.Lesion | None) -> FloatArray:
    """A generated sonogram in a rectangle or in a sector, or the text detector's; black around it."""
    if rng.random() < 0.3:
        return np.asarray(anatomy("us", max(size, 64), rng), np.float32)
    height, width = int(size * rng.uniform(1, 2)), 2 * size
    seen = phantoms.ultrasound(rng, (height, width), 1, lesion, 1.0)[0].values
    if rng.random() < 0.5:
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        angle = np.arctan2(x - width / 2, y + 0.1 * height)
        inside = (np.abs(angle) < rng.uniform(0.5, 0.9)) & (
            np.hypot(x - width / 2, y) < height * rng.uniform(0.85, 1)
        )
        seen = np.where(inside, seen, 0)
    canvas = np.zeros((int(height * rng.uniform(1, 1.4)), int(width * rng.uniform(1, 1.5))), np.float32)
    top, left = (int(rng.integers(0, c - s + 1)) for c, s in zip(canvas.shape, seen.shape, strict=True))
    canvas[top : top + height, left : left + width] = seen
    if rng.random() < 0.5:  # what the machine writes above it
        banner = np.zeros((max(4, int(rng.uniform(0.05, 0.15) * height)), canvas.shape[1]), np.float32)
        written = banner[1 : 1 + banner.shape[0] // 2, 2 : int(rng.uniform(0.3, 1) * banner.shape[1])]
        written[:] = rng.random(written.shape) < 0.5
        canvas = np.concatenate(
            [banner, canvas if rng.random() < 0.5 else seen_at_width(seen, canvas.shape[1])]
        )
    return canvas


def seen_at_width(seen: FloatArray, width: int) -> FloatArray:
    """The same rows, repeated or left out so that they are `width` pixels wide."""
    return np.ascontiguousarray(seen[:, np.linspace(0, seen.shape[1] - 1, width).astype(int)])


def other(rng: Generator, size: int) -> FloatArray:
    """Something that is none of the classes."""
    choice = rng.random()
    if choice < 0.3:
        return np.asarray(anatomy(str(rng.choice(BACKGROUNDS)), max(size, 64), rng), np.float32)
    if choice < 0.5:
        return np.asarray(decoy(str(rng.choice(DECOYS)), max(size, 64), rng), np.float32)
    if choice < 0.62:
        return limb(rng, size)
    if choice < 0.74:
        return belly(rng, size)
    if choice < 0.86:
        return head_ct(rng, size)
    return spoiled(rng, size)


def limb(rng: Generator, size: int) -> FloatArray:
    """One to five bones, side by side, in soft tissue."""
    xy = phantoms.grid(size, size)
    count, values = int(rng.integers(1, 6)), np.zeros((size, size), np.float32)
    for k in range(count):
        x = (k + 0.5) / count * 1.4 - 0.7 + rng.uniform(-0.05, 0.05)
        length, wide = rng.uniform(0.6, 1.6), rng.uniform(0.25, 0.5) / count
        y = rng.uniform(-0.4, 0.4)
        values = np.maximum(values, 0.35 * phantoms.ellipse(xy, (x, y), (2.2 * wide, 1.1 * length), 0.05))
        values = values + 0.4 * phantoms.ellipse(xy, (x, y), (wide, length), 0.04)
    return np.asarray(values + 0.03 * phantoms.texture(rng, (size, size), 9), np.float32)


def belly(rng: Generator, size: int) -> FloatArray:
    """A slice of a body without lungs: organs in fat, a spine, some gas."""
    xy = phantoms.grid(size, size)
    wide, deep = rng.uniform(0.75, 0.95), rng.uniform(0.55, 0.78)
    values = -1000 + 900 * phantoms.ellipse(xy, (0, 0), (wide, deep))
    values += 140 * phantoms.ellipse(xy, (0, 0), (wide - 0.08, deep - 0.08))
    for _ in range(int(rng.integers(2, 8))):
        centre = (rng.uniform(-0.5, 0.5), rng.uniform(-0.3, 0.3))
        axes = (rng.uniform(0.08, 0.35), rng.uniform(0.08, 0.3))
        values += rng.uniform(-60, 80) * phantoms.ellipse(xy, centre, axes)
    for _ in range(int(rng.integers(0, 3))):
        centre = (rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0))
        values -= 900 * phantoms.ellipse(xy, centre, (rng.uniform(0.03, 0.12), rng.uniform(0.03, 0.08)))
    values += 250 * phantoms.ellipse(xy, (0, deep - 0.25), (0.12, 0.11))
    return np.asarray(values + 20 * rng.standard_normal((size, size)), np.float32)


def head_ct(rng: Generator, size: int) -> FloatArray:
    """A head with a bright skull."""
    xy = phantoms.grid(size, size)
    wide, deep = rng.uniform(0.55, 0.8), rng.uniform(0.7, 0.92)
    values = -1000 + 1040 * phantoms.ellipse(xy, (0, 0), (wide, deep))
    values += 900 * (
        phantoms.ellipse(xy, (0, 0), (wide - 0.04, deep - 0.04))
        - phantoms.ellipse(xy, (0, 0), (wide - 0.12, deep - 0.12))
    )
    values += 8 * phantoms.texture(rng, (size, size), 9)
    return np.asarray(values + 10 * rng.standard_normal((size, size)), np.float32)


def spoiled(rng: Generator, size: int) -> FloatArray:
    """A quarter of a known image, one turned on its side, or two of them side by side."""
    image = draw(int(rng.integers(len(CLASSES) - 2)), rng)
    choice = rng.random()
    if choice < 0.4:
        half = max(16, image.shape[0] // 2)
        top, left = (int(rng.integers(0, side - half + 1)) for side in image.shape)
        return image[top : top + half, left : left + half]
    if choice < 0.7:
        return np.ascontiguousarray(np.rot90(image))
    return np.concatenate([image, image[:, ::-1]], axis=int(rng.integers(2)))[:, : 4 * size]


def exported(image: FloatArray, modality: str, rng: Generator) -> FloatArray:
    """As somebody's viewer wrote it: windowed, inverted, turned a little, cut, framed, written upon, rounded."""
    low, high = np.percentile(image, (rng.uniform(0, 3), rng.uniform(97, 100)))
    if image.min() < -500:  # in Hounsfield units
        centre, width = ((40, 400), (-600, 1500), (50, 350), (0, 2000))[int(rng.integers(4))]
        if rng.random() < 0.8:
            low, high = centre - width / 2, centre + width / 2
    seen = np.clip((image - low) / max(float(high - low), 1e-3), 0, 1) ** rng.uniform(0.6, 1.6)
    if modality in ("CR", UNKNOWN_MODALITY) and rng.random() < 0.15:
        seen = 1 - seen
    if rng.random() < 0.6:
        zoom = rng.uniform(0.82, 1.15, 2) * rng.uniform(0.9, 1.1)
        turn = np.deg2rad(rng.uniform(-8, 8))
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * zoom[:, None]
        middle = np.array(seen.shape) / 2
        shift = middle - matrix @ (middle + rng.uniform(-0.06, 0.06, 2) * seen.shape)
        seen = ndimage.affine_transform(seen, matrix, shift, order=1, mode="constant")
    if rng.random() < 0.3:
        seen = ndimage.gaussian_filter(seen, rng.uniform(0.3, 1.2))
    if rng.random() < 0.35:
        pad = int(rng.uniform(0.02, 0.2) * max(seen.shape))
        seen = np.pad(seen, ((0, 0), (pad, pad)) if rng.random() < 0.5 else ((pad, pad), (0, 0)))
    if rng.random() < 0.35:
        for _ in range(int(rng.integers(1, 5))):
            high_px, wide_px = (
                max(1, seen.shape[0] // 24),
                max(2, int(seen.shape[1] * rng.uniform(0.08, 0.3))),
            )
            top = int(rng.choice([0.02, 0.06, 0.9, 0.95]) * seen.shape[0])
            left = int(rng.choice([0.02, 0.65]) * seen.shape[1])
            ink = rng.random((high_px, wide_px)) < 0.5
            place = seen[top : top + high_px, left : left + wide_px]
            place[:] = np.maximum(place, ink[: place.shape[0], : place.shape[1]])
    return np.asarray(np.rint(seen * 255), np.float32)


UNKNOWN_MODALITY = CLASSES[-1].modality


def examples(count: int, rng: Generator) -> tuple[FloatArray, np.ndarray]:
    """Features (N, 266) and classes (N,); two of five images are of no class."""
    rows, kinds = [], []
    for _ in range(count):
        none = rng.random() < OTHER_SHARE
        kind = len(CLASSES) - 1 if none else int(rng.integers(len(CLASSES) - 1))
        rows.append(features(exported(draw(kind, rng), CLASSES[kind].modality, rng)))
        kinds.append(kind)
    return np.stack(rows), np.array(kinds, np.int64)


def fitted(rows: FloatArray, kinds: np.ndarray, seed: int) -> nn.Sequential:
    """The network on standardised features."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(rows.shape[1], HIDDEN), nn.ReLU(), nn.Dropout(0.2), nn.Linear(HIDDEN, len(CLASSES))
    )
    x, y = torch.from_numpy(rows), torch.from_numpy(kinds)
    optimiser = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    order = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(x), generator=order).split(BATCH):
            noised = x[chosen] + 0.1 * torch.randn(len(chosen), x.shape[1], generator=order)
            loss = nn.functional.cross_entropy(net(noised), y[chosen], label_smoothing=0.02)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net.eval()


def temperature(net: nn.Sequential, rows: FloatArray, kinds: np.ndarray) -> float:
    """By which logits are divided so that held-out probabilities are as likely as can be (Guo et al. 2017)."""
    with torch.no_grad():
        logits = net(torch.from_numpy(rows))
    tried = np.exp(np.linspace(np.log(0.3), np.log(4), 60))
    losses = [float(nn.functional.cross_entropy(logits / t, torch.from_numpy(kinds))) for t in tried]
    return float(tried[int(np.argmin(losses))])


def train(count: int, seed: int) -> tuple[bytes, dict[str, float]]:
    """Weights as a safetensors file of float16, and the run's figures."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    rows, kinds = examples(count, rng)
    held, held_kinds = examples(max(200, count // 5), rng)
    mean, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), 0.02)
    net = fitted((rows - mean) / scale, kinds, seed)
    heat = temperature(net, (held - mean) / scale, held_kinds)
    first, second = (layer for layer in net if isinstance(layer, nn.Linear))
    tensors = {
        "mean": mean,
        "scale": scale,
        "first": _array(first.weight).T,
        "first_bias": _array(first.bias),
        "second": _array(second.weight).T / heat,
        "second_bias": _array(second.bias) / heat,
    }
    stored = {name: np.ascontiguousarray(value.astype(np.float16)) for name, value in tensors.items()}
    model = ViewClassifier(**{name: value.astype(np.float32) for name, value in stored.items()})
    shares = model.of_features(held)
    right = float((shares.argmax(axis=1) == held_kinds).mean())
    return save(stored), {
        "images": count,
        "seed": seed,
        "temperature": round(heat, 3),
        "held_out_accuracy": right,
    }


def _array(parameter: torch.Tensor) -> FloatArray:
    return np.asarray(parameter.detach().numpy(), np.float32)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the weights, safetensors")
    parser.add_argument("--log", type=Path, help="JSON with the run's figures")
    parser.add_argument(
        "--images", type=int, default=12_000, help="generated for training; a fifth more is held out"
    )
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    data, figures = train(arguments.images, arguments.seed)
    arguments.out.write_bytes(data)
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    run = {"weights_sha256": hashlib.sha256(data).hexdigest(), **figures, **versions}
    print(json.dumps(run, indent=1))
    if arguments.log:
        arguments.log.write_text(json.dumps(run, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
