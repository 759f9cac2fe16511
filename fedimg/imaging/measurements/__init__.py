"""Medical parameters by name, from pixels in physical units and a mask. See docs/radiomics.md."""

from __future__ import annotations

from fedimg.imaging.measurements.registry import REGISTRY, Case, Measurement, measure

__all__ = ["REGISTRY", "Case", "Measurement", "measure"]
