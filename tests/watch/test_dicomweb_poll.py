"""What is new in an archive is taken, once, over restarts and failures; nothing of it is in logs or names."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from fedimg.errors import ConfigError, DataError
from sites.watch.delivering import Retries
from sites.watch.dicomweb_poll import authorization
from sites.watch.dicomweb_poll_memory import standing
from sites.watch.spool import SpoolLimits
from tests.watch.archive import RELATED, Answer, archive, related
from tests.watch.arriving import PLANTED, SERIES, STUDY, files_of, instance, spooled, uid_of, wait_for
from tests.watch.asking import DAY_S, asking, counted, held, private

OTHER = "1.2.826.0.1.999.2"


@pytest.fixture
def server():
    with archive() as one:
        yield one


@pytest.fixture
def spool(tmp_path):
    with spooled(tmp_path) as one:
        yield one


def test_images_are_taken_once_and_their_study_is_released(server, spool):
    server.held = [held(number) for number in range(1, 8)]
    with asking(spool, server.url) as one:
        assert one.look() == ""
        assert one.numbers() == [1, 2, 3, 4, 5, 6, 7]
        assert {received.source for received in one.told.received} == {"poll"}
        assert one.told.released == [frozenset({STUDY})]
        assert all(one.path.read_bytes() == instance(one.arrival.number) for one in one.told.received)
        asked = len(server.asked)
        assert one.look(30) == "" and len(one.told.received) == 7 and len(one.told.released) == 1
        assert not any("/series" in path for path, _, _ in server.asked[asked:]), "it has not grown"
        assert counted(spool) == {"received": 7, "poll.taken": 7}
        assert spool.counts.read()["poll.asked"] == len(server.asked)
    assert standing(spool.root) == {"taken": 7}


def test_new_images_of_a_known_study_are_taken(server, spool):
    server.held = [held(1)]
    with asking(spool, server.url) as one:
        one.look()
        server.held += [held(2), held(3, series=f"{SERIES}.9")]
        one.look(30)
        assert one.numbers() == [1, 2, 3]
        assert len(server.fetched()) == 3


def test_an_image_that_takes_the_place_of_another_is_found_at_the_full_look(server, spool):
    server.held = [held(1)]
    with asking(spool, server.url) as one:
        one.look()
        server.held = [held(2)]  # as many as before
        one.look(30)
        assert one.numbers() == [1]
        one.look(3600)
        assert one.numbers() == [1, 2]


def test_a_restart_takes_nothing_twice_and_remembers_digests_alone(server, tmp_path):
    server.held = [held(1), held(2)]
    with spooled(tmp_path) as spool, asking(spool, server.url) as one:
        one.look()
        for path in files_of(spool):
            content = path.read_bytes() if path.suffix != ".dcm" else b""
            assert all(word.encode() not in content for word in (*PLANTED, STUDY, SERIES))
        assert (spool.root / "poll.sqlite").stat().st_mode & 0o777 == 0o600
    server.held.append(held(3))
    with spooled(tmp_path) as spool, asking(spool, server.url) as one:
        assert one.look(5) == "" and one.numbers() == [3]
        assert counted(spool) == {"received": 1, "poll.taken": 1}


def test_a_kill_between_image_and_note_costs_a_repeat_and_no_image(server, tmp_path, monkeypatch):
    server.held = [held(1), held(2)]
    with spooled(tmp_path) as spool, asking(spool, server.url) as one:
        with monkeypatch.context() as patch:
            patch.setattr(one.source._memory, "settle", lambda *_: (_ for _ in ()).throw(SystemExit))
            with pytest.raises(SystemExit):
                one.look()
        assert one.numbers() == [1, 2]
    with spooled(tmp_path) as spool, asking(spool, server.url) as one:
        assert len(list(spool.waiting())) == 2
        assert one.look() == "" and counted(spool) == {"repeated": 2, "poll.taken": 2}
        assert len(list(spool.waiting())) == 2


@pytest.mark.parametrize(
    "ignored", [{"limit"}, {"offset"}, {"limit", "offset"}, {"counts"}, {"counts", "offset"}]
)
def test_archives_that_page_in_their_own_way_are_read_to_the_end(server, spool, ignored):
    server.ignores, count = ignored, 3 if "offset" in ignored and "limit" not in ignored else 8
    server.held = [held(n, study=f"{OTHER}.{n}", series=f"{OTHER}.{n}.1") for n in range(1, count + 1)]
    server.held += [held(100 + n) for n in range(count)]
    if count == 3:  # who ignores the offset can give no more than its first page
        server.held = server.held[1:]
    with asking(spool, server.url) as one:
        assert one.look() == ""
        assert len(one.told.received) == len(server.held)
        assert len(server.asked) < 120


def test_an_archive_that_sends_less_than_was_asked_for_is_read_to_the_end(server, spool):
    server.most, server.ignores = 2, {"counts"}
    server.held = [held(number) for number in range(1, 8)]
    with asking(spool, server.url) as one:
        assert one.look() == "" and one.numbers() == [1, 2, 3, 4, 5, 6, 7]


def test_days_are_asked_for_from_the_last_whole_round_less_the_overlap(server, spool):
    with asking(spool, server.url, first_days=1, overlap_days=2) as one:
        one.look()
        assert days(server) == ["20260103", "20260102", "20260101"]
        one.look(4 * DAY_S)
        assert days(server) == [f"202601{day:02}" for day in (7, 6, 5, 4, 3, 2, 1)] + ["20251231"]
        one.look(5)
        assert days(server) == ["20260107", "20260106", "20260105", "20260104"]
        server.wrong = lambda _: Answer(503)
        one.look(3 * DAY_S)  # not whole: the days stay open
        server.wrong = lambda _: None
        server.asked.clear()
        one.look(1)
        assert days(server)[-1] == "20260104"


def days(server):
    found = [query["StudyDate"] for path, query, _ in server.asked if path.endswith("/studies")]
    server.asked.clear()
    return list(dict.fromkeys(found))


def test_only_named_modalities_are_taken_also_of_archives_that_do_not_filter(server, spool):
    mixed = [held(1), held(2, series=f"{SERIES}.2"), held(3, study=OTHER, series=f"{OTHER}.1")]
    mixed[1].modality, mixed[2].modality = "SR", "MR"
    server.held = mixed
    with asking(spool, server.url, modalities=("CT",)) as one:
        one.look()
        assert one.numbers() == [1]
        assert {q.get("ModalitiesInStudy") for p, q, _ in server.asked if p.endswith("/studies")} == {"CT"}
        server.ignores = {"ModalitiesInStudy", "StudyDate"}
        server.held += [held(4, study="1.2.3", series="1.2.3.4", date="19990101")]
        one.look(4000)
        assert one.numbers() == [1]


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (Answer(401), "denied"),
        (Answer(403), "denied"),
        (Answer(404), "not_there"),
        (Answer(500), "its_fault"),
        (Answer(503, headers={"retry-after": "7"}), "busy"),
        (Answer(302, headers={"location": "http://127.0.0.1:9/"}), "redirected"),
        (Answer(418), "another_status"),
        (Answer(200, kind="text/html", body=b"<html>"), "malformed"),
        (Answer(200, body=b'{"a": '), "malformed"),
        (Answer(200, body=b"[" * 100_000), "malformed"),
        (Answer(200, body=b"[1]"), "malformed"),
        (Answer(200, body=b"[]", headers={"content-encoding": "gzip"}), "malformed"),
    ],
)
def test_an_archive_that_does_not_answer_is_asked_again_and_loses_nothing(server, spool, answer, trouble):
    server.held = [held(1)]
    server.wrong = lambda _: answer
    with asking(spool, server.url) as one:
        assert one.look() == trouble
        assert counted(spool) == {f"poll.failed.{trouble}": 1, "poll.rounds_broken_off": 1}
        assert len(server.asked) == 1, "nothing is followed, and nothing tried at once"
        assert standing(spool.root) == {f"trouble: {trouble}": 1}
        server.wrong = lambda _: None
        assert one.look(30) == "" and one.numbers() == [1]
        assert standing(spool.root) == {"taken": 1}


def test_how_long_it_is_left_alone_grows_and_follows_what_it_asks_for(server, spool, monkeypatch):
    waits, answers = [], [Answer(500)] * 6 + [Answer(503, headers={"retry-after": "1200"}), None]
    server.wrong = lambda path: answers.pop(0) if answers and path.endswith("/studies") else None

    async def slept(seconds):
        waits.append(seconds)
        if len(waits) == 8:
            raise KeyboardInterrupt

    with asking(spool, server.url) as one:
        monkeypatch.setattr("sites.watch.dicomweb_poll.asyncio.sleep", slept)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(one.source._asking())
    assert waits == [30, 60, 120, 240, 480, 600, 1200, 36]


def test_a_broken_image_is_left_after_its_tries_and_holds_up_no_other(server, spool):
    server.held = [held(1), held(2), held(3)]
    server.wrong = lambda path: Answer(500) if path.endswith(uid_of(1)) else None
    with asking(spool, server.url) as one:
        assert one.look() == "" and one.numbers() == [2, 3] and one.told.released == []
        asked = len(server.fetched())
        assert one.look(10) == "" and len(server.fetched()) == asked, "it is not due yet"
        one.look(20)
        assert standing(spool.root) == {"taken": 2, "failing": 1}
        one.look(61)
        assert standing(spool.root) == {"taken": 2, "left": 1}
        assert counted(spool)["poll.failed.its_fault"] == 3 and counted(spool)["poll.left"] == 1
        one.look(DAY_S / 2)
        assert counted(spool)["poll.failed.its_fault"] == 3
    with asking(spool, server.url) as one:  # after a restart it is tried anew
        server.wrong = lambda _: None
        one.look(DAY_S / 2)
        assert one.numbers() == [1] and standing(spool.root) == {"taken": 3}


def test_what_fails_keeps_its_day_open(server, spool):
    server.held = [held(1)]
    server.wrong = lambda path: Answer(404) if path.endswith(uid_of(1)) else None
    with asking(spool, server.url, overlap_days=0, retries=Retries(9, 2 * DAY_S, 9 * DAY_S)) as one:
        one.look()
        server.wrong = lambda _: None
        one.look(1.5 * DAY_S)
        assert one.numbers() == []
        one.look(DAY_S)
        assert one.numbers() == [1]


def test_a_study_and_a_series_that_fail_hold_up_no_other(server, spool):
    bad = "1.2.3"
    server.held = [held(n, study=bad, series=f"{bad}.{n % 2}") for n in range(1, 20)] + [held(50)]
    server.wrong = lambda path: Answer(403) if f"{bad}.1/instances" in path else None
    with asking(spool, server.url) as one:
        one.look()
        assert one.numbers() == [*range(2, 20, 2), 50]
        assert counted(spool)["poll.failed.denied"] == 1, "the list of the series"
        server.wrong = lambda path: Answer(403) if f"{bad}.1/instances/" in path else None
        server.asked.clear()
        one.look(40)
        assert 5 <= len(server.fetched()) <= 8
        server.wrong = lambda _: None
        one.look(DAY_S / 2)
        assert one.numbers() == [*range(1, 20), 50]


def test_where_study_after_study_fails_the_archive_is_left_alone(server, spool):
    server.held = [held(n, study=f"{OTHER}.{n}", series=f"{OTHER}.{n}.1") for n in range(1, 9)]
    server.wrong = lambda path: Answer(502) if "/instances/" in path else None
    with asking(spool, server.url) as one:
        assert one.look() == "busy"
        assert len(server.fetched()) == 3
        server.wrong = lambda _: None
        one.look(3000)
        assert len(one.told.received) == 8


def test_new_studies_do_not_wait_for_old_ones(server, spool):
    server.held = [
        held(n, study=f"{OTHER}.{n}", series=f"{OTHER}.{n}.1", date="20260101") for n in range(1, 6)
    ]

    def late(path):
        if path.endswith(uid_of(2)):
            server.held.append(held(99))

    server.wrong = late
    with asking(spool, server.url, every_s=1e-6) as one:
        one.look()
        assert [received.arrival.number for received in one.told.received] == [1, 2, 99, 3, 4, 5]


def test_an_archive_that_says_no_numbers_does_not_keep_a_round_from_its_end(server, spool):
    server.ignores = {"counts"}
    server.held = [held(n, study=f"{OTHER}.{n}", series=f"{OTHER}.{n}.1") for n in range(1, 9)]
    server.wrong = lambda _: Answer(500) if len(server.asked) > 400 else None
    with asking(spool, server.url, every_s=1e-6) as one:
        assert one.look() == "" and one.look(30) == "" and len(one.told.received) == 8
        server.held.append(held(9, study=f"{OTHER}.1", series=f"{OTHER}.1.1"))
        assert one.look(30) == "" and len(one.told.received) == 9


def test_a_full_disk_is_waited_for_and_charges_nothing(server, spool, monkeypatch):
    server.held = [held(1), held(2)]
    with asking(spool, server.url) as one:
        with monkeypatch.context() as patch:
            patch.setattr(spool, "limits", SpoolLimits(keep_free_bytes=1 << 60))
            assert one.look() == "disk"
        assert one.look(1) == "" and one.numbers() == [1, 2]


def test_a_fault_here_ends_a_round_and_not_the_source(server, spool, monkeypatch):
    server.held = [held(1)]
    with asking(spool, server.url) as one:
        with monkeypatch.context() as patch:
            patch.setattr(one.source._memory, "find", lambda _: 1 / 0)
            assert one.look() == "other" and counted(spool)["poll.faults"] == 1
        assert one.look() == "" and one.numbers() == [1]


def test_credentials_are_sent_from_private_files_alone(server, spool, tmp_path):
    assert authorization(None, None) == {}
    login = private(tmp_path, "Aladdin:open sesame\n")
    with asking(spool, server.url, login=login) as one:
        one.look()
        login.write_text("Aladdin:another")  # exchanged while it runs
        one.look()
        login.write_text("none")
        assert one.look() == "login"
    sent = {headers["authorization"] for _, _, headers in server.asked}
    assert sent == {"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic QWxhZGRpbjphbm90aGVy"}  # RFC 7617 2
    with pytest.raises(DataError, match="user:password"):
        authorization(None, login)
    login.write_text("token-1")
    assert authorization(login, None) == {"authorization": "Bearer token-1"}
    login.chmod(0o644)
    for files in ((login, None), (None, login)):
        with pytest.raises(DataError, match="mode 0600"):
            authorization(*files)


def test_nothing_of_a_patient_or_secret_is_logged(server, spool, tmp_path, caplog, capfd, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    caplog.set_level(logging.DEBUG)
    server.held = [held(1), held(2)]
    server.wrong = lambda path: Answer(500, body=PLANTED[0].encode()) if path.endswith(uid_of(2)) else None
    with asking(spool, server.url, token=private(tmp_path, "s3cr3t-token")) as one:
        assert one.look() == "" and one.numbers() == [1]
    told = caplog.text + "".join(capfd.readouterr()) + repr(spool.counts.read())
    assert all(word not in told for word in (*PLANTED, STUDY, "s3cr3t", "dicom-web"))
    for _, _, headers in server.asked:
        assert headers["user-agent"] == "fedimg" and "cookie" not in headers


def test_no_cookie_is_kept(server, spool):
    server.held = [held(1)]
    server.wrong = lambda path: (
        Answer(body=b"[]", headers={"set-cookie": "a=b; Path=/"}) if path.endswith("/studies") else None
    )
    with asking(spool, server.url) as one:
        assert one.look() == ""
    assert all("cookie" not in headers for _, _, headers in server.asked)


def test_it_asks_by_itself_and_ends_in_the_middle_of_an_answer(server, spool, tmp_path):
    server.held = [held(1)]
    with asking(spool, server.url, every_s=0.05) as one, one.source:
        wait_for(lambda: one.numbers() == [1], "the first image")
        server.held.append(held(2))
        wait_for(lambda: one.numbers() == [1, 2], "the second one")

        def slow(path):
            if not path.endswith(uid_of(3)):
                return None
            begun.set()
            return Answer(kind=RELATED, body=(b"x" for _ in iter(lambda: server.ending.wait(0.1), True)))

        begun = threading.Event()
        server.wrong = slow
        server.held.append(held(3))
        assert begun.wait(20)
    assert not one.source._thread.is_alive()
    assert not list((spool.root / "drafts").iterdir())
    assert standing(spool.root) == {"taken": 2}


def test_files_that_are_none_are_told_at_the_start(server, spool, tmp_path):
    with pytest.raises(ConfigError, match="PEM files"):
        asking(spool, server.url, endpoint={"authority": tmp_path / "none.pem"}).__enter__()
    with pytest.raises(DataError):
        asking(spool, server.url, token=tmp_path / "none").__enter__()


def test_the_same_instance_in_two_studies_and_with_another_content_is_lost_nowhere(server, spool):
    first, second = held(1), held(1, study=OTHER, series=f"{OTHER}.1")
    server.held = [first, second]
    with asking(spool, server.url) as one:
        one.look()
        assert [received.arrival.study_uid for received in one.told.received] == [STUDY, OTHER]
        assert counted(spool) == {"received": 2, "further": 1, "poll.taken": 2}
        first.content = instance(1, pixels=instance.__defaults__[1] + 1)
        one.look(4000)
        assert len(one.told.received) == 2, "an image is what it was when it was taken"


def test_another_object_than_was_asked_for_is_refused(server, spool):
    server.held = [held(1), held(2), held(3)]
    wrong = {uid_of(1): instance(9), uid_of(2): instance(2, StudyInstanceUID=OTHER)}
    server.wrong = lambda path: (
        Answer(kind=RELATED, body=related(wrong[path.rpartition("/")[2]]))
        if path.rpartition("/")[2] in wrong
        else None
    )
    with asking(spool, server.url) as one:
        assert one.look() == "" and one.numbers() == [3]
        assert counted(spool) == {
            "received": 1, "poll.taken": 1, "refused.object_type": 2, "poll.refused": 2,
        }  # fmt: skip
        assert not list((spool.root / "drafts").iterdir())
        asked = len(server.fetched())
        one.look(4000)
        assert len(server.fetched()) == asked, "it is refused for good"
