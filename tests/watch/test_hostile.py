"""What a hostile peer sends over C-STORE is refused and counted, nothing is written beside the spool, and the next is heard."""

from __future__ import annotations

import contextlib
import struct
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine
from sites.watch.messages import ProtocolError, read_command
from sites.watch.scp import DicomScp, ScpSettings
from sites.watch.spool import Full
from sites.watch.statuses import status_of
from tests.watch.arriving import PLANTED, files_of, instance, spooled, uid_of, wait_for
from tests.watch.peer import ABORTED, ACCEPTED, CT, DATA, EXPLICIT, VERIFICATION, Peer, command

DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
CONTEXTS = ((CT, EXPLICIT), (CT, DEFLATED), (CT, RLE), (VERIFICATION, "1.2.840.10008.1.2"))
MOST = 1 << 20


def bare(data):
    return data[144 + int.from_bytes(data[140:144], "little") :]


@pytest.fixture
def heard(tmp_path):
    """(spool, listener) of a folder with nothing else; afterwards an honest instance is still taken."""
    with spooled(tmp_path, file_bytes=MOST) as spool:
        received = []
        scp_settings = ScpSettings("127.0.0.1", 0, "FEDIMG", ("PACS",))
        with DicomScp(scp_settings, spool, received.append, lambda _: None) as scp:
            yield spool, scp
            before = len(received)
            with Peer(scp.port) as peer:
                assert peer.associate(CONTEXTS) == ACCEPTED
                assert peer.store(bare(instance(77)), uid_of(77)) == 0
            assert len(received) == before + 1
        wait_for(lambda: not list((spool.root / "drafts").iterdir()), "the drafts' end")
        assert [path.name for path in tmp_path.iterdir()] == ["spool"]
        kept = {path.name for path in (spool.root / "incoming").iterdir()}
        assert kept == {one.path.name for one in received}
        assert len(files_of(spool)) == len(kept) + 2


WHOLE = bare(instance(1))
AT_ITEM = bare(instance(1, RequestAttributesSequence=[{"RequestedProcedureID": "7"}]))


def longer_item():
    at = AT_ITEM.index(struct.pack("<HH", 0xFFFE, 0xE000)) + 4
    return AT_ITEM[:at] + struct.pack("<I", struct.unpack_from("<I", AT_ITEM, at)[0] + 64) + AT_ITEM[at + 4 :]


def group_length(wrong):
    at = WHOLE.index(struct.pack("<HH", 0x10, 0x10))
    return WHOLE[:at] + struct.pack("<HH2sHI", 0x10, 0, b"UL", 4, wrong) + WHOLE[at:]


def deep():
    level = struct.pack("<HH2sHI", 0x40, 0x275, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    at = WHOLE.index(struct.pack("<HH", 0x28, 2))
    return WHOLE[:at] + level * 5000


def bomb():
    before = WHOLE[: WHOLE.index(struct.pack("<HH", 0x7FE0, 0x10))]
    deflater = zlib.compressobj(9, wbits=-15)
    padding = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 1 << 26) + bytes(1 << 26)
    return deflater.compress(before + padding) + deflater.flush()


@pytest.mark.parametrize(
    ("data_set", "context", "status"),
    [
        (lambda: bare(instance(1, StudyInstanceUID="../../../tmp/evil")), 1, 0xC002),
        (lambda: bare(instance(1, SeriesInstanceUID="1.2/../3")), 1, 0xC002),
        (lambda: bare(instance(1, StudyInstanceUID="")), 1, 0xC000),
        (lambda: bare(instance(2)), 1, 0xA900),  # another instance than the request names
        (lambda: bare(instance(1, SOPClassUID="1.2.840.10008.5.1.4.1.1.4")), 1, 0xA900),
        (lambda: WHOLE[:-20], 1, 0xC000),
        (lambda: b"", 1, 0xC000),
        (longer_item, 1, 0xC002),
        (lambda: group_length(5), 1, 0xC002),
        (lambda: group_length(0xFFFFFFF0), 1, 0xC002),
        (deep, 1, 0xC000),
        (bomb, 3, 0xC002),
        (lambda: bare(instance(1, syntax="rle", Rows=65535, Columns=65535)), 5, 0xC002),
        (lambda: bare(instance(1, syntax="rle", NumberOfFrames="2000000000")), 5, 0xC002),
        (lambda: bytes(MOST + 1), 1, 0xC002),
    ],
)
def test_a_hostile_data_set_is_refused_and_counted(heard, data_set, context, status):
    spool, scp = heard
    with Peer(scp.port) as peer:
        assert peer.associate(CONTEXTS) == ACCEPTED
        assert peer.store(data_set(), uid_of(1), context=context) == status
        assert spool.counts.refused() == 1
        assert peer.store(WHOLE, uid_of(1)) == 0  # by the same association


@pytest.mark.parametrize("instance_uid", ["../../etc/passwd", "1.2.3/..", "", "x" * 80, "1.2.3\n"])
def test_a_request_whose_uid_is_none_is_refused_before_anything_is_written(heard, instance_uid):
    spool, scp = heard
    with Peer(scp.port) as peer:
        peer.associate(CONTEXTS)
        assert peer.store(WHOLE, instance_uid) == 0xC002
        assert spool.counts.read() == {"refused.unsafe_structure": 1}
        assert peer.store(WHOLE, uid_of(1), sop_class="1.2.840.10008.5.1.4.1.1.4") == 0x0122


