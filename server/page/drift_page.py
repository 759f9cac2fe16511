"""Drift across sites: each round's verdict, and how the sites' patients lie in the public bins.

What sites have released is noised, so shares of small sites jump about: whether a difference is more than noise, the
table says, and never the picture.
"""

from __future__ import annotations

from http import HTTPStatus

from fedimg.errors import DataError
from fedimg.monitoring.across_sites import Compared
from fedimg.monitoring.shared_histograms import edges_of
from fedimg.report.axes import Frame, Ticks, ticks
from fedimg.report.blocks import Column, epsilon_text, figure, scientific, section
from fedimg.report.interval_chart import Measured, intervals
from fedimg.report.lines import COLOURS, SIZE, Chart, Series, draw_series, legend, picture
from fedimg.report.markup import Markup, element, join
from fedimg.values import Interval
from fedimg.web.parts import cards, chip
from fedimg.web.refusal import Refused
from server.drift import Round, rounds
from server.federation_folder import FederationFolder

PATH = "/drift"
TITLE = "Drift"
_MOST_ROUNDS = 100


def sections(folder: FederationFolder, name: str | None = None) -> list[Markup]:
    """The page: one round, the latest where none is named, and the list of them.

    Raises Refused for a round that is not there.
    """
    try:
        found = rounds(folder)[:_MOST_ROUNDS]
    except DataError as fault:
        raise Refused(HTTPStatus.CONFLICT, f"Expected {fault.expected}; found {fault.found}.") from None
    crumb = element("p", element("a", "← Federation", href="/"), class_="crumb")
    head = join([crumb, element("h1", "Drift across sites")])
    if not found and name is None:
        none = element(
            "p", "No site has given its histograms yet: fedimg server drift FOLDER FILE…", class_="nothing"
        )
        return [head, section("Rounds", "", none)]
    chosen = found[0] if name is None else next((one for one in found if one.name == name), None)
    if chosen is None:
        raise Refused(HTTPStatus.NOT_FOUND, "Expected a round; found none of that name.")
    return [head, _meta(chosen), *_round(chosen), _list(found)]


def _meta(one: Round) -> Markup:
    chips = [
        chip(f"model {one.model[:16]}…"),
        chip(f"{one.first} to {one.last}"),
        chip(f"{len(one.sites)} sites"),
        chip(f"false alarm at most {one.level:g}"),
        _verdict(one),
    ]
    return element("div", chips, class_="meta")


def _verdict(one: Round) -> Markup:
    if not one.compared:
        return chip("nobody to compare with yet", "warning")
    sites = sorted({row.site for row in one.flagged})
    return chip(f"differs: {', '.join(sites)}", "danger") if sites else chip("no difference found", "good")


def _round(one: Round) -> list[Markup]:
    lead = "Each site against the sum of the others; bars are where the true distance lies, with 95 %."
    if len(one.sites) == 2 and one.flagged:
        lead += " Of two sites nobody can say which one differs."
    told = [
        Measured(f"{row.site}: {row.stream}", Interval(row.distance, row.low, row.high))
        for row in (
            *one.flagged,
            *sorted((r for r in one.compared if not r.flagged), key=lambda r: (r.p, -r.distance)),
        )
        if row.told
    ][:24]
    chart = intervals(
        told, "distance of the cumulative shares", "The clearest differences first.", "distances"
    )
    drawn = [figure(chart, wide=True)] if chart is not None else []
    pictures = [
        figure(chart) for number, stream in enumerate(one.shares) if (chart := _shares(one, stream, number))
    ]
    found = [
        section("Sites against the others", lead, *drawn, _table(one.compared)),
        section("In the public bins", "Noise included.", element("div", pictures, class_="figures")),
    ]
    return [*found, _costs(one)]


def _table(compared: tuple[Compared, ...]) -> Markup:
    columns = (
        Column("stream", numeric=False),
        Column("site", numeric=False),
        Column("patients, noised"),
        Column("distance"),
        Column("p"),
        Column("verdict", numeric=False),
    )
    return cards(columns, [_row(row) for row in compared], caption="Sites against the others")


def _row(row: Compared) -> tuple[str, ...]:
    if not row.told:
        return row.stream, row.site, f"{row.patients:,.0f}", "–", "–", chip("too few to tell", "plain")
    verdict = chip("differs", "danger") if row.flagged else chip("no difference found", "plain")
    if row.but_for:
        verdict = chip(f"like the others without {', '.join(row.but_for)}", "plain")
    distance = f"{row.distance:.3f} [{row.low:.3f}, {row.high:.3f}]"
    return row.stream, row.site, f"{row.patients:,.0f}", distance, f"{row.p:.2g}", verdict


def _shares(one: Round, stream: str, number: int) -> Chart | None:
    """Shares by bin, a line a site; None where no site has more patients than noise."""
    own, edges = one.shares[stream], edges_of(stream)
    if not own:
        return None
    lines = [
        Series(site, tuple((k + 0.5, share) for k, share in enumerate(shares)), k % COLOURS)
        for k, (site, shares) in enumerate(sorted(own.items()))
    ]
    inner = tuple(float(k) for k in range(len(edges) + 2))
    x = Ticks(inner, ("", *(f"{edge:.3g}" for edge in edges), ""))
    y = ticks(0.0, max(share for shares in own.values() for share in shares), ceiling=1.0)
    frame = Frame.around(SIZE, x, y, (stream, "share of patients"))
    said = "; ".join(
        f"{site} mostly in bin {max(range(len(s)), key=s.__getitem__) + 1}" for site, s in sorted(own.items())
    )
    svg = picture(
        f"shares-{number}",
        stream,
        f"Shares by bin: {said}.",
        SIZE,
        [*frame.draw(), *draw_series(frame, lines)],
    )
    return Chart(svg, legend(lines), f"{stream}: edges of the bins below")


def _costs(one: Round) -> Markup:
    columns = (
        Column("site", numeric=False),
        Column("ε of this file"),
        Column("δ"),
        Column("noise in each bin (patients)"),
    )
    rows = [
        (site, epsilon_text(own["epsilon"]), scientific(own["delta"]), f"{own['noise_std']:.1f}")
        for site, own in sorted(one.sites.items())
    ]
    lead = "For adding or removing one patient, charged to the site's own ledger."
    return section("What it cost each patient", lead, cards(columns, rows))


def _list(found: list[Round]) -> Markup:
    columns = (
        Column("period", numeric=False),
        Column("model", numeric=False),
        Column("sites"),
        Column("verdict", numeric=False),
    )
    rows = [
        (
            element("a", f"{one.first} to {one.last}", href=f"{PATH}/{one.name}"),
            f"{one.model[:16]}…",
            str(len(one.sites)),
            _verdict(one),
        )
        for one in found
    ]
    return section("Rounds", "", cards(columns, rows))
