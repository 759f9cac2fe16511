"""Radiomics as the Image Biomarker Standardisation Initiative defines them, of one region of one image.

A. Zwanenburg et al., Radiology 295(2), 2020, doi 10.1148/radiol.2020191145; the reference manual, whose sections
and four-letter codes are named here, is arXiv 1612.07003. See docs/radiomics.md.
"""

from __future__ import annotations

from fedimg.imaging.radiomics.discretisation import fixed_bin_number, fixed_bin_size
from fedimg.imaging.radiomics.first_order import intensity_statistics
from fedimg.imaging.radiomics.glcm import co_occurrence
from fedimg.imaging.radiomics.histogram import intensity_histogram
from fedimg.imaging.radiomics.local_intensity import intensity_peaks, spatial_autocorrelation
from fedimg.imaging.radiomics.shape import morphology

__all__ = [
    "co_occurrence",
    "fixed_bin_number",
    "fixed_bin_size",
    "intensity_histogram",
    "intensity_peaks",
    "intensity_statistics",
    "morphology",
    "spatial_autocorrelation",
]
