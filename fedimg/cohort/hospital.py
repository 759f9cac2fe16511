"""A hospital's folder: its patients' studies, a few broken files, the manifest, and what was planted.

Everything follows from (seed, hospital, patient): the number of patients, of processes or of
hospitals changes no file of any other patient.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from fedimg.cohort import broken
from fedimg.cohort.beside import FEATURES, Beside
from fedimg.cohort.config import CohortConfig
from fedimg.cohort.exams import BY_FINDING, exam_of
from fedimg.cohort.identities import Person, Planted, person, phantom
from fedimg.cohort.scanners import scanner_of
from fedimg.cohort.studies import Study, Truth, Written, write_study
from fedimg.processes import never_started
from fedimg.values import Split

PUBLIC = "public"
COLUMNS = (
    *("path", "patient_id", "label", "site", "split", "modality", "mask"),
    *("box_x0", "box_y0", "box_x1", "box_y1", "lesion_diameter_mm"),
    *FEATURES,
)
"""Of every manifest; a ready finding's has its exam's number of the study as one more, `Exam.measure`."""
_PUBLIC_STREAM = 1 << 20  # the public set's place among the hospitals' random streams


@dataclass(frozen=True, slots=True)
class Order:
    """One patient to be generated; crosses to a worker process."""

    root: Path
    config: CohortConfig
    hospital: int
    seed: int
    number: int
    split: Split


def columns(config: CohortConfig) -> tuple[str, ...]:
    """Of the manifest."""
    return COLUMNS if config.finding not in BY_FINDING else (*COLUMNS, BY_FINDING[config.finding].measure)


def site_name(hospital: int, split: Split) -> str:
    return PUBLIC if split == "public" else f"hospital-{hospital + 1}"


def generate_hospital(
    root: Path, config: CohortConfig, hospital: int, seed: int, split: Split = "train"
) -> None:
    """Write one hospital into `root` (created, 0700): DICOM files, `manifest.csv`, `planted.json`.

    Args:
        hospital: 0 … hospitals − 1; ignored but for its folder's name where split is "public".
        seed: of everything; the files are a function of (seed, hospital, patient) and `config`.
        split: "public" writes `phantom_public_patients` phantoms of every hospital's scanners and all
            modalities in equal shares, with nothing planted and nothing broken.

    `manifest.csv` has `columns(config)`; `age` and `marker` are the patient's, in every row, and may be empty; boxes are half-open pixel ranges, empty without a lesion; `mask` is a
    DICOM segmentation of the series, empty where no image of the series shows a lesion. `planted.json`
    lists every identifying value written, and every broken file with what is wrong with it.
    """
    _run([(root, hospital, split)], config, seed)


def generate_cohort(root: Path, config: CohortConfig, seed: int) -> dict[str, Path]:
    """All hospitals and the public set below `root`, by one pool of workers. Returns site → its folder."""
    parts: list[tuple[Path, int, Split]] = [
        (root / site_name(h, "train"), h, "train") for h in range(config.hospitals)
    ]
    if config.phantom_public_patients:
        parts.append((root / PUBLIC, 0, "public"))
    _run(parts, config, seed)
    return {site_name(hospital, split): folder for folder, hospital, split in parts}


def _run(parts: Sequence[tuple[Path, int, Split]], config: CohortConfig, seed: int) -> None:
    orders: list[Order] = []
    for root, hospital, split in parts:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        count = config.phantom_public_patients if split == "public" else config.patients_per_hospital
        orders += [Order(root, config, hospital, seed, number, split) for number in range(count)]
    written = _map(_generate_patient, orders, config.workers)
    for root, hospital, split in parts:
        own = [w for order, w in zip(orders, written, strict=True) if order.root == root]
        faults: list[dict[str, str]] = []
        if split == "train":
            spare = [
                _generate_patient(
                    Order(root, config, hospital, seed, config.patients_per_hospital + n, split)
                )
                for n in range(broken.patients_needed(config.broken_files))
            ]
            own, faults = broken.break_files(root, own, spare, config.broken_files)
        _write_manifest(root, own, site_name(hospital, split), split, columns(config))
        _write_planted(root, own, site_name(hospital, split), faults)


def _map(work: Callable[[Order], Written], orders: Sequence[Order], workers: int) -> list[Written]:
    if workers == 1 or len(orders) < 2 * workers:
        return [work(order) for order in orders]
    # Spawned, not forked: torch's threads are already running in this process.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            return list(pool.map(work, orders, chunksize=16))
    except BrokenProcessPool:
        raise never_started() from None


def _generate_patient(order: Order) -> Written:
    public = order.split == "public"
    stream = [order.seed, _PUBLIC_STREAM if public else order.hospital, order.number]
    rng = np.random.default_rng(stream)
    config = order.config
    who = phantom(order.number) if public else person(rng, order.hospital, order.number)
    planted, truths = Planted(), list[Truth]()
    sick = bool(rng.uniform() < 0.5)
    home = order.root / _folder_name(who)
    day = date(2019, 1, 7) + timedelta(days=int(rng.integers(0, 1500)))
    scanner = scanner_of(order.number % config.hospitals if public else order.hospital)
    beside = Beside.draw(stream, config, sick=sick)
    modalities = beside.modalities(config) or _modalities(config, order.hospital, public, rng)
    for number, modality in enumerate(modalities, 1):
        uid = (str(order.seed), order.split, str(order.hospital), str(order.number), str(number))
        accession = f"ACC{int(rng.integers(10**8, 10**9))}"
        folder = home / f"{day:%Y%m%d}_{number}_{modality}"
        shown = sick and beside.sign in (None, modality)
        exam = exam_of(config.finding, modality, paired=beside.body is not None)
        study = Study(
            order.root, folder, who, scanner, modality, day, accession, uid, shown, exam, beside.body
        )
        truths += write_study(study, config, planted, rng)
        day += timedelta(days=int(rng.integers(7, 300)))
    if config.signs:
        truths = [replace(truth, label=int(sick)) for truth in truths]
    age = None if public else day.year - who.birth.year
    return Written(who.patient_id, truths, [] if public else planted.listing(), beside.cells(age))


def _folder_name(who: Person) -> str:
    """Hospitals name folders after patients: paths are PHI, and this one's too."""
    return f"{who.family}_{who.given}_{who.patient_id}".replace("/", "-").replace(" ", "_")


