"""Real receivers on this machine, a store's outbox in memory, and files worth sending."""

import threading
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian

from fedimg.crypto.authority import Authority
from fedimg.crypto.link_keys import ServerKey
from sites.watch.deliveries import Delivery

PATIENT = "PLANTED-4711"
NAME = "Planted^Petra"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


class Receiver(ThreadingHTTPServer):
    """Takes POSTs. `answers`: what it answers to each in turn (a status, or (status, headers, body)); after them 204.

    "drop": it takes the message, then breaks the connection. An Event: it waits for that first.
    """

    daemon_threads = True

    def __init__(self, answers=(), context=None, host="127.0.0.1"):
        super().__init__((host, 0), _Handler)
        self.answers, self.requests, self.done = list(answers), [], Counter()
        self.lock = threading.Lock()
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "https" if context is not None else "http"

    @property
    def url(self):
        return f"{self.scheme}://{self.server_address[0]}:{self.server_address[1]}/hook"

    def handle_error(self, request, client_address):
        """A client that left, or did not believe the certificate, is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        heard = {name.lower(): value for name, value in self.headers.items()}
        with self.server.lock:
            self.server.requests.append((heard, body))
            self.server.done[heard.get("webhook-id")] += 1  # a receiver acts once for each key
            answer = self.server.answers.pop(0) if self.server.answers else 204
        if answer == "drop":
            self.close_connection = True
            return
        if isinstance(answer, threading.Event):
            answer.wait(30)
            answer = 204
        status, headers, content = answer if isinstance(answer, tuple) else (answer, {}, b"")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def receiver(*answers, **how):
    server = Receiver(answers, **how)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Outbox:
    """The protocol, in memory, as strict as a store is. `wrong_thread`: calls from more than one thread."""

    def __init__(self, *deliveries):
        self.rows = {d.id: [d, 0.0, "due", ""] for d in deliveries}
        self.threads, self.pages, self.lock = set(), [], threading.Lock()

    def add(self, delivery):
        with self.lock:
            self.rows[delivery.id] = [delivery, 0.0, "due", ""]

    def due(self, now, most):
        self.threads.add(threading.get_ident())
        with self.lock:
            rows = [d for d, at, state, _ in self.rows.values() if state == "due" and at <= now]
        self.pages.append(most)
        return rows[:most]

    def _change(self, number, **to):
        self.threads.add(threading.get_ident())
        with self.lock:
            row = self.rows[number]
            assert row[2] == "due", "a delivery was settled twice"
            d = row[0]
            row[0] = Delivery(d.id, d.target, d.kind, d.key, d.body, d.paths, to.get("attempts", d.attempts))
            row[1], row[2], row[3] = to.get("at", row[1]), to.get("state", "due"), to.get("why", "")

    def done(self, delivery, now):
        self._change(delivery, state="done")

    def again(self, delivery, why, at):
        self._change(delivery, attempts=self.rows[delivery][0].attempts + 1, why=why, at=at)

    def dead(self, delivery, why, now):
        self._change(delivery, state="dead", why=why)

    def state(self, number):
        with self.lock:
            return self.rows[number][2]

    def why(self, number):
        return self.rows[number][3]


def certified(folder, *hosts):
    """(authority.pem, certificate, key) of a server for these hosts."""
    now = datetime.now(UTC) - timedelta(minutes=1)
    authority = Authority.create(folder / "authority.key", None, now)
    key = ServerKey.create(folder / "server.key")
    (folder / "authority.pem").write_text(authority.certificate)
    (folder / "server.pem").write_text(authority.certify_server(key, list(hosts), now))
    return folder / "authority.pem", folder / "server.pem", folder / "server.key"


def dicom_file(folder, number=1, *, syntax=ExplicitVRLittleEndian, sop_class=SECONDARY_CAPTURE, side=16):
    """A file of a planted patient, whose pixels are of no other file."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, f"1.2.826.0.1.4711.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.4711", "1.2.826.0.1.4711.0"
    dataset.PatientID, dataset.PatientName, dataset.Modality = PATIENT, NAME, "OT"
    dataset.Rows = dataset.Columns = side
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 7, 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    pixels = bytes((number + i) % 251 for i in range(side)) * side
    dataset.PixelData = encapsulate([pixels]) if syntax.is_compressed else pixels
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    path = folder / f"{NAME}-{number}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path
