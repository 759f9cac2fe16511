"""Real photographs to tune settings on: pairs of Fashion-MNIST's classes, told apart at 28 pixels.

    pullover or coat, pullover or shirt, shirt or coat

Nobody's health is in them, anybody may publish what was chosen on them, and they vary as photographs do: what
tells two kinds of garment apart is little beside what differs among garments of one kind. (What tells the
classes of `generated_studies` apart is most of what varies there, so that even a small budget finds it.)

Source: Xiao, Rasul and Vollgraf 2017, "Fashion-MNIST", MIT licence, github.com/zalandoresearch/fashion-mnist;
the four files `*-ubyte.gz` in one folder.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from generated_studies import POSITIVE, SIDE, Pictures

CLASSES = {"pullover": 2, "coat": 4, "shirt": 6}
QUESTIONS = ("coat-pullover", "shirt-pullover", "coat-shirt")  # class 1 is the second
# Name, bytes of the header (of the IDX format), SHA-256 of the file's contents, unpacked.
_FILES = {
    "train": (
        (
            "train-images-idx3-ubyte.gz",
            16,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        ("train-labels-idx1-ubyte.gz", 8, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    ),
    "test": (
        ("t10k-images-idx3-ubyte.gz", 16, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        ("t10k-labels-idx1-ubyte.gz", 8, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    ),
}


def pictures(folder: Path, question: str, count: int, seed: int, split: str = "train") -> Pictures:
    """Photographs of two classes from one split, in the ratio of `POSITIVE`, drawn without repetition by `seed`.

    At most `count`: fewer where the rarer class has no more.

    Raises:
        ValueError: the files are not the published ones.
    """
    images, labels = (_values(folder, *file) for file in _FILES[split])
    rng = np.random.default_rng([seed, QUESTIONS.index(question)])
    both = [np.flatnonzero(labels == CLASSES[name]) for name in question.split("-")]
    of_one = min(round(count * POSITIVE), len(both[1]))
    numbers = min(round(of_one * (1 - POSITIVE) / POSITIVE), len(both[0])), of_one
    chosen = [rng.permutation(there)[:number] for there, number in zip(both, numbers, strict=True)]
    order = rng.permutation(sum(numbers))
    drawn: npt.NDArray[np.int64] = np.repeat([0, 1], numbers)[order]
    return Pictures(images.reshape(-1, SIDE, SIDE)[np.concatenate(chosen)[order]], drawn)


def _values(folder: Path, name: str, header: int, sha256: str) -> npt.NDArray[np.uint8]:
    unpacked = gzip.decompress((folder / name).read_bytes())
    if hashlib.sha256(unpacked).hexdigest() != sha256:
        raise ValueError(f"expected Fashion-MNIST's {name}, found other contents: fetch it again")
    return np.frombuffer(unpacked, np.uint8, offset=header)
