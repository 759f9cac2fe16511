"""An archive of DICOMweb on this machine, made for tests: right by itself, and as wrong as a test says."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

JSON = "application/dicom+json"
BOUNDARY = "a1b2"
RELATED = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
_PATH = re.compile(r"/dicom-web/studies(?:/([^/]+)/series(?:/([^/]+)/instances(?:/([^/]+))?)?)?")


@dataclass
class Held:
    """One instance of the archive."""

    study: str
    series: str
    sop: str
    content: bytes
    date: str
    modality: str = "CT"


def related(*parts, end=True, kind=b"application/dicom"):
    body = b"".join(
        b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (BOUNDARY.encode(), kind, part) for part in parts
    )
    return body + (b"--%s--\r\n" % BOUNDARY.encode() if end else b"")


def element(value):
    return {"vr": "UI", "Value": [value]}


@dataclass
class Answer:
    """What is sent instead of what is right. body: bytes, or pieces; without a length they end with the connection."""

    status: int = 200
    kind: str = JSON
    body: object = b""
    headers: dict = field(default_factory=dict)


class Archive(ThreadingHTTPServer):
    """Attributes:

    held: its instances. wrong: (path → Answer or None) asked first. ignores: of "limit", "offset", "StudyDate",
    "ModalitiesInStudy", "counts". most: rows of a page, whatever was asked for. asked: (path, query, headers).
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, context=None, host="127.0.0.1"):
        super().__init__((host, 0), _Handler)
        self.context = context
        self.held, self.asked, self.ignores, self.most = [], [], set(), 10_000
        self.wrong = lambda _path: None
        self.ending = threading.Event()
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"{'http' if context is None else 'https'}://{host}:{self.server_address[1]}/dicom-web"

    def handle_error(self, request, client_address):
        """A client that left is part of the tests."""

    def fetched(self):
        return [path for path, _, _ in self.asked if "/instances/" in path]

    def rows(self, study, series, query):
        level = 2 if series else 1 if study else 0
        chosen = [one for one in self.held if study in (None, one.study) and series in (None, one.series)]
        found = {}
        for one in chosen:
            found.setdefault((one.study, one.series, one.sop)[level], []).append(one)
        rows = []
        for uid, own in found.items():
            first = own[0]
            if level == 0 and not self._matches(own, query):
                continue
            row = {"0020000D": element(first.study), "00080020": element(first.date)}
            if level > 0:
                row |= {"0020000E": element(first.series), "00080060": element(first.modality)}
            if level == 2:
                row["00080018"] = element(uid)
            if "counts" not in self.ignores:
                row |= {
                    0: {
                        "00201206": element(len({o.series for o in own})),
                        "00201208": element(str(len(own))),
                    },
                    1: {"00201209": element(len(own))},
                    2: {},
                }[level]
            rows.append(row)
        offset = 0 if "offset" in self.ignores else int(query.get("offset", "0"))
        limit = 10_000 if "limit" in self.ignores else int(query.get("limit", "10000"))
        return rows[offset : offset + min(limit, self.most)]

    def _matches(self, own, query):
        asked = query.get("StudyDate") if "StudyDate" not in self.ignores else None
        modality = query.get("ModalitiesInStudy") if "ModalitiesInStudy" not in self.ignores else None
        dates = {one.date for one in own}
        return (asked is None or asked in dates) and modality in (None, *(one.modality for one in own))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.asked.append((parts.path, query, {k.lower(): v for k, v in self.headers.items()}))
        answer = self.server.wrong(parts.path)
        self._send(self._right(parts.path, query) if answer is None else answer)

    def _right(self, path, query):
        found = _PATH.fullmatch(path)
        if found is None:
            return Answer(404)
        study, series, sop = found.groups()
        if sop is None:
            return Answer(body=json.dumps(self.server.rows(study, series, query)).encode())
        for one in self.server.held:
            if (one.study, one.series, one.sop) == (study, series, sop):
                return Answer(kind=RELATED, body=related(one.content))
        return Answer(404)

    def _send(self, answer):
        whole = isinstance(answer.body, bytes)
        self.send_response(answer.status)
        headers = {"content-type": answer.kind} | answer.headers
        headers |= {"content-length": str(len(answer.body))} if whole else {"connection": "close"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for piece in (answer.body,) if whole else answer.body:
                self.wfile.write(piece)
        except OSError:  # the client has had enough
            self.close_connection = True


@contextlib.contextmanager
def archive(context=None, host="127.0.0.1"):
    server = Archive(context, host)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.ending.set()
        server.shutdown()
        thread.join()
        server.server_close()
