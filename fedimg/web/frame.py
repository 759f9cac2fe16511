"""The frame of a page, built of `report.markup`: nothing in it can be anything but text or markup made here.

Style and script are files of their own (`/static/page.css`, `/static/page.js`), as the content security policy has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

from fedimg.report.markup import Markup, element, join
from fedimg.report.style import CSS

MAKER = "fedimg"
RELOAD_S = 15  # how often a page loads itself where scripts are off
MOST_NAME = 64


@dataclass(frozen=True, slots=True)
class Visit:
    """For whom a page is drawn: `csrf` for its forms, the path of its `events`, "" for none, and who that is."""

    csrf: str = ""
    events: str = ""
    who: str = ""


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around every page of an application.

    Attributes:
        links: text → path, in the bar. notice: a sentence below it, on every page. wide: a page as wide as its tables.
    """

    links: Mapping[str, str] = field(default_factory=dict)
    notice: str = ""
    wide: bool = False


_ALONE = Around()


def style_sheet() -> str:
    """The report's, and what a page has beyond it."""
    return CSS + (resources.files("fedimg.web") / "page.css").read_text("utf-8")


def script() -> str:
    return (resources.files("fedimg.web") / "page.js").read_text("utf-8")


def document(
    title: str,
    sections: Sequence[Markup],
    *,
    brand: str = MAKER,
    visit: Visit | None = None,
    around: Around = _ALONE,
    here: str = "",
) -> str:
    """A whole page.

    Args:
        brand: what the bar says. visit: of somebody who is logged in; the bar then has links and a way out.
        here: which of the links this page belongs to.
    """
    events = visit.events if visit is not None else ""
    parts = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("link", rel="stylesheet", href="/static/page.css"),
        element("title", title),
    ]
    if events:
        reload = element("meta", http_equiv="refresh", content=str(RELOAD_S))
        parts += [element("noscript", reload), element("script", src="/static/page.js", defer="")]
    notice = [element("p", around.notice, class_="banner", role="note")] if around.notice else []
    body = element(
        "body",
        element("a", "Skip to the content", href="#content", class_="skip"),
        element("header", _bar(brand, visit, around, here), class_="topbar"),
        notice,
        element("main", sections, id="content", tabindex="-1"),
        data_events=events or None,
        class_="wide" if around.wide else None,
    )
    return "<!DOCTYPE html>\n" + element("html", element("head", parts), body, lang="en") + "\n"


def _bar(brand: str, visit: Visit | None, around: Around, here: str) -> Markup:
    maker = [] if brand == MAKER else [element("span", MAKER, class_="maker")]
    bar = [element("a", maker, element("strong", brand), href="/", class_="brand")]
    if visit is not None:
        bar += [
            element("a", text, href=path, aria_current="page" if text == here else None)
            for text, path in around.links.items()
        ]
        if visit.events:
            bar.append(element("span", "", id="link-state", class_="link-state", role="status"))
        bar.append(button("/logout", "Log out", visit.csrf, quiet=True, title=visit.who))
    return element("nav", bar, aria_label="Pages" if around.links else None)


def button(
    path: str, label: str, csrf: str, *, quiet: bool = False, danger: bool = False, title: str = ""
) -> Markup:
    """A form of one button: POST with the session's token."""
    kind = "quiet" if quiet else "danger" if danger else None
    return element(
        "form",
        element("input", type="hidden", name="csrf", value=csrf),
        element("button", label, type="submit", class_=kind, title=title or None),
        method="post",
        action=path,
        class_="inline",
    )


def part(name: str, *content: Markup) -> Markup:
    """A part of a page that `events` may replace: `name` is its id."""
    return element("div", content, id=name, class_="part")


def login_page(brand: str, csrf: str, command: str, fault: str = "", *, named: bool = False) -> str:
    """The form that asks for the token. `command`: what prints it on this machine, "" for none.

    `named`: and for who logs in.
    """
    notice = [element("p", fault, class_="bad", role="alert")] if fault else []
    form = element(
        "form",
        element("input", type="hidden", name="csrf", value=csrf),
        _name_field(brand, named=named),
        element("label", "Access token", for_="token"),
        element(
            "input",
            id="token",
            name="token",
            type="password",
            autocomplete="current-password",
            required="",
            autofocus=None if named else "",
            spellcheck="false",
        ),
        element("button", "Log in", type="submit"),
        method="post",
        action="/login",
        class_="login",
    )
    told = element("p", "On the server's machine, ", element("code", command), " prints it.", class_="faint")
    content = element(
        "section", element("h1", "Log in"), notice, form, told if command else Markup(""), class_="narrow"
    )
    return document(f"Log in – {brand}", [content], brand=brand)


def _name_field(brand: str, *, named: bool) -> Markup:
    if not named:
        # nobody types it: keepers of passwords want a name to keep one under
        return element("input", name="username", value=brand, autocomplete="username", hidden="", readonly="")
    field = element(
        "input",
        id="username",
        name="username",
        autocomplete="username",
        maxlength=MOST_NAME,
        required="",
        autofocus="",
    )
    return join([element("label", "Your name, for the audit trail", for_="username"), field])
