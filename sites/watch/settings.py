"""What a watcher is told, in one YAML file: where studies come from, which models look at them, where alerts go."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import yaml

from fedimg.config import strict
from fedimg.errors import ConfigError
from fedimg.federation.manifest import split_address
from fedimg.monitoring.assembly import AssemblyConfig
from fedimg.monitoring.drift import DriftConfig
from fedimg.monitoring.pushing import RateLimit, Step, check_steps
from fedimg.web.serving import is_loopback
from sites.watch.dicomweb_poll_settings import PollSettings

_AE_TITLE = re.compile(
    r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?"
)  # PS3.8 annex F
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_PATHS = frozenset(
    {"home", "path", "certificate", "key", "authority", "token", "login", "secret", "site_home", "move_to"}
)
_T = TypeVar("_T")


@dataclass(frozen=True)
class TlsFiles:
    """Attributes:
    certificate, key: of this end. authority: whose certificates the other end may have.
    """

    certificate: str
    key: str
    authority: str


@dataclass(frozen=True)
class ScpSettings:
    """A DICOM receiver.

    Attributes:
        address: host:port. ae_title: as which it is called. allowed: titles that may call; none: nobody.
        tls: with it both ends show a certificate; without it only `plain: true` lets others than this machine in.
    """

    address: str
    ae_title: str
    allowed: tuple[str, ...]
    tls: TlsFiles | None = None
    plain: bool = False

    def __post_init__(self) -> None:
        host, _ = split_address(self.address)
        _check(
            is_loopback(host) or self.tls is not None or self.plain,
            "scp with tls where others than this machine can reach it",
            "add tls, or plain: true where the network is trusted with patient data",
        )
        titles = all(_AE_TITLE.fullmatch(title) for title in (self.ae_title, *self.allowed))
        _check(
            titles and bool(self.allowed),
            "scp with AE titles of 1 to 16 characters, and some allowed",
            "set allowed",
        )


@dataclass(frozen=True)
class FolderSettings:
    """A folder into which others write.

    Attributes:
        quiet_s: a file is taken once it has not changed for so long. move_to: where it goes then; null: it stays.
    """

    path: str
    quiet_s: float = 2.0
    move_to: str | None = None


@dataclass(frozen=True)
class StowSettings:
    """A receiver of DICOMweb.

    Attributes:
        token: a file with the bearer token, made where there is none.
        certificate, key: needed where others than this machine can reach it.
    """

    address: str
    token: str
    certificate: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        host, _ = split_address(self.address)
        _check(
            is_loopback(host) or (self.certificate is not None and self.key is not None),
            "stow with certificate and key where others than this machine can reach it",
            "add them",
        )


@dataclass(frozen=True)
class ConsoleSettings:
    """The page.

    Attributes:
        certificate, key: beyond this machine it is served over them only. names: of hosts, by which it is asked for.
    """

    address: str = "127.0.0.1:8460"
    names: tuple[str, ...] = ()
    certificate: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        host, _ = split_address(self.address)
        with_tls = self.certificate is not None and self.key is not None
        _check(
            is_loopback(host) or with_tls,
            "a console with certificate and key where others than this machine can reach it",
            "add them, or use 127.0.0.1",
        )


@dataclass(frozen=True)
class Target:
    """Where what was found goes.

    Attributes:
        name: in the store and on the pages. kind: webhook and stow have a url, cstore an address and the title that it
            is called by, folder a path.
        secret: a file, with which a webhook is signed. token: a file, for stow. identifiers: a webhook names the patient.
        calling: our own AE title.
    """

    name: str
    kind: Literal["webhook", "cstore", "stow", "folder"]
    url: str | None = None
    address: str | None = None
    ae_title: str | None = None
    calling: str = "FEDIMG"
    path: str | None = None
    secret: str | None = None
    token: str | None = None
    tls: TlsFiles | None = None
    identifiers: bool = False

    def __post_init__(self) -> None:
        needed = {
            "webhook": ("url", "secret"),
            "cstore": ("address", "ae_title"),
            "stow": ("url",),
            "folder": ("path",),
        }
        lacking = [key for key in needed[self.kind] if getattr(self, key) is None]
        _check(not lacking, f"a target of kind {self.kind} with {' and '.join(needed[self.kind])}", "add it")
        _check(
            bool(_NAME.fullmatch(self.name)),
            "a target's name of 1 to 32 small letters, digits, - and _",
            "change it",
        )
        if self.url is not None:
            parts = urlsplit(self.url)
            local = is_loopback(parts.hostname or "")
            sound = bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and local))
            _check(sound and not parts.username, "an https:// address without a password in it", "change url")


@dataclass(frozen=True)
class WatchSettings:
    """One watcher.

    Attributes:
        home: its folder (0700), made at the first start. bundles: folders of released models.
        trusted_keys: public keys, or files with them; a bundle that another key has signed is refused.
        workers: processes that look at studies; one for each spare core. job_s: after so long a job is given up.
        keep_days: how long images are kept after their study was looked at.
        least_free_gib: below so much room new images are refused, for the sender to try again.
        escalation: whom to tell of an alert that nobody has acknowledged, and when; these targets are not told before.
        limit: of pushes of one finding; what is above it is shown, and told of in one message.
        prevalence: of each model's finding among this site's studies, by the model's name.
        site_home: the home of `fedimg site init`, whose ledger the page shows.
        coordinator_key: a public key, or a file with it: whose list says which models were withdrawn.
        drift_references: studies that a model's drift is measured against: its first ones here.
    """

    home: str
    bundles: tuple[str, ...]
    trusted_keys: tuple[str, ...]
    scp: ScpSettings | None = None
    folder: FolderSettings | None = None
    stow: StowSettings | None = None
    poll: PollSettings | None = None
    console: ConsoleSettings | None = field(default_factory=ConsoleSettings)
    deliver: tuple[Target, ...] = ()
    escalation: tuple[Step, ...] = ()
    limit: RateLimit = field(default_factory=RateLimit)
    assembly: AssemblyConfig = field(default_factory=AssemblyConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    drift_references: int = 200
    workers: int = 1
    job_s: float = 300.0
    keep_days: float = 30.0
    least_free_gib: float = 2.0
    prevalence: Mapping[str, float] = field(default_factory=dict)
    site_home: str | None = None
    coordinator_key: str | None = None

    def __post_init__(self) -> None:
        _check(
            bool(self.bundles and self.trusted_keys),
            "a bundle, and the key that it is signed with",
            "name them",
        )
        _check(
            1 <= self.workers <= 64 and self.job_s > 0,
            "workers from 1 to 64, and job_s above 0",
            "change them",
        )
        _check(self.keep_days > 0, "keep_days above 0", "images are needed until their study was looked at")
        names = [target.name for target in self.deliver]
        _check(len(set(names)) == len(names), "targets of different names", "rename one")
        check_steps(self.escalation)
        hooks = {target.name for target in self.deliver if target.kind == "webhook"}
        _check(
            {step.target for step in self.escalation} <= hooks,
            "escalation to webhooks of deliver",
            "name one",
        )
        shares = all(0 < share < 1 for share in self.prevalence.values())
        _check(shares, "prevalences between 0 and 1", "state each as a share of this site's studies")
        _check(self.drift_references >= 50, "drift_references of 50 or more", "fewer tell nothing")

    @classmethod
    def load(cls, file: Path) -> WatchSettings:
        """Relative paths are meant from the file's own folder.

        Raises ConfigError for a file that is none, or names a key that does not exist.
        """
        try:
            found = yaml.safe_load(file.read_text("utf-8"))
        except OSError as error:
            what = error.strerror or "none"
            raise ConfigError("a readable file of a watcher's settings", what, "name it") from None
        except (ValueError, yaml.YAMLError) as error:
            mark = getattr(error, "problem_mark", None)  # a place alone: a line may hold a token by mistake
            where = "text that is none" if mark is None else f"a mistake at line {mark.line + 1}"
            raise ConfigError("a watcher's settings in YAML", where, "see sites/watch/example.yaml") from None
        if not isinstance(found, dict):
            raise ConfigError(
                "a watcher's settings as key: value", "something else", "see sites/watch/example.yaml"
            )
        return _placed(strict.build(cls, found), file.resolve().parent)


def _placed(settings: _T, base: Path) -> _T:
    """The same with every path absolute."""
    changed: dict[str, Any] = {}
    for one in dataclasses.fields(settings):  # type: ignore[arg-type]  # every section is a dataclass
        value = getattr(settings, one.name)
        if one.name in _PATHS and isinstance(value, str):
            changed[one.name] = str(base / value)
        elif one.name == "bundles":
            changed[one.name] = tuple(str(base / path) for path in value)
        elif one.name == "trusted_keys":
            changed[one.name] = tuple(_key(key, base) for key in value)
        elif one.name == "coordinator_key" and isinstance(value, str):
            changed[one.name] = _key(value, base)
        elif one.name == "deliver":
            changed[one.name] = tuple(_placed(target, base) for target in value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            changed[one.name] = _placed(value, base)
    return dataclasses.replace(settings, **changed)  # type: ignore[type-var]


def _key(text: str, base: Path) -> str:
    return text if text.startswith("ed25519:") else str(base / text)


def _check(holds: bool, expected: str, remedy: str) -> None:
    if not holds:
        raise ConfigError(expected, "another", remedy)
