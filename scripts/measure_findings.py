"""What a finished run of a ready finding says on the generated public set: the score, and where.

    python scripts/measure_findings.py runs/<id>

Prints AUROC, Brier score, the shares called at the threshold with which the sites' release promises the sensitivity that
the finding's file asks for (where there is one), and of those with the finding who are called the share whose largest outlined part overlaps the truth.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from fedimg import client_round
from fedimg import config as configuration
from fedimg.coordination import finding_file
from fedimg.coordination.bundling import Asked, described
from fedimg.coordination.terms import own_network, terms_of
from fedimg.home import SiteHome
from fedimg.record.model import weights_of_file

Floats = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    folder: Path = parser.parse_args().run
    config = configuration.load(folder / "config.yaml")
    terms = terms_of(config, folder.name)
    network = own_network(terms)
    tensors, _ = weights_of_file(folder / "model.safetensors")
    everything = replace(terms, validation_fraction=0.0)
    data = client_round.load(SiteHome.open(folder / "public"), everything, network).train
    heads = {head.task: head for head in network.heads}
    with torch.no_grad():
        flat = network.layout.flatten(tensors)
        rows = torch.cat([network.apply(flat, part) for part in data.images.split(8)])
    score = torch.softmax(heads["classification"].logits(rows), dim=1)[:, 1].numpy()
    outlined = heads["segmentation"].logits(rows).argmax(dim=1).numpy() > 0
    labels = data.labels.numpy()
    sick = labels[:, heads["classification"].labels][:, 0] == 1
    truth = np.nan_to_num(labels[:, heads["segmentation"].labels]).reshape(outlined.shape) > 0
    threshold = _threshold(folder, config.data.cohort.finding)
    called = score >= (0.5 if threshold is None else threshold)
    hits = [_overlaps(outlined[k], truth[k]) for k in np.flatnonzero(sick & called)]
    print_line(
        {
            "finding": config.data.cohort.finding,
            "series": len(score),
            "auroc": round(float(roc_auc_score(sick, score)), 3),
            "brier": round(float(np.mean((score - sick) ** 2)), 3),
            "threshold": threshold,
            "sensitivity": round(float(called[sick].mean()), 3),
            "specificity": round(float((~called[~sick]).mean()), 3),
            "where": f"{sum(hits)} of {len(hits)}",
            "false outlines": round(float(outlined[~sick].reshape((~sick).sum(), -1).any(axis=1).mean()), 3),
            "weights": network.number_of_parameters,
        }
    )


def print_line(found: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")


def _threshold(folder: Path, finding: str) -> float | None:
    """Of the network's own probability, as the bundle would promise it: undone of the temperature."""
    asked = Asked("measured", "0", "measured", target=finding_file.read(finding).sensitivity)
    said = described(folder, asked).said
    if said.threshold is None or not 0 < said.threshold < 1:
        return said.threshold
    return float(1 / (1 + np.exp(-np.log(said.threshold / (1 - said.threshold)) * said.temperature)))


def _overlaps(found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> bool:
    """Whether the largest connected part of what is outlined touches what is drawn."""
    labels, count = ndimage.label(found)
    if not count:
        return False
    largest = 1 + int(np.bincount(labels.ravel())[1:].argmax())
    return bool((truth & (labels == largest)).any())


if __name__ == "__main__":
    main()
