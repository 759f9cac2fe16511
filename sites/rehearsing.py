"""Whether torch, a network and the noise work here: tried on generated data, as before a site's first round."""

from __future__ import annotations

import torch

from fedimg import site_terms, training
from fedimg.audit import battery
from fedimg.audit.adapters import adapter_of
from fedimg.checkup import Seen, fail
from fedimg.imaging.config import ImagingConfig
from fedimg.models import ModelConfig, build_model
from fedimg.privacy.request import PrivacyRequest
from fedimg.terms import Terms
from fedimg.training import LocalTraining

_SIZE = (32, 32)
_GROUPS = ("sensitivity", "noise")


def rehearsed(device: str, threads: int) -> Seen[None]:
    """A step of training and an evaluation on two dummy patients, where this site computes.

    Raises ConfigError where the step fails, or there is no such device.
    """
    place = training.select_device(device)
    terms = Terms(
        run_id="doctor",
        rounds=1,
        model=ModelConfig("cnn", image_size=_SIZE, width=4),
        training=LocalTraining(),
        imaging=ImagingConfig(image_size=_SIZE),
        privacy=PrivacyRequest(),
        deid_profile="train",
        validation_fraction=0.2,
        bins=10,
        seed=0,
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        site_terms.rehearse(terms, build_model(terms.model, terms.seed, ()), terms.loss(()), place)
    finally:
        torch.set_num_threads(before)
    return Seen(f"a step of training on generated data passes, on {place.type}")


def exact() -> Seen[None]:
    """The part of the conformance battery that holds clipping and noise against their claims."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many small steps: threads only wait for each other
    mechanism = adapter_of("training", PrivacyRequest())
    try:
        report = battery.run(mechanism, groups=_GROUPS)
    finally:
        mechanism.close()
        torch.set_num_threads(threads)
    if report.verdict != "pass":
        failed = ", ".join(report.failed) or "nothing could be checked"
        return fail(
            f"clipping and noise fail: {failed}", "fedimg audit battery; no run begins until it passes"
        )
    return Seen(f"clipping and noise are as claimed, in {len(report.checks)} tests")