def test_a_peer_that_does_not_stop_is_aborted_and_the_disk_keeps_its_limit(heard):
    spool, scp = heard
    most = 0
    with Peer(scp.port) as peer:
        peer.associate(CONTEXTS)
        peer.fragment(3, command(sop_class=CT, kind=1, message=1, priority=0, data_set=1, instance="1.2.3"))
        with contextlib.suppress(ConnectionError):
            for _ in range(80):
                peer.fragment(0, bytes(100_000))
                with contextlib.suppress(FileNotFoundError):  # it was discarded between the two looks
                    most = max([most, *(path.stat().st_size for path in (spool.root / "drafts").iterdir())])
        assert peer.receive()[0] in (ABORTED, None)
    assert 0 < most <= MOST
    assert spool.counts.read()["refused.unsafe_structure"] == 1


@pytest.mark.parametrize(
    "send",
    [
        lambda peer: peer.pdu(4, b"", length=0xFFFFFFFF),  # a PDU of 4 GiB
        lambda peer: peer.pdu(4, b"\0\0\0\1", length=4),
        lambda peer: peer.pdu(9, b"1234"),
        lambda peer: peer.fragment(
            3, command(sop_class=CT, kind=1, message=1, data_set=1, instance="1.2"), 99
        ),
        lambda peer: peer.fragment(2, b"no command before"),
        lambda peer: peer.fragment(3, b"\x08\0\x08\0\x04\0\0\0abcd"),
        lambda peer: peer.fragment(
            3, command(sop_class=CT, kind=0x20, message=1, priority=0, data_set=1)
        ),  # C-FIND
        lambda peer: peer.fragment(
            3, command(sop_class=CT, kind=0x30, message=1, data_set=1)
        ),  # an echo with data
        lambda peer: peer.fragment(3, command(kind=1, message=1)),
        lambda peer: [peer.fragment(1, bytes(4000)) for _ in range(3)],  # a command without end
        lambda peer: [
            peer.fragment(3, command(sop_class=VERIFICATION, kind=0x30, message=1, data_set=0x0101), 7)
            for _ in range(300)
        ],  # without waiting for an answer
    ],
)
def test_a_broken_message_ends_its_association_only(heard, send):
    _, scp = heard
    with Peer(scp.port) as other:
        other.associate(CONTEXTS)
        with Peer(scp.port) as peer:
            peer.associate(CONTEXTS)
            with contextlib.suppress(ConnectionError):
                send(peer)
            kind = DATA
            while kind == DATA:
                kind, _ = peer.receive()
            assert kind in (ABORTED, None)
        assert other.store(WHOLE, uid_of(1)) == 0


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(60),
        b"\x01\0" + b"\xff" * 9,
    ],
)
def test_another_protocol_is_hung_up_on(heard, noise):
    _, scp = heard
    with Peer(scp.port) as peer:
        peer.socket.sendall(noise)
        assert peer.receive()[0] in (ABORTED, None)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_damage_is_acknowledged_or_refused_and_never_more(heard, data):
    spool, scp = heard
    damaged = bytearray(AT_ITEM)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    tail = data.draw(st.binary(max_size=60))
    with Peer(scp.port) as peer:
        peer.associate(CONTEXTS)
        before = spool.counts.refused()
        status = peer.store(bytes(damaged) + tail, uid_of(1))
        assert status in (0, 0xC000, 0xC001, 0xC002, 0xA900)
        assert spool.counts.refused() == before + bool(status)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=300), st.sampled_from([0, 1, 2, 3]))
def test_random_fragments_end_no_more_than_their_association(heard, noise, control):
    _, scp = heard
    with Peer(scp.port) as peer:
        peer.associate(CONTEXTS)
        with contextlib.suppress(ConnectionError):
            peer.fragment(control, noise)
            peer.abort()


@given(st.binary(max_size=200))
def test_any_command_is_read_or_refused(noise):
    with contextlib.suppress(ProtocolError):
        fields = read_command(noise)
        assert sum(8 + len(value) for value in fields.values()) == len(noise)


def test_a_command_is_read_as_it_was_written():
    fields = read_command(command(sop_class=CT, kind=1, message=9, instance="1.2.3"))
    assert fields[0x0100] == b"\1\0" and fields[0x1000] == b"1.2.3\0" and fields[0x0110] == b"\x09\0"
    with pytest.raises(ProtocolError):
        read_command(command(kind=1) + command(kind=2))  # a field twice


def test_a_sender_is_told_whether_to_come_again():
    assert status_of(Full("none")) == 0xA700
    assert {status_of(Quarantined(reason, "x")) for reason in Quarantine} == {0xC000, 0xC001, 0xC002, 0xA900}


def test_the_planted_words_are_in_what_is_sent():
    """Else the tests that look for them elsewhere could not fail."""
    assert all(word.encode().lower() in WHOLE.lower() for word in PLANTED)
