"""From a source's items to a site's released files: every input gets one decision and one receipt."""

from fedimg.intake.admission import Admission, admission, admitted
from fedimg.intake.commitment import commitment
from fedimg.intake.config import IntakeConfig, MeasuredIntakeConfig
from fedimg.intake.folder import FolderInputs
from fedimg.intake.report import REMEDIES, report_text
from fedimg.intake.station import IntakeResult, run_intake

__all__ = [
    "REMEDIES",
    "Admission",
    "FolderInputs",
    "IntakeConfig",
    "IntakeResult",
    "MeasuredIntakeConfig",
    "admission",
    "admitted",
    "commitment",
    "report_text",
    "run_intake",
]
