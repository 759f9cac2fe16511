"""A hostile archive costs a bounded time and a bounded size, and the images behind it nothing."""

from __future__ import annotations

import json
import ssl
import threading
import time

import pytest
from dicom_tls import make_papers

from sites.watch.dicomweb_poll_memory import standing
from tests.watch.archive import RELATED, Answer, archive, element, related
from tests.watch.arriving import STUDY, instance, spooled, uid_of
from tests.watch.asking import asking, counted, held

MOST = 20_000


@pytest.fixture
def server():
    with archive() as one:
        yield one


@pytest.fixture
def spool(tmp_path):
    with spooled(tmp_path, file_bytes=MOST) as one:
        yield one


def of_first(answer):
    """Of the first image alone; the archive is right otherwise."""
    return lambda path: answer if path.endswith(uid_of(1)) else None


def pieces(data, size):
    return (data[k : k + size] for k in range(0, len(data), size))


WHOLE = instance(1)
BROKEN = {
    "another content type": Answer(kind="text/html", body=related(WHOLE)),
    "no content type": Answer(kind="", body=related(WHOLE)),
    "the image bare": Answer(kind="application/dicom", body=WHOLE),
    "parts of another type": Answer(
        kind='multipart/related; type="image/jpeg"; boundary=a1b2', body=related(WHOLE)
    ),
    "no boundary": Answer(kind='multipart/related; type="application/dicom"', body=related(WHOLE)),
    "a boundary that is none": Answer(
        kind='multipart/related; type="application/dicom"; boundary="\u00e4"'.encode("latin-1").decode(
            "latin-1"
        ),
        body=related(WHOLE),
    ),
    "another boundary": Answer(kind=RELATED.replace("a1b2", "zzzz"), body=related(WHOLE)),
    "no part": Answer(kind=RELATED, body=b"--a1b2--\r\n"),
    "nothing": Answer(kind=RELATED, body=b""),
    "no content": Answer(204, kind=RELATED),
    "cut off by its end": Answer(kind=RELATED, body=related(WHOLE)[: len(WHOLE)]),
    "cut off by the connection": Answer(kind=RELATED, body=pieces(related(WHOLE)[: len(WHOLE)], 100)),
    "shorter than it says": Answer(
        kind=RELATED, body=pieces(related(WHOLE)[:500], 500), headers={"content-length": "5000"}
    ),
    "packed": Answer(kind=RELATED, body=related(WHOLE), headers={"content-encoding": "gzip"}),
    "a preamble without end": Answer(kind=RELATED, body=pieces(b"x" * 10_000, 1000)),
    "headers of a part without end": Answer(kind=RELATED, body=b"--a1b2\r\n" + b"a: b\r\n" * 5000),
    "a partial answer": Answer(206, kind=RELATED, body=related(WHOLE)),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_answer_is_tried_again_and_holds_up_no_other(server, spool, answer):
    if not isinstance(answer.body, bytes):
        answer.body = list(answer.body)  # for the second try
    server.held = [held(1), held(2)]
    server.wrong = of_first(answer)
    with asking(spool, server.url) as one:
        assert one.look() == "" and one.numbers() == [2]
        assert standing(spool.root) == {"taken": 1, "failing": 1}
        (failed,) = [name for name in counted(spool) if name.startswith("poll.failed.")]
        assert failed in ("poll.failed.malformed", "poll.failed.broken_off", "poll.failed.another_status")
        assert not list((spool.root / "drafts").iterdir())
        server.wrong = lambda _: None
        one.look(30)
        assert one.numbers() == [1, 2]


def endless(server, sent):
    yield b"--a1b2\r\nContent-Type: application/dicom\r\n\r\n"
    while not server.ending.is_set():
        sent.append(4096)
        yield bytes(4096)


@pytest.mark.parametrize("says", [False, True])
def test_more_than_the_limit_of_an_image_is_refused_for_good_before_it_is_read(server, spool, says):
    server.held, sent = [held(1), held(2)], []
    headers = {"content-length": str(10 * MOST + 100_000)} if says else {}
    server.wrong = of_first(Answer(kind=RELATED, body=endless(server, sent), headers=headers))
    with asking(spool, server.url) as one:
        assert one.look() == "" and one.numbers() == [2]
        expected = {"received": 1, "poll.taken": 1, "refused.unsafe_structure": 1, "poll.refused": 1}
        assert counted(spool) == expected
        assert not list((spool.root / "drafts").iterdir())
        asked = len(server.fetched())
        one.look(4000)
        assert len(server.fetched()) == asked
    server.ending.set()
    assert sum(sent) < 64 << 20, "what lies in the buffers of two sockets"


def test_what_says_itself_that_it_is_too_long_is_not_read_at_all(server, spool):
    server.held = [held(1)]
    silent = (b"" for _ in iter(lambda: server.ending.wait(0.05), True))
    server.wrong = of_first(Answer(kind=RELATED, body=silent, headers={"content-length": str(MOST + 70_000)}))
    with asking(spool, server.url) as one:
        assert one.look() == ""
        assert counted(spool) == {"refused.unsafe_structure": 1, "poll.refused": 1}


def test_rows_that_cannot_be_used_do_not_end_a_list(server, spool):
    server.held = [held(1), held(2)]
    bad = json.dumps([{"00080018": element("1..2")}] * 3).encode()

    def wrong(path):
        first = path.endswith("/instances") and server.asked[-1][1]["offset"] == "0"
        return Answer(body=bad) if first else None

    server.wrong, right = wrong, server.rows
    server.rows = lambda study, series, query: right(
        study, series, query | ({"offset": str(int(query["offset"]) - 3)} if series and study else {})
    )
    with asking(spool, server.url) as one:
        assert one.look() == "" and one.numbers() == [1, 2]
        assert counted(spool)["poll.misnamed"] == 3


def test_a_list_of_nothing_that_can_be_used_is_given_up(server, spool):
    server.wrong = lambda _: Answer(body=json.dumps([{"0020000D": element("1..2")}] * 3).encode())
    with asking(spool, server.url, first_days=0) as one:
        assert one.look() == "" and len(server.asked) == 20, "ten pages of each of two days"


@pytest.mark.parametrize("more", [b"", b"--a1b2\r\n\r\n", b"x" * 1000])
def test_a_body_goes_no_further_than_its_one_part(server, spool, more):
    """More parts, or bytes without end behind the last: the image is whole, and nothing else is looked at."""
    server.held = [held(1), held(2)]

    def body():
        yield related(WHOLE, end=not more.startswith(b"--"))
        while more and not server.ending.is_set():
            yield more

    server.wrong = of_first(Answer(kind=RELATED, body=body()))
    with asking(spool, server.url) as one:
        assert one.look() == "" and one.numbers() == [1, 2]
        assert standing(spool.root) == {"taken": 2}


def test_repeated_parts_are_one_image(server, spool):
    server.held = [held(1)]
    server.wrong = of_first(Answer(kind=RELATED, body=related(WHOLE, WHOLE, WHOLE)))
    with asking(spool, server.url) as one:
        assert one.look() == "" and one.numbers() == [1]
        assert len(list(spool.waiting())) == 1


def slowly(server, data):
    for byte in data:
        if server.ending.wait(0.05):
            return
        yield bytes([byte])


@pytest.mark.parametrize("where", ["search", "image"])
def test_a_byte_now_and_then_is_left_at_the_deadline(server, spool, where):
    server.held = [held(1), held(2)]
    if where == "search":
        server.wrong = lambda _: Answer(body=slowly(server, b"[" + b" " * 10_000))
    else:
        server.wrong = of_first(Answer(kind=RELATED, body=slowly(server, related(WHOLE) + b" " * 10_000)))
    with asking(spool, server.url, limits={"answer_s": 0.4}) as one:
        begun = time.monotonic()
        assert one.look() == ("slow" if where == "search" else "")
        assert time.monotonic() - begun < 5
        assert counted(spool)["poll.failed.slow"] == 1
        assert one.numbers() == ([] if where == "search" else [2])


class Dripping:
    """Speaks TCP alone: sends what it is told, a byte at a time, and takes what comes."""

    def __init__(self, data=b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10_000):
        import socket

        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/dicom-web"
        self._data, self._ending = data, threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while not self._ending.is_set():
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer:
                for byte in self._data:
                    if self._ending.wait(0.02):
                        return
                    try:
                        peer.sendall(bytes([byte]))
                    except OSError:
                        break

    def close(self):
        self._ending.set()
        self._socket.shutdown(2)
        self._socket.close()
        self._thread.join(10)


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10_000, b"HTTP/1.1 100 Continue\r\n\r\n" * 400]
)
def test_headers_that_never_end_are_left_at_the_deadline(spool, data):
    there = Dripping(data)
    try:
        with asking(spool, there.url, limits={"answer_s": 0.4}) as one:
            begun = time.monotonic()
            assert one.look() == "slow" and time.monotonic() - begun < 5
    finally:
        there.close()


