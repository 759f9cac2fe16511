"""What a run promises, to whom, and what it does not, in words (`privacy.md` §1).

In the insecure test mode no sentence may be read as a guarantee: `promised` is empty there,
whatever the mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedimg.report.data import PrivacySummary


@dataclass(frozen=True, slots=True)
class Notice:
    """A statement loud enough to stand on top of the page."""

    level: Literal["danger", "warning", "note"]
    title: str
    text: str


_PROMISED = {
    "per_site": (
        (
            "Each patient is protected against the server, the other sites and everyone who sees the model. "
            "Adding or removing one patient, with all of their images and studies, changes the probability of "
            "anything that left the site by at most the factor e^ε, but for a probability of δ."
        ),
        (
            "The promise rests on the patient's own site alone: it clips, samples and adds its full noise itself "
            "before anything leaves."
        ),
    ),
    "distributed": (
        (
            "Each patient is protected against the server and up to {colluders} other colluding sites. Adding or "
            "removing one patient, with all of their images and studies, changes the probability of what is "
            "opened by at most the factor e^ε, but for a probability of δ."
        ),
        (
            "Every site adds a share of the noise. The promise rests on the secure aggregation: only sums over "
            "enough sites are ever opened."
        ),
    ),
    "client_level": (
        (
            "Each client, a whole site, is protected against those who see the model: adding or removing one "
            "client, with all of its data, changes the probability of the model by at most the factor e^ε, but "
            "for a probability of δ."
        ),
        (
            "The promise rests on the server, which samples the clients, clips their updates and adds the noise. "
            "Clients are sampled independently, and the server divides by the declared number, never by how "
            "many came."
        ),
    ),
}
_EVERY_RELEASE = (
    (
        "It covers every release of the run together: all training steps and the evaluations at the sites. Each "
        "was charged to the ledger before it left."
    ),
    (
        "It holds whatever else an attacker knows, every other patient's record included, and for whatever is "
        "later computed from the releases."
    ),
)


def promised(privacy: PrivacySummary) -> tuple[str, ...]:
    """The guarantees of a run; empty where there are none."""
    if not privacy.protects:
        return ()
    of_mode = tuple(text.format(colluders=privacy.colluders) for text in _PROMISED[privacy.mode])
    if privacy.unit == "image":
        return tuple(_of_images(text) for text in of_mode + _EVERY_RELEASE)
    return of_mode + _EVERY_RELEASE


def _of_images(text: str) -> str:
    """The same sentence where the unit is the image, because the source knows of no patients."""
    for patient, image in (
        (", with all of their images and studies,", ""),
        ("every other patient's record", "every other image"),
        ("the patient's own site", "the image's own site"),
        ("The patient's own site sees the patient's data", "The image's own site sees it"),
        (
            "any one patient. Membership of a patient, and sometimes whole images,",
            "any one image. Membership of an image, and sometimes all of it,",
        ),
        ("No patient is assumed", "No image is assumed"),
        (", since each site uses its own pseudonyms", ""),
        ("A patient is protected", "An image is protected"),
        ("on the same patients", "on the same images"),
        ("Each patient", "Each image"),
        ("one patient", "one image"),
    ):
        text = text.replace(patient, image)
    return text


def not_promised(privacy: PrivacySummary) -> tuple[str, ...]:
    """What a reader may not conclude from the run."""
    said = _not_promised(privacy)
    return tuple(map(_of_images, said)) if privacy.unit == "image" else said


def _not_promised(privacy: PrivacySummary) -> tuple[str, ...]:
    if not privacy.protects:
        return (
            (
                "Nothing bounds what the updates and the model tell about any one patient. Membership of a "
                "patient, and sometimes whole images, can be recovered from un-noised updates."
            ),
            (
                "De-identification removed direct identifiers from headers and pixels; it does not protect "
                "against what a trained model remembers."
            ),
            _NOT_CLINICAL,
        )
    several = privacy.max_sites_per_patient
    sites = (
        f"No patient is assumed to be at more than {several} site{'s' if several > 1 else ''}. This is declared "
        "and cannot be checked, since each site uses its own pseudonyms"
        + (
            f"; the releases of {several} sites are composed."
            if several > 1
            else "; ε is the largest over the sites."
        )
    )
    trusted = {
        "per_site": "The patient's own site sees the patient's data, as it did before.",
        "distributed": "More colluding sites than declared void the promise: each can take its own share of the noise "
        "off. With fewer survivors than the threshold a step is void: nothing is opened, and it is charged.",
        "client_level": "Nothing is promised against the server: it sees every update before the noise. A patient "
        "is protected only as part of one client; exchanging a client's data for others counts as removing one "
        "client and adding another.",
    }[privacy.mode]
    public = "That a site took part, its declared size, and the settings below are public."
    if privacy.mode == "client_level":
        sites = (
            "ε counts on the sampling of clients, which makes it smaller only against those who do not see the "
            "cohort. The server knows whom it asked, and a client knows of itself; this record names nobody."
        )
        public = "The declared number of clients and the settings below are public."
    ledger = (
        "The ledgers were made for this run alone: what other runs spend on the same patients is not counted in ε."
        if privacy.scratch_ledger
        else "Runs before and after this one spend from the same ledger; ε here is this run's share."
    )
    return (
        trusted,
        sites,
        public,
        (
            "What holds for many patients is learned on purpose: a model may say much about a person who was never "
            "in the data."
        ),
        ledger,
        _NOT_CLINICAL,
    )


_NOT_CLINICAL = (
    "This is a measurement on test data, not a clinical validation; the model is no medical device."
)


def notices(privacy: PrivacySummary, *, simulated: bool) -> tuple[Notice, ...]:
    """Everything that must be said before any number, the gravest first."""
    said = []
    if privacy.insecure:
        said.append(
            Notice(
                "danger",
                "Insecure test mode: no patient is protected",
                "The noise and the sampling of patients came from a seed that stands in the settings, so that "
                "anyone can take the noise away again. Every ε below is nominal and void. Do not publish or use "
                "this model.",
            )
        )
    if privacy.unit == "image" and privacy.protects:
        said.append(
            Notice(
                "warning",
                "The unit is the image",
                "The data source knows of no patients, so ε is for one image. Someone with several images among "
                "the data is not protected as a whole.",
            )
        )
    if privacy.mode == "none":
        said.append(
            Notice(
                "danger",
                "No differential privacy",
                "The sites' updates carried no noise. They, and the model, may reveal single "
                + ("images." if privacy.unit == "image" else "patients."),
            )
        )
    elif not privacy.protects and not privacy.insecure:
        said.append(
            Notice(
                "danger",
                "No finite guarantee",
                "At least one site has no finite ε in this run, so nothing is promised.",
            )
        )
    if privacy.mode == "client_level":
        said.append(
            Notice(
                "warning",
                "The server is trusted",
                "Noise was added by the server, after it had seen the clients' updates. ε is for one client, against "
                "those who see the model but not whom the server sampled.",
            )
        )
    if privacy.secagg == "none":
        protected = (
            "Each had been noised by its site before it left, and that noise is what the promise rests on."
            if privacy.protects and privacy.mode == "per_site"
            else "Nothing hid one site's contribution from the server."
        )
        said.append(
            Notice(
                "warning",
                "No secure aggregation",
                f"The server saw each {'client' if privacy.mode == 'client_level' else 'site'}'s update on its own. "
                + protected,
            )
        )
    if privacy.quorum is not None:
        sites, threshold, colluders = privacy.quorum
        said.append(
            Notice(
                "note",
                "Secure aggregation",
                f"The server saw {_sums(privacy.groups)}, never one site's own: of {sites} sites at least "
                f"{threshold} were in each. That holds against a server that "
                f"{'lies' if privacy.server_may_lie else 'follows the protocol'}, and up to {colluders} of the sites "
                "helping it. A sum with fewer survivors was not opened.",
            )
        )
    for site, last in sorted(privacy.left.items()):
        spent = (
            " What it released until then is in the model and counts in ε; the table gives what was set aside "
            "for the whole run, which it cannot have passed."
            if privacy.protects
            else " What it sent until then is in the model."
        )
        text = (
            f"{site} took part until round {last:,} and could not join again when the run was resumed.{spent}"
        )
        said.append(Notice("note", "A site has left", text))
    if simulated:
        said.append(
            Notice(
                "note",
                "Simulated federation",
                "All sites and the server ran on one computer, under one owner. Keys, homes and ledgers of the "
                "sites are simulated too.",
            )
        )
    return tuple(said)


def _sums(groups: int) -> str:
    """What was opened."""
    if groups == 1:
        return "sums of the sites' updates"
    return f"in each round {groups} sums of the updates of groups of sites, the same groups in the whole run"
