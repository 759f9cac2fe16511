"""One hospital's side of a round, as steps that can be read from top to bottom.

    admit     source items      → released files and receipts        (identity boundary)
    load      released files    → SiteDataset
    join      terms, policy     → Site, with its whole budget reserved
    train     global model      → NoisedUpdate                       (privacy boundary)
    evaluate  global model      → NoisedUpdate of score histograms
    answer    bytes             → bytes, or nothing
    add       its update        → masked words of a secure sum      (visibility boundary)

With `privacy=distributed` a sum over sites is the release: `train_share` and `evaluate_share` make what goes into it.

The same steps run in simulation, on Flower's Ray engine and in deployment; an
engine only carries `answer`'s bytes. What a site cannot or will not do is said to
its own operator; the wire carries nothing but an absence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

import torch

from fedimg import classical, heterogeneity, intake, restored, run_sums, site_terms, training
from fedimg.classical import Learner
from fedimg.errors import PolicyRefused
from fedimg.evaluation import patient_rows
from fedimg.home import SiteHome
from fedimg.intake import IntakeConfig, IntakeResult
from fedimg.joined_site import Site, load
from fedimg.models import build_model
from fedimg.operator_log import note_held_back, tell_operator
from fedimg.outbox import Outbox
from fedimg.privacy import client_level
from fedimg.privacy.calibration import EVALUATE, TRAIN
from fedimg.privacy.ledger import Head
from fedimg.privacy.plan import PatientLoss, ReleaseSession, Rows
from fedimg.privacy.request import DISTRIBUTED
from fedimg.secagg.request import SumRequest, is_request
from fedimg.secagg.sessions import Contribution, SiteSums
from fedimg.site_data import Loaded, present, remaining, roll_of
from fedimg.terms import Terms
from fedimg.training.variation import patient_loss, varied_once
from fedimg.values import (
    ClippedUpdate,
    Integers,
    NoisedUpdate,
    OpenUpdate,
    PartlyNoisedSum,
    RoundInstructions,
    SiteDataset,
    SourceItem,
    Vector,
)

__all__ = ["Loaded", "Site", "Terms", "add", "admit", "answer", "evaluate", "join", "load", "train"]


def admit(
    items: Sequence[SourceItem],
    home: SiteHome,
    config: IntakeConfig,
    progress: Callable[[int, int], None] | None = None,
) -> IntakeResult:
    """Stations 1 and 2: every input is released with a receipt, or quarantined with a reason."""
    return intake.run_intake(items, home, config, progress)


def join(
    home: SiteHome,
    name: str,
    terms: Terms,
    device: torch.device,
    data: Loaded | None = None,
    known_head: Head | None = None,
    *,
    rehearsed: bool = False,
) -> Site:
    """Judge the terms by policy, try them on dummy patients, reserve their whole cost: before data is read.

    Args:
        data: already loaded examples, where a simulation shares them between runs.
        known_head: the ledger's last head that the server has seen: an older ledger is refused.
        rehearsed: another site of this process has tried these terms on dummy patients.
    Raises PolicyRefused, BudgetExhausted, LedgerError, ConfigError: for the site's own operator; so for a run that
    a restored home may have answered in before.
    """
    restored.check_run(home.root, terms.run_id)
    site_terms.check_test_mode(home, terms)
    policy = site_terms.allowing(home, terms)
    loss = terms.loss(policy.allowed_extensions)
    network = build_model(terms.model, terms.seed, policy.allowed_extensions)
    learner = classical.learner_of(network, terms.model)
    training.kept_parameters(network, terms.training.algorithm)  # a network without any is refused
    sums = run_sums.agreed(home, name, terms, policy, terms.update_size(network))
    # where there are data it was done before, for this run or one that it is compared with
    if data is None and not rehearsed:
        site_terms.rehearse(terms, network, loss, device)
    plan, ledger = site_terms.reserve(home, terms, policy, sums.shares if sums else None, known_head)
    if sums is not None:
        sums.check_plan(plan)
    if data is None:
        data = load(home, terms, network)
        note_held_back(home.root, "loading", data.held_back)
    receipts = intake.commitment(home, terms.run_id)
    roll = roll_of(home, terms.run_id, data, plan, ledger)
    sessions = None if sums is None else SiteSums(name, home.signing_key, home.root / "sums" / terms.run_id)
    return Site(
        name, home, terms, network, learner, loss, data, plan, ledger, device, receipts, roll, sums, sessions
    )


def train(site: Site, instructions: RoundInstructions) -> NoisedUpdate | OpenUpdate | ClippedUpdate:
    """Stations 4 and 5: local training from the global model; the difference is what leaves."""
    if site.learner is not None:
        return state(site, site.learner, instructions)
    number, terms = instructions.round, site.terms
    own = heterogeneity.begin(site, instructions)
    part = _part(site, own)
    if site.plan is None or site.ledger is None:
        entropy = terms.entropy(site.name, f"round-{number}", "train")
        data = remaining(site.data.train, site.roll, TRAIN)
        varied = varied_once(data, terms.imaging.varied, entropy)
        after = training.train_open_part(part, varied, entropy, site.loss, own.correction)
        moved = part.moved(after, own.size)
        return _unnoised(site, number, "update", own.ended(moved, part.steps(varied)))
    session, data = _session(site, number, "train", _loss_of(site, part)), site.data.train
    moved = training.private_update(part.network, part.start, data, session, part.config, own.correction)
    _tell_last(site, "training, a patient left out", session.faults)
    sent = own.ended(part.among(moved, own.size), part.config.local_steps)
    return NoisedUpdate(site.name, number, "update", sent, session.releases)


def state(site: Site, learner: Learner, instructions: RoundInstructions) -> NoisedUpdate | OpenUpdate:
    """The same stations of a classical model: patients' statistics, clipped, summed and noised like gradients."""
    number = instructions.round
    if site.plan is None or site.ledger is None:
        data = remaining(site.data.train, site.roll, TRAIN)
        declared = site_terms.allowing(site.home, site.terms).declared_patients
        faults = list[Exception]()
        mean = classical.open_mean(learner, instructions.vector, number, data, declared, faults.append)
        _tell_last(site, "statistics, a patient left out", faults)
        return OpenUpdate(site.name, number, "update", mean, exact=True)
    session = _session(site, number, "train")
    noised = session.statistics_step(*_statistics(site, learner, instructions))
    mean = noised.vector / session.plan.expected_batch_size
    return NoisedUpdate(site.name, number, "update", mean, session.releases, exact=True)


