"""Alerts as signed JSON to an address: Standard Webhooks 1.0.0, so that receivers may use its libraries.

`webhook-id` is the idempotency key, equal for every attempt (`idempotency-key` says the same), `webhook-timestamp` the
attempt's time, `webhook-signature` `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`. The body names no
patient unless the site asks for it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fedimg.crypto.keys import read_private
from fedimg.errors import ConfigError, DataError, MessageError
from fedimg.monitoring.alerts import Alert
from fedimg.monitoring.fhir import NOT_FOR_DIAGNOSIS, Identity
from fedimg.monitoring.pushing import Message, Summary, message_key
from sites.watch.deliveries import Delivery
from sites.watch.posting import Endpoint, Poster, refuse_unless_taken

_MOST_ANSWER: Final = 1 << 16
_PREFIX: Final = "whsec_"
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")  # no full stop: it separates what is signed
_TOLERANCE_S: Final = 300


class Webhook:
    """One receiver. Raises ConfigError for an endpoint whose files cannot be used."""

    kind = "webhook"

    def __init__(self, endpoint: Endpoint, secret: bytes, now: Callable[[], float] = time.time) -> None:
        self._poster, self._secret, self._now = Poster(endpoint), secret, now

    def deliver(self, delivery: Delivery) -> None:
        """POST its body. Any status 2xx is a receipt. Raises Undelivered."""
        headers = signed(self._secret, delivery.key, int(self._now()), delivery.body)
        answer = self._poster.post(
            headers | {"content-type": "application/json", "idempotency-key": delivery.key},
            delivery.body,
            _MOST_ANSWER,
        )
        refuse_unless_taken(answer)


def read_webhook_secret(path: Path) -> bytes:
    """24 to 64 bytes as `whsec_` and base64 in a file of mode 0600. Raises DataError."""
    remedy = "write whsec_ and the base64 of 24 to 64 random bytes into a file of mode 0600"
    text = read_private(path, remedy).decode("ascii", "replace").strip()
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if not text.startswith(_PREFIX) or not 24 <= len(secret) <= 64:
        raise DataError("a webhook's secret", "another text", remedy)
    return secret


def signed(secret: bytes, key: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of one attempt. Raises ConfigError for a key of other characters."""
    if not _KEY.fullmatch(key):
        raise ConfigError("a key of letters, digits, _ and -", "another", "use message_key")
    return {
        "webhook-id": key,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{_signature(secret, key, timestamp, body)}",
    }


def verify(
    secret: bytes, headers: Mapping[str, str], body: bytes, now: float, tolerance_s: float = _TOLERANCE_S
) -> str:
    """For receivers: the message's key, by which repeats are dropped. In constant time for any signature.

    Args:
        headers: names in lower case. body: as it came, not as it was parsed. now: seconds since 1970.

    Raises MessageError unless one signature of the list is this secret's and the attempt is not older or newer than
    `tolerance_s`. Several are sent while a secret is being changed.
    """
    refused = MessageError(
        "a message signed with this secret, just now", "another", "is the secret the same?"
    )
    key, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not _KEY.fullmatch(key) or not re.fullmatch("[0-9]{1,15}", timestamp):
        raise refused
    own = f"v1,{_signature(secret, key, int(timestamp), body)}".encode()
    offered = headers.get("webhook-signature", "")[:2000].encode().split(b" ")
    matches = [hmac.compare_digest(own, one) for one in offered]
    if not any(matches) or not abs(now - int(timestamp)) <= tolerance_s:
        raise refused
    return key


def _signature(secret: bytes, key: str, timestamp: int, body: bytes) -> str:
    content = f"{key}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(secret, content, "sha256")).decode()


# ---------------------------------------------------------------------------------------------- bodies


def alert_body(
    alert: Alert, kind: Message, at: float, link: str = "", identity: Identity | None = None
) -> bytes:
    """What is said of an alert; equal bytes for equal arguments.

    Args:
        at: when it happened, seconds since 1970. link: of the study in the console.
        identity: only where the settings say `identifiers: true`, for receivers within the hospital.
    """
    data: dict[str, Any] = {
        "alert": alert.key,
        "key": message_key(alert, kind),
        "study": alert.study,
        "finding": alert.finding,
        "code": {"value": alert.code.value, "scheme": alert.code.scheme, "meaning": alert.code.meaning},
        "kind": alert.kind,
        "where": alert.where,
        "size_mm": alert.size_mm,
        "score": round(alert.score, 4),
        "threshold": round(alert.threshold, 4),
        "model": {
            "name": alert.model_name,
            "version": alert.model_version,
            "digest": alert.model_digest,
        },
        "raised_at": _instant(alert.raised_at),
        "state": alert.state.value,
        "revision": alert.revision,
        "escalated": alert.escalated,
        "notice": NOT_FOR_DIAGNOSIS,
    }
    if link:
        data["link"] = link
    if identity is not None:
        named = {"StudyInstanceUID": identity.study_uid, "PatientID": identity.patient_id}
        data["identifiers"] = named | ({"AccessionNumber": identity.accession} if identity.accession else {})
    return body_of(f"alert.{kind}", at, data)


def summary_body(summary: Summary, link: str = "") -> bytes:
    """What is said of alerts that were shown but not pushed: how many, of which finding, which ones."""
    data: dict[str, Any] = {
        "key": summary.key,
        "finding": summary.finding,
        "suppressed": len(summary.suppressed),
        "alerts": list(summary.suppressed[:100]),
        "since": _instant(summary.since),
        "until": _instant(summary.until),
    }
    return body_of("alerts.suppressed", summary.until, data | ({"link": link} if link else {}))


def body_of(kind: str, at: float, data: Mapping[str, Any]) -> bytes:
    said = {"type": kind, "timestamp": _instant(at), "data": data}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
