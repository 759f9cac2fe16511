"""What may be sent, and what is refused on arrival."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedimg import values
from fedimg.errors import MessageError
from fedimg.values import (
    ClippedSum,
    NoisedSum,
    NoisedUpdate,
    OpenUpdate,
    PartlyNoisedSum,
    RoundInstructions,
    SiteDataset,
)

vectors = hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e6, 1e6, width=32))


@given(vectors, st.integers(0, 1000), st.text(max_size=10))
def test_messages_round_trip(vector: np.ndarray, number: int, name: str) -> None:
    sent = NoisedUpdate(name, number, "update", vector, ("r1", "r2"))
    back = NoisedUpdate.from_bytes(sent.to_bytes(), vector.size)
    assert (back.site, back.round, back.releases) == (name, number, ("r1", "r2"))
    assert np.array_equal(back.vector, vector)
    instructions = RoundInstructions(name, number, "train", "digest", vector)
    assert np.array_equal(RoundInstructions.from_bytes(instructions.to_bytes(), None).vector, vector)


@given(hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e15, 1e15)))
def test_exact_messages_carry_every_bit_and_the_others_float32(vector: np.ndarray) -> None:
    for sent in (
        NoisedUpdate("a", 1, "update", vector, ("r",), exact=True),
        OpenUpdate("a", 1, "update", vector, exact=True),
        RoundInstructions("run", 1, "train", "digest", vector, exact=True),
    ):
        data = sent.to_bytes()
        assert data[4:6] == b"\x02\x00"
        assert np.array_equal(type(sent).from_bytes(data, vector.size).vector, vector)
        with pytest.raises(MessageError):  # read as float32 it would be twice as many values
            type(sent).from_bytes(data[:4] + b"\x01\x00" + data[6:], vector.size + (not vector.size))
        with pytest.raises(MessageError):
            type(sent).from_bytes(data[:4] + b"\x03\x00" + data[6:], vector.size)
    plain = OpenUpdate("a", 1, "update", vector)
    assert np.array_equal(OpenUpdate.from_bytes(plain.to_bytes(), None).vector, np.float32(vector))


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_parser(data: bytes) -> None:
    with pytest.raises(MessageError):
        NoisedUpdate.from_bytes(data, 3)


@given(st.data())
def test_a_damaged_message_is_refused_or_still_well_formed(data: st.DataObject) -> None:
    whole = bytearray(NoisedUpdate("a", 1, "update", np.ones(3), ("r",)).to_bytes())
    where = data.draw(st.integers(0, len(whole) - 1))
    whole[where] ^= 1 << data.draw(st.integers(0, 7))
    try:
        parsed = NoisedUpdate.from_bytes(bytes(whole), 3)
    except MessageError:
        return
    assert parsed.vector.shape == (3,) and np.isfinite(parsed.vector).all()


def test_truncated_wrong_kind_wrong_size_and_nan_are_refused() -> None:
    message = NoisedUpdate("a", 1, "update", np.ones(3), ("r",)).to_bytes()
    for bad in (message[:-1], message[:20], message + b"\0\0\0\0"):
        with pytest.raises(MessageError):
            NoisedUpdate.from_bytes(bad, 3)
    with pytest.raises(MessageError, match="kind b'NOIS'"):
        OpenUpdate.from_bytes(message, 3)
    with pytest.raises(MessageError, match="not finite"):
        NoisedUpdate.from_bytes(NoisedUpdate("a", 1, "update", np.array([np.nan]), ()).to_bytes(), 1)


def test_a_header_that_would_exhaust_the_parser_is_refused() -> None:
    bomb = b"[" * 500_000
    with pytest.raises(MessageError, match="not JSON"):
        NoisedUpdate.from_bytes(b"FIMG" + struct.pack("<H4sI", 1, b"NOIS", len(bomb)) + bomb, None)


def test_only_released_values_have_bytes() -> None:
    """The boundary is the type: neither images nor un-noised sums can be sent.

    An `OpenUpdate` leaves where a policy allows no privacy, a `ClippedUpdate` where one trusts the coordinator.
    """
    sendable = {
        name for name, kind in vars(values).items() if isinstance(kind, type) and hasattr(kind, "to_bytes")
    }
    assert sendable == {"RoundInstructions", "NoisedUpdate", "OpenUpdate", "ClippedUpdate", "MaskedUpdate"}
    assert not hasattr(ClippedSum, "to_bytes") and not hasattr(NoisedSum, "to_bytes")
    # of a sum with a share of its noise nothing can be had but masked words, and its place among others
    ways = {name for name in vars(PartlyNoisedSum) if not name.startswith("_")}
    assert ways == {"mask", "placed", "excess", "release_id"}


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.data())
def test_restricting_to_patients_keeps_each_patients_images(counts: list[int], data: st.DataObject) -> None:
    total = sum(counts)
    images = torch.arange(total, dtype=torch.float32).reshape(total, 1, 1, 1)
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    dataset = SiteDataset(images, torch.arange(total), tuple(f"p{i}" for i in range(len(counts))), first)
    chosen = data.draw(st.lists(st.integers(0, len(counts) - 1), unique=True))
    part = dataset.of_patients(np.array(chosen, dtype=np.int64))
    expected = [float(i) for u in sorted(chosen) for i in range(first[u], first[u + 1])]
    assert part.images.flatten().tolist() == expected
    assert part.patient_keys == tuple(f"p{u}" for u in sorted(chosen))
