"""Takes the offers of another protocol out of heads, before a parser takes them up."""

import re


class HeadFilter:
    """Finds the end of one head and renames its `Upgrade` header, wherever the bytes are cut into chunks.

    A server may ignore the offer of another protocol, but the parser takes what follows one for that protocol, and the
    body would be lost. Java's client offers HTTP/2 with its first request.
    """

    END = b"\r\n\r\n"
    NAME = b"upgrade:"
    RENAMED = b"x-offer:"
    _OFFER = re.compile(rb"(?<=\n)upgrade:", re.IGNORECASE)

    def __init__(self) -> None:
        self._tail = b""
        """The last bytes returned, as many as may begin the end of the head."""
        self._held = b""
        """Bytes that may begin the header's name, not returned yet."""

    def filter(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the bytes of the head to parse now, and those behind its end."""
        known = len(self._tail)
        data = self._tail + self._held + data
        end = data.find(self.END)
        head, rest = (data, b"") if end < 0 else (data[: end + len(self.END)], data[end + len(self.END) :])
        head = self._OFFER.sub(self.RENAMED, head)
        before, newline, line = head.rpartition(b"\n")
        may_be_name = bool(newline) and 0 < len(line) < len(self.NAME) and self.NAME.startswith(line.lower())
        head, self._held = (before + newline, line) if may_be_name else (head, b"")
        self._tail = b"" if end >= 0 else head[1 - len(self.END) :]
        return head[known:], rest
