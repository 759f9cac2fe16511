"""The line between site and server: a proxy on the way, a slow one, one that stands still."""

import socket
import threading
import time

import pytest

NAME = "north"


def until(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


class Proxy:
    """An HTTP proxy for CONNECT (RFC 9110, 9.3.6), whose line can be narrowed to so many bytes a second, or stand still."""

    def __init__(self):
        self.asked, self.rate, self.still = [], None, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)  # or whoever waits in accept takes one more
            self._listener.close()

    def _serve(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(4096)
            if not data:
                return
            head += data
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.asked.append((method, target))
        host, _, port = target.rpartition(":")
        there = socket.socket()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # what it does not read, is not sent
        there.connect((socket.gethostbyname(host), int(port)))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        for one, other in ((client, there), (there, client)):
            threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one, other):
        try:
            while data := one.recv(16384):
                while self.still.is_set():
                    time.sleep(0.05)
                if self.rate:
                    time.sleep(len(data) / self.rate)
                other.sendall(data)
        except OSError:
            pass
        finally:
            other.close()


@pytest.fixture
def proxy(monkeypatch):
    found = Proxy()
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{found.port}")
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield found
    found.still.clear()
    found.close()


def test_a_site_reaches_the_server_through_its_proxy_and_no_other_way(server, connect, run, proxy):
    connect(NAME, host="localhost")
    until(lambda: NAME in server.online())
    assert run.exchange({NAME: b"x" * 100_000}, 30.0) == {NAME: b"north" + b"x" * 100_000}
    assert set(proxy.asked) == {("CONNECT", f"localhost:{server.port}")}


def test_without_its_proxy_a_site_does_not_go_round_it(server, connect, proxy):
    proxy.close()
    node = connect(NAME, host="localhost")
    until(lambda: any("no connection" in text for text in node.heard))
    assert NAME not in server.online()


def test_a_slow_line_that_moves_is_waited_for_and_one_that_stands_still_is_not(server, connect, run, proxy):
    """10 MB out and back at 3 MB/s are 6.7 s; the deadline of 4 s counts from the last bytes that moved.

    Up to 4 MB lie in the systems' buffers, which is what a deadline has to be longer than.
    """
    connect(NAME, host="localhost")
    until(lambda: NAME in server.online())
    data, begun = bytes(10_000_000), time.monotonic()
    proxy.rate = 3_000_000
    assert run.exchange({NAME: data}, 4.0) == {NAME: b"north" + data}
    assert time.monotonic() - begun > 6.6
    proxy.rate, begun = None, time.monotonic()
    proxy.still.set()
    assert run.exchange({NAME: data}, 2.0) == {NAME: None}
    assert 2.0 <= time.monotonic() - begun < 15.0
