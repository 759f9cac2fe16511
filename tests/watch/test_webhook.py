"""Webhooks against a real receiver: signed as published, one key however often, and nothing of a patient."""

import base64
import json
import logging
import re
import ssl
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError, DataError, MessageError
from fedimg.monitoring.alerts import Escalated, after
from fedimg.monitoring.fhir import Identity
from fedimg.monitoring.pushing import Message, Summary, message_key
from sites.watch.deliveries import Delivery, Undelivered
from sites.watch.posting import Endpoint
from sites.watch.webhook import (
    Webhook,
    alert_body,
    read_webhook_secret,
    signed,
    summary_body,
    verify,
)
from tests.monitoring.test_alerts import raised
from tests.watch.receivers import certified, receiver

ROOT = Path(__file__).resolve().parents[2]
SECRET = bytes(range(32))
NOW = 1_700_000_000


def delivery(key="abc-0-raised", body=b'{"type":"alert.raised"}', **changed):
    return Delivery(1, "pager", "webhook", key, body, **changed)


def test_the_published_vector():
    """The libraries of Standard Webhooks, "sign function works" (libraries/javascript/src/webhook.test.ts, 1.0.0)."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    headers = signed(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert verify(secret, headers, body, 1614265330) == "msg_p5jXN8AQM9LWM0D4loKWxJek"


@given(
    st.binary(max_size=60),
    st.integers(0, 59),
    st.integers(0, 7),
    st.sampled_from(["body", "key", "time", "secret"]),
)
def test_one_changed_bit_is_refused(body, byte, bit, where):
    headers, secret = signed(SECRET, "abc-0-raised", NOW, body), SECRET
    assert verify(secret, headers, body, NOW + 299) == "abc-0-raised"
    if where == "body":
        body = (
            body + b" "
            if byte >= len(body)
            else body[:byte] + bytes([body[byte] ^ 1 << bit]) + body[byte + 1 :]
        )
    elif where == "key":
        headers["webhook-id"] = "abc-1-raised"
    elif where == "time":
        headers["webhook-timestamp"] = str(NOW + 1)
    else:
        secret = bytes([SECRET[0] ^ 1 << bit]) + SECRET[1:]
    with pytest.raises(MessageError, match="signed with this secret, just now"):
        verify(secret, headers, body, NOW)


def test_an_old_attempt_is_refused_and_a_secret_may_be_changed_without_a_gap():
    body = b"{}"
    headers = signed(SECRET, "abc", NOW, body)
    for now in (NOW - 301, NOW + 301, float("nan")):
        with pytest.raises(MessageError):
            verify(SECRET, headers, body, now)
    other = signed(bytes(32), "abc", NOW, body)["webhook-signature"]
    both = headers | {"webhook-signature": f"{other} {headers['webhook-signature']}"}
    assert verify(SECRET, both, body, NOW) == verify(bytes(32), both, body, NOW) == "abc"
    for wrong in ({}, headers | {"webhook-signature": ""}, headers | {"webhook-timestamp": "now"}):
        with pytest.raises(MessageError):
            verify(SECRET, wrong, body, NOW)


def test_a_key_with_a_full_stop_is_never_signed():
    with pytest.raises(ConfigError, match="letters, digits"):
        signed(SECRET, "abc.1", NOW, b"")


def test_what_the_manual_gives_to_receivers_accepts_what_is_sent_and_nothing_else():
    """The receiver of docs/alerts.md, as it is printed there."""
    text = (ROOT / "docs" / "alerts.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    space = {}
    exec(compile(code, "alerts.md", "exec"), space)
    serial = "whsec_" + base64.b64encode(SECRET).decode()
    headers = signed(SECRET, "abc-0-raised", NOW, b"{}")
    assert space["message_key"](serial, headers, b"{}", NOW) == "abc-0-raised"
    for wrong in (
        (serial, headers, b"{ }", NOW),
        (serial, headers, b"{}", NOW + 301),
        (serial, headers | {"webhook-id": "other"}, b"{}", NOW),
        ("whsec_" + base64.b64encode(bytes(32)).decode(), headers, b"{}", NOW),
    ):
        with pytest.raises(ValueError, match="not ours"):
            space["message_key"](*wrong)


def test_a_receiver_gets_body_key_and_signature():
    with receiver() as there:
        target = Webhook(Endpoint(there.url), SECRET, lambda: NOW + 0.9)
        target.deliver(delivery())
    ((headers, body),) = there.requests
    assert body == delivery().body
    assert headers["idempotency-key"] == headers["webhook-id"] == "abc-0-raised"
    assert headers["content-type"] == "application/json"
    assert verify(SECRET, headers, body, NOW) == "abc-0-raised"


@pytest.mark.parametrize(
    ("answer", "permanent", "said"),
    [
        (500, False, "status 500"),
        (401, False, "status 401"),
        (404, False, "status 404"),
        (400, True, "status 400"),
        (422, True, "status 422"),
        ((302, {"location": "http://127.0.0.1:1/other"}, b""), True, r"a redirection \(status 302\)"),
        ("drop", False, "a connection that broke"),
    ],
)
def test_what_is_not_taken_says_whether_to_try_again(answer, permanent, said):
    with receiver(answer) as there:
        target = Webhook(Endpoint(there.url), SECRET)
        with pytest.raises(Undelivered, match=said) as refused:
            target.deliver(delivery())
    assert refused.value.permanent is permanent
    assert refused.value.answered is (answer != "drop")
    assert len(there.requests) == 1, "a redirection was followed, or a try was repeated"


def test_a_receiver_that_asks_for_a_pause_gets_it_up_to_an_hour():
    with receiver((429, {"retry-after": "7"}, b""), (503, {"retry-after": "999999"}, b"")) as there:
        target = Webhook(Endpoint(there.url), SECRET)
        for pause in (7, 3600):
            with pytest.raises(Undelivered) as refused:
                target.deliver(delivery())
            assert refused.value.after_s == pause


def test_nothing_that_a_receiver_answers_is_repeated_or_read_without_end():
    with receiver((500, {"x-secret": "LEAK"}, b"LEAK" * (1 << 18))) as there:
        target = Webhook(Endpoint(there.url), SECRET)
        with pytest.raises(Undelivered) as refused:
            target.deliver(delivery())
    assert "LEAK" not in str(refused.value)


def test_a_receiver_that_is_not_there_says_so():
    with receiver() as there:
        url = there.url
    target = Webhook(Endpoint(url), SECRET)
    with pytest.raises(Undelivered, match="no connection: Connection refused") as refused:
        target.deliver(delivery())
    assert (refused.value.answered, refused.value.permanent) == (False, False)


def test_a_receiver_that_says_nothing_is_given_up_after_the_time_out():
    waiting = threading.Event()
    with receiver(waiting) as there:
        target = Webhook(Endpoint(there.url, timeout_s=0.2), SECRET)
        with pytest.raises(Undelivered, match="nothing within 0 s"):
            target.deliver(delivery())
        waiting.set()


def test_over_tls_only_a_receiver_with_the_right_certificate_is_believed(tmp_path):
    authority, certificate, key = certified(tmp_path, "localhost")
    (tmp_path / "other").mkdir()
    stranger, _, _ = certified(tmp_path / "other", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with receiver(context=context) as there:
        Webhook(Endpoint(there.url, authority=authority), SECRET).deliver(delivery())
        assert len(there.requests) == 1
        for endpoint in (Endpoint(there.url, authority=stranger), Endpoint(there.url)):
            with pytest.raises(Undelivered, match="a certificate that does not verify"):
                Webhook(endpoint, SECRET).deliver(delivery())
        assert len(there.requests) == 1
    # the certificate is for 127.0.0.1 and localhost
    with receiver(context=context, host="127.0.0.2") as there:
        with pytest.raises(Undelivered, match="a certificate that does not verify"):
            Webhook(Endpoint(there.url, authority=authority), SECRET).deliver(delivery())
        assert not there.requests


@pytest.mark.parametrize(
    "url",
    [
        "http://pager.example.org/hook",
        "ftp://localhost/x",
        "https://user:word@host/x",
        "https:///x",
        "https://host/x#part",
        "https://host:99999/x",
        "http://localhost.example.org/",
        "http://2130706433/",
        "hook",
    ],
)
def test_addresses_of_other_forms_are_refused_without_being_quoted(url):
    with pytest.raises(ConfigError) as refused:
        Endpoint(url)
    assert url not in str(refused.value)
    for right in (
        "https://pager.example.org/hook",
        "http://127.0.0.1:80/",
        "http://[::1]:8080/",
        "http://localhost/x",
    ):
        assert Endpoint(right).url == right


def test_environment_variables_do_not_lead_messages_elsewhere(monkeypatch):
    with receiver() as there, receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        Webhook(Endpoint(there.url), SECRET).deliver(delivery())
    assert len(there.requests) == 1
    assert not proxy.requests


def test_a_secret_is_a_private_file_of_the_published_form(tmp_path):
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_text("whsec_" + base64.b64encode(SECRET).decode() + "\n")
    assert read_webhook_secret(path) == SECRET
    path.chmod(0o640)
    with pytest.raises(DataError, match="mode 0600"):
        read_webhook_secret(path)
    path.chmod(0o600)
    for text in ("", base64.b64encode(SECRET).decode(), "whsec_" + "A" * 8, "whsec_?", "whsec_" + "A" * 400):
        path.write_text(text)
        with pytest.raises(DataError, match="a webhook's secret"):
            read_webhook_secret(path)


# ------------------------------------------------------------------------------------------- bodies


def test_a_body_says_what_was_found_where_and_how_sure_and_names_nobody():
    alert = raised()
    said = json.loads(alert_body(alert, Message.RAISED, 1000.25, "https://console/studies/1f"))
    assert said["type"] == "alert.raised"
    assert said["timestamp"] == "1970-01-01T00:16:40.250Z"
    data = said["data"]
    assert data["key"] == message_key(alert, Message.RAISED)
    assert (data["finding"], data["score"], data["threshold"]) == ("nodule", 0.93, 0.41)
    assert data["where"] == "right lung, upper third, slice 12 of 30"
    assert "Not for diagnostic use" in data["notice"]
    assert data["link"] == "https://console/studies/1f"
    assert "identifiers" not in data
    who = Identity("1.2.3", "PAT-4711", accession="ACC-1")
    named = json.loads(alert_body(alert, Message.RAISED, 1000.25, identity=who))
    assert named["data"]["identifiers"] == {
        "StudyInstanceUID": "1.2.3",
        "PatientID": "PAT-4711",
        "AccessionNumber": "ACC-1",
    }
    once = after(alert, Escalated())
    assert json.loads(alert_body(once, Message.ESCALATED, 0))["data"]["key"].endswith("-0-escalated-1")


def test_a_summary_says_how_many_and_which():
    summary = Summary("nodule", tuple(f"{n:064x}" for n in range(150)), 1000.0, 1600.0)
    said = json.loads(summary_body(summary))
    assert (said["type"], said["data"]["suppressed"], len(said["data"]["alerts"])) == (
        "alerts.suppressed",
        150,
        100,
    )
    assert said["data"]["key"] == summary.key
    signed(SECRET, summary.key, NOW, summary_body(summary))


def test_no_log_line_names_a_patient_or_an_address(caplog):
    caplog.set_level(logging.DEBUG)
    who = Identity("1.2.826.4711", "PLANTED-4711", accession="PLANTED-ACC")
    body = alert_body(raised(), Message.RAISED, 0, identity=who)
    with receiver(204, 500, "drop") as there:
        target = Webhook(Endpoint(f"{there.url}?token=PLANTED-TOKEN"), SECRET)
        target.deliver(delivery(body=body))
        for _ in range(2):
            with pytest.raises(Undelivered) as refused:
                target.deliver(delivery(body=body))
            assert "PLANTED" not in str(refused.value)
    assert "PLANTED" not in caplog.text
    assert "1.2.826.4711" not in caplog.text
