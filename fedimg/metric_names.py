"""What metrics are called in a report, and in which order they stand."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import MappingProxyType

NAMES = MappingProxyType(
    {
        "auroc": "AUROC",
        "pr_auc": "PR-AUC (average precision)",
        "dice": "Dice",
        "iou": "IoU",
        "hd95_mm": "HD95, mm",
        "hd95_voxels": "HD95, voxels",
        "sensitivity_at_1": "Sensitivity at 1 false positive an image",
        "sensitivity_at_quarter": "Sensitivity at ¼ false positive an image",
        "froc": "FROC (mean sensitivity at ⅛ … 8 false positives)",
        "map50": "Mean average precision, IoU ≥ 0.5",
        "map10": "Mean average precision, IoU ≥ 0.1",
        "ap50": "Average precision, IoU ≥ 0.5",
        "ap10": "Average precision, IoU ≥ 0.1",
        "mae": "Mean absolute error",
        "rmse": "Root mean squared error",
        "bias": "Bias",
        "r2": "R²",
        "accuracy": "Accuracy",
        "precision": "Precision",
        "recall": "Recall (sensitivity)",
        "specificity": "Specificity",
        "f1": "F1",
        "brier": "Brier score",
        "ece": "Calibration error (ECE)",
    }
)
UNBOUNDED = frozenset({"hd95_mm", "hd95_voxels", "mae", "rmse", "bias", "r2"})
"""All others are from 0 to 1."""
_PLACES = {name: place for place, name in enumerate(NAMES)}


def metric_name(metric: str, classes: Sequence[str] = ()) -> str:
    """`dice_2` is Dice of class 2, by its name; `segmentation/dice` that of one task of several."""
    head, several, own = metric.rpartition("/")
    if several:
        return f"{metric_name(own, classes)} ({head})"
    of, _, number = metric.rpartition("_")
    if metric not in NAMES and of in NAMES and number.isdigit():
        own = classes[int(number)] if int(number) < len(classes) else f"class {number}"
        return f"{NAMES[of]}, {own}"
    return NAMES.get(metric, metric)


def followed(row: Collection[str]) -> str:
    """The one metric that a round's row has beside its loss; "" where none was measured."""
    return next(iter(in_order([name for name in row if name.rpartition("/")[2] in NAMES])), "")


def in_order(metrics: Collection[str]) -> list[str]:
    """By `NAMES`, each followed by those of its classes; of several tasks one task after the other."""

    def place(metric: str) -> tuple[str, int, str]:
        head, _, own = metric.rpartition("/")
        return head, _PLACES.get(own, _PLACES.get(own.rpartition("_")[0], len(NAMES))), metric

    return sorted(metrics, key=place)
