"""A released model as a signed MONAI bundle: written here, and opened only after its signature holds."""

from fedimg.bundle.contents import Described, contents
from fedimg.bundle.manifest import MANIFEST, SIGNATURE, Opened, open_sealed, seal
from fedimg.bundle.metadata import METADATA, Metadata, read_metadata
from fedimg.bundle.running import network_of

__all__ = [
    "MANIFEST",
    "METADATA",
    "SIGNATURE",
    "Described",
    "Metadata",
    "Opened",
    "contents",
    "network_of",
    "open_sealed",
    "read_metadata",
    "seal",
]
