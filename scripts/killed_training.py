"""A training site as a process that can be killed, and the server that asks it: for `study_kill_training.py`."""

from __future__ import annotations

import os
import select
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

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

PATIENTS, SIDE = 10, 8
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
            # a file of its own: behind a record that a kill has torn nothing could be read any more
            tap(os.open(noise / f"{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
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
