"""One thing that was found, and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Serious: a promise of privacy or a measured accuracy would be wrong. Warning: mend it if it is not meant so."""

    SERIOUS = "serious"
    WARNING = "warning"
    NOTE = "note"


class Kind(StrEnum):
    """What was found: a closed list."""

    COPY_ACROSS_PATIENTS = "copy_across_patients"
    NEAR_COPY_ACROSS_PATIENTS = "near_copy_across_patients"
    COPY_ACROSS_PARTS = "copy_across_parts"
    NEAR_COPY_ACROSS_PARTS = "near_copy_across_parts"
    COPY_ACROSS_SITES = "copy_across_sites"
    NEAR_COPY_ACROSS_SITES = "near_copy_across_sites"
    PATIENT_IN_TWO_PARTS = "patient_in_two_parts"
    PATIENT_AT_TWO_SITES = "patient_at_two_sites"
    COPY_WITH_ANOTHER_LABEL = "copy_with_another_label"
    COPY_WITHOUT_PATIENT = "copy_without_patient"
    COPY_WITHIN_PATIENT = "copy_within_patient"
    NEAR_COPY_WITHIN_PATIENT = "near_copy_within_patient"
    CANNOT_BE_USED = "cannot_be_used"
    NO_PATIENT = "no_patient"
    HELD_BACK_BY_SOURCE = "held_back_by_source"
    UNLABELLED = "unlabelled"
    CLASS_IMBALANCE = "class_imbalance"
    MISSING_MASK = "missing_mask"
    MIXED_PHOTOMETRIC = "mixed_photometric"
    SIZE_OUTLIER = "size_outlier"
    SPACING_OUTLIER = "spacing_outlier"
    BRIGHTNESS_OUTLIER = "brightness_outlier"
    CONTRAST_OUTLIER = "contrast_outlier"
    PATIENT_WITH_MANY_IMAGES = "patient_with_many_images"


@dataclass(frozen=True, slots=True)
class Finding:
    """How often something is there, and where.

    Attributes:
        text: what it means and what to do; no patient data.
        where: indices of images, or pairs of them; for the site's eyes.
    """

    kind: Kind
    severity: Severity
    count: int
    text: str
    where: tuple[tuple[int, ...], ...] = ()
