"""The conformance battery held against other libraries as they are shipped.

    python scripts/battery_other_libraries.py [opacus] [flower] [--json]

opacus: `PrivacyEngine.make_private` with Poisson sampling and a `DPOptimizer`, every setting at its default.
flower: `LocalDpMod`, whose unit is a client's whole update.
Both adapters only carry: units in, what the library would send out. Exit code 0 whatever is found.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from typing import Any

import numpy as np
import torch

from fedimg.audit import battery
from fedimg.audit.mechanism import Claim, Mechanism, Round, Session, Setting, Tensor, Unit
from fedimg.values import Vector

DELTA = 1e-5


class Opacus(Mechanism):
    """One linear layer for each tensor, without bias, whose summed output has the input as its gradient."""

    name = "opacus"

    def open(self, setting: Setting, units: tuple[Unit, ...], site: str = "a") -> Session:
        return OpacusSession(setting, units, site)


class Parts(torch.nn.Module):
    """Σ over tensors of w · x: one row w for each tensor."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.layers = torch.nn.ModuleList([torch.nn.Linear(size, 1, bias=False) for size in sizes])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        parts = images.split(self.sizes, dim=-1)
        return torch.stack([layer(part) for layer, part in zip(self.layers, parts, strict=True)]).sum(dim=0)


class OpacusSession(Session):
    """A unit is a row of the data set (Opacus knows of no patients): a unit's images are its rows' mean."""

    def __init__(self, setting: Setting, units: tuple[Unit, ...], _site: str) -> None:
        from opacus import PrivacyEngine

        self.setting, self.module = setting, Parts(setting.tensors)
        rows = [unit.gradients.mean(axis=0) for unit in units]
        inputs = torch.from_numpy(np.stack([*rows, np.zeros(setting.size)])[: len(rows)].astype(np.float32))
        data = torch.utils.data.TensorDataset(inputs)
        # its q is 1 ÷ the number of batches, and that number is whole
        size = max(1, round(setting.sampling_rate * max(1, len(units))))
        loader = torch.utils.data.DataLoader(data, batch_size=size)
        self.engine = PrivacyEngine()
        made = self.engine.make_private(
            module=self.module,
            optimizer=torch.optim.SGD(self.module.parameters(), lr=1.0),
            data_loader=loader,
            noise_multiplier=setting.noise_multiplier,
            max_grad_norm=setting.l2_clip_norm,
        )
        self.private, self.optimizer, self.loader = made
        self.batches = iter(self.loader)

    @property
    def claim(self) -> Claim:
        s = self.setting
        rate = float(self.loader.batch_sampler.sample_rate)
        divisor = float(self.optimizer.expected_batch_size)
        return Claim(s.l2_clip_norm, s.noise_multiplier, rate, s.declared_units, divisor, unit="image")

    def step(self, steps: int = 1) -> Round:
        before = [parameter.detach().clone() for parameter in self.module.parameters()]
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.private(self._batch()).sum().backward()
            self.optimizer.step()
        moved = [b - p.detach() for b, p in zip(before, self.module.parameters(), strict=True)]
        named = [
            Tensor(f"tensor {k}", part.double().numpy().ravel(), ("step",)) for k, part in enumerate(moved)
        ]
        return Round(tuple(named), steps)

    def _batch(self) -> torch.Tensor:
        try:
            (batch,) = next(self.batches)
        except StopIteration:
            self.batches = iter(self.loader)
            (batch,) = next(self.batches)
        return torch.as_tensor(batch)


class Flower(Mechanism):
    """The unit is the whole client: it sends one update, clipped and noised, in every round."""

    name = "flower LocalDpMod"

    def open(self, setting: Setting, units: tuple[Unit, ...], site: str = "a") -> Session:
        return FlowerSession(setting, units, site)


class FlowerSession(Session):
    """The client's update is the sum over its units. Sensitivity is set to C; ε to what gives σ."""

    def __init__(self, setting: Setting, units: tuple[Unit, ...], _site: str) -> None:
        from flwr.clientapp.mod import LocalDpMod
        from flwr.supercore.task_identity import TaskIdentity

        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1  # no message without
        self.setting = setting
        rows = [unit.gradients.mean(axis=0) for unit in units]
        self.update = np.sum([*rows, np.zeros(setting.size)], axis=0)
        if not self.update.any():
            self.update[0] = (
                1e-9  # LocalDpMod divides by the norm: an update of zeros ends in ZeroDivisionError
            )
        epsilon = float(np.sqrt(2 * np.log(1.25 / DELTA)) / setting.noise_multiplier)
        self.mod = LocalDpMod(setting.l2_clip_norm, setting.l2_clip_norm, epsilon, DELTA)

    @property
    def claim(self) -> Claim:
        s = self.setting
        return Claim(s.l2_clip_norm, s.noise_multiplier, 1.0, s.declared_units, 1.0, unit="client")

    def step(self, steps: int = 1) -> Round:
        total = np.sum([self._once() for _ in range(steps)], axis=0)
        parts = np.split(total, np.cumsum(self.setting.tensors)[:-1])
        return Round(tuple(Tensor(f"tensor {k}", part, ("round",)) for k, part in enumerate(parts)), steps)

    def _once(self) -> Vector:
        from flwr.app import Array, ArrayRecord, Message, MessageType, RecordDict

        def record(vector: Vector) -> RecordDict:
            parts = np.split(vector, np.cumsum(self.setting.tensors)[:-1])
            return RecordDict({"arrays": ArrayRecord({f"{k}": Array(p.copy()) for k, p in enumerate(parts)})})

        asked = Message(record(np.zeros(self.setting.size)), dst_node_id=1, message_type=MessageType.TRAIN)
        context: Any = None  # the mod hands it on and looks at nothing in it
        answered = self.mod(
            asked, context, lambda message, _context: Message(record(self.update), reply_to=message)
        )
        (arrays,) = answered.content.array_records.values()
        return np.concatenate([array.ravel() for array in arrays.to_numpy_ndarrays()]).astype(np.float64)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("libraries", nargs="*", default=["opacus", "flower"])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    reports = [battery.run({"opacus": Opacus, "flower": Flower}[name](), 0) for name in arguments.libraries]
    if arguments.json:
        print(json.dumps([report.as_dict() for report in reports], indent=1))
        return 0
    for report in reports:
        print(f"{report.mechanism}: {report.verdict}, {report.seconds:.1f} s")
        for check in report.checks:
            print(f"  {report.verdict_of(check):<14} {check.name:<24} {check.detail}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
