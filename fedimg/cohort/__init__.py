"""The generated hospitals: real DICOM files of people who do not exist, with known lesions and planted identifiers."""

from fedimg.cohort.config import CohortConfig
from fedimg.cohort.hospital import generate_cohort, generate_hospital

__all__ = ["CohortConfig", "generate_cohort", "generate_hospital"]
