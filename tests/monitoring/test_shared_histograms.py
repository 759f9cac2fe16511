"""Public bins, a patient's bounded part in them, and a file that is what its site wrote or is refused."""

import json
import math
from datetime import date
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg import canonical
from fedimg.crypto.keys import SigningKey
from fedimg.errors import DataError
from fedimg.monitoring import shared_histograms as shared
from fedimg.monitoring.shared_histograms import FORMAT, MOST_BYTES, STREAMS, SharedHistograms
from fedimg.privacy.histogram_plan import HistogramPlan, sensitivity

KEY = SigningKey.from_bytes(bytes(range(32)))
CHOSEN = (*STREAMS, "finding.nodule")
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.floats(),
    st.integers(),
    st.just(10**400),
    st.lists(st.integers(), max_size=2),
)


def made(**changed):
    plan = HistogramPlan.made("of these", 2, 1.0, 1e-5)
    values = {
        "federation": "ab" * 16,
        "site": "north",
        "identity": KEY.public_bytes.hex(),
        "model": "cd" * 32,
        "first": date(2026, 1, 1),
        "last": date(2026, 1, 31),
        "release": "7-" + "ef" * 32,
        "epsilon": 1.0,
        "delta": 1e-5,
        "noise_multiplier": plan.noise_multiplier,
        "counts": {"score": tuple(range(-3, 7)), "finding.nodule": (0,) * 10},
    }
    return SharedHistograms(**(values | changed))


def signed(body, key=KEY):
    signature = canonical.sign(body, key, FORMAT)
    return canonical.encode({"histograms": body, "signature": signature}) + b"\n"


def body(**changed):
    return json.loads(made().to_bytes(KEY))["histograms"] | changed


@given(st.lists(st.dictionaries(st.sampled_from((*CHOSEN, "other")), VALUES), max_size=8))
def test_a_patient_is_in_one_bin_of_each_stream_at_most_whatever_was_stored(values):
    rows = shared.rows(values, CHOSEN)
    assert rows.shape == (len(values), sum(len(shared.edges_of(one)) + 1 for one in CHOSEN))
    assert set(np.unique(rows)) <= {0.0, 1.0}
    start = 0
    for stream in CHOSEN:
        end = start + len(shared.edges_of(stream)) + 1
        for row, own in zip(rows, values, strict=True):
            value = own.get(stream)
            number = not isinstance(value, bool) and (
                isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
            )
            assert row[start:end].sum() == number
        start = end
    # the bound that the noise is made for, in whole numbers
    assert all(int((row**2).sum()) <= Fraction(sensitivity(len(CHOSEN))) ** 2 for row in rows)


def test_bins_are_fixed_ascending_and_take_every_number():
    # Written out: whoever changes a bin changes what two versions say of each other.
    assert shared.edges_of("score") == (-4, -3, -2, -1, 0, 1, 2, 3, 4) == shared.edges_of("finding.a mass")
    assert shared.edges_of("image.mean") == pytest.approx([0.05 * k for k in range(1, 16)])
    assert shared.edges_of("meta.slice_mm") == (0.75, 1.25, 1.75, 2.25, 2.75, 3.5, 4.5, 5.5, 7.5)
    for stream in CHOSEN:
        edges = shared.edges_of(stream)
        assert list(edges) == sorted(set(edges))
        assert [shared.bin_of(stream, edge) for edge in edges] == list(range(1, len(edges) + 1))
        assert [shared.bin_of(stream, value) for value in (-1e300, 1e300)] == [0, len(edges)]
    for unknown in ("image.other", "finding.", "finding.a\nb", ""):
        with pytest.raises(DataError):
            shared.edges_of(unknown)


@pytest.mark.parametrize(
    ("score", "wanted"), [(0.5, 0.0), (0.0, -13.8155), (1, 13.8155), (1.1, None), ("1", None)]
)
def test_a_score_is_told_by_its_logit(score, wanted):
    found = shared.logit(score)
    assert found == (None if wanted is None else pytest.approx(wanted, abs=1e-3))


def test_a_file_comes_back_as_it_was_written():
    data = made().to_bytes(KEY)
    found = SharedHistograms.read(data)
    assert found == made()
    assert found.to_bytes(KEY) == data
    std = found.noise_multiplier * math.sqrt(2)
    assert found.noise_std == pytest.approx(math.sqrt(std**2 + 1 / 12))


@pytest.mark.parametrize(
    "changed",
    [
        {"federation": "ab"},
        {"identity": "00" * 32},
        {"site": "a site with spaces"},
        {"model": 7},
        {"first": "20260101"},
        {"first": "2026-02-01"},
        {"last": "2028-01-01"},
        {"last": "2026-01-06"},  # a day too few
        {"last": "2026-02-30"},
        {"release": "07-" + "ef" * 32},
        {"release": "secret"},
        {"epsilon": 1},
        {"epsilon": 0.9},  # less than the noise keeps
        {"delta": 1e-9},
        {"noise_multiplier": 2.0},
        {"noise_multiplier": 1e300},
        {"counts": {}},
        {"counts": {"score": [0.5] * 10}},
        {"counts": {"score": [True] * 10}},
        {"counts": {"score": [1] * 11}},
        {"counts": {"score": [10**13] * 10}},
        {"counts": {"patient ID4711": [1] * 10}},
        {"counts": {f"finding.{k}": [1] * 10 for k in range(33)}},
        {"version": 2},
        {"version": True},
        {"format": "another"},
        {"note": "hello"},
    ],
)
def test_a_file_of_another_form_is_refused_though_it_is_signed(changed):
    assert SharedHistograms.read(signed(body())) == made()
    with pytest.raises(DataError):
        SharedHistograms.read(signed(body(**changed)))


def test_a_file_that_was_changed_or_is_not_signed_is_refused():
    data = made().to_bytes(KEY)
    for other in (
        data.replace(b'"north"', b'"south"'),
        data.replace(b"-3,-2", b"-2,-2"),
        data.replace(b'"release"', b' "release"'),
        signed(body(), SigningKey.from_bytes(b"x" * 32)),
        data + b"\n",
        data[:-40],
        b"[" * 100_000,
        b"",
        b"null",
        b'{"histograms": {}}',
        b" " * (MOST_BYTES + 1),
    ):
        with pytest.raises(DataError):
            SharedHistograms.read(other)
    with pytest.raises(DataError):  # and is not written either
        made(counts={"score": (1,)}).to_bytes(KEY)
