"""From an audit record to something a person can read, file and check: one HTML file, Markdown, a model card."""

from sfumato.report.notebook import notebook
from sfumato.report.render import html, markdown, model_card, write
from sfumato.report.view import serve, viewer

__all__ = ["html", "markdown", "model_card", "notebook", "serve", "viewer", "write"]
