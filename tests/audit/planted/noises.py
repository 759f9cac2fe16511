"""Noise that goes wrong: each makes `(total, std, entropy) → noise` anew for a run."""

import numpy as np

from fedimg.audit.battery import probes
from fedimg.privacy import noise, plan
from fedimg.privacy.entropy import InsecureSeededEntropy

GAUSSIAN = noise.gaussian


def add(change):
    """A bug of the noise: `change(total, std, entropy)` → noise vector."""

    def patches():
        made = change()

        def add_noise(total, noise_multiplier, source, *_law):
            std = noise_multiplier * total.sensitivity
            return total.vector + made(total.vector, std, source), std

        return [(plan, "add_noise", add_noise)]

    return patches


def bare_biases():
    def made(total, std, source):
        drawn = GAUSSIAN(total.size, std, source)
        drawn[-max(1, total.size // 41) :] = 0
        return drawn

    return made


def same_on_equal_shapes():
    def made(total, std, source):
        if total.size != sum(probes.TENSORS):
            return GAUSSIAN(total.size, std, source)
        by_shape = {size: GAUSSIAN(size, std, source) for size in set(probes.TENSORS)}
        return np.concatenate([by_shape[size] for size in probes.TENSORS])

    return made


def permuted_old():
    kept = {}

    def made(total, std, source):
        key = (total.size, std)
        if key not in kept:
            kept[key] = GAUSSIAN(total.size, std, source)
            return kept[key]
        keys = np.frombuffer(source.bytes(8 * total.size), dtype="<u8")
        return kept[key][np.argsort(keys)]

    return made


def truncated_at(most):
    def made():
        def drawn(total, std, source):
            found = GAUSSIAN(total.size, std, source)
            outside = np.abs(found) > most * std
            found[outside] = GAUSSIAN(int(outside.sum()), std / 4, source).clip(-most * std, most * std)
            return found

        return drawn

    return made


def laplace():
    def made(total, std, source):
        u = np.frombuffer(source.bytes(8 * total.size), dtype="<u8").astype(float) / 2**64 - 0.5
        return -std / np.sqrt(2) * np.sign(u) * np.log1p(-2 * np.abs(u) * (1 - 1e-16))

    return made


def small_generator():
    def made(total, std, source):
        seed = int.from_bytes(source.bytes(4), "big")
        return np.random.default_rng(seed).standard_normal(total.size, dtype=np.float32).astype(float) * std

    return made


def neighbours():
    def made(total, std, source):
        drawn = GAUSSIAN(total.size + 1, std, source)
        return (drawn[1:] + 0.1 * drawn[:-1]) / np.sqrt(1.01)

    return made


def far_pairs():
    order = np.random.default_rng(3).permutation(4096)

    def made(total, std, source):
        drawn = GAUSSIAN(total.size, std, source)
        if total.size == 4096:
            half = order[:2048], order[2048:]
            drawn[half[1]] = 0.7 * drawn[half[0]] + np.sqrt(0.51) * drawn[half[1]]
        return drawn

    return made


def taken_back():
    kept = {}

    def made(total, std, source):
        drawn = GAUSSIAN(total.size, std, source)
        old = kept.get((total.size, std), 0.0)
        kept[(total.size, std)] = drawn
        return drawn - old

    return made


def compensated_halves():
    def made(total, std, source):
        drawn = GAUSSIAN(total.size, std, source)
        drawn[::2] *= 0.9
        drawn[1::2] *= np.sqrt(2 - 0.81)
        return drawn

    return made


def where_not_zero():
    return lambda total, std, source: GAUSSIAN(total.size, std, source) * (total != 0)


def by_own_norm():
    """Noise for the norm that the sum happens to have, not for C."""

    def made(total, std, source):
        return GAUSSIAN(total.size, std, source) * min(1.0, float(np.linalg.norm(total)))

    return made


def table():
    values = GAUSSIAN(1 << 17, 1.0, InsecureSeededEntropy(4))

    def made(total, std, source):
        at = np.frombuffer(source.bytes(4 * total.size), dtype="<u4") >> 15
        return values[at] * std

    return made


def turned_old():
    """Old noise with other signs."""
    kept = {}

    def made(total, std, source):
        key = (total.size, std)
        kept.setdefault(key, GAUSSIAN(total.size, std, source))
        signs = np.frombuffer(source.bytes(total.size), dtype=np.uint8) & 1
        return kept[key] * (2.0 * signs - 1)

    return made


def torch_global():
    import torch

    return lambda total, std, _source: torch.randn(total.size).numpy().astype(float) * std
