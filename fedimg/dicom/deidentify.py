"""Station 2, the identity boundary: a data set in, the bytes of its release and their evidence out.

Couples the walk (headers), the structural pixel layers and the encoder. Nothing is written here:
the bytes go to a temporary file, which the gate reads back, before they may be released.

Guarantee: the output holds only what the profile names; the same input, key and project give the
same bytes; its own output as input comes back unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from fedimg.crypto.keys import SiteKey
from fedimg.dicom import attributes, gate, marks, routing, structure, subjects
from fedimg.dicom.encoder import PIXEL_DATA, Element, Encoded, encode_file, text_of
from fedimg.dicom.evidence import Evidence, PixelEvidence, evidence_of
from fedimg.dicom.graphics import Graphics
from fedimg.dicom.layers import DeidConfig, PixelLayers, Source
from fedimg.dicom.ledger_keys import LedgerKeys
from fedimg.dicom.profile import Profile, load_profile
from fedimg.dicom.pseudonyms import Pseudonyms, is_patient_key
from fedimg.dicom.reader import transfer_syntax
from fedimg.dicom.refusal import Quarantined, contained
from fedimg.dicom.steps import Steps
from fedimg.dicom.subgroup_codes import codes_of
from fedimg.dicom.walk import Walk
from fedimg.subgroups import UNKNOWN, Codes
from fedimg.values import Quarantine

__all__ = ["DeidConfig", "Deidentified", "Deidentifier", "Hints"]

_SOP_CLASS, _SOP_INSTANCE, _MODALITY, _STUDY, _SERIES = (
    0x00080016,
    0x00080018,
    0x00080060,
    0x0020000D,
    0x0020000E,
)
_PATIENT_ID = 0x00100020
_UNDEFINED_LENGTH = b"\xff\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class Hints:
    """What is known of an input beside its bytes. All of it is PHI.

    Attributes:
        patient_id: named by the source; it goes before the header's.
        words: of the input's path and file name: they may not stand in the release.
        digitised: this software made the object from a picture.
        needles: identifiers of the subject's other files, as lower-case bytes, for the gate.
        graphics: what is drawn on every image of the series, for layer L3.
        reviewed: a person found no identifying text in the pixels; see `layers.Source`.
    """

    patient_id: str | None = None
    words: tuple[str, ...] = ()
    digitised: bool = False
    needles: frozenset[bytes] = field(default=frozenset(), repr=False)
    graphics: Graphics | None = None
    reviewed: bool = False


@dataclass(frozen=True, slots=True)
class Deidentified:
    """A release that has not passed the gate yet.

    Attributes:
        parts: the file, one after the other. pixels: (start, end) of its pixel data. closed: spans of
            constants and closed vocabularies. needles: identifiers of the input, for the gate; PHI.
        pixel_digest: keyed, equal for copies of one image of one patient.
        ledger_key: by which the site's ledger knows the patient; never handed on. "" for the site's own output.
        groups: coarse codes of the header as it came, for the site's home; no part of the release.
    """

    parts: tuple[bytes | bytearray, ...]
    pixels: tuple[int, int]
    closed: tuple[tuple[int, int], ...]
    needles: frozenset[bytes] = field(repr=False)
    patient_key: str
    study_key: str
    series_key: str
    instance_key: str
    modality: str
    pixel_digest: str
    evidence: Evidence
    ledger_key: str = field(default="", repr=False)
    groups: Codes = field(default=UNKNOWN, repr=False)

    @property
    def data(self) -> bytes:
        """The file, put together anew each time."""
        return b"".join(self.parts)


class Deidentifier:
    """De-identifies data sets under one site key, project and profile.

    An input's release depends on that input and its hints alone: what is kept from one to the next is the outcome
    of pure functions.
    """

    def __init__(self, site_key: SiteKey, project: str, config: DeidConfig | None = None) -> None:
        self._config = config or DeidConfig()
        self.profile: Profile = load_profile(self._config.profile, keep_times=self._config.keep_times)
        self.pseudonyms = Pseudonyms(site_key, project)
        self.ledger_keys = LedgerKeys(site_key)
        self._layers = PixelLayers(self._config)
        self._steps = Steps()

    def deidentify(self, dataset: Dataset, hints: Hints | None = None) -> Deidentified:
        """One data set → its release. `dataset` is left as it is, but for elements pydicom decodes.

        Raises Quarantined: NO_PATIENT_ID, OBJECT_TYPE, NOT_AN_IMAGE, UNSAFE_STRUCTURE,
        PIXELS_UNDECODABLE, BURNED_IN_TEXT, RESIDUAL_IDENTIFIER.
        """
        with contained():
            own = self._own_output(dataset)
            made = own if own is not None else self._released(dataset, hints or Hints())
            return replace(made, groups=codes_of(dataset))

    def _released(self, dataset: Dataset, hints: Hints) -> Deidentified:
        route = routing.route(dataset, self.profile, digitised=hints.digitised)
        missing = self._config.missing_patient_id
        subject = subjects.subject_of(dataset, hints.patient_id, missing)
        patient_key = subject.pseudonym(self.pseudonyms)
        walk = Walk(self.profile, self.pseudonyms, self._steps)
        kept = {element.tag: element for element in walk.run(dataset, patient_key)}
        for tag in (_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES):
            if tag not in kept:
                found = f"an object without {pydicom.datadict.keyword_for_tag(tag)}"
                raise Quarantined(Quarantine.UNSAFE_STRUCTURE, found)
        source = Source(dataset, kept, route, hints.graphics, hints.reviewed)
        # What is written says that its pixels are clean before L5 has seen it: if L5 does not pass, nothing
        # of it leaves this call.
        clean = self._layers.proves
        marks.add_constants(dataset, kept, self.profile, patient_key, clean_pixels=clean)

        def write(image: structure.StoredImage) -> Encoded:
            elements, syntax = structure.written(image, kept, self._config.recompress)
            return encode_file(elements, syntax, text_of(kept, _SOP_CLASS), text_of(kept, _SOP_INSTANCE))

        cleaned = self._layers.clean(source, write)
        encoded = cleaned.written
        of_pixels = marks.seal(encoded, self.pseudonyms)
        native = _holds_values(encoded, cleaned.image)
        digest = self._pixel_digest(cleaned.image, kept, of_pixels if native else None)
        walk.identifiers.texts.update(hints.words)
        if hints.patient_id:
            walk.identifiers.texts.add(hints.patient_id)
        codecs = [codec for codec in walk.encodings if codec != "iso8859"]
        needles = walk.identifiers.needles(codecs) | hints.needles
        if not native:
            _refuse_spelled_pixels(cleaned.image, needles)
        evidence = evidence_of(walk.record, cleaned.evidence)
        made = self._made(encoded, kept, patient_key, digest, evidence, tuple(encoded.closed), needles)
        return replace(made, ledger_key=subject.ledger_key(self.ledger_keys))

    def _own_output(self, dataset: Dataset) -> Deidentified | None:
        """The input itself if this site wrote it under this profile and project, and nothing was changed."""
        claimed = marks.claimed_seal(dataset, self.profile)
        if claimed is None:
            return None
        elements = [_copied(element) for element in sorted(dataset.values(), key=lambda e: int(e.tag))]
        if elements[-1].tag > PIXEL_DATA:
            return None
        kept = {element.tag: element for element in elements}
        encoded = encode_file(
            elements, str(transfer_syntax(dataset)), text_of(kept, _SOP_CLASS), text_of(kept, _SOP_INSTANCE)
        )
        patient_key = text_of(kept, _PATIENT_ID)
        if not marks.seal_holds(encoded, claimed, self.pseudonyms) or not is_patient_key(patient_key):
            return None
        kept_values = {tag: element for tag, element in kept.items() if isinstance(element.value, bytes)}
        image = structure.decode(dataset, kept_values)
        evidence = Evidence({}, {}, 0, 0, 0, PixelEvidence((), "own output", "absent"))
        return self._made(encoded, kept, patient_key, self._pixel_digest(image, kept_values), evidence)

    def _pixel_digest(
        self, image: structure.StoredImage, kept: Mapping[int, Element], of_values: bytes | None = None
    ) -> bytes:
        """Args: of_values: fingerprint of the values, where it is known."""
        known = of_values or self.pseudonyms.fingerprint(structure.little_endian(image.values))
        return structure.digest(image, kept, known)

    def _made(
        self,
        encoded: Encoded,
        kept: Mapping[int, Element],
        patient_key: str,
        digest: bytes,
        evidence: Evidence,
        closed: tuple[tuple[int, int], ...] = (),
        needles: frozenset[bytes] = frozenset(),
    ) -> Deidentified:
        """Args: digest: of the pixels' values (`structure.digest`)."""
        return Deidentified(
            (encoded.head, encoded.pixels),
            encoded.values[PIXEL_DATA],
            closed,
            needles,
            patient_key,
            text_of(kept, _STUDY),
            text_of(kept, _SERIES),
            text_of(kept, _SOP_INSTANCE),
            text_of(kept, _MODALITY) or "OT",
            self.pseudonyms.link(b"pixels", patient_key.encode(), digest),
            evidence,
        )