def _statistics(site: Site, learner: Learner, instructions: RoundInstructions) -> tuple[int, Rows, int]:
    """How many patients there are, the rows of those who are sampled, and a row's size."""
    data = site.data.train

    def rows(sampled: Integers) -> Iterator[Vector]:
        faults = list[Exception]()
        yield from classical.patient_rows(
            learner, instructions.vector, instructions.round, data, sampled, failed=faults.append
        )
        _tell_last(site, "statistics, a patient left out", faults)

    return data.number_of_patients, rows, learner.update_size


def train_share(site: Site, instructions: RoundInstructions) -> PartlyNoisedSum:
    """Station 4 with `distributed`: one step's clipped gradient sum, with the site's share of the noise."""
    if site.learner is not None:
        session = _session(site, instructions.round, "train")
        return session.statistics_share(*_statistics(site, site.learner, instructions))
    own = heterogeneity.begin(site, instructions)
    part = _part(site, own)
    session = _session(site, instructions.round, "train", _loss_of(site, part))
    share = session.gradient_share(part.start, site.data.train, part.network)
    _tell_last(site, "training, a patient left out", session.faults)
    own.aside()
    return share.placed(part.where, own.size)


def evaluate(site: Site, instructions: RoundInstructions) -> NoisedUpdate | OpenUpdate | ClippedUpdate:
    """Station 8 at the site: one declared release of score histograms, (rows · bins,); of a client their mean."""
    number, data = instructions.round, site.data.validation
    instructions = heterogeneity.to_evaluate(site, instructions)
    if site.plan is None or site.ledger is None:
        rows = _histograms(site, instructions, remaining(data, site.roll, EVALUATE))
        units = max(1, len(rows)) if site.terms.privacy.mode == client_level.MODE else 1
        return _unnoised(site, number, "histogram", rows.sum(axis=0) / units)
    session = _session(site, number, "evaluate")
    vector = session.histogram(
        lambda: _histograms(site, instructions, present(data, site.roll, EVALUATE))
    ).vector
    return NoisedUpdate(site.name, number, "histogram", vector, session.releases)


def evaluate_share(site: Site, instructions: RoundInstructions) -> PartlyNoisedSum:
    """Station 8 at the site with `distributed`: its histograms, with its share of the noise."""
    instructions = heterogeneity.to_evaluate(site, instructions)
    data, session = site.data.validation, _session(site, instructions.round, "evaluate")
    return session.histogram_share(
        lambda: _histograms(site, instructions, present(data, site.roll, EVALUATE))
    )


