import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.imaging.cleaning import Rejected, check_frame, drop_duplicates
from fedimg.imaging.config import CleaningConfig
from fedimg.values import Quarantine, Volume

RULES = CleaningConfig(blank_fraction=0.01, saturated_fraction=0.5)


def volume(patient, content, label=0):
    return Volume(np.full((1, 1, 2, 2), content, np.float32), (1.0, 1.0, 1.0), patient, label)


owned = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=12)


@given(owned)
def test_duplicates_go_within_a_patient_and_the_first_stays(pairs):
    kept, dropped = drop_duplicates([volume(p, c, label=i) for i, (p, c) in enumerate(pairs)])
    expected = [i for i, pair in enumerate(pairs) if pair not in pairs[:i]]
    assert [v.label for v in kept] == expected
    assert dropped == len(pairs) - len(expected)


@given(owned, owned)
def test_no_other_patient_decides_what_is_kept_of_one(pairs, others):
    own = [volume("me", content) for _, content in pairs]
    beside = [volume(p, c) for p, c in others]
    alone = drop_duplicates(own)[0]
    among = [v for v in drop_duplicates([*beside, *own])[0] if v.patient_key == "me"]
    assert [v.image_CDHW.tobytes() for v in among] == [v.image_CDHW.tobytes() for v in alone]


@pytest.mark.parametrize(("different", "reason"), [(9, Quarantine.PIXELS_BLANK), (10, None)])
def test_blank_begins_below_the_stated_share(different, reason):
    frame = np.zeros(1000, np.float32)
    frame[:different] = np.arange(different) + 1
    assert check_frame(frame.reshape(20, 50), None, RULES) is reason


@pytest.mark.parametrize(("at_top", "reason"), [(501, Quarantine.PIXELS_CLIPPED), (500, None)])
def test_clipped_begins_above_the_stated_share(at_top, reason):
    frame = np.linspace(0, 1, 1000, dtype=np.float32)
    frame[-at_top:] = 5.0
    assert check_frame(frame.reshape(20, 50), None, RULES) is reason


def test_masked_pixels_do_not_count():
    frame = np.random.default_rng(0).uniform(size=(20, 50)).astype(np.float32)
    mask = np.zeros((20, 50), bool)
    mask[:12] = True
    frame[:12] = 7.0  # a blanked banner: 60 % at the highest value
    assert check_frame(frame, None, RULES) is Quarantine.PIXELS_CLIPPED
    assert check_frame(frame, mask, RULES) is None
    assert check_frame(frame, np.ones_like(mask), RULES) is Quarantine.PIXELS_BLANK


def test_a_refusal_crosses_process_boundaries():
    refusal = Rejected(Quarantine.PIXELS_CLIPPED)
    again = pickle.loads(pickle.dumps(refusal))
    assert (again.reason, str(again)) == (refusal.reason, str(refusal))
    assert str(refusal).startswith("expected an image whose highlights are not cut off; found more pixels")
