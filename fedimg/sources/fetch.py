"""The one place of the library that opens an outgoing connection, and only when a data source asks for it."""

from __future__ import annotations

import hashlib
import os
import secrets
import ssl
import urllib.request
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from fedimg.errors import DataError

_CHUNK = 1 << 20
_TIMEOUT_S = 60


def md5_of(path: Path) -> str:
    """MD5, hex, as the publishers of public sets state it: against accidents, not against an adversary."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(
    url: str, target: Path, md5: str, largest_bytes: int, context: ssl.SSLContext | None = None
) -> Path:
    """Download to `target`, unless a file with this checksum is already there.

    Guarantee: https throughout, redirections included, certificates checked; never more than
    `largest_bytes`; `target` appears whole and with the right checksum, or not at all.
    Raises DataError.
    """
    if target.is_file() and md5_of(target) == md5:
        return target
    if urlsplit(url).scheme != "https":
        raise _failed("an https address", "another scheme")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{secrets.token_hex(8)}.part")
    try:
        handlers = [_HttpsRedirects(), urllib.request.HTTPSHandler(context=context)]
        with urllib.request.build_opener(*handlers).open(url, timeout=_TIMEOUT_S) as response:
            found = _copy(response, temporary, largest_bytes)
        if found != md5:
            raise _failed(f"a file with MD5 {md5}", f"MD5 {found}")
        temporary.replace(target)
    except (OSError, HTTPException) as error:
        raise _failed("a complete download", f"{type(error).__name__}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _copy(response: IO[bytes], temporary: Path, largest_bytes: int) -> str:
    digest, size = hashlib.md5(usedforsecurity=False), 0
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while chunk := response.read(_CHUNK):
            size += len(chunk)
            if size > largest_bytes:
                raise _failed(f"at most {largest_bytes} bytes", "more")
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirections to https only: urllib would follow to http and ftp too."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https":
            raise _failed("redirections to https only", "one to another scheme")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _failed(expected: str, found: str) -> DataError:
    return DataError(expected, found, "try again, or download the file yourself and set data.path to it")
