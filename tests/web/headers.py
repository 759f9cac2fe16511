"""What every answer of a page has to say."""

from fedimg.web.headers import STRICT


def strict(headers):
    """Whether all of it is there, and the server's name is not."""
    return {name: headers.get(name) for name in STRICT} == STRICT and "server" not in headers
