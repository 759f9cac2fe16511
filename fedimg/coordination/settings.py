"""The settings that a report prints: of each pair of keys the one that this run has used."""

from __future__ import annotations

from fedimg.aggregation import BUILTIN
from fedimg.config import Config


def rows(config: Config, unit: str = "patient", *, simulated: bool = True) -> tuple[tuple[str, str], ...]:
    """What a reader looks for first; the rest stands in config.yaml. `unit` is what ε is for.

    Between machines data and engine are each site's own.
    """
    a, engine = config.aggregation, config.engine
    ours = (("engine", f"{engine.name}, fused" if engine.fused else engine.name),) if simulated else ()
    return (
        *((("data", config.data.name),) if simulated else ()),
        ("model", config.model.name),
        *((("task", config.model.task),) if config.model.task != "classification" else ()),
        ("image size", " × ".join(map(str, config.imaging.image_size))),
        ("rounds", str(config.rounds)),
        ("aggregation", f"{a.name}, learning rate {a.learning_rate:g}"),
        *_at_the_server(config),
        *([("in place of the mean", f"{a.robust}, against {a.liars}")] if a.robust != "none" else []),
        ("secure aggregation", config.secagg.name),
        *ours,
        *([("experiment", config.experiment)] if config.experiment else []),
        *([("settings chosen on", config.tuned_on)] if config.tuned_on else []),
        ("seed (weights, partition, cohort)", str(config.seed)),
        *(_open(config) if config.privacy.mode == "none" else _private(config, unit)),
        *_both(config),
    )


def _private(config: Config, unit: str) -> list[tuple[str, str]]:
    p, t = config.privacy, config.training
    if p.mode == "client_level":
        q, mean = p.sampling_rate, p.expected_batch_size
        cohort = f"{mean:g} expected in a round" if q is None else f"each with probability {q:g} in a round"
        return [
            ("cohort of clients", cohort),
            ("clip norm C of an update", f"{p.l2_clip_norm:g}"),
            *_open(config),
        ]
    sampled = (
        f"{p.expected_batch_size:g} {unit}s expected in a step"
        if p.sampling_rate is None
        else f"each {unit} with probability {p.sampling_rate:g} in a step"
    )
    several = [("images per patient and step", f"at most {p.images_per_patient}")]
    return [
        ("local steps a round", str(p.local_steps)),
        ("sampling", sampled),
        ("clip norm C", f"{p.l2_clip_norm:g}"),
        *(several if unit == "patient" else []),
        ("local learning rate", f"{t.private_learning_rate or t.learning_rate:g}"),
    ]


def _open(config: Config) -> list[tuple[str, str]]:
    t = config.training
    shown = [
        ("local epochs", str(t.local_epochs)),
        ("batch size", f"{t.batch_size} images"),
        ("local learning rate", f"{t.learning_rate:g}"),
    ]
    if t.gradient_norm:
        shown.append(("bound on a minibatch's gradient", f"{t.gradient_norm:g}"))
    if t.images_per_patient:
        shown.append(("images per patient and epoch", f"at most {t.images_per_patient}"))
    return shown


def _at_the_server(config: Config) -> list[tuple[str, str]]:
    a, shown = config.aggregation, list[tuple[str, str]]()
    if a.name == "fedavgm":
        shown.append(("server momentum", f"{a.momentum:g}"))
    if a.name in BUILTIN and a.ema:
        shown.append(("released model", f"debiased average of the rounds' models, β = {a.ema:g}"))
    return shown


def _both(config: Config) -> list[tuple[str, str]]:
    t, imaging = config.training, config.imaging
    shown = list[tuple[str, str]]()
    if imaging.together:
        shown.append((f"one example a {imaging.unit}, of", ", ".join(imaging.together)))
    if imaging.augmentation.modality_dropout:
        shown.append(
            ("modality taken for missing", f"each at a rate of {imaging.augmentation.modality_dropout:g}")
        )
    if imaging.features:
        bounds = (f"{name} ({low:g} to {high:g})" for name, (low, high) in imaging.features.items())
        shown.append(("numbers beside the image", ", ".join(bounds)))
    if t.algorithm.name != "none":
        shown.append(("algorithm for sites that differ", t.algorithm.name))
    if config.imaging.augmentation.active:
        shown.append(("augmented copies of an image", str(config.imaging.augmentation.copies)))
    if config.model.name == "cnn" and config.model.weight_standardisation:
        shown.append(("convolutions", "standardised weights"))
    if config.model.centring_rounds:
        shown.append(("features' centre", f"learnt in the first {config.model.centring_rounds:,} rounds"))
    if t.momentum:
        shown.append(("local momentum", f"{t.momentum:g}"))
    if t.proximal_mu:
        shown.append(("FedProx μ", f"{t.proximal_mu:g}"))
    if t.loss != "cross_entropy":
        shown.append(("loss", t.loss))
    if t.class_weights is not None:
        shown.append(("class weights", ", ".join(f"{w:g}" for w in t.class_weights)))
    return shown