def _modalities(config: CohortConfig, hospital: int, public: bool, rng: np.random.Generator) -> list[str]:
    """The patient's studies: one of the hospital's mix, then projections and echoes, as follow-ups are."""
    kinds = config.modalities
    shares = np.full(len(kinds), 1 / len(kinds))
    if not public:
        shares *= 1 - config.specialisation
        shares[hospital % len(kinds)] += config.specialisation
    follow_ups = [m for m in kinds if m in ("CR", "US")] or list(kinds)
    studies = int(rng.integers(1, config.max_studies + 1))
    return [str(rng.choice(kinds, p=shares)), *(str(rng.choice(follow_ups)) for _ in range(studies - 1))]


def _write_manifest(
    root: Path, written: Iterable[Written], site: str, split: Split, named: tuple[str, ...]
) -> None:
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(named)
        for truth, features in ((truth, own.features) for own in written for truth in own.truths):
            label = "" if truth.label is None else truth.label
            lesion = (*truth.box, f"{truth.diameter_mm:.2f}") if truth.box else ("", "", "", "", "")
            table.writerow(
                (
                    *(truth.path, truth.patient_id, label, site, split, truth.modality, truth.mask),
                    *(*lesion, *features),
                    *(f"{truth.measure:.4g}" for _ in named[len(COLUMNS) :]),
                )
            )


def _write_planted(root: Path, written: Iterable[Written], site: str, faults: list[dict[str, str]]) -> None:
    patients = [
        {"patient_id": w.patient_id, "files": [t.path for t in w.truths], "planted": w.planted}
        for w in written
    ]
    content = {"site": site, "patients": patients, "broken": faults}
    (root / "planted.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
