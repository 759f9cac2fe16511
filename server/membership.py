"""Who is a member of the federation: what the coordinator decides, each with its authority's key."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Self

from fedimg.crypto.authority import Authority
from fedimg.crypto.certificates import (
    CLOCKS_APART,
    host_name,
    issued_by,
    read_node_certificate,
    read_request,
    utc_now,
)
from fedimg.crypto.link_keys import ServerKey
from fedimg.durable import locked, sync_folder, write_durably
from fedimg.errors import ConfigError, DataError, PolicyRefused
from fedimg.federation import Manifest, Member, SignedManifest, SiteRequest, same_code
from fedimg.federation.manifest import federation_name, split_address
from server.federation_folder import FederationFolder, State, write_state

_PUBLIC = 0o644
# What a making that was interrupted leaves.
_UNFINISHED = {"members", *(f"{stem}-1.{end}" for stem in ("authority", "tls") for end in ("key", "pem"))}


class Federation(FederationFolder):
    """A coordinator's folder, in which members are changed.

    Args:
        passphrase: of the authority's key, where it has one.
    """

    def __init__(self, root: Path, passphrase: bytes | None = None) -> None:
        super().__init__(root)
        self._passphrase = passphrase

    @classmethod
    def create(
        cls,
        root: Path,
        name: str,
        address: str,
        hosts: Sequence[str] = (),
        passphrase: bytes | None = None,
        now: datetime | None = None,
    ) -> Self:
        """A new federation without members. Raises DataError where the folder holds anything."""
        host, _port = split_address(address)
        names = tuple(dict.fromkeys(map(host_name, (host, *hosts))))
        state = State(federation_name(name), secrets.token_hex(16), address, names)
        _check_passphrase(passphrase)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if {path.name for path in root.iterdir()} - _UNFINISHED:
            raise DataError(
                "an empty folder for a new federation", "one with files in it", "name another folder"
            )
        root.chmod(0o700)
        (root / "members").mkdir(mode=0o700, exist_ok=True)
        at = now or utc_now()
        authority = _new_authority(root, state, passphrase, at)
        _new_tls(root, authority, state, at)
        write_state(root, state)  # last: without it the folder is none
        return cls(root, passphrase)

    def sign(self, data: bytes, code: str | None, now: datetime | None = None) -> SiteRequest:
        """Make the site a member, or take its new node key or size.

        Args:
            data: the request's document. code: as the site's operator read it out; a member that renews its node
                key under the identity it has needs none.

        Raises:
            DataError: the request is not sound. PolicyRefused: no code or another, a name or an identity that is
            taken, or one that was revoked.
        """
        request, at = SiteRequest.read(data), now or utc_now()
        if request.made > at + CLOCKS_APART:
            raise PolicyRefused(
                "a request of the past",
                "one of the future",
                "set both machines' clocks, and let the site ask again",
            )
        with self._changing():
            self._refuse_taken(request)
            known = request.name in self.members()
            former = SiteRequest.read(self.member(request.name)[0]) if known else None
            if former is not None and request.made <= former.made:
                raise PolicyRefused(
                    "a request made after the one that this member has",
                    "an earlier one",
                    "ask for the latest",
                )
            renews = former is not None and former.weight == request.weight
            if not (renews and code is None) and not same_code(code or "", request.code):
                raise PolicyRefused(
                    "the code that the site's operator sees",
                    "none" if code is None else "another",
                    "call the site, and type what its operator reads out",
                )
            self._write_member(data, self.authority(), at)
        return request

    def _refuse_taken(self, request: SiteRequest) -> None:
        revoked = self.revoked()
        gone = {name.casefold() for name in revoked}
        if request.identity.hex() in revoked.values() or request.name.casefold() in gone:
            raise PolicyRefused(
                "a site that was not revoked", "one that was", "let it make a new home, under another name"
            )
        for name in self.members():
            other = SiteRequest.read(self.member(name)[0])
            same = name == request.name
            if same != (other.identity == request.identity) or (not same and _alike(other, request)):
                raise PolicyRefused(
                    "a name and an identity that no other member has",
                    f"those of {name}",
                    "let it take another name, or renew the membership it has",
                )

    def bundle(self, now: datetime | None = None, above: int = 0) -> SignedManifest:
        """The list of members, signed, with a number above all before it; the last one again if nothing changed.

        Args:
            above: a number that a site has seen, where this folder was restored from before it.
        """
        at = now or utc_now()
        with self._changing():
            state, own = self.state(), self.authority()
            former = self._authority(state.former) if state.former else None
            number = max(state.number, above) + 1
            manifest = Manifest(
                state.id,
                state.name,
                number,
                at,
                state.address,
                own.certificate,
                "" if former is None else former.certificate,
                self._certified(own, at),
                self.revoked(),
            )
            last = self.last()
            if last is not None and above < last.manifest.number:
                same = replace(manifest, number=last.manifest.number, issued=last.manifest.issued)
                if same == last.manifest:
                    return last
            signed = SignedManifest.made(manifest, (own,) if former is None else (own, former))
            data = signed.to_bytes()
            SignedManifest.read(data, at)  # as its readers will
            # a number is used up before the bundle that has it is seen
            write_state(self.root, replace(state, number=number))
            write_durably(self.root / "federation.bundle", data, _PUBLIC)
        return signed

    def renew(self, names: Sequence[str] = (), now: datetime | None = None) -> tuple[str, ...]:
        """A new TLS pair, and new certificates for the members named, or all, on the keys they have."""
        at = now or utc_now()
        with self._changing():
            state, own = self.state(), self.authority()
            chosen = tuple(names) or self.members()
            for name in chosen:
                self._write_member(self.member(name)[0], own, at)
            state = replace(state, tls=state.tls + 1)
            _new_tls(self.root, own, state, at)
            write_state(self.root, state)
            self._remove_unused()
        return chosen

    def revoke(self, name: str) -> None:
        """A member is one no longer, and its identity may not come back. Raises DataError for one that is none."""
        with self._changing():
            request = SiteRequest.read(self.member(name)[0])
            entries = {**self.revoked(), name: request.identity.hex()}
            write_durably(self.root / "revoked.json", json.dumps(entries, indent=1) + "\n")
            self.member_file(name).unlink()
            sync_folder(self.root / "members")

    def rotate(self, now: datetime | None = None) -> None:
        """A new authority, for which the old one vouches in every bundle until `finish_rotation`.

        The TLS pair stays the old one's until `renew`: sites that have not yet taken the new bundle still connect.
        Raises DataError while another rotation is under way.
        """
        with self._changing():
            state = self.state()
            if state.former:
                raise DataError(
                    "no rotation under way", "one", "end it: fedimg provision rotate FOLDER --finish"
                )
            self.authority()  # opens, or nothing is changed
            state = replace(state, authority=state.authority + 1, former=state.authority)
            _new_authority(self.root, state, self._passphrase, now or utc_now())
            write_state(self.root, state)

    def finish_rotation(self) -> None:
        """The former authority's key is deleted.

        Raises DataError where no rotation is under way, or the TLS pair is still the former authority's.
        """
        with self._changing():
            state = self.state()
            if not state.former:
                raise DataError("a rotation under way", "none", "begin one: fedimg provision rotate FOLDER")
            last = self.last()
            if last is None or last.manifest.authority != self.certificate or not last.manifest.former:
                raise DataError(
                    "a bundle in which the former authority vouches for the new one",
                    "none yet",
                    "fedimg provision bundle FOLDER, and have all sites accept it",
                )
            if not issued_by(self.tls_certificate, self.certificate):
                raise DataError(
                    "a TLS certificate of the new authority",
                    "the former one's",
                    "once all sites have taken the new bundle: fedimg provision renew FOLDER",
                )
            write_state(self.root, replace(state, former=0))
            self._remove_unused()

    def authority(self) -> Authority:
        """Raises DataError where its key does not open."""
        return self._authority(self.state().authority)

    def _certified(self, own: Authority, now: datetime) -> dict[str, Member]:
        """The members. Those whose certificate is a former authority's get a new one, as do those whose has ended."""
        found, revoked = {}, self.revoked()
        for name in self.members():
            if name in revoked:  # its end was cut short
                self.member_file(name).unlink()
                continue
            data, certificate = self.member(name)
            try:
                read_node_certificate(certificate, own.certificate, now)
            except DataError:
                certificate = self._write_member(data, own, now)
            request = SiteRequest.read(data)
            found[name] = Member(request.identity, request.weight, certificate)
        return found

    def _write_member(self, data: bytes, own: Authority, now: datetime) -> str:
        request = SiteRequest.read(data)
        certificate = own.certify_node(request.csr, now)
        entry = {"request": data.decode(), "certificate": certificate}
        write_durably(self.member_file(request.name), json.dumps(entry) + "\n")
        return certificate

    def _authority(self, number: int) -> Authority:
        stem = self.root / f"authority-{number}"
        certificate = stem.with_suffix(".pem").read_text("utf-8")
        return Authority.load(stem.with_suffix(".key"), certificate, self._passphrase)

    def _remove_unused(self) -> None:
        """Keys that are in use no longer, or were left by a change that was cut short."""
        state = self.state()
        used = {f"tls-{state.tls}", f"authority-{state.authority}", f"authority-{state.former}"}
        for path in (*self.root.glob("tls-*"), *self.root.glob("authority-*")):
            if path.stem not in used:
                path.unlink()
        sync_folder(self.root)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with locked(self.root):
            self._remove_unused()
            yield


