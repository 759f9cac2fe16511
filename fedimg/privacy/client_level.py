"""DP-FedAvg: a whole client is the unit, and a trusted coordinator adds the noise.

McMahan, Ramage, Talwar & Zhang 2018 (arXiv 1710.06963), algorithm 1 with the fixed denominator f̃_f:
each round a Poisson sample of the clients trains, each client's update is clipped to C in L2, the sum
gets N(0, σ²C²) once and is divided by the constant q·n̄. The neighbouring relation is adding or removing
one client with all its data.

There is no second mechanism here: sampling, clipping, noise and the charge are those of every other
release (`ReleaseSession.release`), with a ledger that the coordinator owns.

What it promises, and to whom. The guarantee is against those who see the released models (and
evaluations). It does not hold against the coordinator, which sees every update; and the amplification by
sampling that ε counts on holds only against those who do not see the cohort, so nothing that leaves the
coordinator may name whom it sampled, nor how many they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fedimg.errors import ConfigError
from fedimg.privacy.calibration import EVALUATE, TRAIN
from fedimg.privacy.clipping import clipped_stream
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.noise import Entropy
from fedimg.privacy.plan import PrivacyPlan, ReleaseSession
from fedimg.privacy.sampling import poisson_sample
from fedimg.values import ClippedSum, NoisedSum, Vector

Updates = Callable[[tuple[str, ...]], Iterable[Vector]]
"""Asks the named clients: one (P,) vector for each that answers, in an order that does not depend on time."""

MODE = "client_level"
TRUST = (
    "The server is trusted: it sees every client's update before it adds the noise. The guarantee is against "
    "those who see the released models, and counts on their not knowing whom the server sampled in a round."
)


def clipped_update(vector: Vector, l2_clip_norm: float) -> Vector:
    """A client's (P,) update of L2 norm ≤ C, by the coordinator's own clipping; zeros where it is not finite."""
    return clipped_stream([vector], vector.size, l2_clip_norm).vector


@dataclass(frozen=True)
class ClientReleases:
    """What a coordinator lets out of a run with `privacy=client_level`: noised sums, charged first.

    Attributes:
        plan: made for the declared number of clients, and reserved in `ledger`.
        entropy: for (round, task): the operating system's, except in the openly insecure test mode.
    """

    plan: PrivacyPlan
    ledger: Ledger
    entropy: Callable[[int, str], Entropy]

    def __post_init__(self) -> None:
        if self.plan.mode != MODE:
            raise ConfigError(f"a plan of mode {MODE}", self.plan.mode, f"set privacy={MODE}")

    def training_sum(
        self, round_number: int, clients: Sequence[str], size: int, updates: Updates
    ) -> NoisedSum:
        """The noised sum of a fresh Poisson cohort's updates, each clipped to C. Divide by `divisor`.

        An empty cohort releases noise and is charged like any other. A client that does not answer, or
        whose update is not finite or of another size than `size`, contributes zero.

        Raises:
            BudgetExhausted, LedgerError: nobody was asked and nothing was released. Whatever else
            `updates` raises ends the round after its charge: redoing it is charged anew.
        """
        entropy = self.entropy(round_number, TRAIN)

        def sampled() -> ClippedSum:
            drawn = poisson_sample(len(clients), self.plan.sampling_rate, entropy)
            cohort = tuple(clients[number] for number in drawn)
            return clipped_stream(updates(cohort), size, self.plan.l2_clip_norm)

        return self._session(entropy).release(TRAIN, sampled, self.plan.noise_multiplier)

    def evaluation_sum(
        self, round_number: int, clients: Sequence[str], size: int, histograms: Updates
    ) -> NoisedSum:
        """The noised sum of all clients' histograms, each of L2 norm ≤ 1 (scaled down where it is not)."""
        entropy = self.entropy(round_number, EVALUATE)

        def everyone() -> ClippedSum:
            return clipped_stream(histograms(tuple(clients)), size, 1.0)

        return self._session(entropy).release(EVALUATE, everyone, self.plan.evaluation_noise_multiplier)

    @property
    def divisor(self) -> float:
        """q · n̄ of the declared number of clients. Never the actual cohort."""
        return self.plan.expected_batch_size

    def _session(self, entropy: Entropy) -> ReleaseSession:
        return ReleaseSession(self.plan, self.ledger, entropy)
