"""One input → one file in quarantine that has passed the gate, or a reason. Runs in a child process too.

No path, number or word of the input leaves this module but as a keyed digest.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from fedimg.crypto.keys import SiteKey
from fedimg.dicom import foreign, gate
from fedimg.dicom.deidentify import DeidConfig, Deidentified, Deidentifier, Hints
from fedimg.dicom.identifiers import Identifiers
from fedimg.dicom.pseudonyms import normalise_id
from fedimg.dicom.reader import DEFAULT_LIMITS, Quarantined, parse, read_capped
from fedimg.values import Quarantine, SourceItem

_WORD = re.compile(r"[^\W_]+")
_NIFTI_HEADER = 352


@dataclass(frozen=True, slots=True)
class ReleaseConfig:
    """What one input's way depends on.

    Attributes:
        project: salt of every pseudonym. profile, recompress: see `DeidConfig`.
        allow_secondary_capture: pictures (PNG, JPEG, TIFF) become secondary captures and are
            released. The source says that they show no text; nobody checks.
    """

    project: str
    profile: str = "train"
    recompress: Literal["jpeg-ls", "none"] = "jpeg-ls"
    allow_secondary_capture: bool = True


@dataclass(frozen=True, slots=True)
class Task:
    """One input and its place in the run. `occurrence` counts equal paths."""

    position: int
    occurrence: int
    item: SourceItem


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one input. `temporary` names a file in quarantine that may be released.

    `reason` None means: it passed. All other fields may stand in a receipt as they are.
    """

    position: int
    link: str
    size_in: int
    reason: Quarantine | None = None
    temporary: str | None = None
    output: PurePosixPath | None = None
    sha256: str = ""
    size: int = 0
    pixel_digest: str = ""
    modality: str = "OT"
    keys: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)


