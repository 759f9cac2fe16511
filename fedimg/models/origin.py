"""Where weights began, as the file that they come from says itself: JSON as one text of its safetensors metadata.

Whoever makes a file can write anything there. So it is a closed form: what does not fit it in one field is of unknown
origin as a whole, and what fits is told as the file's own word. The digest is of the file's bytes, and nobody's word.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = "fedimg-pretrained-1"
METHODS = ("supervised", "rotations", "inpainting")
GENERATED, DECLARED_PUBLIC, UNKNOWN = "generated", "declared_public", "unknown"
_IN_WORDS = {
    "supervised": "with their labels",
    "rotations": "self-supervised, by telling how far an image was turned",
    "inpainting": "self-supervised, by filling in what was taken out of an image",
}
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_HEX = re.compile(r"[0-9a-f]{64}")
MOST_SEED, _MOST_TEXT = 10**9, 4096
_MOST_HEADER = 1 << 24
_KEY = "fedimg"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a file of weights says of how it was made.

    Attributes:
        file: SHA-256 of its bytes, hex.
        data: "generated" images, or those that whoever made the file has "declared_public"; "unknown" where the file
            says nothing, or nothing in this form: then everything below is None.
        method: one of `METHODS`. source: the data's name, in words. source_digest: SHA-256 over the images, hex.
        fedimg: version that made it. architecture: digest of the network that was trained. seed: of its training.
    """

    file: str
    data: str = UNKNOWN
    method: str | None = None
    source: str | None = None
    source_digest: str | None = None
    fedimg: str | None = None
    architecture: str | None = None
    seed: int | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        """In words, for people. What it quotes (`source`, the version) is foreign text: escape it."""
        if self.data == UNKNOWN:
            return (
                "Unknown origin: the file does not say how it was made. It may have been trained on patients, whom no "
                "ledger of this federation knows."
            )
        images = "generated images" if self.data == GENERATED else "images that its maker has declared public"
        return (
            f"By the file's own word pre-trained on {images} ({self.source}), {_IN_WORDS[str(self.method)]}, "
            f"by fedimg {self.fedimg}."
        )

    def metadata(self) -> dict[str, str]:
        """What to write into a file whose `read` is this, but for the file's own digest. One entry: of several,
        safetensors leaves the order to chance.
        """
        fields = {name: value for name, value in asdict(self).items() if name != "file"}
        return {_KEY: json.dumps({"format": FORMAT, **fields}, sort_keys=True, ensure_ascii=False)}


def read(data: bytes, *, safetensors: bool) -> Origin:
    """The origin that a file of these bytes states. Never raises: of what cannot be understood it is unknown."""
    digest = hashlib.sha256(data).hexdigest()
    return (_stated(digest, _said(data)) if safetensors else None) or Origin(digest)


def _said(data: bytes) -> Any:
    """The entry in `__metadata__` of a safetensors file: eight bytes of length, little-endian, and JSON."""
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length]) if length <= _MOST_HEADER else {}
        text = header["__metadata__"][_KEY]
        return json.loads(text) if isinstance(text, str) and len(text) <= _MOST_TEXT else None
    except (ValueError, RecursionError, KeyError, TypeError, IndexError):
        return None


def _stated(digest: str, found: Any) -> Origin | None:
    if not isinstance(found, dict) or found.keys() != {"format", *Origin.__slots__} - {"file"}:
        return None
    fits = all(isinstance(found[name], str) and _TEXT.fullmatch(found[name]) for name in ("source", "fedimg"))
    fits = fits and all(
        isinstance(found[name], str) and _HEX.fullmatch(found[name])
        for name in ("source_digest", "architecture")
    )
    fits = fits and found["format"] == FORMAT and found["data"] in (GENERATED, DECLARED_PUBLIC)
    fits = (
        fits and found["method"] in METHODS and type(found["seed"]) is int and 0 <= found["seed"] <= MOST_SEED
    )
    return Origin(digest, **{name: found[name] for name in found if name != "format"}) if fits else None
