"""What is said of a body does not depend on where its pieces end; what is no body is refused."""

from __future__ import annotations

import contextlib
from email.parser import BytesParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sites.watch.multipart import MultipartError, MultipartParser, PartBegin, PartData, PartEnd, boundary_of

BOUNDARY = b"b0undary"


def body(parts, boundary=BOUNDARY, preamble=b"", epilogue=b"\r\n"):
    data = preamble
    for n, (headers, content) in enumerate(parts):
        data += (b"\r\n" if n or preamble else b"") + b"--" + boundary + b"\r\n"
        data += (
            b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items()) + b"\r\n" + content
        )
    return data + b"\r\n--" + boundary + b"--" + epilogue


def parsed(pieces, boundary=BOUNDARY):
    """[(headers, content)] of the parts that are whole, and whether the body ended."""
    parser, parts, headers, content = MultipartParser(boundary), [], None, b""
    for piece in pieces:
        for event in parser.feed(piece):
            if isinstance(event, PartBegin):
                assert headers is None
                headers, content = dict(event.headers), b""
            elif isinstance(event, PartData):
                assert headers is not None and event.content
                content += event.content
            else:
                assert isinstance(event, PartEnd) and headers is not None
                parts.append((headers, content))
                headers = None
    return parts, parser.ended


# Contents that look like what is around them.
CONTENT = st.lists(
    st.sampled_from(
        [b"--", b"\r", b"\n", b"\r\n", b"-", b"b0undar", b"\r\n--b0undar", b"\r\n-", b"x", b"\0\xff"]
    ),
    max_size=12,
).map(b"".join)
CUTS = st.lists(st.integers(1, 40), max_size=60)


def cut(data, sizes):
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


@given(st.lists(CONTENT, min_size=1, max_size=4), CUTS, st.sampled_from([b"", b"a word before"]))
def test_parts_come_out_as_they_went_in_wherever_pieces_end(contents, sizes, preamble):
    parts = [
        ({"content-type": "application/dicom", "x": str(n)}, content) for n, content in enumerate(contents)
    ]
    data = body(parts, preamble=preamble)
    assert parsed(cut(data, sizes)) == (parts, True)
    assert parsed([data[n : n + 1] for n in range(len(data))]) == (parts, True)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=3))
def test_pythons_own_parser_says_the_same(contents):
    data = body(
        [({"Content-Type": "application/dicom", "Content-Transfer-Encoding": "binary"}, c) for c in contents]
    )
    head = b'Content-Type: multipart/related; boundary="' + BOUNDARY + b'"\r\n\r\n'
    message = BytesParser().parsebytes(head + data)
    if BOUNDARY in b"".join(contents) or any({*c} & {10, 13} for c in contents):
        return  # the email parser takes line breaks of any kind for one
    assert [part.get_payload(decode=True) for part in message.get_payload()] == [
        c for _, c in parsed([data])[0]
    ]


@given(st.binary(max_size=300), CUTS)
def test_any_bytes_are_parsed_or_refused_alike_wherever_pieces_end(noise, sizes):
    outcomes = []
    data = b"--" + BOUNDARY + b"\r\n\r\n" + noise
    for pieces in (cut(data, sizes), [data]):
        try:
            outcomes.append(parsed(pieces))
        except MultipartError:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=200))
def test_little_is_held_whatever_comes(noise):
    parser = MultipartParser(BOUNDARY)
    with contextlib.suppress(MultipartError):
        for piece in (b"--" + BOUNDARY + b"\r\n\r\n", *([noise] * 50)):
            list(parser.feed(piece))
            assert len(parser._window) <= len(noise) + len(BOUNDARY) + 8192


@pytest.mark.parametrize(
    "data",
    [
        b"--b0undaryX\r\n\r\nx\r\n--b0undary--",
        b"--b0undary\r\n\r\nx\r\n--b0undary-\r\n",
        b"--b0undary\r\n\r\nx\r\n--b0undary y\r\n",
        b"--b0undary\r\nno header\r\n\r\nx",
        b"--b0undary\r\nA: 1\r\nA: 2\r\n\r\nx",
        b"--b0undary\r\nA: 1\r\n folded\r\n\r\nx",
        b"--b0undary\r\nA: \xff\r\n\r\nx",
        b"--b0undary\r\n" + b"A: " + b"x" * 9000,
        b"--b0undary\r\n" + b"".join(b"A%d: 1\r\n" % n for n in range(40)) + b"\r\n",
        b"--b0undary" + b" " * 300,
        b"x" * 5000,
    ],
)
def test_what_is_no_multipart_body_is_refused(data):
    for pieces in ([data], [data[n : n + 1] for n in range(len(data))]):
        with pytest.raises(MultipartError):
            parsed(pieces)


def test_a_body_that_is_cut_has_not_ended():
    data = body([({}, b"abc"), ({}, b"def")], epilogue=b"")
    for at in range(len(data)):
        parts, ended = parsed([data[:at]])
        assert not ended and parts in ([], [({}, b"abc")], [({}, b"abc"), ({}, b"def")])
    assert parsed([data]) == ([({}, b"abc"), ({}, b"def")], True)


def test_what_is_behind_the_end_is_not_looked_at():
    assert parsed([body([({}, b"abc")], epilogue=b"\r\n--b0undary\r\n\r\nmore\r\n--b0undary--")]) == (
        [({}, b"abc")],
        True,
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            'multipart/related; type="application/dicom"; boundary=abc',
            ("multipart/related", "application/dicom", b"abc"),
        ),
        (
            'Multipart/Related; boundary="a b:c"; TYPE=Application/DICOM',
            ("multipart/related", "application/dicom", b"a b:c"),
        ),
        ("application/dicom", ("application/dicom", "", b"")),
    ],
)
def test_a_content_type_is_read(text, told):
    assert boundary_of(text) == told


@pytest.mark.parametrize("boundary", ["", '""', "x" * 71, '"a\\nb"', "ä"])
def test_a_boundary_that_is_none_is_refused(boundary):
    with pytest.raises(MultipartError):
        boundary_of(f"multipart/related; boundary={boundary}")


@given(st.text(alphabet=st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60))
def test_any_content_type_is_read_or_refused(text):
    with contextlib.suppress(MultipartError):
        boundary_of(text)
