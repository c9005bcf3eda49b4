"""What the user sees when something goes wrong: one clear message, no traceback unless asked for."""

from __future__ import annotations

import traceback
import unicodedata
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from rich.console import Console
from rich.text import Text

from sfumato.errors import SfumatoError

ERROR, INTERRUPTED = 1, 130


class Stopped(BaseException):
    """An interrupt on its way out; its text says what is kept."""


def guarded(action: Callable[[], Any], debug: bool) -> int:
    """Run a command and turn whatever happens into an exit code, with a message on stderr."""
    try:
        code = action()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, Stopped) as stopped:
        complain(str(stopped) or "Interrupted.", "Run the same command again to go on.", style="yellow")
        return INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        complain(*_message(error))
        return ERROR


def complain(message: str, remedy: str = "", *, style: str = "bold red") -> None:
    """Print a message and its remedy on stderr; red on a terminal."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble((clean(message), style), (" " + clean(remedy) if remedy else "", "default")))


def clean(text: str) -> str:
    """The text without control characters, so that a file's name cannot write to the terminal."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    return "".join(sign if _harmless(sign) else repr(sign)[1:-1] for sign in shown)


def _harmless(sign: str) -> bool:
    # wide and narrow blanks count as not printable in Python, and are what keeps a number and its unit together
    return sign.isprintable() or sign == "\n" or unicodedata.category(sign) == "Zs"


def _message(error: Exception) -> tuple[str, str]:
    if isinstance(error, SfumatoError):
        return error.message, error.remedy
    if hasattr(error, "format_message"):  # of click, or of the copy of it that newer versions of typer carry
        return _usage(error)
    if isinstance(error, OSError):
        place = f" at {error.filename!r}" if error.filename else ""
        return f"Expected to read or write{place}, got: {error.strerror or error}.", "Check the path and its rights."
    kind = type(error).__name__
    return f"Unexpected {kind}: {error}", "This is a defect in sfumato; `--debug` shows where it happened."


def _usage(error: Any) -> tuple[str, str]:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "sfumato"
    option = getattr(error, "option_name", None)
    if option and context is not None and type(error).__name__.startswith("NoSuchOption"):
        known = [name for parameter in context.command.params for name in parameter.opts]
        near = get_close_matches(option, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"See `{command} --help`."
        return f"Expected an option of `{command}`, got {option!r}.", hint
    message = str(error.format_message())
    return message if message.endswith((".", "?")) else f"{message}.", f"See `{command} --help`."