def test_another_protocol_and_no_listener_at_all(spool):
    there = Dripping(b"220 mail ready\r\n")
    try:
        with asking(spool, there.url) as one:
            assert one.look() == "broken_off"
    finally:
        there.close()
    with asking(spool, there.url) as one:
        assert one.look() == "no_connection"


def test_a_search_that_is_huge_or_without_end_is_given_up(server, spool):
    row = json.dumps({"0020000D": element("1.2.3")}).encode()
    huge = b"[" + b",".join([row] * 50_000) + b"]"
    with asking(spool, server.url, limits={"page_bytes": 1 << 20}) as one:
        server.wrong = lambda _: Answer(body=huge)
        assert one.look() == "too_large"
        server.wrong = lambda _: Answer(body=pieces(huge, 4096))
        assert one.look() == "too_large"
    with asking(spool, server.url, limits={"page_bytes": 1 << 30}) as one:
        server.wrong = lambda _: Answer(body=b"[" + b"{}," * 600_000 + b"{}]")
        assert one.look() == "malformed"


def test_a_list_that_is_always_new_is_given_up(server, spool):
    numbers = iter(range(10**9))
    server.wrong = lambda _: Answer(
        body=json.dumps([{"0020000D": element(f"1.2.{next(numbers)}")} for _ in range(10)]).encode()
    )
    with asking(spool, server.url, limits={"rows": 100}) as one:
        assert one.look() == "too_large"
        assert len(server.asked) == 11


