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
_PLACES = {name: place for place, name in enumerate(NAMES)}


def metric_name(metric: str, classes: Sequence[str] = ()) -> str:
    """`dice_2` is Dice of class 2, by its name."""
    of, _, number = metric.rpartition("_")
    if metric not in NAMES and of in NAMES and number.isdigit():
        own = classes[int(number)] if int(number) < len(classes) else f"class {number}"
        return f"{NAMES[of]}, {own}"
    return NAMES.get(metric, metric)


def in_order(metrics: Collection[str]) -> list[str]:
    """By `NAMES`, each followed by those of its classes."""
    return sorted(metrics, key=lambda m: (_PLACES.get(m, _PLACES.get(m.rpartition("_")[0], len(NAMES))), m))