def _alike(one: SiteRequest, other: SiteRequest) -> bool:
    """Whether they have one node key, or names that differ in capitals only."""
    keys = {read_request(request.csr).public_pem for request in (one, other)}
    return len(keys) == 1 or one.name.casefold() == other.name.casefold()


def _check_passphrase(passphrase: bytes | None) -> None:
    if passphrase is not None and not 1 <= len(passphrase) <= 1023:
        raise ConfigError("a passphrase of 1 to 1023 bytes", f"{len(passphrase)}", "choose another")


def _new_authority(root: Path, state: State, passphrase: bytes | None, now: datetime) -> Authority:
    stem = root / f"authority-{state.authority}"
    stem.with_suffix(".key").unlink(missing_ok=True)  # of a rotation that was cut short
    authority = Authority.create(stem.with_suffix(".key"), passphrase, now)
    write_durably(stem.with_suffix(".pem"), authority.certificate, _PUBLIC)
    return authority


def _new_tls(root: Path, authority: Authority, state: State, now: datetime) -> None:
    stem = root / f"tls-{state.tls}"
    stem.with_suffix(".key").unlink(missing_ok=True)
    key = ServerKey.create(stem.with_suffix(".key"))
    write_durably(stem.with_suffix(".pem"), authority.certify_server(key, state.hosts, now), _PUBLIC)