def test_however_fast_it_drips_an_image_and_a_list_have_an_end(server, spool):
    server.held, numbers = [held(1), held(2)], iter(range(10**9))
    server.wrong = of_first(Answer(kind=RELATED, body=slowly(server, related(WHOLE) + b" " * 10_000)))
    quick = {"answer_s": 0.3, "least_bytes_s": 1, "longest_s": 0.6}
    with asking(spool, server.url, limits=quick) as one:
        begun = time.monotonic()
        assert one.look() == "" and time.monotonic() - begun < 5 and one.numbers() == [2]
        server.wrong = lambda _: Answer(
            body=slowly(
                server, json.dumps([{"0020000D": element(f"1.2.{next(numbers)}")}]).encode()[:-1] + b"  ]"
            )
        )
    with asking(spool, server.url, limits={"answer_s": 4.0, "longest_s": 1.5}) as one:
        begun = time.monotonic()
        assert one.look() == "slow" and time.monotonic() - begun < 12


EVIL = ("../../../instances", "1.2/../../x", "1.2.3?a=b", "1.2.3#x", "1.2.3%2e", "1..2", "1.02", "", "1.2\n", "9" * 65,
        "\u0661.2", ".", "http://127.0.0.1:9/", None, 17.5, {"Alphabetic": "x"}, ["1.2"], -1)  # fmt: skip


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_uid_that_is_none_goes_into_no_address(server, spool, level):
    server.held = [held(1)]
    tag = ("0020000D", "0020000E", "00080018")[level]
    ends = ("/studies", "/series", "/instances")[level]

    def wrong(path):
        if not path.endswith(ends):
            return None
        if asked.get("done"):
            return Answer(body=b"[]")
        asked["done"] = True
        good = [{tag: element((STUDY, server.held[0].series, uid_of(1))[level])}]
        bad = [{tag: element(evil)} for evil in EVIL] + [{}, {tag: 1}, {tag: {"Value": "1.2.3"}}]
        return Answer(body=json.dumps(bad + good).encode())

    asked, server.wrong = {}, wrong
    with asking(spool, server.url) as one:
        assert one.look() == "" and one.numbers() == [1]
        assert counted(spool)["poll.misnamed"] == len(EVIL) + 3
    known = ("/dicom-web/studies", f"/dicom-web/studies/{STUDY}")
    assert all(path == known[0] or path.startswith(known[1] + "/series") for path, _, _ in server.asked)


@pytest.fixture
def secured(tmp_path):
    """An archive that wants a certificate, of an authority of its own."""
    make_papers(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    context.load_verify_locations(tmp_path / "authority.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with archive(context) as one:
        yield (
            one,
            {
                "authority": tmp_path / "authority.pem",
                "certificate": tmp_path / "client.pem",
                "key": tmp_path / "client.key",
            },
        )


def test_both_ends_are_verified(secured, spool):
    server, files = secured
    server.held = [held(1)]
    with asking(spool, server.url) as one:  # by the system's authorities
        assert one.look() == "certificate"
    with asking(spool, server.url, endpoint={"authority": files["authority"]}) as one:
        assert one.look() in ("broken_off", "certificate"), "it does not know us"
    with (
        archive(server.context, "127.0.0.2") as elsewhere,
        asking(spool, elsewhere.url, endpoint=files) as one,
    ):
        assert one.look() == "certificate", "a name that is not in it"
    assert server.asked == []
    with asking(spool, server.url, endpoint=files) as one:
        assert one.look() == "" and one.numbers() == [1]


def test_a_connection_is_used_again(server, spool):
    server.held = [held(n) for n in range(1, 30)]
    ports = set()
    server.verify_request = lambda _request, address: not ports.add(address)
    with asking(spool, server.url) as one:
        one.look()
    assert len(one.told.received) == 29 and len(ports) <= 4
