"""The one lane past de-identification: arrays of data that its publisher declares public.

MedMNIST and the like come as arrays without headers or patients. They are not
waved through: a site admits them with a signed receipt that says what they are, and
loads them only if not one byte has changed. Reports say "declared public data".
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedimg.crypto.keys import SigningKey, verify
from fedimg.durable import write_durably
from fedimg.errors import ReceiptError

_ARRAYS, _RECEIPT = "declared_public.npz", "declared_public.json"


@dataclass(frozen=True)
class PublicArrays:
    """images (N, C, *spatial) uint8 or float32; labels (N,) int64 or float32; N names of the units."""

    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    units: Sequence[str]


def admit_arrays(home: Path, arrays: PublicArrays, card: str, key: SigningKey) -> int:
    """Store the arrays in a site's home with a signed receipt; returns the bytes written.

    Args:
        card: what the source is and who declares it public, for the report.
    """
    stream = io.BytesIO()
    np.savez_compressed(
        stream, images=arrays.images, labels=arrays.labels, units=np.array(list(arrays.units), dtype="U64")
    )
    data = stream.getvalue()
    claim = {"card": card, "count": len(arrays.labels), "sha256": hashlib.sha256(data).hexdigest()}
    receipt = {"claim": claim, "signature": key.sign(_canonical(claim)).hex()}
    write_durably(home / _ARRAYS, data)
    write_durably(home / _RECEIPT, json.dumps(receipt, indent=2))
    return len(data)


def load_arrays(home: Path, public_key: bytes) -> PublicArrays | None:
    """The admitted arrays; None where none were admitted.

    Raises:
        ReceiptError: a receipt that is missing, not signed by this site, or for other bytes.
    """
    if not (home / _ARRAYS).exists():
        return None
    data = (home / _ARRAYS).read_bytes()
    try:
        receipt = json.loads((home / _RECEIPT).read_text())
        claim, signature = receipt["claim"], bytes.fromhex(receipt["signature"])
        digest = claim["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise _refused("no readable one") from None
    if not verify(public_key, signature, _canonical(claim)):
        raise _refused("one that this site did not sign")
    if digest != hashlib.sha256(data).hexdigest():
        raise _refused("a receipt for other bytes")
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        labels = stored["labels"]
        kind = np.float32 if labels.dtype.kind == "f" else np.int64
        return PublicArrays(stored["images"], labels.astype(kind), stored["units"].tolist())


def _canonical(claim: object) -> bytes:
    return json.dumps(claim, sort_keys=True, separators=(",", ":")).encode()


def _refused(found: str) -> ReceiptError:
    return ReceiptError("a valid receipt beside declared public arrays", found, "admit the source again")