def _holds_values(encoded: Encoded, image: structure.StoredImage) -> bool:
    """Whether the value of pixel data is the image's values, byte for byte: then they need not be hashed twice."""
    return not encoded.head.endswith(_UNDEFINED_LENGTH) and len(encoded.pixels) == image.values.nbytes


def _refuse_spelled_pixels(image: structure.StoredImage, needles: frozenset[bytes]) -> None:
    """Raise RESIDUAL_IDENTIFIER where stored values spell an identifier: compressed, the gate cannot read them."""
    values = np.ascontiguousarray(image.values)
    planes = [values.tobytes()]
    if values.dtype.itemsize == 2:  # one letter a pixel
        planes.append((values & 0xFF).astype(np.uint8).tobytes())
    hits = sum(len(gate.search(plane, needles, (0, len(plane)))) for plane in planes)
    if hits:
        raise Quarantined(Quarantine.RESIDUAL_IDENTIFIER, f"{hits} places where pixels spell an identifier")


def _copied(element: pydicom.DataElement | pydicom.dataelem.RawDataElement) -> Element:
    length = element.length if isinstance(element, pydicom.dataelem.RawDataElement) else 0
    return Element(
        int(element.tag),
        element.VR or "UN",
        attributes.raw_value(element, ()),
        encapsulated=length == 0xFFFFFFFF,
    )
