"""Messages: what was packed comes back, and every byte that differs is seen."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.errors import MessageError
from fedimg.secagg import messages
from fedimg.secagg.messages import CONFIRMATIONS, COORDINATOR, KEYS, OPENED, SHARES, SURVIVORS
from fedimg.values import MaskedUpdate

CONTEXT = b"c" * 32
TABLES = (KEYS, SHARES, SURVIVORS, CONFIRMATIONS, OPENED)
HEADER = 48


def row_of(table, site, fill):
    parts = {
        KEYS: (32, 32, 32, 64),
        SHARES: (82,),
        SURVIVORS: (32, 64),
        CONFIRMATIONS: (64,),
        OPENED: (1, 33),
    }[table]
    return (site, *(fill * size for size in parts))


@given(
    st.sampled_from(TABLES),
    st.lists(st.integers(0, 0xFFFE), unique=True, max_size=6),
    st.binary(min_size=1, max_size=1),
)
def test_rows_come_back_as_they_were(table, sites, fill):
    rows = [row_of(table, site, fill) for site in sorted(sites)]
    packed = table.pack(CONTEXT, COORDINATOR, rows)
    assert len(packed) == HEADER + len(rows) * table.row.size
    assert table.unpack(CONTEXT, COORDINATOR, packed, 6) == rows


@settings(max_examples=200)
@given(st.sampled_from(TABLES), st.integers(0, HEADER - 1), st.integers(1, 255))
def test_every_byte_of_the_header_counts(table, at, change):
    packed = bytearray(table.pack(CONTEXT, 3, [row_of(table, 1, b"a"), row_of(table, 2, b"b")]))
    packed[at] ^= change
    with pytest.raises(
        MessageError, match=f"a {table.kind.decode()} message of version 1 of this secure sum"
    ):
        table.unpack(CONTEXT, 3, bytes(packed), 6)


@given(st.sampled_from(TABLES), st.integers(0, 400))
def test_truncated_and_longer_messages_are_refused(table, length):
    packed = table.pack(CONTEXT, 3, [row_of(table, 1, b"a"), row_of(table, 2, b"b")])
    for changed in (packed[:-1], packed + b"x", packed[: length % len(packed)]):
        with pytest.raises(MessageError, match="the message was discarded"):
            table.unpack(CONTEXT, 3, changed, 6)


@pytest.mark.parametrize("table", TABLES)
def test_a_site_is_named_once_and_in_order(table):
    for sites in ((2, 1), (1, 1)):
        packed = table.pack(CONTEXT, 3, [row_of(table, site, b"a") for site in sites])
        with pytest.raises(MessageError, match="named twice or out of order"):
            table.unpack(CONTEXT, 3, packed, 6)


def test_a_message_of_another_kind_context_or_sender_and_too_many_rows():
    packed = KEYS.pack(CONTEXT, 3, [row_of(KEYS, 1, b"a")])
    for arguments, found in (
        ((CONTEXT, 4, packed, 6), "another sender's name"),
        ((b"d" * 32, 3, packed, 6), "another run, plan or sum"),
        ((CONTEXT, 3, packed, 0), "1 rows"),
    ):
        with pytest.raises(MessageError, match=found):
            KEYS.unpack(*arguments)
    with pytest.raises(MessageError, match="another kind or version"):
        SHARES.unpack(CONTEXT, 3, packed, 6)


@pytest.mark.parametrize("word_bits", [32, 64])
def test_a_masked_input_has_exactly_the_agreed_words(word_bits):
    words = messages.np.arange(5).astype(f"<u{word_bits // 8}")
    packed = messages.pack_input(CONTEXT, 1, b"s" * 64, MaskedUpdate(words))
    signature, back = messages.unpack_input(CONTEXT, 1, packed, 5, word_bits)
    assert signature == b"s" * 64
    assert back.tolist() == [0, 1, 2, 3, 4]
    for size, bits, data in (
        (4, word_bits, packed),
        (5, 96 - word_bits, packed),
        (5, word_bits, packed[:-1]),
    ):
        with pytest.raises(MessageError, match="words in"):
            messages.unpack_input(CONTEXT, 1, data, size, bits)
