"""A released model as a signed MONAI bundle: written here, and opened only after its signature holds."""

from fedimg.bundle.contents import Described, contents
from fedimg.bundle.manifest import MANIFEST, SIGNATURE, Opened, open_sealed, seal
from fedimg.bundle.metadata import KINDS, METADATA, Metadata, read_metadata
from fedimg.bundle.promised import Finding, Output, Point
from fedimg.bundle.running import network_of

__all__ = [
    "KINDS",
    "MANIFEST",
    "METADATA",
    "SIGNATURE",
    "Described",
    "Finding",
    "Metadata",
    "Opened",
    "Output",
    "Point",
    "contents",
    "network_of",
    "open_sealed",
    "read_metadata",
    "seal",
]
