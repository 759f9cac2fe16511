"""One input → one file in quarantine that has passed the gate, or a reason. Runs in a child process too.

No path, number or word of the input leaves this module but as a keyed digest.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from fedimg.crypto.keys import SiteKey
from fedimg.dicom import foreign, gate
from fedimg.dicom.deidentify import Deidentified, Deidentifier
from fedimg.dicom.identifiers import Identifiers
from fedimg.dicom.profile import Profile
from fedimg.dicom.pseudonyms import normalise_id
from fedimg.dicom.reader import DEFAULT_LIMITS, parse, read_capped
from fedimg.dicom.refusal import Quarantined
from fedimg.intake.hints import InputHints
from fedimg.intake.targets import Target, key_of
from fedimg.intake.task import Outcome, ReleaseConfig, Task
from fedimg.processes import keep_freed_memory
from fedimg.values import Quarantine

_WORD = re.compile(r"[^\W_]+")
_NIFTI_HEADER = 352
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Parts = Sequence[bytes | bytearray]
Store = Callable[[str, Parts], bytes]
"""Takes the link and the bytes of a release and gives back what can be read of them: the gate judges that."""


class Releaser:
    """Takes inputs one by one.

    Args:
        quarantine: a folder of mode 0700. index: what the survey found there, if there was one.
    """

    def __init__(
        self, site_key: SiteKey, config: ReleaseConfig, quarantine: Path, index: Path | None = None
    ) -> None:
        keep_freed_memory()
        self._deidentifier = Deidentifier(site_key, config.project, config.deid)
        self._config, self._quarantine = config, quarantine
        self._hints, self._targets = InputHints(index), key_of(site_key)

    def link(self, task: Task, content: bytes) -> str:
        """The keyed digest by which a receipt names its input: path, content and occurrence."""
        path = os.fsencode(task.item.path.absolute())
        pseudonyms = self._deidentifier.pseudonyms
        return pseudonyms.link(b"input", path, pseudonyms.fingerprint(content), str(task.occurrence).encode())

    def link_of(self, task: Task) -> str:
        """The same, reading the file; an unreadable one counts as empty."""
        try:
            return self.link(task, self.content(task))
        except Quarantined:
            return self.link(task, b"")

    def take(self, task: Task) -> Outcome:
        """Write the release into quarantine and judge it there.

        Raises OSError for a full disk only; every other fault is a reason in the outcome.
        """
        written: list[Path] = []

        def store(link: str, parts: Parts) -> bytes:
            written.append(self._quarantine / f"{link}-{os.getpid()}.part")
            _write(written[-1], parts)
            return written[-1].read_bytes()

        outcome = self.judge(task, store)
        if not written:
            return outcome
        if outcome.reason is None:
            return replace(outcome, temporary=written[-1].name)
        written[-1].unlink()
        return outcome

    def judge(self, task: Task, store: Store = lambda _, parts: b"".join(parts)) -> Outcome:
        """Decide on one input; the release goes to `store`. Raises OSError for a full disk only."""
        content = b""
        try:
            content = self.content(task)
            if self._config.labelled and task.item.label is None:
                raise Quarantined(Quarantine.NO_LABEL, "no label")
            voxels = Target.of(task.item, self._targets) if self._config.labelled else None
            way = self._nifti if task.item.kind == "nifti" else self._dicom
            return replace(way(task, content, store), voxels=voxels)
        except Quarantined as refusal:
            return self._held(task, content, refusal.reason, refusal.detail)
        except (MemoryError, RecursionError):
            return self._held(task, content, Quarantine.UNSAFE_STRUCTURE, "a structure beyond the memory")
        except OSError as error:
            if error.errno in FULL_DISK:
                raise
            return self._held(task, content, Quarantine.UNREADABLE, "an error of the system")
        # A fault of this software or a library in the face of a strange file: that file is held back, the
        # others go on. The error's text may quote the file and is dropped.
        except Exception as error:  # noqa: BLE001
            return self._held(task, content, Quarantine.UNSAFE_STRUCTURE, type(error).__name__)

    def _held(self, task: Task, content: bytes, reason: Quarantine, detail: str) -> Outcome:
        return Outcome(task.position, self.link(task, content), len(content), reason, detail)

    def content(self, task: Task) -> bytes:
        """The input's bytes. Raises Quarantined."""
        path = task.item.path
        try:
            if not self._config.follow_links and path.is_symlink():
                raise Quarantined(Quarantine.LINK, "a symbolic link")
            return read_capped(path, DEFAULT_LIMITS.file_bytes)
        except OSError as error:
            found = f"the system could not read it ({error.strerror})"
            raise Quarantined(Quarantine.UNREADABLE, found) from None

    def deidentified(self, task: Task, content: bytes) -> Deidentified:
        """The release of a DICOM file or picture, before the gate. Raises Quarantined."""
        item = task.item
        hints = self._hints.of(
            task.position, item.patient_id, self._words(item.path), digitised=item.kind == "image"
        )
        if Quarantine.BURNED_IN_TEXT in task.accepted:
            hints = replace(hints, reviewed=True)
        return self._deidentifier.deidentify(parse(self.dicom(task, content)), hints)

    def dicom(self, task: Task, content: bytes) -> bytes:
        """The input as DICOM: a picture becomes a capture first. Raises Quarantined."""
        return self._picture(task) if task.item.kind == "image" else content

    @property
    def profile(self) -> Profile:
        return self._deidentifier.profile

    def _shared(self, task: Task, release: Deidentified) -> frozenset[bytes]:
        """None for this site's own output: what it holds are pseudonyms already."""
        return self._hints.needles(task.position) if release.needles else frozenset()

    def hits(self, task: Task, written: bytes, release: Deidentified) -> list[tuple[int, int]]:
        """Where written bytes spell an identifier of the input or of its subject's other files: (start, end)."""
        shared = self._shared(task, release)
        found = gate.search(written, release.needles, release.pixels, shared)
        return gate.outside(found, release.closed)

    def _dicom(self, task: Task, content: bytes, store: Store) -> Outcome:
        release = self.deidentified(task, content)
        link = self.link(task, content)
        written = store(link, release.parts)
        result = self._gate(task, written, release)
        keys = {
            "patient": release.patient_key,
            "study": release.study_key,
            "series": release.series_key,
            "instance": release.instance_key,
        }
        return Outcome(
            task.position,
            link,
            len(content),
            output=_output(keys, ".dcm"),
            sha256=hashlib.sha256(written).hexdigest(),
            size=len(written),
            pixel_digest=release.pixel_digest,
            modality=release.modality,
            keys=keys,
            evidence=release.evidence.to_mapping(),
            gate=result,
            ledger_key=release.ledger_key,
            groups=release.groups,
        )

    def _picture(self, task: Task) -> bytes:
        if not self._config.allow_secondary_capture:
            raise Quarantined(Quarantine.OBJECT_TYPE, "a picture, which this site does not take in")
        made = self._quarantine / f"{task.position}-{os.getpid()}.capture"
        try:
            foreign.image_to_dicom(task.item.path, self._patient(task), made)
            return made.read_bytes()
        finally:
            with suppress(FileNotFoundError):
                made.unlink()

    def _gate(self, task: Task, written: bytes, release: Deidentified) -> dict[str, Any]:
        """Raises Quarantined where the written bytes do not pass. What breaks the profile, nobody overrides."""
        fault = gate.structure_fault(written, self._deidentifier.profile)
        if fault is not None:
            raise Quarantined(Quarantine.UNSAFE_STRUCTURE, fault)
        hits = self.hits(task, written, release)
        if hits and Quarantine.RESIDUAL_IDENTIFIER not in task.accepted:
            raise Quarantined(Quarantine.RESIDUAL_IDENTIFIER, f"{len(hits)} places that spell an identifier")
        shared = self._shared(task, release)
        return {"spellings": len(release.needles | shared), "of_subject": len(shared), "hits": len(hits)}

    def _nifti(self, task: Task, content: bytes, store: Store) -> Outcome:
        patient = self._deidentifier.pseudonyms.subject("", self._patient(task))
        made = self._quarantine / f"{task.position}-{os.getpid()}.capture"
        input_link = self.link(task, content)
        try:
            foreign.clean_nifti(task.item.path, made)
            written = store(input_link, (made.read_bytes(),))
        finally:
            with suppress(FileNotFoundError):
                made.unlink()
        needles = Identifiers(texts={self._patient(task), *self._words(task.item.path)}).needles()
        plain = gzip.decompress(written)
        hits = gate.search(plain, needles, (min(_NIFTI_HEADER, len(plain)), len(plain)))
        # RFC 1952: ten bytes of gzip header with no flag say that no file name or comment follows.
        if written[3] != 0 or (hits and Quarantine.RESIDUAL_IDENTIFIER not in task.accepted):
            raise Quarantined(Quarantine.RESIDUAL_IDENTIFIER, f"{len(hits)} places that spell an identifier")
        link, uid = self._deidentifier.pseudonyms.link, self._deidentifier.pseudonyms.uid
        digest = hashlib.sha256(plain).hexdigest()
        keys = {"patient": patient} | {
            level: uid(f"nifti {level} {patient} {digest}") for level in ("study", "series", "instance")
        }
        return Outcome(
            task.position,
            input_link,
            len(content),
            output=_output(keys, ".nii.gz"),
            sha256=hashlib.sha256(written).hexdigest(),
            size=len(written),
            pixel_digest=link(b"pixels", patient.encode(), digest.encode()),
            keys=keys,
            evidence={"pixels": {"layers": ["L0"], "route": "nifti"}},
            gate={"spellings": len(needles), "hits": len(hits)},
            ledger_key=self._deidentifier.ledger_keys.of("", self._patient(task)),
        )

    def _patient(self, task: Task) -> str:
        patient_id = task.item.patient_id or ""
        if not normalise_id(patient_id):
            raise Quarantined(Quarantine.NO_PATIENT_ID, "no patient number beside the file")
        return patient_id

    def _words(self, path: Path) -> tuple[str, ...]:
        """File and folder names of an input are PHI ("JANE DOE/CT 1.dcm"): their words may not come along."""
        folders: tuple[str, ...] = (path.parent.name,)
        if self._config.root is not None and path.is_relative_to(self._config.root):
            folders = path.relative_to(self._config.root).parts[:-1]
        names = (path.name.split(".")[0], *folders)
        return tuple({word for name in names for word in (name, *_WORD.findall(name)) if word})


def _write(path: Path, parts: Parts) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:  # of a process that had this number before and was killed
        path.unlink()
        descriptor = os.open(path, flags, 0o600)
    try:
        left = [memoryview(part) for part in parts]
        while left:
            written = os.writev(descriptor, left)
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if left:
                left[0] = left[0][written:]
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(descriptor)


def _output(keys: Mapping[str, str], suffix: str) -> PurePosixPath:
    return PurePosixPath(keys["patient"], keys["study"], keys["series"], keys["instance"] + suffix)
