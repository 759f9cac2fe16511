"""All sites of a secure sum in one process, with a coordinator and a wire that can be watched or bent."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from fedimg.crypto.keys import SigningKey
from fedimg.secagg.coordinator import SumCoordinator
from fedimg.secagg.encoding import Encoded, OpenedSum, word_type
from fedimg.secagg.plan import SumPlan, usual_threshold
from fedimg.secagg.site import SumSite

STEPS = ("advertise_keys", "share_keys", "masked_input", "confirm", "unmask")
NEVER = len(STEPS)


def identities(number: int) -> dict[str, SigningKey]:
    return {f"site-{i:04d}": SigningKey((i + 1).to_bytes(32, "big")) for i in range(number)}


class Hall:
    """`sites` sites with inputs of their own, and one sum."""

    def __init__(self, sites: int, *, size: int = 3, label: str = "round 1", seed: int = 0, **plan):
        self.identities = identities(sites)
        self.plan = SumPlan(
            **{
                "run_id": "run",
                "identities": {name: key.public_bytes for name, key in self.identities.items()},
                "threshold": usual_threshold(sites),
                "colluders": 1,
                "size": size,
                "word_bits": 32,
                "terms": "terms",
            }
            | plan
        )
        rng = np.random.default_rng([seed, sites])
        self.inputs = {name: rng.integers(-(2**20), 2**20, size) for name in self.identities}
        self.start(label)

    def start(self, label: str) -> None:
        """Everybody afresh, for another sum."""
        self.sites = {name: SumSite(self.plan, label, name, key) for name, key in self.identities.items()}
        self.coordinator = SumCoordinator(self.plan, label)

    def answer(self, name: str, step: int, message: bytes) -> bytes:
        site = self.sites[name]
        if step == 0:
            return site.advertise_keys()
        if step == 2:
            return site.masked_input(message, lambda: Encoded(self.words(name)))
        return getattr(site, STEPS[step])(message)

    def words(self, name: str):
        return self.inputs[name].astype(word_type(self.plan.word_bits))

    def run(
        self,
        drops: Mapping[str, int] | None = None,
        wire: Callable[[int, str, bytes], bytes | None] = lambda _step, _name, message: message,
    ) -> OpenedSum:
        """A whole sum. A site does not answer from step `drops[name]` on; `wire` sees every answer."""
        drops, messages = drops or {}, dict.fromkeys(self.sites, b"")
        take = self.coordinator
        for step, next_step in enumerate(
            (take.keys, take.sharing, take.survivors, take.confirmed, take.opened)
        ):
            answers = {
                name: wire(step, name, self.answer(name, step, message))
                for name, message in messages.items()
                if drops.get(name, NEVER) > step
            }
            messages = next_step(answers)
        return messages

    def expected(self, names):
        return sum((self.inputs[name] for name in names), np.zeros(self.plan.size, np.int64))


@pytest.fixture(scope="session")
def hall():
    return Hall
