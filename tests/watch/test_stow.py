"""STOW-RS as a client sees it: what is stored is on the disk; who may not store learns nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import stat

import httpx
import pytest

from fedimg.errors import ConfigError
from sites.watch.stow import StowServer, StowSettings
from sites.watch.stow_body import StowLimits
from tests.watch.arriving import PLANTED, STUDY, Told, files_of, instance, spooled, uid_of, wait_for
from tests.watch.test_multipart import body

TYPE = 'multipart/related; type="application/dicom"; boundary=b0undary'
DICOM = {"Content-Type": "application/dicom"}


@contextlib.contextmanager
def serving(spool, folder, on_received=None, **limits):
    told = Told()
    settings = StowSettings("127.0.0.1", 0, folder / "token", limits=StowLimits(**limits))
    with StowServer(settings, spool, on_received or told.received.append, told.released.append) as server:
        server.told = told
        token = (folder / "token").read_text().strip()
        headers = {"authorization": f"Bearer {token}", "content-type": TYPE}
        url = f"http://127.0.0.1:{server.port}"
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=20) as client:
            server.client = client
            yield server
    assert not list((spool.root / "drafts").iterdir())


def post(server, instances, path="/dicom-web/studies", **options):
    return server.client.post(path, content=body([(DICOM, data) for data in instances]), **options)


def test_a_study_is_stored_and_released(tmp_path):
    with spooled(tmp_path) as spool, serving(spool, tmp_path) as server:
        answer = post(server, [instance(n) for n in range(3)])
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/dicom+json"
        items = answer.json()["00081199"]["Value"]
        assert [item["00081155"]["Value"] for item in items] == [[uid_of(n)] for n in range(3)]
        assert {item["00081150"]["Value"][0] for item in items} == {"1.2.840.10008.5.1.4.1.1.2"}
        assert answer.json().keys() == {"00081199"}
        assert [one.path.read_bytes() for one in server.told.received] == [instance(n) for n in range(3)]
        assert server.told.released == [frozenset({STUDY})]
        assert answer.headers["cache-control"] == "no-store"
        again = post(server, [instance(0)], f"/dicom-web/studies/{STUDY}")
        assert again.status_code == 200 and server.told.received[-1].repeat


def test_of_what_is_refused_the_rest_is_stored(tmp_path):
    with spooled(tmp_path, file_bytes=20_000) as spool, serving(spool, tmp_path) as server:
        parts = [
            (DICOM, instance(1)),
            (DICOM, instance(2, StudyInstanceUID="1.2.3")),  # of another study
            (DICOM, instance(3)[:-9]),
            (DICOM, bytes(20_001)),
            ({"Content-Type": "application/json"}, b"{}"),
            ({"Content-Type": "application/dicom", "Content-Transfer-Encoding": "base64"}, b"AAAA"),
            ({"Content-Type": 'application/dicom; transfer-syntax="1.2.840.10008.1.2.1"'}, instance(4)),
        ]
        answer = server.client.post(f"/dicom-web/studies/{STUDY}", content=body(parts))
        document = answer.json()
        assert answer.status_code == 202
        stored = [item["00081155"]["Value"][0] for item in document["00081199"]["Value"]]
        assert stored == [uid_of(1), uid_of(4)]
        (other,) = document["00081198"]["Value"]
        assert other["00081155"]["Value"] == [uid_of(2)] and other["00081197"]["Value"] == [0xA900]
        assert [item["00081197"]["Value"][0] for item in document["0008119A"]["Value"]] == [
            0xC000,
            0xC002,
            0xC001,
            0xC001,
        ]
        assert spool.counts.read() == {
            "received": 2,
            "refused.object_type": 1,
            "refused.unreadable": 1,
            "refused.unsafe_structure": 1,
            "refused.not_an_image": 2,
        }


def test_where_nothing_was_stored_it_is_a_conflict_and_nothing_is_released(tmp_path):
    with spooled(tmp_path) as spool, serving(spool, tmp_path) as server:
        answer = post(server, [b"x" * 300])
        assert answer.status_code == 409 and "00081199" not in answer.json()
        assert server.told.released == []


def test_a_full_disk_is_unavailable(tmp_path):
    with spooled(tmp_path, keep_free_bytes=1 << 60) as spool, serving(spool, tmp_path) as server:
        answer = post(server, [instance()])
        assert answer.status_code == 503
        assert answer.json()["0008119A"]["Value"][0]["00081197"]["Value"] == [0xA700]


@pytest.mark.parametrize("said", [None, "Bearer", "Bearer " + "0" * 64, "Basic {}", "{}"])
def test_without_the_token_nothing_is_read(tmp_path, said):
    with spooled(tmp_path) as spool, serving(spool, tmp_path) as server:
        token = (tmp_path / "token").read_text().strip()
        headers = {"content-type": TYPE} | ({"authorization": said.format(token)} if said is not None else {})
        plain = httpx.post(
            f"http://127.0.0.1:{server.port}/dicom-web/studies",
            content=body([(DICOM, instance())]),
            headers=headers,
            trust_env=False,
        )
        assert (
            plain.status_code == 401 and plain.headers["www-authenticate"] == "Bearer" and not plain.content
        )
        assert spool.counts.read() == {}
        assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_of_too_many_wrong_tokens_even_the_right_one_waits(tmp_path):
    with spooled(tmp_path) as spool, serving(spool, tmp_path) as server:
        for _ in range(5):
            assert post(server, [instance()], headers={"authorization": "Bearer x"}).status_code == 401
        answer = post(server, [instance()])
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"headers": {"content-type": "application/dicom"}}, 415),
        (
            {
                "headers": {
                    "content-type": 'multipart/related; type="application/dicom+json"; boundary=b0undary'
                }
            },
            415,
        ),
        ({"headers": {"content-type": "multipart/form-data; boundary=b0undary"}}, 415),
        ({"headers": {"content-encoding": "gzip"}}, 415),
        ({"headers": {"content-type": 'multipart/related; type="application/dicom"'}}, 400),
        ({"headers": {"content-type": 'multipart/related; type="application/dicom"; boundary=other'}}, 400),
        ({"path": "/dicom-web/studies/1.2/../../etc"}, 404),
        ({"path": "/dicom-web/studies/1.02.3"}, 400),
        ({"path": "/dicom-web/studies/1.2.3/series"}, 400),
        ({"path": "/dicom-web/studiesx"}, 404),
        ({"path": "/"}, 404),
    ],
)
def test_requests_that_are_none_are_refused_as_a_whole(tmp_path, options, status):
    with spooled(tmp_path) as spool, serving(spool, tmp_path) as server:
        assert post(server, [instance()], **options).status_code == status
        assert spool.counts.read() == {} and server.told.received == []


def test_other_ways_to_ask_are_not_allowed(tmp_path):
    with spooled(tmp_path) as spool, serving(spool, tmp_path) as server:
        for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS"):
            assert server.client.request(method, "/dicom-web/studies").status_code == 405


def test_a_request_that_is_too_long_is_refused_by_its_account_and_as_it_comes(tmp_path):
    with spooled(tmp_path) as spool, serving(spool, tmp_path, request_bytes=9000, instances=2) as server:
        assert post(server, [bytes(9000)]).status_code == 413
        whole = body([(DICOM, bytes(9000))])
        pieces = (whole[at : at + 1000] for at in range(0, len(whole), 1000))  # without a length
        with contextlib.suppress(httpx.TransportError):  # it need not be read to its end
            assert server.client.post("/dicom-web/studies", content=pieces).status_code == 413
        assert post(server, [b"x"] * 3).status_code == 413
        assert post(server, [instance()]).status_code == 200


def test_a_body_that_is_cut_is_refused_and_leaves_no_draft(tmp_path):
    with spooled(tmp_path) as spool, serving(spool, tmp_path) as server:
        whole = body([(DICOM, instance(1)), (DICOM, instance(2))])
        assert server.client.post("/dicom-web/studies", content=whole[:-200]).status_code == 400
        assert not list((spool.root / "drafts").iterdir())
        assert [one.arrival.number for one in server.told.received] == [1]  # it is on the disk: it is told
        assert server.told.released == []


def test_a_client_that_goes_releases_nothing(tmp_path):
    with spooled(tmp_path) as spool, serving(spool, tmp_path) as server:
        whole = body([(DICOM, instance(1)), (DICOM, instance(2))])
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            token = (tmp_path / "token").read_text().strip()
            head = (
                f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
                f"Content-Type: {TYPE}\r\nContent-Length: {len(whole)}\r\n\r\n"
            )
            connection.sendall(head.encode() + whole[:-200])
            wait_for(lambda: server.told.received, "the first instance")
        wait_for(lambda: not list((spool.root / "drafts").iterdir()), "the draft's end")
        assert server.told.released == []


def test_a_silent_body_ends_and_too_many_at_once_are_told_to_come_again(tmp_path):
    with spooled(tmp_path) as spool, serving(spool, tmp_path, silent_s=0.5, at_once=1) as server:
        token = (tmp_path / "token").read_text().strip()
        head = (
            f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: {TYPE}\r\nContent-Length: 5000\r\n\r\n--b0undary\r\n\r\nabc"
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(head.encode())
            wait_for(lambda: list((spool.root / "drafts").iterdir()), "the draft")
            answer = post(server, [instance()])
            assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
            assert b" 408 " in connection.recv(100)
        assert post(server, [instance()]).status_code == 200


def test_a_fault_tells_its_status_and_nothing_of_it(tmp_path, caplog, capfd):
    def failing(_):
        raise RuntimeError(PLANTED[0])

    with caplog.at_level("DEBUG"), spooled(tmp_path) as spool, serving(spool, tmp_path, failing) as server:
        answer = post(server, [instance()])
        assert answer.status_code == 500 and not answer.content
        assert spool.counts.read() == {"received": 1, "faults": 1}
        names = "\n".join(path.name for path in files_of(spool))
    said = capfd.readouterr()
    ours = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))
    for text in (ours, said.out, said.err, names, json.dumps(dict(answer.headers))):
        assert not any(word.lower() in text.lower() for word in PLANTED)


def test_beyond_this_machine_tls_is_needed(tmp_path):
    with pytest.raises(ConfigError, match="TLS beyond this machine"):
        StowSettings("0.0.0.0", 0, tmp_path / "token")
    StowSettings("0.0.0.0", 0, tmp_path / "token", tls=(tmp_path / "key", tmp_path / "certificate"))
