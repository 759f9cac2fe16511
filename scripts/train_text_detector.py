"""Train the text detector's network on generated images and write its weights.

    python scripts/train_text_detector.py FONT_FOLDER… --out fedimg/dicom/text/weights.safetensors

Two parts, one after the other: first single lines, with batch norm; then, from the first part's weights
as they would be shipped, blocks of lines and small faint lines too, with smaller steps. `--start` takes the first part's weights
from a file and does the second part alone. The fonts are the only input; their names and digests are
written beside the run's figures (`--log`) and no font enters the repository. One thread; same seed, fonts
and libraries, same weights. The shipped ones: all the defaults, and `fedimg/dicom/text/weights.json`.
After a run put the printed SHA-256 into `fedimg/dicom/text/network.py` and run
`scripts/evaluate_text_detector.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fedimg.dicom.text.network import CELL, TextNet, views_of
from fedimg.dicom.text.synthetic import Painted, Painter
from fedimg.dicom.text.synthetic_text import digest, typefaces

SIDE, BATCH, POOL = 160, 16, 800
HARD_KEPT, HARD_SHARE = 2000, 0.19  # text-free patches that were mistaken come back
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2
CONTINUED = 0.4  # the second part: of the learning rate
BLOCKS, SMALL = 0.3, 0.25  # and of what is written
DEPTHS = ((8, 0.6), (12, 0.25), (16, 0.15))  # bits an image is stored in, and how often
REPORT_EVERY = 100


class Batches:
    """Batches drawn on the fly, with the text-free patches that the network got wrong."""

    def __init__(self, painter: Painter, rng: np.random.Generator) -> None:
        self._painter, self._rng = painter, rng
        self._hard: list[Painted] = []

    def draw(self) -> list[Painted]:
        count = int(BATCH * HARD_SHARE) if len(self._hard) > 100 else 0
        again = [self._hard[int(self._rng.integers(0, len(self._hard)))] for _ in range(count)]
        return again + [self._painter.paint(SIDE) for _ in range(BATCH - count)]

    def keep_mistakes(self, painted: Sequence[Painted], logits: Tensor) -> None:
        """Remember patches without any text in which the network saw some."""
        for image, peak in zip(painted, logits.amax(dim=(1, 2)).tolist(), strict=True):
            if peak > -1 and not image.text.any() and not image.ignored.any():
                self._hard.append(image)
        del self._hard[:-HARD_KEPT]

    def tensors(self, painted: Sequence[Painted]) -> tuple[Tensor, Tensor, Tensor]:
        """Views (N, 3, S, S), targets and weights (N, S/4, S/4)."""
        stored, low, high = zip(*(self._stored(image.image) for image in painted), strict=True)
        views = views_of(torch.from_numpy(np.stack(stored)), torch.tensor(low), torch.tensor(high))
        text = _per_cell([image.text for image in painted])
        ignored = _per_cell([image.ignored for image in painted])
        sure = ((text >= 0.5) | (text <= 0.05)) & (ignored <= 0.05)
        return views, (text >= 0.5).float(), sure.float()

    def _stored(self, image: np.ndarray) -> tuple[np.ndarray, float, float]:
        """Stored values of some depth, offset and slope, and the range that the first view spans."""
        rng = self._rng
        bits = int(rng.choice([bits for bits, _ in DEPTHS], p=[share for _, share in DEPTHS]))
        full = 2.0**bits - 1
        used = full if bits == 8 and rng.random() < 0.8 else full * rng.uniform(0.02, 1)
        if rng.random() < 0.08:  # a few grey values: noise of one step is what there is to see
            used = min(full, rng.uniform(4, 40))
        values = np.rint(image * used + rng.uniform(0, full - used)).astype(np.float32)
        low, high = (float(value) for value in np.percentile(values[::2, ::2], (0.5, 99.5)))
        wide = rng.random()
        if wide < 0.35:  # a patch is part of an image, which has more values than it
            spare = (high - low + 1) * 10 ** rng.uniform(-1, 2)
            share = rng.uniform()
            low, high = low - spare * share, high + spare * (1 - share)
        elif wide < 0.45:
            centre, width = rng.uniform(low, high + 1), (high - low + 1) * rng.uniform(0.1, 0.8)
            low, high = centre - width / 2, centre + width / 2
        return values, low, high


def _per_cell(masks: Sequence[np.ndarray]) -> Tensor:
    return functional.avg_pool2d(torch.from_numpy(np.stack(masks))[:, None], CELL)[:, 0]


def loss_of(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross entropy, of which the hard cells weigh more, and one minus the Dice overlap."""
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = torch.sigmoid(logits)
    missed = torch.abs(probability - target)
    focal = ((0.1 + missed) * entropy * weight).sum() / weight.sum()
    overlap = 2 * (probability * target * weight).sum() + 1
    dice = 1 - overlap / (((probability + target) * weight).sum() + 1)
    return 4 * focal + 0.5 * dice


