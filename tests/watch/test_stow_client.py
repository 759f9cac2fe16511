"""STOW-RS against a real receiver that takes the request apart with Python's own reader of MIME."""

import contextlib
import json
import os
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import DataError
from sites.watch.deliveries import Delivery, Undelivered
from sites.watch.posting import Answer, Endpoint
from sites.watch.storage_status import Verdict, verdict
from sites.watch.stow_client import Stow, read_token, refuse_unless_stored
from tests.watch.receivers import dicom_file, receiver


def delivery(*paths):
    return Delivery(1, "dicomweb", "stow", "abc-0-raised", paths=paths)


def response(stored=0, reasons=()):
    """As PS3.18 10.5.3.2 has it."""
    sop = {"00081155": {"vr": "UI", "Value": ["1.2.3"]}}
    failed = [sop | {"00081197": {"vr": "US", "Value": [reason]}} for reason in reasons]
    said = {"00081199": {"vr": "SQ", "Value": [sop] * stored}} if stored else {}
    return said | ({"00081198": {"vr": "SQ", "Value": failed}} if failed else {})


def answer(status, body):
    return (status, {"content-type": "application/dicom+json"}, json.dumps(body).encode())


def test_an_archive_gets_every_file_as_it_lies_on_the_disk(tmp_path):
    files = [dicom_file(tmp_path, n, side=16 * n) for n in (1, 2, 40)]
    with receiver(answer(200, response(3))) as there:
        Stow(Endpoint(there.url), "secret-token").deliver(delivery(*files))
    ((headers, body),) = there.requests
    assert headers["authorization"] == "Bearer secret-token"
    assert headers["accept"] == "application/dicom+json"
    assert "transfer-encoding" not in headers
    assert int(headers["content-length"]) == len(body)
    message = message_from_bytes(
        f"Content-Type: {headers['content-type']}\r\n\r\n".encode() + body, policy=HTTP
    )
    assert message.get_content_type() == "multipart/related"
    assert message.get_param("type") == "application/dicom"
    parts = list(message.iter_parts())
    assert [part.get_content_type() for part in parts] == ["application/dicom"] * 3
    boundary = message.get_boundary().encode()
    # by hand too: a MIME reader may forgive what an archive does not
    pieces = body.split(b"--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    for piece, path in zip(pieces[1:-1], files, strict=True):
        assert piece == b"\r\nContent-Type: application/dicom\r\n\r\n" + path.read_bytes() + b"\r\n"


@pytest.mark.parametrize(
    ("status", "body", "said", "permanent"),
    [
        (202, response(1, [0xA700]), "1 of 2 objects refused: 0xA700", False),
        (202, response(1, [0xC000]), "1 of 2 objects refused: 0xC000", True),
        (409, response(0, [0xA900, 0x0122]), "2 of 2 objects refused: 0x0122, 0xA900", True),
        (409, response(0, [0xA900, 0x0110]), "2 of 2 objects refused: 0x0110, 0xA900", False),
        (409, {}, "0 of 2 objects stored, and no reason", False),
        (409, response(2), "2 of 2 objects stored, and no reason", False),
        (202, response(1), "1 of 2 objects stored, and no reason", False),
        (200, response(1), "1 of 2 objects stored, and no reason", False),
        (200, response(1, [0xC000]), "1 of 2 objects refused", True),
        (400, {}, "status 400", True),
        (503, {}, "status 503", False),
    ],
)
def test_what_is_not_stored_says_whether_to_try_again(status, body, said, permanent, tmp_path):
    files = dicom_file(tmp_path, 1), dicom_file(tmp_path, 2)
    with receiver(answer(status, body)) as there, pytest.raises(Undelivered, match=said) as refused:
        Stow(Endpoint(there.url)).deliver(delivery(*files))
    assert refused.value.permanent is permanent


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, response(2)),
        (200, [response(2)]),
        (202, response(2)),
        (202, response(1, [0x0111])),
        (202, response(0, [0xB000, 0x0111])),
    ],
)
def test_warnings_and_duplicates_are_stored(status, body):
    refuse_unless_stored(Answer(status, json.dumps(body).encode()), 2)
    refuse_unless_stored(Answer(200, b""), 2)  # a status alone is enough
    refuse_unless_stored(Answer(204, b""), 2)


@given(
    st.sampled_from([200, 202, 409]),
    st.one_of(
        st.binary(min_size=1, max_size=40),
        st.recursive(
            st.one_of(st.none(), st.integers(), st.text(max_size=4)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(
                    st.sampled_from(["00081198", "00081199", "00081197", "Value"]), inner, max_size=3
                ),
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_whatever_is_answered_is_judged_and_never_repeated(status, body):
    with contextlib.suppress(Undelivered):
        refuse_unless_stored(Answer(status, body), 7)
        # it was believed: then it says of seven that they are stored
        assert status != 409
        assert body.count(b"{") > 7 or not body.strip()


def test_an_answer_of_deep_brackets_is_refused():
    with pytest.raises(Undelivered, match="cannot be read"):
        refuse_unless_stored(Answer(200, b"[" * 100_000), 1)


def test_a_file_that_is_gone_is_dead(tmp_path):
    with receiver() as there:
        with pytest.raises(Undelivered, match="a file that is gone") as refused:
            Stow(Endpoint(there.url)).deliver(delivery(dicom_file(tmp_path), tmp_path / "none.dcm"))
        assert refused.value.permanent
        assert not there.requests


class Growing(type(Path())):
    """A file that says of itself that it has a byte more or less than it has when it is read."""

    by = 0

    def stat(self, **how):
        found = super().stat(**how)
        return os.stat_result([*found[:6], found.st_size - self.by, *found[7:10]])


@pytest.mark.parametrize("by", [1, -1])
def test_a_file_that_is_changed_meanwhile_is_not_stored_and_tried_again(by, tmp_path):
    path = Growing(dicom_file(tmp_path))
    path.__class__.by = by
    with receiver() as there, pytest.raises(Undelivered, match="changed while it was sent") as refused:
        Stow(Endpoint(there.url)).deliver(delivery(path))
    assert not refused.value.permanent


def test_a_token_is_one_line_of_a_private_file(tmp_path):
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("abc.def\n")
    assert read_token(path) == "abc.def"
    for wrong in ("", "two words", "two\nlines", "ümlaut", "x" * 5000):
        path.write_text(wrong)
        with pytest.raises(DataError, match="one line"):
            read_token(path)
    path.write_text("abc")
    path.chmod(0o644)
    with pytest.raises(DataError, match="mode 0600"):
        read_token(path)


def test_every_status_has_a_verdict_and_only_the_standards_are_stored():
    """PS3.4 table B.2-1 and PS3.7 annex C: success, warnings, and a duplicate, which is stored already."""
    stored = {status for status in range(1 << 16) if verdict(status) is Verdict.STORED}
    assert stored == {0x0000, 0x0001, 0x0107, 0x0111, 0x0116, *range(0xB000, 0xB100)}
    assert all(verdict(status) is Verdict.AGAIN for status in range(0xA700, 0xA800))
    for status in (*range(0xA900, 0xAA00), *range(0xC000, 0xD000)):
        assert verdict(status) is Verdict.REFUSED
