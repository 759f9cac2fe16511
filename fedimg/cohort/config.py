"""What the generated hospitals are like."""

from __future__ import annotations

from dataclasses import dataclass

from fedimg.cohort.exams import BY_FINDING, LESION
from fedimg.errors import ConfigError

MODALITIES = ("CT", "MR", "CR", "US")
TABLE = "table"


@dataclass(frozen=True)
class CohortConfig:
    """A federation of generated hospitals.

    Attributes:
        hospitals: training sites; each has scanners and a mix of modalities of its own.
        patients_per_hospital: about half of them have a lesion.
        phantom_public_patients: the server's held-out set, from every hospital's kind of scanner.
        image_size: rows and columns; ultrasound has twice as many, for its banner and region.
        slices: of a CT or MR series, one file each.
        cine_frames: of a multi-frame ultrasound file.
        max_studies: a patient has 1 to so many studies.
        modalities: which of CT, MR, CR and US exist.
        specialisation: 0 gives every hospital the same mix of modalities, 1 only one each.
        lesion_contrast: 1 is the default evidence of a lesion; 0 makes them invisible.
        lesion_diameter: (least, greatest), as a share of the image's side.
        noise: multiplies the noise of every scanner.
        signs: empty: a sick patient's finding shows in every image. Else out of the modalities and "table" what alone
            shows it, one of them for each patient; labels are then the patient's, in every row.
        paired: every patient has one study of each modality, CT and MR, of one head in one frame of reference.
        missing: share of paired patients who lack one of the two, and of empty cells in the manifest's features.
        finding: "lesion", one kind in every modality, or a ready finding (`findings`): nodule, cardiomegaly, calcium,
            haemorrhage, infarct; `modalities` is then its exam's alone. `lesion_diameter` and `cine_frames` are lesions'.
        broken_files: how many of each kind of broken file a hospital holds (see `broken`).
        workers: processes; 1 stays in this one. The files do not depend on it.
    """

    hospitals: int = 4
    patients_per_hospital: int = 320
    phantom_public_patients: int = 200
    image_size: int = 64
    slices: int = 3
    cine_frames: int = 2
    max_studies: int = 2
    modalities: tuple[str, ...] = MODALITIES
    specialisation: float = 0.5
    lesion_contrast: float = 1.0
    lesion_diameter: tuple[float, float] = (0.11, 0.18)
    noise: float = 1.0
    signs: tuple[str, ...] = ()
    paired: bool = False
    missing: float = 0.1
    finding: str = LESION
    broken_files: int = 1
    workers: int = 1

    def __post_init__(self) -> None:
        least, greatest = self.lesion_diameter
        checks = {
            "hospitals ≥ 1": self.hospitals >= 1,
            "patients_per_hospital ≥ 1": self.patients_per_hospital >= 1,
            "phantom_public_patients ≥ 0": self.phantom_public_patients >= 0,
            "image_size between 32 and 1024": 32 <= self.image_size <= 1024,
            "slices, cine_frames, max_studies and workers ≥ 1": min(
                self.slices, self.cine_frames, self.max_studies, self.workers
            )
            >= 1,
            "modalities out of CT, MR, CR, US, at least one": bool(self.modalities)
            and set(self.modalities) <= set(MODALITIES),
            "specialisation between 0 and 1": 0 <= self.specialisation <= 1,
            "lesion_contrast and noise ≥ 0": self.lesion_contrast >= 0 and self.noise >= 0,
            "lesion_diameter with 0.05 ≤ least ≤ greatest ≤ 0.3": 0.05 <= least <= greatest <= 0.3,
            "broken_files ≥ 0": self.broken_files >= 0,
            "signs out of the modalities and table": set(self.signs) <= {*self.modalities, TABLE},
            "modalities CT and MR with paired": not self.paired or set(self.modalities) == {"CT", "MR"},
            "missing in [0, 1)": 0 <= self.missing < 1,
            f"finding out of {', '.join((LESION, *BY_FINDING))}": self.finding in (LESION, *BY_FINDING),
            "its exam's modality alone with a finding, neither signs nor paired": self._one_exam(),
        }
        for rule, holds in checks.items():
            if not holds:
                raise ConfigError(f"cohort: {rule}", "a value outside it", "change data.cohort")

    def _one_exam(self) -> bool:
        exam = BY_FINDING.get(self.finding)
        return exam is None or (self.modalities == (exam.modality,) and not (self.signs or self.paired))
