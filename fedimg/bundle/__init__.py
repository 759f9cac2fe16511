"""A released model as a signed MONAI bundle: written by `contents`, opened only after its signature holds, run by `running`.

What is named here needs no torch.
"""

from fedimg.bundle.manifest import MANIFEST, SIGNATURE, Opened, open_sealed, seal
from fedimg.bundle.metadata import KINDS, METADATA, Metadata, read_metadata
from fedimg.bundle.promised import Finding, Output, Point

__all__ = [
    "KINDS",
    "MANIFEST",
    "METADATA",
    "SIGNATURE",
    "Finding",
    "Metadata",
    "Opened",
    "Output",
    "Point",
    "open_sealed",
    "read_metadata",
    "seal",
]
