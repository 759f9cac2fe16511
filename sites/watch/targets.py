"""The targets of the settings as what delivers to them, and what each of them is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedimg.errors import DataError
from fedimg.federation.manifest import split_address
from fedimg.monitoring import fhir
from fedimg.monitoring.alerts import Alert
from fedimg.monitoring.fhir import Identity
from fedimg.monitoring.pushing import Message, Summary
from sites.watch import deliveries
from sites.watch.drifting import Look
from sites.watch.folder_out import Folder
from sites.watch.posting import Endpoint
from sites.watch.sending import Archive, Storing
from sites.watch.settings import Target, TlsFiles
from sites.watch.stow_client import Stow, read_token
from sites.watch.webhook import Webhook, alert_body, body_of, read_webhook_secret, summary_body


def senders(targets: Sequence[Target]) -> dict[str, deliveries.Target]:
    """By their names. Raises ConfigError, DataError for files that are not what they should be."""
    return {target.name: _sender(target) for target in targets}


def _sender(target: Target) -> deliveries.Target:
    match target.kind:
        case "webhook":
            return Webhook(_endpoint(target), read_webhook_secret(Path(target.secret or "")))
        case "stow":
            token = "" if target.token is None else read_token(Path(target.token))
            return Stow(_endpoint(target), token)
        case "folder":
            return Folder(Path(target.path or ""))
        case "cstore":
            host, port = split_address(target.address or "")
            authority, certificate, key = _files(target.tls)
            tls = target.tls is not None
            return Storing(
                Archive(host, port, target.ae_title or "", target.calling, tls, authority, certificate, key)
            )


def _endpoint(target: Target) -> Endpoint:
    authority, certificate, key = _files(target.tls)
    return Endpoint(target.url or "", authority, certificate, key)


def _files(tls: TlsFiles | None) -> tuple[Path | None, Path | None, Path | None]:
    return (None, None, None) if tls is None else (Path(tls.authority), Path(tls.certificate), Path(tls.key))


@dataclass(frozen=True, slots=True)
class TargetBodies:
    """What is said of alerts and models. console: its address, "" without one."""

    console: str

    def alert(
        self, alert: Alert, kind: Message, target: Target, study: Mapping[str, Any], at: float
    ) -> bytes:
        """Who the patient is only where the target's settings say `identifiers: true`."""
        identity = _identity(study) if target.identifiers else None
        link = f"{self.console}studies/{alert.study}" if self.console else ""
        return alert_body(alert, kind, at, link, identity)

    def summary(self, summary: Summary) -> bytes:
        return summary_body(summary, self.console)

    def model(self, kind: str, said: Mapping[str, Any], at: float) -> bytes:
        """Of a model and not of a patient: drift that lasts, a promise that labels contradict."""
        return body_of(f"model.{kind}", at, said)

    def fhir(self, alerts: Sequence[Alert], study: Mapping[str, Any]) -> bytes:
        """One transaction for all findings that a model has called in a series."""
        whole = [fhir.transaction(alert, _identity(study)) for alert in alerts]
        entries = [entry for one in whole for entry in one["entry"]]
        return json.dumps(whole[0] | {"entry": entries}, ensure_ascii=False, allow_nan=False).encode()


def _identity(study: Mapping[str, Any]) -> Identity | None:
    """None of a study whose UID is none: then nothing names it."""
    try:
        return Identity(study["study_uid"], study["patient_id"], accession=study["accession"])
    except (DataError, KeyError):
        return None


def moved(look: Look, name: str) -> Mapping[str, Any]:
    """What is said of drift: streams, how clear it is and by how much they have moved. No study."""
    streams = [{"stream": one.stream, "p": one.p, "shift": one.shift} for one in look.moved]
    return {"model": name, "digest": look.model, "studies": look.studies, "streams": streams}
