"""The sections on privacy: what is said first, the key figures, the promises, every site's numbers."""

from __future__ import annotations

from typing import Final

from fedimg.metric_names import metric_name
from fedimg.report import blocks
from fedimg.report.blocks import Column, bullets, epsilon_text, scientific, section, table
from fedimg.report.data import ReportData, SitePrivacy
from fedimg.report.empirical import empirical
from fedimg.report.markup import Markup, element
from fedimg.report.promises import not_promised, notices, promised

MODES: Final = {
    "per_site": "differential privacy by each site",
    "distributed": "distributed differential privacy",
    "client_level": "differential privacy of whole clients",
    "none": "no differential privacy",
}


def mode_name(data: ReportData) -> str:
    """The mode in words; under insecure noise it is no privacy of any kind."""
    return "insecure test mode" if data.privacy.insecure else MODES[data.privacy.mode]


def heading(data: ReportData) -> Markup:
    """Title, chips, and whatever has to be said before any number."""
    grave = not data.privacy.protects
    chips = [element("span", f"run {data.run_id}", class_="chip")]
    if data.created:
        chips.append(element("span", data.created, class_="chip"))
    chips.append(element("span", mode_name(data), class_="chip danger" if grave else "chip"))
    if data.simulated:
        chips.append(element("span", "simulated", class_="chip note"))
    chips.append(element("span", f"secure aggregation: {data.privacy.secagg}", class_="chip"))
    said = [
        element(
            "div", element("strong", n.title), element("p", n.text), class_=f"notice {n.level}", role="note"
        )
        for n in notices(data.privacy, simulated=data.simulated)
    ]
    return element("header", element("h1", data.title), element("div", chips, class_="meta"), said)


def key_figures(data: ReportData) -> Markup:
    """The four numbers that a reader looks for first."""
    tiles: list[tuple[str, str, str, bool]] = []
    found = data.evaluation.metrics.get(data.headline) if data.evaluation else None
    if found is not None:
        span = f"95 % interval {found.low:.3f} to {found.high:.3f}"
        name = metric_name(data.headline, data.classes)
        tiles.append((f"{name} on the public test set", f"{found.value:.3f}", span, False))
    privacy = data.privacy
    if privacy.mode == "none":
        tiles.append(("ε", "∞", "nothing bounds what is revealed", False))
    elif privacy.sites:
        several = privacy.max_sites_per_patient
        together = "composed" if privacy.composed is not None else "added up"
        which = "largest over the sites" if several == 1 else f"the {several} largest {together}"
        unit = privacy.unit
        if privacy.mode == "client_level":
            which, unit = "over the whole run", "client"
        under = f"{which}, δ = {scientific(privacy.federation_delta)}, add or remove one {unit}"
        name = "nominal ε, void" if privacy.insecure else f"ε of one {unit}"
        tiles.append((name, epsilon_text(privacy.federation_epsilon), under, privacy.insecure))
    if privacy.clients:
        tiles.append(
            ("Clients, as declared", f"{privacy.clients:,}", "a cohort is sampled each round", False)
        )
    sites = (
        0
        if privacy.clients
        else (
            len(privacy.sites)
            or len({s for point in data.rounds for s in point.epsilon})
            or len(data.intake or data.kept_intake)
        )
    )
    if sites:
        tiles.append(("Sites", f"{sites:,}", "each with its own data and keys", False))
    if data.rounds:
        tiles.append(("Rounds", f"{data.rounds[-1].round:,}", "of training and averaging", False))
    return blocks.tiles(tiles)


def promises(data: ReportData) -> Markup:
    """What is promised and what is not, side by side."""
    kept, left = promised(data.privacy), not_promised(data.privacy)
    kept_box = (
        element("div", element("h3", "Promised"), bullets(kept), class_="promise yes")
        if kept
        else element(
            "div",
            element("h3", "Promised", class_="bad"),
            element("p", "Nothing. This run gives no guarantee to any patient."),
            class_="promise",
        )
    )
    left_box = element("div", element("h3", "Not promised"), bullets(left), class_="promise")
    return section(
        "What is promised, and what is not", "", element("div", kept_box, left_box, class_="columns")
    )


def privacy_table(data: ReportData) -> Markup:
    """Each site's guarantee and how it came about."""
    privacy = data.privacy
    if not privacy.sites:
        return Markup("")
    void = privacy.insecure
    rows = [_privacy_row(site, privacy.left.get(site.site)) for site in privacy.sites]
    columns = [
        Column("site", numeric=False),
        Column("nominal ε (void)" if void else "ε"),
        Column("δ"),
        Column("noise multiplier σ"),
        Column("sampling rate q"),
        Column("steps T"),
        Column("clip norm C"),
        Column("accountant", numeric=False),
        Column("second accountant ε"),
    ]
    of_clients = privacy.mode == "client_level"
    unit = "client" if of_clients else privacy.unit
    shared = (
        "The server sampled, clipped and noised; its own ledger was charged."
        if of_clients
        else f"At most {privacy.max_sites_per_patient} "
        f"site{'s' if privacy.max_sites_per_patient > 1 else ''} per {privacy.unit}, as declared."
    )
    lead = (
        "These figures would hold if the noise were secret. It was not: they promise nothing."
        if void
        else f"Neighbouring data sets differ by adding or removing one {unit}, with everything that belongs to "
        f"it. {shared}"
    )
    said = [] if void else [element("p", _WHICH_EPSILON)]
    said += [element("p", data.battery)] if data.battery else []
    whose = "of clients" if of_clients else "by site"
    return section(
        f"Nominal noise {whose}" if void else f"Privacy {whose}", lead, table(columns, rows), *said
    )


# 7.996, 8.00, 7.59 and 8.01 can all be read on one page: this says which is which.
_WHICH_EPSILON: Final = (
    "The stated ε is the first accountant's and is rounded up to three digits. It covers the retries that were set "
    "aside for interrupted rounds, so the curve by round, which counts only what was released, may end below it. "
    "The second accountant is an independent check with an error bound of its own and may lie a little above or "
    "below; it is not the promise."
)


def numbers_of(site: SitePrivacy) -> list[str]:
    """Cells: ε, δ, σ, q, T, C, and the accountant that says so."""
    return [
        epsilon_text(site.epsilon),
        scientific(site.delta),
        f"{site.noise_multiplier:.4g}",
        f"{site.sampling_rate:.4g}",
        f"{site.steps:,}",
        f"{site.l2_clip_norm:g}",
        site.accountant,
    ]


def _privacy_row(site: SitePrivacy, left: int | None) -> list[str]:
    second = ""
    if site.second_epsilon is not None:
        second = epsilon_text(site.second_epsilon)
        if site.second_accountant:
            second += f" ({site.second_accountant})"
        # The two accountants agree within 0.02 wherever both are sound (`privacy.md` §3).
        if abs(site.second_epsilon - site.epsilon) > 0.02:
            gap = element("span", f" differs by {abs(site.second_epsilon - site.epsilon):.2f}", class_="bad")
            second = element("span", second, gap)
    return [
        site.site if left is None else f"{site.site} (left after round {left:,})",
        *numbers_of(site),
        second or "–",
    ]


def measured(data: ReportData) -> Markup:
    """What canaries measured of the mechanism, beside the claim."""
    return empirical(data.empirical)
