"""Server-sent events: what has changed, to a bounded number of readers, for as long as they are logged in."""

import json
import time
from contextlib import contextmanager

import httpx
import pytest

from fedimg.web.changes import Changes
from tests.web.conftest import client, log_in, served


@pytest.fixture
def quick(tmp_path):
    with served(tmp_path, look_s=0.02, beat_s=0.1, most=3) as found:
        yield found


def parts(lines, count):
    """The next parts, as (id, html)."""
    found = []
    for line in lines:
        if line.startswith('data: {"id"'):
            one = json.loads(line.removeprefix("data: "))
            found.append((one["id"], one["html"]))
            if len(found) == count:
                return found
    return found


def test_what_changes_is_told_once(quick):
    with client(quick) as visitor:
        log_in(visitor, quick)
        with visitor.stream("GET", "/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert "content-length" not in stream.headers
            lines = stream.iter_lines()
            assert parts(lines, 1) == [("text", '<div id="text" class="part"><p>first</p></div>')]
            quick.text = "<script>second</script>"
            ((_, html),) = parts(lines, 1)
            assert html == '<div id="text" class="part"><p>&lt;script&gt;second&lt;/script&gt;</p></div>'
            # nothing more but heartbeats
            assert next(line for line in lines if line) == ": still here"


def test_the_number_of_readers_is_bounded_and_who_leaves_makes_room(quick):
    with client(quick) as visitor:
        log_in(visitor, quick)
        streams = [visitor.stream("GET", "/events") for _ in range(4)]
        opened = [stream.__enter__() for stream in streams[:3]]
        lines = [one.iter_lines() for one in opened]  # a reader that is let go of closes its stream
        for one in lines:
            parts(one, 1)
        refused = streams[3].__enter__()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
        for stream in streams:
            stream.__exit__(None, None, None)
        end = time.monotonic() + 5
        while quick.shell.streams.open:
            assert time.monotonic() < end
            time.sleep(0.02)
        with visitor.stream("GET", "/events") as again:
            assert again.status_code == 200


def test_a_stream_ends_with_its_session(quick):
    with client(quick) as visitor:
        log_in(visitor, quick)
        with visitor.stream("GET", "/events") as stream:
            lines = stream.iter_lines()
            parts(lines, 1)
            quick.rules.token.renew()
            assert "event: end" in list(lines)


def test_a_stream_ends_with_the_server(tmp_path):
    with served(tmp_path, look_s=0.02) as application, client(application) as visitor:
        log_in(visitor, application)
        with visitor.stream("GET", "/events") as stream:
            lines = stream.iter_lines()
            parts(lines, 1)
            begun = time.monotonic()
            application.server.__exit__()
            assert time.monotonic() - begun < 2
        with pytest.raises(httpx.ConnectError):
            visitor.get("/healthz")


def test_a_change_that_is_told_is_sent_before_the_next_look(tmp_path):
    shown = {}

    @contextmanager
    def opened():
        yield lambda: shown["application"].text if shown else ""

    changes = Changes(opened, 0.01)
    try:
        with served(tmp_path, look_s=60, changes=changes) as application, client(application) as visitor:
            shown["application"] = application
            log_in(visitor, application)
            with visitor.stream("GET", "/events") as stream:
                lines = stream.iter_lines()
                parts(lines, 1)
                begun = time.monotonic()
                application.text = "second"
                assert "second" in parts(lines, 1)[0][1]
                assert time.monotonic() - begun < 5
                changes.end()  # or the stream would end with its next look
    finally:
        changes.end()