def _histograms(site: Site, instructions: RoundInstructions, there: SiteDataset) -> Vector:
    """(U, cells) of patients who may be in the release: with privacy called after the charge."""
    faults = list[Exception]()
    scores = training.scores(site.network, instructions.vector, there, site.device, faults.append)
    _tell_last(site, "the evaluation, a patient left out", faults)
    return patient_rows(site.terms.measure, scores, there)


def answer(site: Site, data: bytes) -> bytes | None:
    """The site's end of the wire: instructions in, released bytes out, or None to decline.

    The released bytes are on disk before they are sent. Asked the same question again after a crash, the
    site sends the same bytes and charges nothing; were they not there, or was it another question, the round
    is done anew, with new noise and a new charge. With `client_level` the site releases nothing: its update
    is on no disk. Every reason to decline goes to the operator's log and nowhere else.
    """
    step = "receiving instructions"
    try:
        if site.sums is not None or is_request(data):
            step = "a secure sum"
            return add(site, SumRequest.from_bytes(data))
        instructions = site_terms.read_instructions(site.terms, site.network, data)
        step = f"round {instructions.round}, {instructions.task}"
        site_terms.check_instructions(site.home, site.terms, site.plan, instructions)
        step_of = train if instructions.task == "train" else evaluate
        if site.terms.privacy.mode == client_level.MODE:
            return step_of(site, instructions).to_bytes()
        outbox = Outbox(site.home.root / "outbox" / site.terms.run_id)
        question = hashlib.sha256(data).hexdigest()
        if (released := outbox.get(instructions.round, instructions.task, question)) is not None:
            return released
        released = step_of(site, instructions).to_bytes()
        outbox.put(instructions.round, instructions.task, question, released)
    except Exception as fault:  # noqa: BLE001 - whatever happens at a site, the wire says only "no answer"
        tell_operator(site.home.root, step, fault)
        return None
    return released


def add(site: Site, request: SumRequest) -> bytes:
    """Station 6: one step of a secure sum; at the third the site's update or histogram goes in, masked.

    Nothing of it is kept for a second try: a site that was restarted sits the sum out. The instructions are
    judged before anything is made of them, and are part of what sites confirm to each other.
    """
    sums, sessions = site.sums, site.sessions
    if sums is None or sessions is None:
        raise PolicyRefused("secure sums in the terms that this site joined", "none", "nothing was released")
    sums.allowed(site_terms.allowing(site.home, site.terms))
    instructions = site_terms.check_sum(site.home, site.terms, site.plan, request, site.network)

    def contribution() -> Contribution:
        assert instructions is not None  # noqa: S101 - for the type: only the third step comes here
        training_step = request.task == "train"
        if site.terms.privacy.mode == DISTRIBUTED:
            share = (train_share if training_step else evaluate_share)(site, instructions)
            return share, (share.release_id,)
        update = (train if training_step else evaluate)(site, instructions)
        releases = update.releases if isinstance(update, NoisedUpdate) else ()
        return sums.encoded(site.name, request.task, update.vector), releases

    return sessions.answer(sums.plan(request.task), request, contribution)


def _unnoised(
    site: Site, number: int, kind: Literal["update", "histogram"], vector: Vector
) -> OpenUpdate | ClippedUpdate:
    """What leaves a site that adds no noise itself, by the mode that its policy has allowed."""
    if site.terms.privacy.mode != client_level.MODE:
        return OpenUpdate(site.name, number, kind, vector)
    norm = site.terms.privacy.l2_clip_norm if kind == "update" else 1.0
    return ClippedUpdate(site.name, number, kind, client_level.clipped_update(vector, norm))


def _part(site: Site, own: heterogeneity.RoundAtSite) -> training.Part:
    number, norm = own.instructions.round, site.terms.privacy.l2_clip_norm
    return training.part_of_round(site.network, number, own.start, own.config, norm)


def _loss_of(site: Site, part: training.Part) -> PatientLoss:
    return part.patient_loss(patient_loss(site.terms.training, site.terms.imaging.varied, site.loss))


def _tell_last(site: Site, where: str, faults: Sequence[Exception]) -> None:
    for fault in faults[-1:]:  # one line a round
        tell_operator(site.home.root, where, fault)


def _session(site: Site, round_number: int, task: str, loss: PatientLoss | None = None) -> ReleaseSession:
    if site.plan is None or site.ledger is None:
        raise PolicyRefused("a reserved plan", "none", "join the run before answering")
    terms = site.terms
    entropy = terms.entropy(site.name, f"round-{round_number}", task)
    there = partial(site.roll.present, TRAIN) if site.roll is not None else None
    return ReleaseSession(site.plan, site.ledger, entropy, loss, there)
