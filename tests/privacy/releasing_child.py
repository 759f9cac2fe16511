"""A site that releases steps until it is killed: `python -P releasing_child.py FOLDER`.

Each released vector is made durable in FOLDER/released, as a receiver would keep it.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch

from fedimg.crypto.keys import SigningKey
from fedimg.errors import BudgetExhausted
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.noise import OsEntropy
from fedimg.privacy.plan import PrivacyPlan, PrivacyRequest, ReleaseSession
from fedimg.values import SiteDataset

PLAN = PrivacyPlan(
    PrivacyRequest(rounds=300, sampling_rate=0.5, retry_allowance=40, evaluations=0, engine="autograd"),
    declared_patients=20,
    sampling_rate=0.5,
    noise_multiplier=50.0,
    evaluation_noise_multiplier=0.0,
    epsilon=8.0,
    epsilon_second=8.0,
)


class Constant:
    """Its gradient is zero, so what is released is the noise, and noise used twice would show."""

    def apply(self, flat, images):
        return images.new_zeros((images.shape[0], 2)) + 0 * flat.sum()


def main(folder):
    ledger = Ledger.open(folder / "ledger.sqlite", SigningKey.load(folder / "signing.key"))
    ledger.reserve("run", PLAN)
    session = ReleaseSession(PLAN, ledger, OsEntropy())
    dataset = SiteDataset(
        torch.ones(20, 1, 2, 2), torch.zeros(20, dtype=torch.int64), tuple(map(str, range(20))), np.arange(21)
    )
    with (folder / "released").open("ab", buffering=0) as released:
        try:
            while True:
                vector = session.gradient_step(torch.zeros(10), dataset, Constant()).vector
                released.write(vector.tobytes())
                os.fsync(released.fileno())
        except BudgetExhausted:
            (folder / "finished").touch()
    ledger.disconnect()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
