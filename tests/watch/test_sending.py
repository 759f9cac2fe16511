"""C-STORE to real archives: DCMTK's storescp, and pynetdicom's where an answer must be chosen."""

import contextlib
import gc
import logging
import socket
import ssl
import subprocess
import threading
import time

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit
from pynetdicom import AE, evt

from fedimg.errors import ConfigError
from sites.watch.deliveries import Delivery, Undelivered
from sites.watch.sending import Archive, Storing
from tests.system import program
from tests.watch.receivers import NAME, PATIENT, SECONDARY_CAPTURE, certified, dicom_file

# pynetdicom drops a socket that could not connect, or whose peer left first, instead of closing it; Python closes it
# there and then, or with the cycle that it is part of, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")


@pytest.fixture(autouse=True)
def sockets_of_this_test_are_gone_before_the_next():
    yield
    gc.collect()


SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit]
CT = "1.2.840.10008.5.1.4.1.1.2"


def delivery(*paths):
    return Delivery(1, "pacs", "cstore", "abc-0-raised", paths=paths)


@contextlib.contextmanager
def storescp(folder):
    """DCMTK's archive: every transfer syntax, bytes as they come."""
    archive = program("storescp")
    for _ in range(5):  # it cannot be asked which port it took
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [
            archive,
            "--bit-preserving",
            "+xa",
            "--output-directory",
            folder,
            "-aet",
            "ORTHANC",
            str(port),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            try:
                if _answers(port, process):
                    yield port
                    return
            finally:
                process.terminate()
    pytest.fail("storescp has not started")


def _answers(port, process):
    end = time.monotonic() + 20
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.02)
    return False


@contextlib.contextmanager
def archive(status=0x0000, classes=(SECONDARY_CAPTURE,), syntaxes=SYNTAXES, tls=None, store=None, **settings):
    """pynetdicom's: `status` for every object, or one for each in turn. Yields its port and what it has stored."""
    statuses, stored = status if isinstance(status, list) else None, []

    def take(event):
        if store is not None:
            store()
        stored.append((event.request.AffectedSOPInstanceUID, event.request.DataSet.getvalue()))
        return statuses.pop(0) if statuses else (status if statuses is None else 0x0000)

    entity = AE(ae_title="ORTHANC")
    for name, value in settings.items():
        setattr(entity, name, value)
    for one in classes:
        entity.add_supported_context(one, syntaxes)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)], ssl_context=tls
    )
    try:
        yield server.socket.getsockname()[1], stored
    finally:
        server.shutdown()


def to(port, **changed):
    return Storing(
        Archive(**{"host": "127.0.0.1", "port": port, "ae_title": "ORTHANC", "timeout_s": 10} | changed)
    )


def test_dcmtk_gets_the_very_bytes_of_every_file_in_its_own_syntax(tmp_path):
    there = tmp_path / "archive"
    there.mkdir()
    files = [dicom_file(tmp_path, n, syntax=syntax) for n, syntax in enumerate(SYNTAXES)]
    with storescp(there) as port:
        to(port).deliver(delivery(*files))
        to(port).deliver(delivery(*files))  # a repeat is no second instance
    stored = sorted(there.iterdir())
    assert len(stored) == 3
    read = {pydicom.dcmread(path).SOPInstanceUID: path.read_bytes() for path in stored}
    for path in files:
        own = pydicom.dcmread(path)
        length = own.file_meta.FileMetaInformationGroupLength
        body = path.read_bytes()[144 + length :]
        assert read[own.SOPInstanceUID].endswith(body)
        assert len(body) > 200


@pytest.mark.parametrize(
    ("status", "said", "permanent"),
    [
        (0xA700, "status 0xA700", False),
        (0x0110, "status 0x0110", False),
        (0x0124, "status 0x0124", False),
        (0xA900, "2 of 2 objects refused: status 0xA900", True),
        (0xC123, "2 of 2 objects refused: status 0xC123", True),
        ([0x0000, 0x0122], "1 of 2 objects refused: status 0x0122", True),
        ([0xC000, 0xA701], "status 0xA701", False),
    ],
)
def test_a_status_says_whether_to_try_again(status, said, permanent, tmp_path):
    files = dicom_file(tmp_path, 1), dicom_file(tmp_path, 2)
    with archive(status) as (port, _), pytest.raises(Undelivered, match=said) as refused:
        to(port).deliver(delivery(*files))
    assert (refused.value.permanent, refused.value.answered) == (permanent, True)


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB007, 0x0107, 0x0111])
def test_warnings_and_duplicates_are_stored(status, tmp_path):
    with archive(status) as (port, stored):
        to(port).deliver(delivery(dicom_file(tmp_path, 1), dicom_file(tmp_path, 2)))
    assert len({uid for uid, _ in stored}) == 2


def test_an_object_that_is_not_taken_does_not_hold_back_the_others(tmp_path):
    files = dicom_file(tmp_path, 1, sop_class=CT), dicom_file(tmp_path, 2)
    with archive() as (port, stored):
        with pytest.raises(
            Undelivered, match="1 of 2 objects refused: a kind of object or syntax"
        ) as refused:
            to(port).deliver(delivery(*files))
        assert len(stored) == 1
        with pytest.raises(Undelivered, match="takes none of these objects"):
            to(port).deliver(delivery(files[0]))
    assert refused.value.permanent


