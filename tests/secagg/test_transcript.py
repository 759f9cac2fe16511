"""What a coordinator records of a whole sum: no value, no secret, and words that nobody can tell from chance."""

import itertools

import numpy as np
import pytest
from scipy import stats

from fedimg.crypto import agreement
from fedimg.secagg import masking, messages
from fedimg.secagg.encoding import word_type

FALSE_ALARM = 1e-9  # of each test below


def recorded(hall, drops=None):
    """(step, site, answer) of a whole sum."""
    transcript = []

    def wire(step, name, answer):
        transcript.append((step, name, answer))
        return answer

    opened = hall.run(drops, wire=wire)
    return transcript, opened


def masked_words(hall, transcript):
    context = hall.plan.context("round 1")
    return {
        name: messages.unpack_input(
            context, hall.plan.names.index(name), answer, hall.plan.size, hall.plan.word_bits
        )[1]
        for step, name, answer in transcript
        if step == 2
    }


def chi_square(words) -> float:
    """p-value of all bytes being equally likely."""
    return float(stats.chisquare(np.bincount(words.view(np.uint8), minlength=256)).pvalue)


@pytest.mark.parametrize("word_bits", [32, 64])
@pytest.mark.parametrize("value", [0, 1, -1, 12345])
def test_masked_words_are_uniform_whatever_the_vector(hall, value, word_bits):
    five = hall(5, size=20_000, word_bits=word_bits)
    five.inputs = dict.fromkeys(five.inputs, np.full(20_000, value))
    transcript, opened = recorded(five)
    words = masked_words(five, transcript)
    for one in words.values():
        assert chi_square(one) > FALSE_ALARM
    for one, other in itertools.combinations(words.values(), 2):
        assert chi_square(one - other) > FALSE_ALARM
        assert not np.array_equal(one, other)
    # of four of five nothing can be told either; of all five, still their own masks
    assert chi_square(sum(list(words.values())[:4])) > FALSE_ALARM
    assert chi_square(sum(words.values())) > FALSE_ALARM
    assert (opened.total == 5 * value).all()


def test_the_test_sees_a_mask_of_few_bits():
    """A mask of a short seed that repeats, or of 31 bits: what uniformity must reject."""
    rng = np.random.default_rng(0)
    narrow = rng.integers(0, 2**31, 20_000).astype("<u4")
    assert chi_square(narrow) < FALSE_ALARM
    assert chi_square(np.arange(20_000).astype("<u4")) < FALSE_ALARM


def test_no_value_and_no_secret_is_in_anything_that_was_sent(hall, monkeypatch):
    """Every secret that is drawn or derived in the sum, and every vector, is looked for in all bytes on the wire."""
    secrets: list[bytes] = []
    fresh, derive = agreement.AgreementKey.fresh, agreement.derive

    def drawn():
        key = fresh()
        secrets.append(key.private_bytes)
        return key

    def derived(secret, purpose):
        key = derive(secret, purpose)
        if b"seed commitment" not in purpose:
            secrets.extend((secret, key))
        return key

    monkeypatch.setattr(agreement.AgreementKey, "fresh", drawn)
    for module in ("agreement",):
        monkeypatch.setattr(f"fedimg.crypto.{module}.derive", derived)
    monkeypatch.setattr("fedimg.secagg.site.derive", derived)
    five = hall(5, size=64)
    dropped = five.plan.names[4]
    transcript, opened = recorded(five, {dropped: 2})
    everything = b"".join(answer for _, _, answer in transcript) + b"".join(
        five.coordinator._messages.values()
    )
    assert len(secrets) > 50
    assert not [secret for secret in secrets if secret in everything]
    for name in five.plan.names:
        assert five.words(name).tobytes()[:16] not in everything
    assert np.array_equal(opened.total, five.expected(five.plan.names[:4]))


def test_masks_of_two_sums_and_of_two_pairs_have_nothing_in_common(hall):
    """√P·cos of any two masked vectors of zeros is normal: no stream is used twice."""
    vectors = []
    five = hall(5, size=4096)
    five.inputs = dict.fromkeys(five.inputs, np.zeros(4096, np.int64))
    for label in ("round 1", "round 2"):
        five.start(label)
        words = {}

        def wire(step, name, answer, words=words, label=label):
            if step == 2:
                index = five.plan.names.index(name)
                words[name] = messages.unpack_input(five.plan.context(label), index, answer, 4096, 32)[1]
            return answer

        five.run(wire=wire)
        vectors += [one.astype("<i4").astype(np.float64) for one in words.values()]
    rows = np.stack([vector / np.linalg.norm(vector) for vector in vectors])
    cosines = np.abs(rows @ rows.T)[np.triu_indices(len(rows), 1)] * 4096**0.5
    assert cosines.max() < stats.norm.isf(FALSE_ALARM / 2 / len(cosines))


@pytest.mark.parametrize("word_bits", [32, 64])
def test_a_mask_and_its_opposite_cancel_and_a_mask_is_its_streams_words(word_bits):
    key, size = bytes(range(32)), 70_001  # more than one block, and a part of one
    words = np.arange(size).astype(word_type(word_bits))
    before = words.copy()
    masking.add_mask(words, key)
    assert not np.array_equal(words, before)
    mask = words - before
    assert len(np.unique(mask)) > size * 0.99
    masking.add_mask(words, key, negative=True)
    assert np.array_equal(words, before)
    nothing = np.zeros(size, word_type(word_bits))
    masking.add_mask(nothing, key)
    assert np.array_equal(nothing, mask)
    from_library = np.frombuffer(
        b"".join(bytes(b) for b in masking.keystream_blocks(key, nothing.nbytes)), nothing.dtype
    )
    assert np.array_equal(nothing, from_library)
