"""Hides the user name and the password that a URL may carry, in whatever is shown, logged or stored."""

import re

_USER_INFO = re.compile(r"(?<=://)[^\s/?#\"<>]*@")


def hide_user_info(text: str) -> str:
    """Return a text without the part before the `@` of the URLs in it."""
    return _USER_INFO.sub("", text) if "://" in text else text
