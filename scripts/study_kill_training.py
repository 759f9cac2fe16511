"""Kill a training site at random moments: does its ledger hold for what the receiver got?

    python scripts/study_kill_training.py [--kills 200] [--rounds 60] [--json FILE]

Each run has T rounds of one noised step. The site is a process that answers the server's instructions; it
is killed (SIGKILL) at a moment drawn uniformly from its start to a few steps on, started again, and asked
the same question again. What is judged is what the *receiver* holds: whole answers, distinct ones counted.

    released ≤ charged ≤ released + kills, and charged ≤ T + r
    no two released vectors have noise in common, judged on the noise itself, which the study takes from
        inside the mechanism: |cos| of each pair × √P, against the normal law at 1e-6 over all pairs
    one run with a single retry is killed until the site declines: T + 1 charges, not one more
    one run of the insecure test mode, killed too, ends with the very model of an unbroken one
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import select
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: children are forked

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import norm

from fedimg import client_round
from fedimg.client_round import Terms
from fedimg.dicom.ledger_keys import LedgerKeys
from fedimg.home import SiteHome
from fedimg.imaging.config import ImagingConfig
from fedimg.models import ModelConfig
from fedimg.privacy.ledger import Ledger, LedgerTerms
from fedimg.privacy.plan import PrivacyRequest, ReleaseSession
from fedimg.site_data import Loaded
from fedimg.training import LocalTraining
from fedimg.values import ClippedSum, NoisedSum, NoisedUpdate, RoundInstructions, SiteDataset, Vector

PATIENTS, SIDE, STEPS_ON = 10, 8, 2.0
FALSE_ALARM = 1e-6
POLICY = f"declared_patients: {PATIENTS}\nmin_patients: 1\nmax_delta: 1.0e-3\nmax_epsilon: 50\n"


def terms_of(run: str, rounds: int, retries: int, *, insecure: bool) -> Terms:
    request = PrivacyRequest(
        epsilon=20.0,
        delta=1e-3,
        l2_clip_norm=0.1,
        sampling_rate=0.5,
        rounds=rounds,
        evaluations=0,
        retry_allowance=retries,
        engine="autograd",
    )
    return Terms(
        run_id=run,
        rounds=rounds,
        model=ModelConfig(name="cnn", width=2, image_size=(SIDE, SIDE)),
        training=LocalTraining(learning_rate=0.1),
        imaging=ImagingConfig(image_size=(SIDE, SIDE)),
        privacy=request,
        deid_profile="train",
        validation_fraction=0.0,
        bins=8,
        seed=0,
        insecure_seed=5 if insecure else None,
    )


def data_of(home: SiteHome) -> Loaded:
    """Patients with one to three images of noise."""
    generator, keys = torch.Generator().manual_seed(1), LedgerKeys(home.site_key)
    first = np.concatenate([[0], np.cumsum([1 + u % 3 for u in range(PATIENTS)])]).astype(np.int64)
    images = torch.randn(int(first[-1]), 1, SIDE, SIDE, generator=generator)
    names = tuple(f"p{u:02d}" for u in range(PATIENTS))
    train = SiteDataset(images, torch.arange(len(images)) % 2, names, first)
    nobody = train.of_patients(np.zeros(0, np.int64))
    return Loaded(train, nobody, Counter(), 1.0, {name: keys.of("", name) for name in names})


def new_home(root: Path, *, insecure: bool) -> SiteHome:
    home = SiteHome.create(root, simulated=True, insecure_seed="study" if insecure else None)
    home.policy.write_text(POLICY)
    Ledger.create(home.ledger, home.signing_key, LedgerTerms(60.0, 1e-3, 4, scratch=True)).disconnect()
    return home


def join(root: Path, terms: Terms) -> client_round.Site:
    home = SiteHome.open(root)
    return client_round.join(home, "a", terms, torch.device("cpu"), data_of(home))


def tap(to: int) -> None:
    """Tell the noise of each release, by its name, before the release is handed on."""
    whole = ReleaseSession.release

    def release(
        self: ReleaseSession, kind: str, clipped: Callable[[], ClippedSum], noise_multiplier: float
    ) -> NoisedSum:
        seen: list[ClippedSum] = []

        def watched() -> ClippedSum:
            seen.append(clipped())
            return seen[-1]

        noised = whole(self, kind, watched, noise_multiplier)
        noise = (noised.vector - seen[-1].vector).tobytes()
        name = noised.release_id.encode()
        os.write(to, struct.pack("<II", len(name), len(noise)) + name + noise)
        return noised

    ReleaseSession.release = release  # type: ignore[method-assign] # of a process that ends soon


@dataclass
class Child:
    """A site at work: its process and both ends of the wire."""

    pid: int
    questions: int
    answers: int

    @classmethod
    def start(cls, root: Path, terms: Terms, noise: Path) -> Child:
        asked, answered = os.pipe(), os.pipe()
        pid = os.fork()
        if pid:
            os.close(asked[0])
            os.close(answered[1])
            return cls(pid, asked[1], answered[0])
        try:
            os.close(asked[1])
            os.close(answered[0])
            tap(os.open(noise, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            serve(root, terms, asked[0], answered[1])
        except BaseException as fault:  # noqa: BLE001 - a forked child must not return into the study
            sys.stderr.write(f"the site failed: {type(fault).__name__}: {fault}\n")
            os._exit(1)
        os._exit(0)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.end()

    def end(self) -> None:
        os.close(self.questions)
        os.close(self.answers)
        os.waitpid(self.pid, 0)


def serve(root: Path, terms: Terms, questions: int, answers: int) -> None:
    site = join(root, terms)
    while (question := read_whole(questions, None)) is not None:
        answer = client_round.answer(site, question) or b""
        write_all(answers, struct.pack("<I", len(answer)) + answer)


def write_all(to: int, data: bytes) -> None:
    while data:
        data = data[os.write(to, data) :]


def read_whole(source: int, until: float | None) -> bytes | None:
    """One message; None at the end of the wire, or where it is not there `until` then. A torn one is none."""
    data = b""
    while len(data) < 4 or len(data) < 4 + struct.unpack("<I", data[:4])[0]:
        left = None if until is None else max(0.0, until - time.monotonic())
        if not select.select([source], [], [], left)[0]:
            return None
        part = os.read(source, 1 << 16)
        if not part:
            return None
        data += part
    return data[4:]


@dataclass
class Receiver:
    """The server: the model, and every distinct vector that ever reached it, with its releases."""

    terms: Terms
    vector: Vector
    round: int = 1
    received: dict[bytes, tuple[str, ...]] = field(default_factory=dict)
    declined: bool = False

    def question(self) -> bytes:
        return RoundInstructions(
            self.terms.run_id, self.round, "train", self.terms.digest, self.vector
        ).to_bytes()

    def take(self, answer: bytes) -> None:
        update = NoisedUpdate.from_bytes(answer, len(self.vector))
        self.received[update.vector.tobytes()] = update.releases
        self.vector = self.vector + update.vector
        self.round += 1

    @property
    def finished(self) -> bool:
        return self.declined or self.round > self.terms.rounds


def work(child: Child, receiver: Receiver, until: float | None) -> None:
    """Ask and receive until the moment, the last round, or a refusal. Raises RuntimeError for a fault."""
    while not receiver.finished:
        question = receiver.question()
        write_all(child.questions, struct.pack("<I", len(question)) + question)
        answer = read_whole(child.answers, until)
        if answer is None and until is None:
            raise RuntimeError("a site that ended; its message is above")
        if answer is None:
            return
        if answer:
            receiver.take(answer)
        else:
            receiver.declined = True


def run(place: Path, terms: Terms, kills: int, chance: random.Random, span_s: float) -> tuple[Receiver, int]:
    """One run to its end, with so many kills on the way; returns the receiver and the kills that were."""
    insecure = terms.insecure_seed is not None
    root, noise = new_home(place, insecure=insecure).root, place / "noise"
    first = join(root, terms)  # the plan is calibrated once, as in any run that goes on
    receiver = Receiver(terms, np.asarray(first.network.initial, dtype=np.float64))
    if first.ledger is not None:
        first.ledger.disconnect()
    del first
    done = 0
    while done < kills and not receiver.finished:
        child = Child.start(root, terms, noise)
        work(child, receiver, time.monotonic() + chance.uniform(0.0, span_s))
        child.kill()
        done += 1
    if not receiver.finished:
        child = Child.start(root, terms, noise)
        work(child, receiver, None)
        child.end()
    return receiver, done


def charged(root: Path, terms: Terms) -> int:
    home = SiteHome.open(root)
    ledger = Ledger.open(home.ledger, home.signing_key)
    count = ledger.statement.runs[terms.run_id].charged.get("train", 0)
    ledger.disconnect()
    return count


def noises(place: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Release → its noise, as the site's processes told it; a torn last record is of no release."""
    data, found = (place / "noise").read_bytes(), {}
    at = 0
    while at + 8 <= len(data):
        name, size = struct.unpack("<II", data[at : at + 8])
        end = at + 8 + name + size
        if end > len(data):
            break
        found[data[at + 8 : at + 8 + name].decode()] = np.frombuffer(data[at + 8 + name : end])
        at = end
    return found


