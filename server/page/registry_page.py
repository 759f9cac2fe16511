"""The models of this federation: a table of all, and one page of each with what it promises and its history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedimg.report.blocks import Column, epsilon_text, interval_text, scientific, section
from fedimg.report.markup import Markup, element, join
from fedimg.web import frame
from fedimg.web.parts import Kind, cards, chip, meter, moment, of, tiles
from server.model_facts import ModelFacts, SitePrivacy
from server.model_registry import MOST_WHO, MOST_WHY, Change, ModelState, RegisteredModel
from server.page.overview import run_path

MODELS = "/models"
_KINDS: Mapping[ModelState, Kind] = {
    ModelState.CANDIDATE: "note",
    ModelState.RELEASED: "good",
    ModelState.SUPERSEDED: "plain",
    ModelState.WITHDRAWN: "danger",
}
_DIGITS = 16  # of a digest, where the whole would fill the line
_HOW = "fedimg server models add FOLDER BUNDLE --key KEY.pub"


def heading() -> Markup:
    command = element("code", "fedimg server models export")
    told = "Sites run what was released; ", command, " tells them what was withdrawn."
    return join([element("h1", "Models"), element("p", told, class_="lead")])


def parts(found: Sequence[RegisteredModel]) -> dict[str, Markup]:
    """The table's page, by the ids under which events replace its parts."""
    drawn = {"counts": _counts(found), "models": _table(found)}
    return {name: frame.part(name, content) for name, content in drawn.items()}


def model_path(digest: str) -> str:
    return f"{MODELS}/{digest}"


def model_sections(found: RegisteredModel, csrf: str) -> list[Markup]:
    """One model's page. It has no events: a form that somebody fills in is not replaced under the hand."""
    facts = found.facts
    return [
        element("p", element("a", "← Models", href=MODELS), class_="crumb"),
        element("div", element("h1", found.title), _state_chip(found.state), class_="head"),
        element("div", _chips(facts), class_="meta"),
        element("section", element("h2", "State"), _standing(found), _forms(found, csrf)),
        section("Operating point", "", _point(facts)),
        _guarantee(facts),
        section("Where it comes from", "", _origin(facts)),
        section("History", "", _history(found.history)),
    ]


def _state_chip(state: ModelState) -> Markup:
    return chip(state.value, _KINDS[state])


def _counts(found: Sequence[RegisteredModel]) -> Markup:
    said = {
        ModelState.RELEASED: "for sites to run",
        ModelState.CANDIDATE: "waiting for a decision",
        ModelState.SUPERSEDED: "a later version was released",
        ModelState.WITHDRAWN: "nobody is to run them",
    }
    return tiles(
        [
            (state.value, element("span", str(sum(one.state is state for one in found))), words)
            for state, words in said.items()
        ]
    )


def _table(found: Sequence[RegisteredModel]) -> Markup:
    if not found:
        none = element("p", "None is registered yet. ", element("code", _HOW), " adds one.", class_="nothing")
        return section("Registry", "", none)
    heads = ("model", "state", "looks for", "sensitivity", "ε", "run", "since (UTC)")
    columns = [Column(head, numeric=head == "ε") for head in heads]
    return section("Registry", "", cards(columns, [_row(one) for one in found], caption="Registered models"))


def _row(one: RegisteredModel) -> list[str]:
    facts = one.facts
    name = element("a", one.title, href=model_path(facts.digest))
    digest = element("span", facts.digest[:_DIGITS], class_="under uid")
    return [
        join([name, digest]),
        _state_chip(one.state),
        ", ".join(finding.code.meaning for finding in facts.findings) or "–",
        _sensitivity(facts),
        "none" if facts.guarantee.epsilon is None else epsilon_text(facts.guarantee.epsilon),
        element("a", facts.run, href=run_path(facts.run), class_="nowrap"),
        moment(one.history[-1].at),
    ]


def _sensitivity(facts: ModelFacts) -> str:
    point = facts.point
    if point is None:
        return "none promised"
    return join(
        [f"≥ {point.target:.0%}", element("span", f"{point.confidence:.0%} confidence", class_="under")]
    )


def _chips(facts: ModelFacts) -> list[Markup]:
    guarantee = facts.guarantee
    at = " ".join(part for part in (", ".join(facts.modalities), ", ".join(facts.body_parts)) if part)
    promise = chip("no guarantee", "danger")
    if guarantee.epsilon is not None:
        delta = f", δ = {scientific(guarantee.delta)}" if guarantee.delta else ""
        promise = chip(f"ε = {epsilon_text(guarantee.epsilon)}{delta}", "note")
    return [chip(f"{facts.kind} {facts.task}"), *([chip(at)] if at else []), promise]


def _standing(found: RegisteredModel) -> Markup:
    last = found.history[-1]
    why = [element("p", last.why, class_="reason")] if last.why else []
    since = element("p", f"{last.state} by {last.who}, ", moment(last.at), " (UTC)", class_="faint reason")
    remarks = [element("p", f"Note: {remark}.", class_="reason") for remark in found.facts.remarks]
    return join([*why, since, *remarks])


