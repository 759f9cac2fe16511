"""What an intake may be told, and what that means for one input and for its receipt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedimg.crypto.keys import SiteKey
from fedimg.dicom.deidentify import DeidConfig
from fedimg.dicom.profile import load_profile
from fedimg.intake.basis import Basis
from fedimg.intake.task import ReleaseConfig


@dataclass(frozen=True, slots=True)
class IntakeConfig:
    """What an intake may be told.

    Attributes:
        profile, missing_patient_id, keep_times, recompress, head, largest_mask,
        largest_mask_ultrasound, vendor_boxes:
            see `DeidConfig`.
        project, allow_secondary_capture: see `ReleaseConfig`. workers: child processes;
            0: this process, which a decoder's crash would end. seconds_per_file: of processor time
            that a child process may take for one input (0: any); what takes longer is held back.
    """

    profile: str = "train"
    project: str = "fedimg"
    workers: int = 0
    seconds_per_file: float = 1800.0
    recompress: Literal["jpeg-ls", "none"] = "jpeg-ls"
    allow_secondary_capture: bool = True
    head: Literal["quarantine", "deface", "allow-local"] | None = None
    largest_mask: float = 0.2
    largest_mask_ultrasound: float = 0.5
    vendor_boxes: str | None = None
    missing_patient_id: Literal["quarantine", "study"] = "quarantine"
    keep_times: bool = False

    @property
    def pixel_layers(self) -> Literal["all", "L0-L3"]:
        """All of them: no configuration leaves one out."""
        return "all"

    def basis(self, site_key: SiteKey) -> Basis:
        """What receipts name as the ground of a release."""
        profile = load_profile(self.profile, keep_times=self.keep_times)
        return Basis.of(profile, self.project, site_key, self.pixel_layers)

    def release(self, *, labelled: bool, root: Path | None = None) -> ReleaseConfig:
        """The same for one input. Below `root`, the input folder, links are not followed."""
        boxes = Path(self.vendor_boxes) if self.vendor_boxes is not None else None
        deid = DeidConfig(
            profile=self.profile,
            missing_patient_id=self.missing_patient_id,
            keep_times=self.keep_times,
            recompress=self.recompress,
            head=self.head,
            largest_mask=self.largest_mask,
            largest_mask_ultrasound=self.largest_mask_ultrasound,
            vendor_boxes=boxes,
            pixel_layers=self.pixel_layers,
        )
        return ReleaseConfig(self.project, deid, self.allow_secondary_capture, root is None, labelled, root)


@dataclass(frozen=True, slots=True)
class MeasuredIntakeConfig(IntakeConfig):
    """To measure what text detection and its proof cost: without them. What it releases is not admitted to training."""

    layers: Literal["all", "L0-L3"] = "L0-L3"

    @property
    def pixel_layers(self) -> Literal["all", "L0-L3"]:
        return self.layers
