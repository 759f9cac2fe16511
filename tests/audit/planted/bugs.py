"""Known ways in which a private mechanism goes wrong, each a patch of the shipped one.

The battery takes the mechanism and never learns which patch is on. `meant` is the check that has to flag it.
"""

import importlib.util
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

from fedimg import terms, training
from fedimg.audit import shipped
from fedimg.privacy import chain, clipping, entropy, ledger, plan
from fedimg.privacy.batches import PatientBatch
from fedimg.privacy.entropy import InsecureSeededEntropy
from fedimg.values import NoisedSum


def beside(name):
    """The file of this name beside this one."""
    spec = importlib.util.spec_from_file_location(f"planted_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


noises = beside("noises")
ADD, SAMPLE = plan.add_noise, plan.poisson_sample
STEP, SUM, ROWS = plan.ReleaseSession.gradient_step, plan.clipped_sum, clipping._add_clipped
CHARGE, OPEN, RELEASE = ledger.Ledger.charge, ledger.Ledger.open.__func__, plan.ReleaseSession.release


@dataclass(frozen=True)
class Bug:
    """`patches` makes (object, attribute, replacement) anew, so that nothing of one run is left in the next."""

    name: str
    meant: str
    patches: object
    listed: bool = True


@contextmanager
def planted(bug, seed=0):
    """The bug is in, and the operating system's entropy is a stream of `seed`; `bug` may be None."""
    with ExitStack() as stack:
        stream = np.random.Generator(np.random.PCG64([seed, 77]))
        stack.enter_context(mock.patch.object(entropy, "os", SimpleNamespace(urandom=stream.bytes)))
        for target, name, value in bug.patches() if bug is not None else ():
            stack.enter_context(mock.patch.object(target, name, value))
        yield


def scaled(factor):
    return lambda: [(plan, "add_noise", lambda total, m, *rest: ADD(total, m * factor, *rest))]


def sample(change):
    """A bug of the sampler: `change(n, rate, entropy)` → indices."""
    return lambda: [(plan, "poisson_sample", change())]


def rows(change):
    """A bug of the clipping: `change(rows, C)` → rows that are added as they are."""

    def add_clipped(total, found, l2_clip_norm):
        for row in change(found.double(), l2_clip_norm):
            total.add_(row)

    return lambda: [(clipping, "_add_clipped", add_clipped)]


def clip(row, norm):
    length = row.norm()
    if not np.isfinite(float(length)):
        return row * 0
    return row * min(1.0, float(norm / length)) if length > 0 else row


# ------------------------------------------------------------------------------------------- noise


def over_root_of_batch():
    seen = [1]

    def sampled(n, rate, source):
        found = SAMPLE(n, rate, source)
        seen[0] = max(1, len(found))
        return found

    return [
        (plan, "poisson_sample", sampled),
        (plan, "add_noise", lambda t, m, *rest: ADD(t, m / np.sqrt(seen[0]), *rest)),
    ]


def first_step_only():
    """Of each round; as where a flag is not put back."""

    def release(self, kind, clipped, noise_multiplier):
        if not self._releases:
            return RELEASE(self, kind, clipped, noise_multiplier)
        name = self._ledger.charge(self.plan.digest, kind)
        self._releases.append(name)
        return NoisedSum(clipped().vector, 0.0, name)

    return [(plan.ReleaseSession, "release", release)]


def reseeded():
    made = plan.ReleaseSession.__init__

    def init(self, a_plan, a_ledger, _source, *rest):
        made(self, a_plan, a_ledger, InsecureSeededEntropy(0, "round"), *rest)

    return [(plan.ReleaseSession, "__init__", init)]


def one_seed():
    def source_of(_seed, _site, *labels):
        return InsecureSeededEntropy(1, *labels)

    return [(module, "source_of", source_of) for module in (shipped, terms)]


def replayed():
    """The generator's state is read back after a restart."""
    rounds = {}

    def source_of(_seed, site, number, *labels):
        return InsecureSeededEntropy(rounds.get(site, 0), site, number, *labels)

    def opened(cls, path, key, known=None):
        found = OPEN(cls, path, key, known)
        for session in shipped_runs:
            session.rounds = 0
        return found

    shipped_runs = []
    init = shipped._Run.__post_init__

    def noted(self):
        init(self)
        rounds[self.site] = rounds.get(self.site, 0) + 1
        shipped_runs.append(self)

    return [
        (shipped, "source_of", source_of),
        (shipped._Run, "__post_init__", noted),
        (ledger.Ledger, "open", classmethod(opened)),
    ]


# ----------------------------------------------------------------------------------------- clipping


def batch_mean():
    def clipped(gradients, flat, batch, norm, failed, **_law):
        total = SUM(gradients, flat, batch, 1e12, failed)
        count = max(1, len(batch.first_image) - 1)
        mean = total.vector / count
        mean *= min(1.0, norm / max(np.linalg.norm(mean), 1e-300))
        return replace(total, vector=mean * count, sensitivity=norm)

    return [(plan, "clipped_sum", clipped)]


def image_level():
    def clipped(gradients, flat, batch, norm, failed, **_law):
        images = PatientBatch(batch.images, batch.labels, np.arange(len(batch.images) + 1))
        return SUM(gradients, flat, images, norm, failed)

    return [(plan, "clipped_sum", clipped)]


def per_layer(found, norm):
    import torch

    return torch.stack([torch.cat([clip(part, norm) for part in row.tensor_split(4)]) for row in found])


def part_of_tensors(found, norm):
    kept = found.shape[1] * 3 // 4
    for row in found:
        length = float(row[:kept].norm())
        yield row * min(1.0, norm / length) if np.isfinite(length) and length > 0 else row.nan_to_num(0, 0, 0)


def one_class():
    def clipped(gradients, flat, batch, norm, failed, **_law):
        chosen = (
            int(batch.labels.max())
            if len(batch.labels) and bool((batch.labels == batch.labels[0]).all())
            else 0
        )
        return SUM(gradients, flat, batch, norm * (3 if chosen == 1 else 1), failed)

    return [(plan, "clipped_sum", clipped)]


def nan_passing(found, norm):
    for row in found:
        length = float(row.norm())
        yield row * (norm / length) if length > norm or np.isnan(length) else row


def float32_norm(found, norm):
    """The norm overflows, and min(1, C/∞) = 0 is taken for 1."""
    for row in found.float():
        length = float((row * row).sum().sqrt())
        factor = norm / length if length > norm and np.isfinite(length) else 1.0
        yield (row * factor).double() if bool(row.isfinite().all()) else row.double() * 0


def momentum():
    old = {}

    def clipped(gradients, flat, batch, norm, failed, **_law):
        total = SUM(gradients, flat, batch, norm, failed)
        kept = old.get(total.vector.size, 0.0)
        old[total.vector.size] = total.vector
        return replace(total, vector=total.vector + 0.2 * kept)

    return [(plan, "clipped_sum", clipped)]


# ----------------------------------------------------------------------------------------- sampling


def doubled():
    return lambda n, rate, source: SAMPLE(n, min(1.0, 2 * rate), source)


def shuffled():
    left = {}

    def drawn(n, rate, source):
        size = round(rate * n)
        if len(left.get(n, ())) < size:
            left[n] = np.argsort(np.frombuffer(source.bytes(8 * n), dtype="<u8"))
        found, left[n] = left[n][:size], left[n][size:]
        return np.sort(found)

    return drawn


def without_replacement():
    def drawn(n, rate, source):
        return np.sort(np.argsort(np.frombuffer(source.bytes(8 * n), dtype="<u8"))[: round(rate * n)])

    return drawn


def fixed():
    at = [0]

    def drawn(n, rate, _source):
        size = max(1, round(rate * n))
        at[0] += 1
        start = at[0] * size % max(n, 1)
        return np.arange(start, min(start + size, n)) if rate < 1 else np.arange(n)

    return drawn


def global_sampler():
    return lambda n, rate, _source: np.flatnonzero(np.random.random(n) < rate)  # noqa: NPY002 - the bug


def from_size():
    def step(self, params, dataset, network):
        rate = min(1.0, self.plan.expected_batch_size / max(1, dataset.number_of_patients))
        with mock.patch.object(plan, "poisson_sample", lambda n, _rate, source: SAMPLE(n, rate, source)):
            return STEP(self, params, dataset, network)

    return [(plan.ReleaseSession, "gradient_step", step)]


def by_image():
    """Patients with more images have more coins."""

    def step(self, params, dataset, network):
        images = np.diff(dataset.first_image)

        def drawn(n, rate, source):
            coins = np.zeros(n, dtype=bool)
            for copy in range(int(images.max(initial=0))):
                found = SAMPLE(n, rate, source)
                coins[found[images[found] > copy]] = True
            return np.flatnonzero(coins)

        with mock.patch.object(plan, "poisson_sample", drawn):
            return STEP(self, params, dataset, network)

    return [(plan.ReleaseSession, "gradient_step", step)]


def twice():
    """A sampled patient counts twice now and then."""

    def drawn(n, rate, source):
        found = SAMPLE(n, rate, source)
        return np.sort(np.concatenate([found, found[:1]]))

    return drawn


def never_empty():
    def drawn(n, rate, source):
        found = SAMPLE(n, rate, source)
        while n and not len(found):
            found = SAMPLE(n, rate, source)
        return found

    return drawn


# ----------------------------------------------------------------------------- ledger and upload


def skipped_charge():
    count = [0]

    def charge(self, digest, kind):
        count[0] += 1
        if count[0] % 3:
            return CHARGE(self, digest, kind)
        return self.head.name

    return [(ledger.Ledger, "charge", charge)]


def charged_after():
    def release(self, kind, clipped, noise_multiplier):
        vector, std = ADD(clipped(), noise_multiplier, self._entropy)
        name = self._ledger.charge(self.plan.digest, kind)
        self._releases.append(name)
        return NoisedSum(vector, std, name)

    return [(plan.ReleaseSession, "release", release)]


def redone_uncharged():
    """A charge that is there when the ledger is opened is taken to pay for the next step."""
    paid = {}

    def opened(cls, path, key, known=None):
        found = OPEN(cls, path, key, known)
        if b'"kind":"charge"' in found._chain.bodies[-1]:
            paid[id(found)] = found.head.name
        return found

    def charge(self, digest, kind):
        name = paid.pop(id(self), None)
        return name if name is not None else CHARGE(self, digest, kind)

    return [(ledger.Ledger, "open", classmethod(opened)), (ledger.Ledger, "charge", charge)]


def rolled_back():
    verified = chain._verified
    return [(chain, "_verified", lambda entries, key, _known, last: verified(entries, key, None, last))]


def cheaper():
    """The ledger is told of more noise than is added."""
    reserve = ledger.Ledger.reserve

    def told(self, run, a_plan):
        kept = [replace(a, noise_multiplier=a.noise_multiplier * 1.1) for a in a_plan.allowances]
        reserve(self, run, SimpleNamespace(digest=a_plan.digest, allowances=tuple(kept)))

    return [(ledger.Ledger, "reserve", told)]


def actual_batch():
    seen = [1]

    def sampled(n, rate, source):
        found = SAMPLE(n, rate, source)
        seen[0] = max(1, len(found))
        return found

    def step(self, params, dataset, network):
        noised = STEP(self, params, dataset, network)
        return replace(noised, vector=noised.vector * self.plan.expected_batch_size / seen[0])

    return [(plan, "poisson_sample", sampled), (plan.ReleaseSession, "gradient_step", step)]


def divisor_from_size():
    private = training.private_update

    def update(network, start, dataset, session, config):
        factor = session.plan.declared_patients / max(1, dataset.number_of_patients)
        return private(network, start, dataset, session, config) * factor

    return [(training, "private_update", update)]


def buffer():
    private = training.private_update

    def update(network, start, dataset, session, config):
        vector = private(network, start, dataset, session, config)
        return np.concatenate([vector, dataset.images.mean(dim=(0, 1)).double().numpy()[:4]])

    return [(training, "private_update", update)]


def raw_coordinate():
    """One coordinate of what leaves is the plain mean."""
    private = training.private_update

    def update(network, start, dataset, session, config):
        vector = private(network, start, dataset, session, config)
        vector[3] = float(dataset.images[:, 0, 3].mean()) if len(dataset.images) else 0.0
        return vector

    return [(training, "private_update", update)]


LISTED = [
    Bug("σ × 0.9", "noise.scale", scaled(0.9)),
    Bug("σ × 0.5", "noise.scale", scaled(0.5)),
    Bug("noise ÷ √B", "noise.scale", over_root_of_batch),
    Bug("no clip", "sensitivity.norm", rows(lambda found, _norm: found.nan_to_num(0, 0, 0))),
    Bug("clip of the batch mean", "sensitivity.mean", batch_mean),
    Bug("per-layer clip accounted as global", "sensitivity.tensors", rows(per_layer)),
    Bug("image-level clip called patient-level", "sensitivity.images", image_level),
    Bug("RNG reseeded each round", "reuse.rounds", reseeded),
    Bug("one seed on all sites", "reuse.sites", one_seed),
    Bug("q doubled", "sampler.totals", sample(doubled)),
    Bug("shuffled batches", "sampler.overlaps", sample(shuffled)),
    Bug("fixed batches", "sampler.together", sample(fixed)),
    Bug("un-noised biases", "noise.tensors", noises.add(noises.bare_biases)),
    Bug("divide by the actual batch", "upload.divisor", actual_batch),
    Bug("NaN passing", "sensitivity.finite", rows(nan_passing)),
    Bug("un-noised buffer", "upload.traced", buffer),
    Bug("skipped charge", "ledger.recorded", skipped_charge),
    Bug("rolled-back ledger", "ledger.rollback", rolled_back),
    Bug("N-derived divisor", "upload.divisor", divisor_from_size),
    Bug("N-derived q", "sampler.small", from_size),
    Bug("sampler on the global generator", "sampler.generator", sample(global_sampler)),
    Bug("step redone uncharged", "ledger.redone", redone_uncharged),
    Bug("same noise on equal-shaped tensors", "reuse.tensors", noises.add(noises.same_on_equal_shapes)),
    Bug("permuted old noise", "reuse.values", noises.add(noises.permuted_old)),
    Bug("truncated tails", "shape.tails", noises.add(noises.truncated_at(4.0))),
]

# Not asked for by name: what an omnibus test should see all the same.
OTHERS = [
    Bug("σ × 0.99", "noise.scale", scaled(0.99), listed=False),
    Bug("tails truncated at 4.5", "shape.tails", noises.add(noises.truncated_at(4.5)), listed=False),
    Bug("Laplace noise", "shape.distribution", noises.add(noises.laplace), listed=False),
    Bug("noise from a 32-bit seed", "reuse.seam", noises.add(noises.small_generator), listed=False),
    Bug(
        "noise from torch's global generator",
        "reuse.generator",
        noises.add(noises.torch_global),
        listed=False,
    ),
    Bug("noise from a table of 2¹⁷ values", "shape.resolution", noises.add(noises.table), listed=False),
    Bug(
        "neighbouring coordinates correlated by 0.1",
        "noise.correlation",
        noises.add(noises.neighbours),
        listed=False,
    ),
    Bug(
        "distant pairs of coordinates correlated",
        "noise.correlation",
        noises.add(noises.far_pairs),
        listed=False,
    ),
    Bug("noise taken back in the next step", "reuse.rounds", noises.add(noises.taken_back), listed=False),
    Bug("old noise with other signs", "reuse.values", noises.add(noises.turned_old), listed=False),
    Bug(
        "half the coordinates ×0.9, the others more",
        "noise.coordinates",
        noises.add(noises.compensated_halves),
        listed=False,
    ),
    Bug(
        "noise only where the sum is not zero", "noise.scale", noises.add(noises.where_not_zero), listed=False
    ),
    Bug(
        "noise for the actual norm instead of C", "noise.scale", noises.add(noises.by_own_norm), listed=False
    ),
    Bug("noise on a round's first step only", "reuse.steps", first_step_only, listed=False),
    Bug("generator's state read back after a restart", "reuse.restarts", replayed, listed=False),
    Bug("clip by the norm of some tensors", "sensitivity.tensors", rows(part_of_tensors), listed=False),
    Bug("one class clipped at 3 C", "sensitivity.classes", one_class, listed=False),
    Bug("norm that overflows in float32", "sensitivity.finite", rows(float32_norm), listed=False),
    Bug("momentum of old sums inside the release", "sensitivity.additive", momentum, listed=False),
    Bug("sampling without replacement", "sampler.totals", sample(without_replacement), listed=False),
    Bug("sampling by image", "sampler.groups", by_image, listed=False),
    Bug("a sampled patient counts twice", "sampler.whole", sample(twice), listed=False),
    Bug("no empty batches", "sampler.small", sample(never_empty), listed=False),
    Bug("charge after the release", "ledger.crash", charged_after, listed=False),
    Bug("less charged than used", "ledger.recorded", cheaper, listed=False),
    Bug("one raw coordinate", "upload.noised", raw_coordinate, listed=False),
]
