"""The listener against DCMTK's senders: what is acknowledged is on the disk; who may not send does not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time

import numpy as np
import pytest
from dicom_tls import make_papers

from fedimg.errors import ConfigError
from sites.watch.connection import ConnectionLimits
from sites.watch.scp import DicomScp, ScpSettings, TlsFiles
from tests.watch.arriving import (
    PLANTED,
    SERIES,
    STUDY,
    Told,
    echoscu,
    files_of,
    instance,
    spooled,
    storescu,
    uid_of,
    wait_for,
)
from tests.watch.peer import ABORTED, ACCEPTED, REJECTED, RELEASED, Peer


@contextlib.contextmanager
def listening(spool, tls=None, on_received=None, **limits):
    told = Told()
    settings = ScpSettings("127.0.0.1", 0, "FEDIMG", ("PACS", "MODALITY"), tls, ConnectionLimits(**limits))
    with DicomScp(settings, spool, on_received or told.received.append, told.released.append) as scp:
        scp.told = told
        yield scp
    wait_for(lambda: not list((spool.root / "drafts").iterdir()), "the drafts' end")


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("papers")
    make_papers(folder)
    return folder


@pytest.fixture
def tls(papers):
    return TlsFiles(papers / "server.pem", papers / "server.key", papers / "authority.pem")


def client_tls(papers, *, certificate=True):
    context = ssl.create_default_context(cafile=papers / "authority.pem")
    if certificate:
        context.load_cert_chain(papers / "client.pem", papers / "client.key")
    return context


def written(folder, count, **attributes):
    paths = []
    for number in range(count):
        paths.append(folder / f"{number}.dcm")
        paths[-1].write_bytes(instance(number, **attributes))
    return paths


def test_dcmtk_stores_a_study_and_releases_it(tmp_path):
    files = written(tmp_path, 5)
    with spooled(tmp_path) as spool, listening(spool) as scp:
        done = storescu(scp.port, files)
        assert done.returncode == 0 and done.stdout.count("(Success)") == 5, done.stdout
        wait_for(lambda: scp.told.released, "the release")
        assert scp.told.released == [frozenset({STUDY})]
        assert [one.arrival.sop_uid for one in scp.told.received] == [uid_of(n) for n in range(5)]
        assert all(one.source == "scp" and one.path.exists() for one in scp.told.received)
        assert spool.counts.read() == {"received": 5}


def test_an_instance_is_on_the_disk_before_it_is_acknowledged(tmp_path):
    on_disk = []
    with (
        spooled(tmp_path) as spool,
        listening(spool, on_received=lambda one: on_disk.append(one.path.exists())) as scp,
        Peer(scp.port) as peer,
    ):
        assert peer.associate() == ACCEPTED
        assert peer.store(bare(instance()), uid_of(1)) == 0
        assert on_disk == [True]


@pytest.mark.parametrize(
    "syntax", ["implicit_le", "explicit_be", "deflated_le", "rle", "jpeg_ls", "jpeg_2000"]
)
def test_every_transfer_syntax_that_is_decoded_is_taken(tmp_path, syntax):
    options = {
        "implicit_le": ["-xi"],
        "explicit_be": ["-xb"],
        "deflated_le": ["-xd"],
        "rle": ["-xr"],
        "jpeg_ls": ["-xt"],
        "jpeg_2000": ["-xv"],
    }[syntax]
    pixels = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    (tmp_path / "one.dcm").write_bytes(instance(pixels=pixels, syntax=syntax))
    with spooled(tmp_path) as spool, listening(spool) as scp:
        done = storescu(scp.port, [tmp_path / "one.dcm"], *options)
        assert done.returncode == 0, done.stdout
        (received,) = scp.told.received
        arrived = received.path.read_bytes()
        assert arrived[-200:] == (tmp_path / "one.dcm").read_bytes()[-200:]


def test_mutual_tls_with_dcmtk(tmp_path, papers, tls):
    (path,) = written(tmp_path, 1)
    ours = [
        "+tls",
        str(papers / "client.key"),
        str(papers / "client.pem"),
        "+cf",
        str(papers / "authority.pem"),
    ]
    with spooled(tmp_path) as spool, listening(spool, tls) as scp:
        assert echoscu(scp.port, *ours).returncode == 0
        done = storescu(scp.port, [path], *ours)
        assert done.returncode == 0 and len(scp.told.received) == 1, done.stdout
        anonymous = storescu(scp.port, [path], "+tla", "-ic")
        plain = storescu(scp.port, [path], "-ta", "3")
        assert anonymous.returncode and plain.returncode and len(scp.told.received) == 1


def test_a_peer_without_a_certificate_of_the_authority_gets_no_association(tmp_path, papers, tls):
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    make_papers(strangers)
    with spooled(tmp_path) as spool, listening(spool, tls) as scp:
        none = client_tls(papers, certificate=False)
        other = client_tls(papers, certificate=False)
        other.load_cert_chain(strangers / "client.pem", strangers / "client.key")
        old = client_tls(papers)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        for context in (none, other, old):
            answer = None
            with contextlib.suppress(OSError), Peer(scp.port, context) as peer:
                answer = peer.associate()
            assert answer is None
        with Peer(scp.port, client_tls(papers)) as peer:
            assert peer.associate() == ACCEPTED and peer.echo() == 0
        wait_for(lambda: spool.counts.read().get("not_admitted") == 3)


@pytest.mark.parametrize("secured", [True, False])
def test_twenty_silent_connections_do_not_hold_up_an_echo(tmp_path, papers, tls, secured):
    """pynetdicom 3.0.4 would make the handshake of the first of them within accept(), and wait for it."""
    with (
        spooled(tmp_path) as spool,
        listening(spool, tls if secured else None, handshake_s=30) as scp,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(20):
            stack.enter_context(socket.create_connection(("127.0.0.1", scp.port)))
        begun = time.monotonic()
        with Peer(scp.port, client_tls(papers) if secured else None) as peer:
            assert peer.associate() == ACCEPTED and peer.echo() == 0
        assert time.monotonic() - begun <= 1.0


def test_of_too_many_strangers_the_oldest_goes(tmp_path):
    with spooled(tmp_path) as spool, listening(spool, strangers=3, handshake_s=30) as scp:
        with contextlib.ExitStack() as stack:
            silent = [
                stack.enter_context(socket.create_connection(("127.0.0.1", scp.port), timeout=20))
                for _ in range(5)
            ]
            assert silent[0].recv(1) == b"" and silent[1].recv(1) == b""
            with Peer(scp.port) as peer:
                assert peer.associate() == ACCEPTED and peer.echo() == 0
            assert silent[2].recv(1) == b""
        wait_for(lambda: spool.counts.read().get("crowded_out") == 3)


def test_silent_connections_and_silent_associations_end(tmp_path):
    with spooled(tmp_path) as spool, listening(spool, handshake_s=0.3, silent_s=0.6) as scp:
        with socket.create_connection(("127.0.0.1", scp.port), timeout=20) as silent:
            assert silent.recv(1) == b""
        with Peer(scp.port) as peer:  # a first byte, and no request
            peer.socket.sendall(b"\x01")
            assert peer.receive()[0] in (None, ABORTED)
        with Peer(scp.port) as peer:
            assert peer.associate() == ACCEPTED
            assert peer.receive()[0] in (None, ABORTED)
        with Peer(scp.port) as peer:  # a data set that stops
            peer.associate()
            peer.pdu(4, b"\0" * 10, length=1000)
            assert peer.receive()[0] in (None, ABORTED)
        with Peer(scp.port) as peer:
            assert peer.associate() == ACCEPTED and peer.echo() == 0
            assert peer.release() == RELEASED
        assert scp.told.released == []


def test_only_agreed_titles_are_heard_and_only_so_many(tmp_path):
    with spooled(tmp_path) as spool, listening(spool, associations=2) as scp:
        assert echoscu(scp.port, caller="MODALITY").returncode == 0
        for caller, called in (("STRANGER", "FEDIMG"), ("PACS", "OTHER"), ("pacs", "FEDIMG")):
            with Peer(scp.port) as peer:
                assert peer.associate(caller=caller, called=called) == REJECTED
        with Peer(scp.port) as one, Peer(scp.port) as two, Peer(scp.port) as three:
            assert one.associate() == two.associate() == ACCEPTED
            assert three.associate() == REJECTED
            assert one.echo() == two.echo() == 0
            assert two.release() == RELEASED
            with contextlib.ExitStack() as stack:
                for _ in range(10):  # who only connects takes nobody's place
                    stack.enter_context(Peer(scp.port)).socket.sendall(b"\x01")

                def admitted():
                    with Peer(scp.port) as four:
                        return four.associate() == ACCEPTED and four.echo() == 0

                wait_for(admitted, "a place")


def test_of_an_aborted_association_no_study_is_released_and_no_draft_stays(tmp_path):
    with spooled(tmp_path) as spool, listening(spool) as scp:
        with Peer(scp.port) as peer:
            peer.associate()
            assert peer.store(bare(instance()), uid_of(1)) == 0
            peer.fragment(3, store_command(uid_of(2)))
            peer.fragment(0, bytes(5000))
            wait_for(lambda: list((spool.root / "drafts").iterdir()), "a draft")
            peer.abort()
        wait_for(lambda: not list((spool.root / "drafts").iterdir()), "the draft's end")
        with Peer(scp.port) as peer:  # a peer that is gone without a word
            peer.associate()
            peer.fragment(3, store_command(uid_of(3)))
            peer.fragment(0, bytes(5000))
        wait_for(lambda: not list((spool.root / "drafts").iterdir()), "the draft's end")
        done = storescu(scp.port, written(tmp_path, 2), "--abort")
        assert done.returncode == 0, done.stdout
        with Peer(scp.port) as peer:
            assert peer.associate() == ACCEPTED and peer.release() == RELEASED
        assert scp.told.released == [] and len(scp.told.received) == 3


def test_a_full_disk_is_out_of_resources_and_the_sender_may_come_again(tmp_path):
    with spooled(tmp_path, keep_free_bytes=1 << 60) as spool, listening(spool) as scp, Peer(scp.port) as peer:
        peer.associate()
        assert peer.store(bare(instance()), uid_of(1)) == 0xA700
        assert peer.echo() == 0 and spool.counts.read() == {"full": 1}
        assert scp.told.received == []


def test_what_is_told_may_fail_and_the_sender_hears_of_it(tmp_path):
    def failing(_):
        raise RuntimeError(PLANTED[0])

    with spooled(tmp_path) as spool, listening(spool, on_received=failing) as scp, Peer(scp.port) as peer:
        peer.associate()
        assert peer.store(bare(instance()), uid_of(1)) == 0xC211
        assert peer.echo() == 0


def test_no_identifier_is_in_a_log_or_in_a_file_name(tmp_path, caplog, capfd):
    with caplog.at_level("DEBUG"), spooled(tmp_path) as spool, listening(spool) as scp:
        storescu(scp.port, written(tmp_path, 2))
        with Peer(scp.port) as peer:
            peer.associate()
            peer.store(bare(instance(StudyInstanceUID="../x")), uid_of(1))
            peer.store(b"\x10\0\x10\0PN\xff\xff" + PLANTED[0].encode(), uid_of(1))
            peer.store(bare(instance()), f"{PLANTED[0]}/../..")
        with Peer(scp.port) as peer:
            peer.associate(caller=f"{PLANTED[0][:8]}\x01\x7f")
        with Peer(scp.port) as peer:
            peer.associate()
            peer.fragment(3, PLANTED[0].encode() * 40)
            peer.receive()
        names = "\n".join(str(path.relative_to(tmp_path)) for path in files_of(spool))
    said = capfd.readouterr()
    for text in (caplog.text, said.out, said.err, names, str(spool.counts.read())):
        for word in (*PLANTED, SERIES, STUDY):
            assert word.lower() not in text.lower()
    assert not caplog.records


@pytest.mark.parametrize("title", ["", " ", "A" * 17, "Ä", "A\\B", "A\n"])
def test_titles_that_are_none_are_refused(title):
    with pytest.raises(ConfigError):
        ScpSettings("127.0.0.1", 0, title, ("PACS",))
    with pytest.raises(ConfigError):
        ScpSettings("127.0.0.1", 0, "FEDIMG", (title,))


def test_what_cannot_be_served_is_told(tmp_path, papers):
    with pytest.raises(ConfigError, match="AE titles that may call"):
        ScpSettings("127.0.0.1", 0, "FEDIMG", ())
    with spooled(tmp_path) as spool, listening(spool) as scp:
        taken = ScpSettings("127.0.0.1", scp.port, "FEDIMG", ("PACS",))
        with pytest.raises(ConfigError, match="a free address for DICOM"):
            DicomScp(taken, spool, print, print).start()
    (tmp_path / "none.pem").write_text("no certificate")
    for files in (
        TlsFiles(tmp_path / "none.pem", papers / "server.key", papers / "authority.pem"),
        TlsFiles(papers / "server.pem", papers / "client.key", papers / "authority.pem"),
        TlsFiles(papers / "server.pem", papers / "server.key", tmp_path / "away.pem"),
    ):
        with pytest.raises(ConfigError, match="a certificate, its key and an authority"):
            files.context()


def test_many_associations_at_once_lose_nothing(tmp_path):
    def send(port, first, statuses):
        with Peer(port) as peer:
            peer.associate()
            statuses += [peer.store(bare(instance(n)), uid_of(n)) for n in range(first, first + 10)]
            peer.release()

    statuses = []
    with spooled(tmp_path) as spool, listening(spool) as scp:
        threads = [threading.Thread(target=send, args=(scp.port, 10 * k, statuses)) for k in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [0] * 60
        assert {one.arrival.number for one in scp.told.received} == set(range(60))
        assert spool.counts.read() == {"received": 60}


def bare(data):
    """A data set without preamble and file meta."""
    return data[144 + int.from_bytes(data[140:144], "little") :]


def store_command(instance_uid):
    from tests.watch.peer import CT, command

    return command(sop_class=CT, kind=1, message=1, priority=0, data_set=1, instance=instance_uid)
