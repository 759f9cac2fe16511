"""Performance overall and by groups of patients, in the one table that a site releases anyway: one charge.

The table has a block of the task's own table for everybody, and one for each group of each attribute. A patient's row r
of the task, ‖r‖ ≤ 1, stands in the first block and, of each of A attributes, in the block of the patient's group, all
divided by √(A + 1): ‖row‖² = (A + 1) · ‖r‖² / (A + 1) ≤ 1. So sensitivity, noise and charge are those of any release.

Taken times √(A + 1) again, every block holds noise of variance v = (A + 1) · σ² a cell where σ² is the release's: a
group's figures have √(A + 1) times the noise that they would have as a release of their own, and there is only one.

Whoever is in the first block is in one group of each attribute, so that the sum over an attribute's G_a groups is the
same table once more, with noise of G_a · v. Of these A + 1 independent readings the best linear unbiased one is their
mean weighted by 1 ÷ variance (Gauss and Markov), here Σ_a S_a/G_a ÷ P with G_0 = 1 and P = Σ_a 1/G_a, of variance v/P.
The noise of the overall figures is then √((A + 1) / P) times that without groups. Without the first block, rows would
be divided by √A and the factor be √(A / Σ_{a≥1} 1/G_a): for three attributes of 4, 5 and 7 groups 2.25 in place of
1.59, while a group's factor falls from 2 to 1.73 only; for one of 4 groups 2 in place of 1.26, for 1.41 and 1.

Several groups of one patient (two scanners): each image's own row goes into the image's group, divided by the number of
images, where these parts add up to the patient's row, as means over images do; then ‖Σ_g‖ ≤ Σ_i ‖r_i‖/n ≤ 1 still
holds. Where they do not (Dice is of all images together; an image that cannot be used) the patient's whole row goes to
the group that most of the images are of, "unknown" last, of equals to the first in the list.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from fedimg.errors import DataError
from fedimg.evaluation.measure import Array, Measure
from fedimg.evaluation.patient_means import checked_table, of_patients
from fedimg.subgroups import UNKNOWN, Grouping
from fedimg.values import EvaluationReport, SiteDataset

_Floats = npt.NDArray[np.float64]
_SAME = 1e-9  # of a row's entries, which are in [0, 1]: rounding of sums over a patient's images is far below


@dataclass(frozen=True)
class Subgroups:
    """A task's measure, for everybody and by group; itself a `Measure`, whose figures are everybody's.

    Attributes: own: the task's. grouping: at least one attribute.
    """

    own: Measure
    grouping: Grouping

    @property
    def headline(self) -> str:
        return self.own.headline

    @property
    def shape(self) -> tuple[int, int]:
        rows, bins = self.own.shape
        return rows * sum(self.sizes), bins

    @property
    def sizes(self) -> tuple[int, ...]:
        """Blocks of the table: one for everybody, then of each attribute its groups."""
        return 1, *(len(self.grouping.groups(name)) for name in self.grouping.attributes)

    @property
    def overall_factor(self) -> float:
        """How many times the noise of an evaluation without groups the overall figures have."""
        return float(np.sqrt(len(self.sizes) / sum(1 / size for size in self.sizes)))

    @property
    def group_factor(self) -> float:
        """The same for a group's figures."""
        return float(np.sqrt(len(self.sizes)))

    def rows(self, outputs: Array, labels: Array, first_image: Array, codes: Array | None = None) -> _Floats:
        """As `Measure.rows`. Args: codes: (N, 3) of the images, see `fedimg.subgroups`; None: all unknown.

        Raises DataError for codes of another shape.
        """
        first = np.asarray(first_image, dtype=np.int64)
        images = int(first[-1])
        found = np.tile(UNKNOWN, (images, 1)) if codes is None else np.asarray(codes)
        if found.shape != (images, len(UNKNOWN)):
            raise DataError(f"codes ({images}, {len(UNKNOWN)})", f"{found.shape}", "pass SiteDataset.groups")
        own = self.own.rows(outputs, labels, first)
        table = np.zeros((len(own), sum(self.sizes), own.shape[1]))
        table[:, 0] = own
        groups, starts = self.grouping.indices(found), list(accumulate(self.sizes))
        for start, size, of_image in zip(starts, self.sizes[1:], groups.T, strict=False):
            self._place(table[:, start : start + size], own, of_image, (outputs, labels, first))
        rows = table.reshape(len(own), self.shape[0] * self.shape[1]) / self.group_factor
        norms = np.linalg.norm(rows, axis=1, keepdims=True)  # 1 can be passed in the last bit
        return np.asarray(rows / np.where(norms > 1, norms * (1 + 1e-15), 1.0), dtype=np.float64)

    def _place(
        self,
        blocks: _Floats,
        own: _Floats,
        of_image: npt.NDArray[np.int64],
        scored: tuple[Array, Array, Array],
    ) -> None:
        """Each patient's row into the blocks (U, G, cells) of one attribute."""
        outputs, labels, first = scored
        patients, size = blocks.shape[:2]
        counts = np.zeros((patients, size))
        np.add.at(counts, (of_patients(first), of_image), 1.0)
        chosen = np.where(counts[:, :-1].any(axis=1), counts[:, :-1].argmax(axis=1), size - 1)
        blocks[np.arange(patients), chosen] = own
        for u in np.flatnonzero((counts > 0).sum(axis=1) > 1):
            images = np.arange(first[u], first[u + 1])
            alone = self.own.rows(outputs[images], labels[images], np.arange(len(images) + 1)) / len(images)
            if np.allclose(alone.sum(axis=0), own[u], rtol=0, atol=_SAME):
                blocks[u] = 0.0
                np.add.at(blocks[u], of_image[images], alone)

    def split(self, noised: _Floats, noise_std: float) -> tuple[_Floats, float, tuple[_Floats, ...], float]:
        """A release → everybody's table (rows, bins), its noise a cell; of each attribute (G, rows, bins), their noise."""
        table = checked_table(noised, self.shape, noise_std) * self.group_factor
        blocks = table.reshape(sum(self.sizes), *self.own.shape)
        ends = list(accumulate(self.sizes))
        each = tuple(blocks[end - size : end] for end, size in zip(ends, self.sizes, strict=True))
        precision = sum(1 / size for size in self.sizes)
        overall = np.sum([one.sum(axis=0) / len(one) for one in each], axis=0) / precision
        return overall, noise_std * self.overall_factor, each[1:], noise_std * self.group_factor

    def of_release(self, noised: _Floats, noise_std: float) -> EvaluationReport:
        """Everybody's figures; those of groups: `by_group.of_release`."""
        overall, std, _, _ = self.split(noised, noise_std)
        return self.own.of_release(overall, std)

    def of_outputs(
        self, outputs: Array, labels: Array, first_image: Array, *, bootstrap: int, seed: int
    ) -> EvaluationReport:
        return self.own.of_outputs(outputs, labels, first_image, bootstrap=bootstrap, seed=seed)


def patient_rows(measure: Measure, outputs: Array, data: SiteDataset) -> _Floats:
    """Of whichever measure the terms have, of the model's outputs for a site's examples."""
    labels, first = data.labels.numpy(), data.first_image
    if isinstance(measure, Subgroups):
        return measure.rows(outputs, labels, first, data.groups)
    return measure.rows(outputs, labels, first)
