"""Text inside Markdown: names and notes of others appear as text, never as markup or HTML."""

from __future__ import annotations

import json
import re

from markupsafe import Markup

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~])")
_BLANK = re.compile(r"[ \t\r\n\f\v\x85\u2028\u2029]+")
_LINE_START = re.compile(r"^([-+=]|\d+[.)])(?=\s|$|-|=)")


def escape_markdown(value: object) -> Markup:
    """`value` as one line of text; what templates made themselves (`Markup`) stays as it is."""
    if hasattr(value, "__html__"):
        return Markup(value)
    text = _BLANK.sub(" ", str(value)).strip(" ")
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _SPECIAL.sub(r"\\\1", text).replace("://", ":&#47;&#47;").replace("www.", "www&#46;")
    return Markup(_LINE_START.sub(r"\\\1", text))


def fenced(text: str, language: str = "") -> Markup:
    """A code block whose fence is longer than any inside `text`."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{text.rstrip()}\n{fence}")


def yaml_text(value: object) -> Markup:
    """A JSON string, which is also a YAML string: no line break or control character gets through."""
    text = json.dumps(str(value), ensure_ascii=False)
    return Markup(re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", text))
