"""The verdict and the ROC inside a notebook."""

from __future__ import annotations

from markupsafe import Markup

from sfumato.audit.record import AuditRecord
from sfumato.report.page import page_parts
from sfumato.report.render import html_environment, rendered, sections

_SHOWN = ("verdict", "roc")


def notebook(record: AuditRecord, height: int = 900) -> str:
    """HTML of the verdict box and the ROC for `_repr_html_`: a frame of its own, without scripts and without network.

    Args:
        record: what to show.
        height: of the frame, in CSS pixels.
    """
    environment = html_environment()
    parts = rendered(record, [section for section in sections() if section.name in _SHOWN], environment)
    inner = environment.get_template("notebook.html").render(record=record, page=page_parts(), parts=parts)
    frame = Markup('<iframe sandbox srcdoc="{}" width="100%" height="{}" title="{}" frameborder="0"></iframe>')
    # A plain string: joined to other text, Markup would escape that text.
    return str(frame.format(inner, height, f"sfumato: {record.title}"))
