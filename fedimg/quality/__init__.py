"""What is wrong with a site's data: copies, leaks between parts, outliers, gaps. A local report; nothing of it leaves."""

from fedimg.quality.examining import Examined, examine
from fedimg.quality.finding import Finding, Kind, Severity
from fedimg.quality.near import NearConfig
from fedimg.quality.samples import Sample, Samples, of_folder, of_home, of_manifests

__all__ = [
    "Examined",
    "Finding",
    "Kind",
    "NearConfig",
    "Sample",
    "Samples",
    "Severity",
    "examine",
    "of_folder",
    "of_home",
    "of_manifests",
]
