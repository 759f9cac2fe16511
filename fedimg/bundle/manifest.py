"""Whose word a bundle is, and that no byte of it is another: checked before anything of it is parsed.

A bundle's configuration is a program by design (GHSA-873f-pvrv-4x83: what it names is imported and called where it is
loaded), so whoever may change a bundle may run code at every site that loads it. `MANIFEST.json` lists every file with
size and SHA-256 (FIPS 180-4); `MANIFEST.sig` is 96 bytes: the Ed25519 public key (RFC 8032) of who released it, and the
signature over the manifest's bytes. The order of `open_sealed` is the promise: key known, signature valid, every file
listed and no other, every digest equal, and only then is one byte of JSON read. All bytes that were checked are handed
over in memory: a file that is exchanged afterwards changes nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedimg import canonical
from fedimg.archive.layout import sound_name
from fedimg.archive.writing import opened
from fedimg.crypto.keys import SigningKey, framed, is_identity, verify
from fedimg.durable import sync_folder, write_durably
from fedimg.errors import DataError

MANIFEST, SIGNATURE = "MANIFEST.json", "MANIFEST.sig"
FORMAT = "fedimg-bundle-1"
_DOMAIN = b"fedimg bundle 1"
_SIGNATURE_BYTES, _MOST_PARTS = 96, 4
MOST_FILES, MOST_BYTES = 64, 4 << 30
"""Of a bundle: the largest network here has a tenth of it."""
_REMEDY = "ask who released it for the bundle again, by a way that you trust"


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle whose signature held: its bytes by path, who signed it, and the digest that stands for all of it."""

    files: Mapping[str, bytes]
    signer: bytes
    digest: str

    def json(self, path: str) -> Any:
        """A JSON file of it. Raises DataError where there is none, or it is none."""
        if path not in self.files:
            raise DataError(f"a bundle with {path}", "none", _REMEDY)
        return canonical.decode(self.files[path], "bundle's file")


def seal(folder: Path, files: Mapping[str, bytes], key: SigningKey) -> str:
    """Write a bundle into a new folder, the signature last; the digest that names it.

    Raises DataError: the folder exists, or a name that a bundle's file cannot have.
    """
    if not files or len(files) > MOST_FILES or not all(_sound(path) for path in files):
        raise DataError("names of files as a bundle has them", "another name", "use letters, digits, . _ -")
    try:
        folder.mkdir(parents=True, mode=0o755)
    except FileExistsError:
        raise DataError("a new folder for the bundle", "one that exists", "name another") from None
    listed = {
        path: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for path, data in files.items()
    }
    manifest = canonical.encode({"format": FORMAT, "files": listed})
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_durably(target, data, mode=0o644)
    write_durably(folder / MANIFEST, manifest, mode=0o644)
    signed = key.public_bytes + key.sign(_signed(manifest))
    write_durably(folder / SIGNATURE, signed, mode=0o644)
    sync_folder(folder.parent)
    return hashlib.sha256(manifest).hexdigest()


def open_sealed(folder: Path, trusted: Collection[bytes]) -> Opened:
    """Read a bundle that one of the `trusted` keys (32 bytes each) has signed.

    Raises DataError, with nothing parsed: no signature, an unknown signer, another manifest than was signed; with
    nothing but the manifest parsed: a file that is missing, not listed, a link, or of other bytes.
    """
    signature = _read(folder, SIGNATURE, _SIGNATURE_BYTES)
    manifest = _read(folder, MANIFEST, canonical.MOST_BYTES)
    if len(signature) != _SIGNATURE_BYTES:
        raise DataError(f"a {SIGNATURE} of {_SIGNATURE_BYTES} bytes", f"{len(signature)} bytes", _REMEDY)
    signer = signature[:32]
    if signer not in trusted or not is_identity(signer):
        raise DataError(
            "a bundle signed by a key that is trusted here",
            f"one signed by {signer.hex()[:16]}…",
            "trust it only after its owner has confirmed the key to you",
        )
    if not verify(signer, signature[32:], _signed(manifest)):
        raise DataError("a manifest as it was signed", "another one", _REMEDY)
    return Opened(_checked(folder, _listed(manifest)), signer, hashlib.sha256(manifest).hexdigest())


def _signed(manifest: bytes) -> bytes:
    return framed([_DOMAIN, manifest])


def _listed(manifest: bytes) -> dict[str, tuple[int, str]]:
    """Path → size and digest, of a manifest whose signature held."""
    found = canonical.decode(manifest, "bundle's manifest")
    if (
        not isinstance(found, dict)
        or found.get("format") != FORMAT
        or not isinstance(found.get("files"), dict)
    ):
        raise DataError(f"a manifest of format {FORMAT}", "another", "open it with the fedimg that made it")
    listed = {}
    for path, own in found["files"].items():
        size, digest = (own.get("bytes"), own.get("sha256")) if isinstance(own, dict) else (None, None)
        if not _sound(path) or type(size) is not int or size < 0 or not isinstance(digest, str):
            raise DataError("files with size and SHA-256 in the manifest", "another entry", _REMEDY)
        listed[path] = (size, digest)
    if len(listed) > MOST_FILES or sum(size for size, _ in listed.values()) > MOST_BYTES:
        raise DataError(f"at most {MOST_FILES} files of 4 GiB together", "more", _REMEDY)
    return listed


def _checked(folder: Path, listed: Mapping[str, tuple[int, str]]) -> dict[str, bytes]:
    there = set(_walk(folder, ""))
    if there != {*listed, MANIFEST, SIGNATURE}:
        raise DataError(
            "the files that the manifest lists, and no other", "missing or further files", _REMEDY
        )
    files = {}
    for path, (size, digest) in listed.items():
        data = _read(folder, path, size)
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            raise DataError("every file as it was signed", "one with other bytes", _REMEDY)
        files[path] = data
    return files


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    """Paths below; a link, a device or too many of anything is refused."""
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False) and count <= MOST_FILES and path.count("/") < _MOST_PARTS:
                yield from _walk(folder / entry.name, f"{path}/")
            elif entry.is_file(follow_symlinks=False) and count <= MOST_FILES:
                yield path
            else:
                raise DataError("a bundle of regular files in folders", "a link, or too much", _REMEDY)


def _read(folder: Path, path: str, most: int) -> bytes:
    """At most one byte more than `most`, of a regular file; no part of its path below `folder` is a link."""
    try:
        with opened(folder, path) as file:
            data = file.read(most + 1)
    except OSError as error:
        name = path.rpartition("/")[2]
        remedy = f"look whether the bundle's folder is named rightly; if so, {_REMEDY}"
        raise DataError(f"a bundle with a readable {name}", error.strerror or "none", remedy) from None
    if len(data) > most:
        raise DataError("every file as it was signed", "a longer one", _REMEDY)
    return data


def _sound(path: object) -> bool:
    return (
        isinstance(path, str)
        and sound_name(path)
        and path.count("/") < _MOST_PARTS
        and path not in (MANIFEST, SIGNATURE)
    )
