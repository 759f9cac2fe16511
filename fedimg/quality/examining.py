"""A source → everything that was found in it, the worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedimg.imaging.config import CleaningConfig
from fedimg.quality.copies import find_copies
from fedimg.quality.finding import Finding, Severity
from fedimg.quality.labels import ClassCounts, class_counts, find_gaps, images_per_patient
from fedimg.quality.measuring import Measured, measure
from fedimg.quality.near import NearConfig
from fedimg.quality.outliers import find_outliers
from fedimg.quality.samples import Samples

_MOST_NAMED = 1000  # places of a finding that its JSON names


@dataclass(frozen=True)
class Examined:
    """What was found. For the site alone: it holds exact counts, and names images."""

    measured: Measured
    findings: tuple[Finding, ...]
    pairs: tuple[tuple[int, int, bool], ...]
    classes: ClassCounts
    per_patient: tuple[int, ...]

    def worst(self) -> Severity | None:
        order = list(Severity)
        return min((finding.severity for finding in self.findings), key=order.index, default=None)

    def counts(self) -> dict[str, int]:
        """Images and patients."""
        usable = int(self.measured.usable().sum())
        return {"inputs": len(self.measured.samples), "usable": usable, "patients": len(self.per_patient)}

    def parts(self) -> Mapping[str, int]:
        return Counter(sample.part for sample in self.measured.samples)

    def as_json(self) -> dict[str, Any]:
        names = [sample.name for sample in self.measured.samples]
        return {
            "confidential": "for this site alone: exact counts, and names of files",
            "source": self.measured.source.title,
            "unit": self.measured.source.unit,
            **self.counts(),
            "parts": dict(sorted(self.parts().items())),
            "classes": dict(self.classes.counts),
            "effective_numbers": {k: round(v, 1) for k, v in self.classes.effective.items()},
            "class_weights_to_consider": self.classes.weights,
            "findings": [
                {
                    "kind": str(finding.kind),
                    "severity": str(finding.severity),
                    "count": finding.count,
                    "text": finding.text,
                    "where": [[names[i] for i in place] for place in finding.where[:_MOST_NAMED]],
                }
                for finding in self.findings
            ],
        }


def examine(
    source: Samples,
    cleaning: CleaningConfig | None = None,
    near: NearConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Examined:
    """Open every image once and look for everything. Raises what a source raises as a whole; a bad file is a finding."""
    measured = measure(source, cleaning or CleaningConfig(), progress)
    copies = find_copies(measured, near or NearConfig())
    findings = [*copies.findings, *find_gaps(measured), *find_outliers(measured)]
    order = list(Severity)
    findings.sort(key=lambda finding: order.index(finding.severity))
    return Examined(
        measured, tuple(findings), copies.pairs, class_counts(measured), tuple(images_per_patient(measured))
    )