class Releaser:
    """Takes inputs one by one. `quarantine` is a folder of the site's home, mode 0700."""

    def __init__(self, site_key: SiteKey, config: ReleaseConfig, quarantine: Path) -> None:
        self._deidentifier = Deidentifier(
            site_key, config.project, DeidConfig(config.profile, config.recompress)
        )
        self._config, self._quarantine = config, quarantine

    def link(self, task: Task, content: bytes) -> str:
        """The keyed digest by which a receipt names its input: path, content and occurrence."""
        path = os.fsencode(task.item.path.absolute())
        digest = hashlib.sha256(content).digest()
        return self._deidentifier.pseudonyms.link(b"input", path, digest, str(task.occurrence).encode())

    def link_of(self, task: Task) -> str:
        """The same, reading the file; an unreadable one counts as empty."""
        try:
            return self.link(task, read_capped(task.item.path, DEFAULT_LIMITS.file_bytes))
        except (OSError, Quarantined):
            return self.link(task, b"")

    def take(self, task: Task) -> Outcome:
        """Raises OSError for a full disk only; every other fault is a reason in the outcome."""
        content = b""
        try:
            content = _content(task.item.path)
            if task.item.label is None:
                raise Quarantined(Quarantine.NO_LABEL, "no label")
            return self._released(task, content)
        except Quarantined as refusal:
            return Outcome(task.position, self.link(task, content), len(content), refusal.reason)
        except (MemoryError, RecursionError):
            return Outcome(task.position, self.link(task, content), len(content), Quarantine.UNSAFE_STRUCTURE)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            return Outcome(task.position, self.link(task, content), len(content), Quarantine.UNREADABLE)
        # A fault of this software or a library in the face of a strange file: that file is held back, the
        # others go on. The error's text may quote the file and is dropped.
        except Exception:  # noqa: BLE001
            return Outcome(task.position, self.link(task, content), len(content), Quarantine.UNSAFE_STRUCTURE)

    def _released(self, task: Task, content: bytes) -> Outcome:
        temporary = self._quarantine / f"{task.position}-{os.getpid()}.part"
        try:
            if task.item.kind == "nifti":
                return self._nifti(task, content, temporary)
            return self._dicom(task, content, temporary)
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise

    def _dicom(self, task: Task, content: bytes, temporary: Path) -> Outcome:
        item, digitised = task.item, task.item.kind == "image"
        hints = Hints(item.patient_id, _path_words(item.path), digitised)
        dicom = self._picture(task, temporary) if digitised else content
        release = self._deidentifier.deidentify(parse(dicom), hints)
        _write(temporary, release.data)
        written = temporary.read_bytes()
        result = self._gate(written, release)
        keys = {
            "patient": release.patient_key,
            "study": release.study_key,
            "series": release.series_key,
            "instance": release.instance_key,
        }
        return Outcome(
            task.position,
            self.link(task, content),
            len(content),
            temporary=temporary.name,
            output=_output(keys, ".dcm"),
            sha256=hashlib.sha256(written).hexdigest(),
            size=len(written),
            pixel_digest=release.pixel_digest,
            modality=release.modality,
            keys=keys,
            evidence=release.evidence.to_mapping(),
            gate=result,
        )

    def _picture(self, task: Task, temporary: Path) -> bytes:
        if not self._config.allow_secondary_capture:
            raise Quarantined(Quarantine.OBJECT_TYPE, "a picture, which this site does not take in")
        made = temporary.with_suffix(".capture")
        try:
            foreign.image_to_dicom(task.item.path, self._patient(task), made)
            return made.read_bytes()
        finally:
            with suppress(FileNotFoundError):
                made.unlink()

    def _gate(self, written: bytes, release: Deidentified) -> dict[str, Any]:
        """Raises Quarantined RESIDUAL_IDENTIFIER where the written bytes do not pass."""
        fault = gate.structure_fault(written, self._deidentifier.profile)
        if fault is not None:
            raise Quarantined(Quarantine.UNSAFE_STRUCTURE, fault)
        hits = gate.outside(gate.search(written, release.needles, release.pixels), release.closed)
        if hits:
            raise Quarantined(Quarantine.RESIDUAL_IDENTIFIER, f"{len(hits)} places that spell an identifier")
        return {"spellings": len(release.needles), "hits": 0}

    def _nifti(self, task: Task, content: bytes, temporary: Path) -> Outcome:
        patient = self._deidentifier.pseudonyms.subject("", self._patient(task))
        _write(temporary, b"")
        foreign.clean_nifti(task.item.path, temporary)
        written = temporary.read_bytes()
        identifiers = Identifiers(texts={self._patient(task), *_path_words(task.item.path)})
        needles = identifiers.needles()
        plain = gzip.decompress(written)
        hits = gate.search(plain, needles, (min(_NIFTI_HEADER, len(plain)), len(plain)))
        # RFC 1952: ten bytes of gzip header with no flag say that no file name or comment follows.
        if hits or written[3] != 0:
            raise Quarantined(Quarantine.RESIDUAL_IDENTIFIER, f"{len(hits)} places that spell an identifier")
        link, uid = self._deidentifier.pseudonyms.link, self._deidentifier.pseudonyms.uid
        digest = hashlib.sha256(plain).hexdigest()
        keys = {"patient": patient} | {
            level: uid(f"nifti {level} {patient} {digest}") for level in ("study", "series", "instance")
        }
        return Outcome(
            task.position,
            self.link(task, content),
            len(content),
            temporary=temporary.name,
            output=_output(keys, ".nii.gz"),
            sha256=hashlib.sha256(written).hexdigest(),
            size=len(written),
            pixel_digest=link(b"pixels", patient.encode(), digest.encode()),
            keys=keys,
            evidence={"pixels": {"layers": ["L0"], "route": "nifti"}},
            gate={"spellings": len(needles), "hits": 0},
        )

    def _patient(self, task: Task) -> str:
        patient_id = task.item.patient_id or ""
        if not normalise_id(patient_id):
            raise Quarantined(Quarantine.NO_PATIENT_ID, "no patient number beside the file")
        return patient_id


def _content(path: Path) -> bytes:
    try:
        return read_capped(path, DEFAULT_LIMITS.file_bytes)
    except OSError as error:
        raise Quarantined(Quarantine.UNREADABLE, f"the system could not read it ({error.strerror})") from None


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _path_words(path: Path) -> tuple[str, ...]:
    """File and folder names of an input are PHI ("JANE DOE/CT 1.dcm"): their words may not come along."""
    names = (path.name.split(".")[0], path.parent.name)
    return tuple({word for name in names for word in (name, *_WORD.findall(name)) if word})


def _output(keys: Mapping[str, str], suffix: str) -> PurePosixPath:
    return PurePosixPath(keys["patient"], keys["study"], keys["series"], keys["instance"] + suffix)