def _forms(found: RegisteredModel, csrf: str) -> Markup:
    """What may be asked of a model in its state."""
    path, forms = model_path(found.facts.digest), []
    if found.state in (ModelState.CANDIDATE, ModelState.SUPERSEDED):
        again = " again" if found.state is ModelState.SUPERSEDED else ""
        forms.append(_form(f"{path}/release", f"Release{again}", csrf, needs_why=False))
    if found.state is not ModelState.WITHDRAWN:
        forms.append(_form(f"{path}/withdraw", "Withdraw for good", csrf, needs_why=True))
    return join(forms)


def _form(path: str, label: str, csrf: str, *, needs_why: bool) -> Markup:
    """Who and why, and a button. `needs_why`: it is refused without a reason."""
    why = "Why" if needs_why else "Why, if there is something to say"
    required = "" if needs_why else None
    return element(
        "form",
        element("input", type="hidden", name="csrf", value=csrf),
        element(
            "label",
            "Your name",
            element("input", name="who", autocomplete="name", maxlength=MOST_WHO, required=""),
        ),
        element(
            "label",
            why,
            element("input", name="why", autocomplete="off", maxlength=MOST_WHY, required=required),
            class_="long",
        ),
        element("button", label, type="submit", class_="danger" if needs_why else None),
        method="post",
        action=path,
        class_="act",
    )


def _point(facts: ModelFacts) -> Markup:
    rows: list[tuple[str, str]] = [
        (
            "threshold",
            "none" if facts.threshold is None else f"{facts.threshold:.4g} of the calibrated probability",
        )
    ]
    point = facts.point
    if point is None:
        nothing = element("p", "No sensitivity is promised: too few positives, or no task of two classes.")
        return join([_facts(rows), nothing])
    rows += [
        ("sensitivity promised", f"{point.target:.0%} or more, with {point.confidence:.0%} confidence"),
        (
            "learnt of",
            f"{point.positives:,} positives and {point.negatives:,} negatives, as far as noise lets one count",
        ),
        ("sensitivity seen", interval_text(point.sensitivity)),
        ("specificity seen", interval_text(point.specificity)),
    ]
    return _facts(rows)


def _guarantee(facts: ModelFacts) -> Markup:
    guarantee = facts.guarantee
    mode = guarantee.mode.replace("_", " ")
    said = f"No differential privacy ({mode}): this model may tell of single patients."
    if guarantee.epsilon is not None:
        delta, sites = scientific(guarantee.delta or 0.0), guarantee.sites
        said = f"ε = {epsilon_text(guarantee.epsilon)} at δ = {delta} for each {guarantee.unit} ({mode})"
        said += f", who may be at up to {sites} sites." if sites > 1 else ", at one site."
    columns = (
        Column("site", numeric=False),
        Column("ε of this run"),
        Column("δ"),
        Column("runs before it"),
        Column("δ of its ledger"),
        Column("its part", numeric=False),
    )
    rows = [_site_row(one) for one in facts.sites]
    note = "ε of this run, of what the site's ledger allows all runs ever. What it holds since then the site alone knows."
    drawn = cards(columns, rows, caption="ε by site")
    return section("What is promised to patients", said, drawn, element("p", note, class_="faint reason"))


def _site_row(one: SitePrivacy) -> list[str]:
    spent: str = "none promised"
    if one.epsilon is not None:
        spent = element("span", epsilon_text(one.epsilon))
    if one.epsilon is not None and one.allowed is not None:
        bar = meter(one.epsilon, one.allowed, f"{one.site}: ε of this run, of what its ledger allows")
        spent = element("span", of(epsilon_text(one.epsilon), f"{one.allowed:g}"), bar)
    return [
        one.site,
        spent,
        "–" if one.delta is None else scientific(one.delta),
        "–" if one.earlier_runs is None else f"{one.earlier_runs:,}",
        "–" if one.allowed_delta is None else scientific(one.allowed_delta),
        chip("signed", "good") if one.signed else chip("not signed: it had left", "warning"),
    ]


def _origin(facts: ModelFacts) -> Markup:
    findings = "; ".join(
        f"{one.of_class}: {one.code.meaning} ({one.code.scheme} {one.code.value})" for one in facts.findings
    )
    rows: list[tuple[str, str]] = [
        ("what it is", facts.description),
        ("findings", findings or "none in codes"),
        ("training run", element("a", facts.run, href=run_path(facts.run))),
        ("run recorded", moment(facts.trained)),
        ("bundle", _hex(facts.digest)),
        ("signed by", _hex(f"ed25519:{facts.signer}")),
        ("weights", _hex(facts.weights)),
        ("architecture", _hex(facts.architecture)),
    ]
    return _facts(rows)


def _history(history: Sequence[Change]) -> Markup:
    columns = [Column(head, numeric=False) for head in ("when (UTC)", "became", "by", "why")]
    rows = [(moment(one.at), _state_chip(one.state), one.who, one.why) for one in reversed(history)]
    return cards(columns, rows, caption="History, the last change first")


def _hex(text: str) -> Markup:
    return element("span", text, class_="uid")


def _facts(rows: Sequence[tuple[str, str]]) -> Markup:
    """Names and values."""
    drawn = [item for name, value in rows for item in (element("dt", name), element("dd", value))]
    return element("dl", drawn, class_="facts")
