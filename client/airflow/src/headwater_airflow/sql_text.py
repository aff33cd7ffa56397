"""Filling `${name}` in SQL, as `headwater submit --set name=value` does it: not in comments, `$${` stands for `${`."""

from __future__ import annotations

import re
from collections.abc import Mapping

_COMMENT = r"--[^\n]*|/\*.*?(?:\*/|\Z)"
# Quoted text is passed over as a whole, so that what looks like a comment in it is none. A backslash escapes in ' and ".
_QUOTED = r"'(?:\\.|[^'\\])*(?:'|\Z)|\"(?:\\.|[^\"\\])*(?:\"|\Z)|`[^`]*(?:`|\Z)"
_PIECE = re.compile(f"(?P<comment>{_COMMENT})|(?P<quoted>{_QUOTED})", re.DOTALL)
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}")


def fill(sql: str, variables: Mapping[str, str]) -> str:
    """The text with each `${name}` replaced.

    Raises ValueError for a name that is not given.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return "${"
        name = match[1].strip()
        if name not in variables:
            given = f" (given: {', '.join(sorted(variables))})" if variables else ""
            raise ValueError(f"${{{name}}} is not set: give variables={{{name!r}: …}}{given}")
        return str(variables[name])

    out, at = [], 0
    for piece in _PIECE.finditer(sql):
        out.append(_VARIABLE.sub(value, sql[at : piece.start()]))
        out.append(piece[0] if piece["comment"] is not None else _VARIABLE.sub(value, piece[0]))
        at = piece.end()
    out.append(_VARIABLE.sub(value, sql[at:]))
    return "".join(out)