def largest_cosine(vectors: list[npt.NDArray[np.float64]]) -> tuple[float, float]:
    """(largest |cos|·√P of all pairs, what independent noise passes with chance 1e-6)."""
    rows = np.stack([v / np.linalg.norm(v) for v in vectors])
    cosines = np.abs(rows @ rows.T)[np.triu_indices(len(rows), 1)]
    bound = -norm.ppf(FALSE_ALARM / (2 * len(cosines)))
    return float(cosines.max() * math.sqrt(rows.shape[1])), float(bound)


def judged(place: Path, receiver: Receiver, kills: int, *, finishes: bool) -> dict[str, Any]:
    terms = receiver.terms
    released, spent = len(receiver.received), charged(place, terms)
    most = terms.rounds + terms.privacy.retries
    holds = released <= spent <= min(released + kills, most)
    whole = released == terms.rounds if finishes else receiver.declined or released == terms.rounds
    return {
        "kills": kills,
        "released": released,
        "charged": spent,
        "most": most,
        "declined": receiver.declined,
        "holds": holds and whole,
    }


def study(kills: int, rounds: int, seed: int) -> dict[str, Any]:
    chance = random.Random(seed)  # noqa: S311 - moments of a study, nothing secret
    trials: list[dict[str, Any]] = []
    vectors: list[npt.NDArray[np.float64]] = []
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        test = terms_of("unbroken", rounds, rounds, insecure=True)
        unbroken, _ = run(place / "unbroken", test, 0, chance, 0.0)
        began = time.monotonic()  # the calibration is in memory by now
        again, _ = run(place / "again", replace(test, run_id="again"), 0, chance, 0.0)
        span = (time.monotonic() - began) / rounds * STEPS_ON * 2
        broken, done = run(place / "broken", replace(test, run_id="broken"), rounds // 2, chance, span)
        same = all(np.array_equal(other.vector, unbroken.vector) for other in (again, broken))
        in_test_mode = {"kills": done, "same_model_as_unbroken": same}
        short = terms_of("short", rounds, 1, insecure=False)
        receiver, done = run(place / "short", short, 4 * rounds, chance, span)
        trials.append(judged(place / "short", receiver, done, finishes=False))
        while sum(trial["kills"] for trial in trials) < kills:
            terms = terms_of(f"run-{len(trials)}", rounds, rounds, insecure=False)
            here = place / terms.run_id
            missing = kills - sum(trial["kills"] for trial in trials)
            receiver, done = run(here, terms, min(missing, rounds), chance, span)
            trials.append(judged(here, receiver, done, finishes=True))
            told = noises(here)
            vectors += [told[name] for names in receiver.received.values() for name in names]
    cosine, bound = largest_cosine(vectors)
    holds = all(trial["holds"] for trial in trials) and cosine <= bound and same
    return {
        "verdict": "pass" if holds else "fail",
        "kills": sum(trial["kills"] for trial in trials),
        "runs": trials,
        "released": sum(t["released"] for t in trials),
        "charged": sum(t["charged"] for t in trials),
        "largest_cosine": round(cosine, 3),
        "cosine_bound": round(bound, 3),
        "test_mode": in_test_mode,
        "span_s": round(span, 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=60, help="T of each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    found = study(arguments.kills, arguments.rounds, arguments.seed)
    found["seconds"] = round(time.monotonic() - began, 1)
    print(f"{'kills':>6} {'released':>9} {'charged':>8} {'T + r':>6}  holds")
    for trial in found["runs"]:
        print(
            f"{trial['kills']:6d} {trial['released']:9d} {trial['charged']:8d} {trial['most']:6d}  "
            f"{'yes' if trial['holds'] else 'NO'}"
        )
    print(
        f"{found['kills']} kills, {found['released']} distinct vectors received, {found['charged']} charged; "
        f"largest |cos|·√P of two noises {found['largest_cosine']} (bound {found['cosine_bound']}); "
        f"test mode: {'the model of the unbroken run' if found['test_mode']['same_model_as_unbroken'] else 'ANOTHER MODEL'}"
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1))
    return 0 if found["verdict"] == "pass" else 1


if __name__ == "__main__":
    sys.exit(main())
