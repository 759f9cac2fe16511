"""The global model's scores of a site's patients, of whom none can stop the others'."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from fedimg.errors import FedimgError
from fedimg.models import Network
from fedimg.models.outputs import UNUSABLE_CLASS
from fedimg.values import SiteDataset, Vector


def scores(
    network: Network,
    vector: Vector,
    data: SiteDataset,
    device: torch.device,
    failed: Callable[[Exception], None],
) -> npt.NDArray[np.float64]:
    """(P,) and N images → `Network.outputs`; NaN or class −1 for the images of a patient who makes a library fail.

    An error would be an answer about that patient: the site would decline, and the wire would show it.
    """
    try:
        return network.outputs(vector, data.images, device)
    except FedimgError:  # about the network or the device, equal for all patients
        raise
    except Exception as fault:  # noqa: BLE001 - whichever library it was: found out patient by patient
        failed(fault)
    empty = network.outputs(vector, data.images[:0], device)
    unusable = np.nan if empty.dtype.kind == "f" else UNUSABLE_CLASS
    found = np.full((len(data.labels), *empty.shape[1:]), unusable, empty.dtype)
    for patient in range(data.number_of_patients):
        own = data.images_of(patient)
        try:
            found[own] = network.outputs(vector, data.images[torch.from_numpy(own)], device)
        except Exception as fault:  # noqa: BLE001 - the same, of this patient
            failed(fault)
    return found
