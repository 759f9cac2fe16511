"""The shell of a local web page: login, sessions, forms, headers, events, and a thread that serves it.

It knows nothing of what its pages show. An application gives it routes and gets these guarantees for every one of them:

- Nothing but the login form, the style sheet, the script and the two health routes answers without a login
  (`guard`); what counts is refused by default, so that a route that was forgotten is closed, not open.
- Every POST carries the session's own CSRF token and comes from this page's own origin (`guard`).
- Every answer, errors included, has a content security policy under which nothing loads from elsewhere and no
  script or style within the page runs (`headers`).
- A request for another host's name is refused, so that a name that was pointed here reads nothing (`guard`).
- Pages work without their script, which only replaces what has changed (`events`).
"""