def folded(net: TextNet) -> TextNet:
    """The same function without batch norm, for inference."""
    if not net.norm:
        return net
    plain = TextNet()
    source = {
        name: module for name, module in net.eval().named_modules() if isinstance(module, nn.Sequential)
    }
    for name, module in plain.named_modules():
        if isinstance(module, nn.Sequential):
            convolution, batch_norm = source[name][0], source[name][1]
            if not (isinstance(convolution, nn.Conv2d) and isinstance(batch_norm, nn.BatchNorm2d)):
                raise TypeError(f"expected a convolution and its batch norm in {name}")
            fused = fuse_conv_bn_eval(convolution, batch_norm)
            module[0].load_state_dict(fused.state_dict())
    plain.head.load_state_dict(net.head.state_dict())
    return plain.eval()


def weights_bytes(net: TextNet) -> bytes:
    """A safetensors file, float16."""
    return save({name: value.half().contiguous() for name, value in folded(net).state_dict().items()})


def train(
    fonts: Sequence[Path], steps: int, seed: int, out: Path, start: bytes | None = None
) -> list[dict[str, float]]:
    """Run one part of the training, writing `out` as it goes. Returns the figures of the run.

    Args:
        start: the first part's weights; then this is the second.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    blocks, small = (0.0, 0.0) if start is None else (BLOCKS, SMALL)
    batches = Batches(Painter(fonts, rng, POOL, blocks=blocks, small=small), rng)
    net, rate = TextNet(norm=start is None), LEARNING_RATE
    if start is not None:
        net.load_state_dict({name: value.float() for name, value in load(start).items()})
        rate = LEARNING_RATE * CONTINUED
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch does not declare it
    optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.08)
    figures, started, running = [], time.monotonic(), 0.0
    for step in range(1, steps + 1):
        painted = batches.draw()
        views, target, weight = batches.tensors(painted)
        net.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(views.contiguous(memory_format=torch.channels_last)).float()
        loss = loss_of(logits, target, weight)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        batches.keep_mistakes(painted, logits.detach())
        running += loss.item()
        if step % REPORT_EVERY == 0 or step == steps:
            count = REPORT_EVERY if step % REPORT_EVERY == 0 else step % REPORT_EVERY
            seen = {"step": step, "loss": running / count, "seconds": round(time.monotonic() - started, 1)}
            print(json.dumps(seen), flush=True)
            figures.append(seen)
            running = 0.0
            out.write_bytes(weights_bytes(net))
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("fonts", nargs="+", type=Path, help="folders with fonts, searched downwards")
    parser.add_argument("--out", type=Path, required=True, help="the weights, safetensors")
    parser.add_argument("--log", type=Path, help="JSON with the fonts' digests and the run's figures")
    parser.add_argument("--steps", type=int, default=16_000, help="of the first part")
    parser.add_argument("--further", type=int, default=11_000, help="steps of the second part")
    parser.add_argument("--seed", type=int, default=1, help="of the first part; the second has the next")
    parser.add_argument("--start", type=Path, help="weights of the first part")
    arguments = parser.parse_args()
    fonts, parts = typefaces(arguments.fonts), []
    if arguments.start is None:
        parts.append(train(fonts, arguments.steps, arguments.seed, arguments.out))
    start = (arguments.start or arguments.out).read_bytes()
    parts.append(train(fonts, arguments.further, arguments.seed + 1, arguments.out, start))
    sha256 = hashlib.sha256(arguments.out.read_bytes()).hexdigest()
    print(sha256)
    if arguments.log:
        run = {
            "weights_sha256": sha256,
            "steps": [arguments.steps, arguments.further],
            "seed": arguments.seed,
            "start_sha256": hashlib.sha256(start).hexdigest(),
            "batch": BATCH,
            "patch_px": SIDE,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "seconds": [figures[-1]["seconds"] for figures in parts],
            "loss": [figures[-1]["loss"] for figures in parts],
            "fonts": {f"{font.parent.name}/{font.name}": digest(font) for font in fonts},
        }
        arguments.log.write_text(json.dumps(run, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