def test_nothing_is_encoded_anew_for_an_archive_that_takes_another_syntax(tmp_path):
    path = dicom_file(tmp_path, 1, syntax=ImplicitVRLittleEndian)
    refused = pytest.raises(Undelivered, match="takes none of these objects")
    with archive(syntaxes=[ExplicitVRLittleEndian]) as (port, stored), refused:
        to(port).deliver(delivery(path))
    assert not stored


def test_an_archive_that_is_off_or_does_not_know_us_is_tried_again(tmp_path):
    path = dicom_file(tmp_path)
    with archive(require_called_aet=True) as (port, stored):
        with pytest.raises(Undelivered, match="an association that was rejected") as refused:
            to(port, ae_title="OTHER").deliver(delivery(path))
        assert (refused.value.permanent, refused.value.answered) == (False, True)
    with pytest.raises(Undelivered, match="no association") as refused:
        to(port).deliver(delivery(path))
    assert (refused.value.permanent, refused.value.answered) == (False, False)
    assert not stored


def test_an_archive_that_does_not_answer_is_given_up(tmp_path):
    path, done = dicom_file(tmp_path), threading.Event()
    refused = pytest.raises(Undelivered, match="no association")
    with socket.create_server(("127.0.0.1", 0)) as silent, refused:
        to(silent.getsockname()[1], timeout_s=0.3).deliver(delivery(path))
    with archive(store=lambda: done.wait(20)) as (port, _):
        begun = time.monotonic()
        with pytest.raises(Undelivered, match="no answer to an object"):
            to(port, timeout_s=0.5).deliver(delivery(path))
        assert time.monotonic() - begun < 10
        done.set()


def test_a_peer_that_stops_to_read_is_given_up(tmp_path):
    """pynetdicom sends without a time-out of its own: without ours this would wait for ever."""
    path = dicom_file(tmp_path, side=4000)  # 16 MB: more than the system's buffers take
    with archive() as (port, _), socket.create_server(("127.0.0.1", 0)) as listener:
        ending = threading.Event()
        thread = threading.Thread(target=_negotiates_only, args=(listener, port, ending))
        thread.start()
        with pytest.raises(Undelivered):
            to(listener.getsockname()[1], timeout_s=1).deliver(delivery(path))
        ending.set()
        thread.join(10)


def _negotiates_only(listener, port, ending):
    """Hands the association's request on and its answer back, and then reads nothing."""
    client, _ = listener.accept()
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        server.sendall(client.recv(1 << 16))
        client.sendall(server.recv(1 << 16))
        ending.wait(30)


def test_over_tls_only_an_archive_with_the_right_certificate_is_believed(tmp_path):
    authority, certificate, key = certified(tmp_path, "localhost")
    (tmp_path / "other").mkdir()
    stranger, _, _ = certified(tmp_path / "other", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    path = dicom_file(tmp_path)
    with archive(tls=context) as (port, stored):
        to(port, tls=True, authority=authority).deliver(delivery(path))
        assert len(stored) == 1
        with pytest.raises(Undelivered, match="no association"):
            to(port, tls=True, authority=stranger).deliver(delivery(path))
        with pytest.raises(Undelivered, match="no association"):
            to(port, timeout_s=2).deliver(delivery(path))
        assert len(stored) == 1


def test_files_that_are_gone_or_something_else_are_dead_at_once(tmp_path):
    gone, other = tmp_path / "gone.dcm", tmp_path / "note.txt"
    other.write_text("x" * 400)
    for path, said in ((gone, "a file that is gone"), (other, "no DICOM file")):
        with pytest.raises(Undelivered, match=said) as refused:
            to(1).deliver(delivery(dicom_file(tmp_path), path))
        assert refused.value.permanent
    with pytest.raises(Undelivered, match="without files"):
        to(1).deliver(delivery())


def test_settings_that_cannot_be_are_refused(tmp_path):
    for wrong in (
        {"ae_title": ""},
        {"ae_title": "SEVENTEEN-LETTERS"},
        {"ae_title": "A\\B"},
        {"ae_title": " "},
        {"port": 0},
        {"host": ""},
        {"timeout_s": 0},
    ):
        with pytest.raises(ConfigError):
            to(**{"port": 104} | wrong)
    with pytest.raises(ConfigError, match="PEM files"):
        to(104, tls=True, authority=tmp_path / "none.pem")


def test_no_log_line_names_a_patient_an_instance_or_a_path(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    said = []
    for status in (0x0000, 0xC000, 0xA700):
        with archive(status) as (port, _):
            try:
                to(port).deliver(delivery(dicom_file(tmp_path)))
            except Undelivered as refused:
                said.append(str(refused))
    assert len(said) == 2
    for text in (caplog.text, *said):
        for planted in (PATIENT, NAME, "1.2.826.0.1.4711", str(tmp_path)):
            assert planted not in text
