"""Known ways in which sums over clients and evaluations go wrong, each a patch of what is shipped."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedimg.privacy import client_level, clipping, noise_shares, plan
from fedimg.privacy.client_level import ClientReleases
from fedimg.privacy.entropy import InsecureSeededEntropy
from fedimg.secagg import messages
from fedimg.secagg.coordinator import SumCoordinator
from fedimg.secagg.site import SumSite
from fedimg.values import ClippedSum, NoisedSum, PartlyNoisedSum


def beside(name):
    spec = importlib.util.spec_from_file_location(f"planted_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bugs = beside("bugs")
Bug, planted = bugs.Bug, bugs.planted
TRAINING, STREAM, SAMPLE = (
    ClientReleases.training_sum,
    client_level.clipped_stream,
    client_level.poisson_sample,
)
ADD, HISTOGRAM, CHARGE = plan.add_noise, plan.ReleaseSession.histogram, bugs.CHARGE


def unclipped(vectors, size, norm):
    """The coordinator relies on what clients say of their norm."""
    total = np.zeros(size)
    for vector in vectors:
        if np.isfinite(vector).all():
            total = total + vector
    return ClippedSum(total, norm)


def not_a_number_passes(vectors, size, norm):
    total = np.zeros(size)
    for vector in vectors:
        with np.errstate(all="ignore"):
            length = np.linalg.norm(vector)
            total = total + vector * (norm / length if length > norm else 1.0)
    return ClippedSum(total, norm)


def whole_cohort_clipped(vectors, size, norm):
    """The sum is clipped, not each client."""
    found = [vector for vector in vectors if np.isfinite(vector).all()]
    return STREAM([np.sum(found, axis=0)] if found else [], size, norm)


def over_who_came():
    def training_sum(self, number, clients, size, updates):
        came = []

        def counted(cohort):
            came.extend(cohort)
            return updates(cohort)

        noised = TRAINING(self, number, clients, size, counted)
        vector = noised.vector * self.divisor / max(1, len(came))
        return NoisedSum(vector, noised.noise_std, noised.release_id)

    return [(ClientReleases, "training_sum", training_sum)]


def of_fixed_size(n, rate, entropy):
    order = np.argsort(np.frombuffer(entropy.bytes(8 * n), dtype="<u8"))
    return np.sort(order[: round(rate * n)])


def everyone(n, _rate, entropy):
    return SAMPLE(n, 1.0, entropy)


def cohort_sampler(change):
    return lambda: [(client_level, "poisson_sample", change)]


def stream(change):
    return lambda: [(client_level, "clipped_stream", change)]


CLIENTS = (
    Bug("no clip at the coordinator", "sensitivity.norm", stream(unclipped)),
    Bug("clip of the cohort's sum", "sensitivity.mean", stream(whole_cohort_clipped)),
    Bug("NaN of a client passes", "sensitivity.finite", stream(not_a_number_passes)),
    Bug("divided by who came", "upload.divisor", over_who_came),
    Bug("cohorts of a fixed size", "sampler.totals", cohort_sampler(of_fixed_size)),
    Bug("all clients asked", "sampler.totals", cohort_sampler(everyone)),
    Bug("σ × 0.9 over clients", "noise.scale", bugs.scaled(0.9)),
    Bug("skipped charge of a cohort", "ledger.recorded", bugs.skipped_charge),
    Bug("cohort asked before the charge", "ledger.crash", bugs.charged_after),
)


def unbounded(vectors, norm, *, integers=False):
    """As where a patient counts once an image."""
    del integers
    rows = np.where(np.isfinite(vectors).all(axis=1, keepdims=True), vectors, 0.0)
    return ClippedSum(rows.sum(axis=0), norm)


def no_noise_in_empty_cells():
    def add_noise(total, multiplier, entropy, *rest):
        vector, std = ADD(total, multiplier, entropy, *rest)
        return np.where(total.vector == 0, 0.0, vector), std

    return [(plan, "add_noise", add_noise)]


def as_shares():
    """Divided by the number of patients who are there."""

    def histogram(self, vectors):
        count = []

        def counted():
            rows = vectors()
            count.append(max(1, len(rows)))
            return rows

        noised = HISTOGRAM(self, counted)
        return NoisedSum(noised.vector / count[0], noised.noise_std, noised.release_id)

    return [(plan.ReleaseSession, "histogram", histogram)]


def charged_as_training():
    def charge(self, digest, _kind):
        return CHARGE(self, digest, "train")

    return [(bugs.ledger.Ledger, "charge", charge)]


def not_a_number_counts(vectors, norm, *, integers=False):
    del integers
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return ClippedSum((vectors * np.where(lengths > norm, norm / lengths, 1.0)).sum(axis=0), norm)


EVALUATION = (
    Bug(
        "a patient counts once an image", "sensitivity.images", lambda: [(plan, "clipped_vectors", unbounded)]
    ),
    Bug(
        "NaN of a patient passes",
        "sensitivity.finite",
        lambda: [(plan, "clipped_vectors", not_a_number_counts)],
    ),
    Bug("σ × 0.9 of a histogram", "noise.scale", bugs.scaled(0.9)),
    Bug("no noise in empty cells", "noise.scale", no_noise_in_empty_cells),
    Bug("one seed on all sites", "reuse.sites", bugs.one_seed),
    Bug("shares instead of counts", "upload.divisor", as_shares),
    Bug("an evaluation charged as training", "ledger.recorded", charged_as_training),
    Bug("scores read before the charge", "ledger.crash", bugs.charged_after),
)


NOISED, SHARED = plan.noised_steps, plan.ReleaseSession.gradient_share
PARTS = noise_shares.NoiseShares.parts


def shares(change):
    """A bug of the noise: `change(total, σ, shares, n̄, entropy)` → whole steps, keys."""
    return lambda: [(plan, "noised_steps", change())]


def narrower(factor):
    return lambda: lambda total, sigma, *rest: NOISED(total, factor * sigma, *rest)


def without_colluders():
    """As if nobody subtracted their own share: variances are divided among all survivors."""

    def parts(self, sigma, norm):
        return PARTS(
            replace(self, sites=self.sites + self.colluders, threshold=self.threshold + self.colluders),
            sigma,
            norm,
        )

    return [(noise_shares.NoiseShares, "parts", parts)]


def by_standard_deviation():
    """σ/h instead of σ/√h."""
    return lambda total, sigma, shares, *rest: NOISED(
        total, sigma / (shares.threshold - 1) ** 0.5, shares, *rest
    )


def from_one_site():
    """Only every second site adds its share."""
    count = [0]

    def noised(total, *rest):
        count[0] += 1
        found, keys = NOISED(total, *rest)
        return (found, keys) if count[0] % 2 else (clean_steps(total) + taken_off(total, keys, *rest), keys)

    return noised


def clean_steps(total):
    return np.rint(total.vector / noise_shares.integer_grid(total.sensitivity)).astype(np.int64)


def taken_off(total, keys, sigma, shares, *_rest):
    """What is in a sum for drop-outs."""
    parts = shares.parts(sigma, total.sensitivity)[1:]
    zero = np.zeros(total.vector.size, dtype=np.int64)
    return sum(
        (noise_shares.keyed_noise(key, part, zero.size) for key, part in zip(keys, parts, strict=True)), zero
    )


def replayed():
    def noised(total, sigma, shares, units, _entropy):
        return NOISED(total, sigma, shares, units, InsecureSeededEntropy(3, "shares"))

    return noised


def cut_off():
    """Each share is held within two standard deviations, as where the noised sum is clamped."""

    def noised(total, sigma, shares, units, entropy):
        found, keys = NOISED(total, sigma, shares, units, entropy)
        rest = clean_steps(total) + taken_off(total, keys, sigma, shares)
        most = 2 * shares.parts(sigma, total.sensitivity)[0] ** 0.5
        return np.rint(rest + np.clip(found - rest, -most, most)).astype(np.int64), keys

    return noised


def on_a_coarse_grid():
    """Shares on a grid of half their standard deviation."""

    def noised(total, sigma, shares, units, entropy):
        found, keys = NOISED(total, sigma, shares, units, entropy)
        rest = clean_steps(total) + taken_off(total, keys, sigma, shares)
        step = max(1, round(shares.parts(sigma, total.sensitivity)[0] ** 0.5 / 2))
        return rest + np.rint((found - rest) / step).astype(np.int64) * step, keys

    return noised


def shown_at_once():
    """A site shows the keys of all of its noise for drop-outs, however many there were."""
    unmask = SumSite._unmask

    def unmasked(self, request):
        opened, _ = messages.split_excess(unmask(self, request))
        return opened + messages.EXCESS.pack(
            self._context, self._index, list(enumerate(self.state.excess, start=1))
        )

    unchecked = SumCoordinator._opened_shares

    def taken(self, index, data):
        opened, behind = messages.split_excess(data)
        rows, _ = unchecked(self, index, opened)
        return rows, tuple(messages.EXCESS.unpack(self._context, index, behind, 99))

    return [(SumSite, "_unmask", unmasked), (SumCoordinator, "_opened_shares", taken)]


def one_key():
    """The noise for drop-outs of all sites comes from one key."""

    def noised(total, sigma, shares, units, entropy):
        found, keys = NOISED(total, sigma, shares, units, entropy)
        same = tuple(bytes(32) for _ in keys)
        moved = taken_off(total, same, sigma, shares) - taken_off(total, keys, sigma, shares)
        return found + moved, same

    return noised


def in_the_sum_twice():
    """In every sum, the one that has patients."""

    def gradient_share(self, parameters, dataset, network):
        share = SHARED(self, parameters, dataset, network)
        times = 2 if dataset.number_of_patients else 1
        return PartlyNoisedSum(share._steps * times, share.excess, share.release_id)

    return [(plan.ReleaseSession, "gradient_share", gradient_share)]


def unclipped_rows(rows, norm):
    known = np.isfinite(rows.norm(dim=1).numpy())
    found = (rows / noise_shares.integer_grid(norm)).round()
    found[~known] = 0
    return found.clamp(-(2.0**50), 2.0**50)


def whole_steps(change):
    return lambda: [(clipping, "_whole_steps", change)]


def skipped_first():
    """The release is made first, and what fails in it is charged nothing."""

    def contribute(self, kind, clipped, sigma):
        steps, keys = plan.noised_steps(
            clipped(), sigma, self.plan.shares, self.plan.declared_patients, self._entropy
        )
        return PartlyNoisedSum(steps, keys, self._charged(kind))

    return [(plan.ReleaseSession, "contribute", contribute)]


def every_second_uncharged():
    """At every site."""
    charged, made = plan.ReleaseSession._charged, {}

    def of_session(self, kind):
        made.setdefault(id(self._ledger), []).append("")
        if len(made[id(self._ledger)]) % 2:
            made[id(self._ledger)][-1] = charged(self, kind)
            return made[id(self._ledger)][-1]
        return made[id(self._ledger)][-2]

    return [(plan.ReleaseSession, "_charged", of_session)]


SHARES = (
    Bug("σ × 0.9 of the shares", "noise.scale", shares(narrower(0.9))),
    Bug("h too large: colluders are counted on", "noise.scale", without_colluders),
    Bug("noise for drop-outs shown at once", "noise.rounds", shown_at_once),
    Bug("one key for the noise of drop-outs", "reuse.rounds", shares(one_key)),
    Bug("σ/h instead of σ/√h", "noise.scale", shares(by_standard_deviation)),
    Bug("some sites add no share", "noise.scale", shares(from_one_site)),
    Bug("shares reseeded each round", "reuse.rounds", shares(replayed)),
    Bug("noised sums are clamped", "noise.scale", shares(cut_off)),
    Bug("words of too few bits", "shape.distribution", shares(on_a_coarse_grid)),
    Bug("no clip before whole steps", "sensitivity.norm", whole_steps(unclipped_rows)),
    Bug("a step's charge after its release", "ledger.crash", skipped_first),
    Bug("skipped charge of a share", "ledger.recorded", every_second_uncharged),
    Bug(
        "q doubled in a secure step",
        "sampler.totals",
        bugs.sample(lambda: lambda n, q, e: bugs.SAMPLE(n, min(1.0, 2 * q), e)),
    ),
    Bug("a survivor counted twice", "upload.divisor", in_the_sum_twice),
)
