"""Every command of README.md and docs/ that is marked runnable is run, in order, page by page.

A runnable block has the info string `console runnable` (commands behind `$ `, the rest is output), `sh runnable` (every
line is shell) or `python runnable`. A block may state its exit code: `console runnable exit=2`. Blocks of a page share
a folder.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(
    r"^```(console|sh|python) runnable(?: exit=(\d+))?[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL
)
ANY_FENCE = re.compile(r"^```[^\n`]*\brunnable\b[^\n]*$", re.MULTILINE)
LIMIT_SECONDS = 600


class Block(NamedTuple):
    """One runnable block of a page."""

    line: int
    script: str
    exit_code: int


def blocks(text: str) -> list[Block]:
    """All runnable blocks, in order."""
    found = []
    for match in FENCE.finditer(text):
        language, code, body = match.groups()
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(line, SCRIPTS[language](body), int(code or 0)))
    return found


def commands(body: str) -> str:
    """The commands of a console block: lines behind `$ `, and lines that a backslash continues."""
    kept, continued = [], False
    for line in body.splitlines():
        if line.startswith("$ ") or continued:
            kept.append(line.removeprefix("$ "))
            continued = line.endswith("\\")
    return "\n".join(kept) + "\n"


def python(body: str) -> str:
    """A Python block as a shell script."""
    return f"{shlex.quote(sys.executable)} - <<'END-OF-BLOCK'\n{body}END-OF-BLOCK\n"


SCRIPTS = {"console": commands, "sh": str, "python": python}


def pages() -> list[Path]:
    """README.md and every page of docs/ with a runnable block."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if page.is_file() and ANY_FENCE.search(page.read_text(encoding="utf-8"))]


def environment(folder: Path) -> dict[str, str]:
    """This interpreter's commands first, the package from this checkout, a store and a cache of the test's own."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "SFUMATO_STORE": str(folder / ".store"),
        "OMP_NUM_THREADS": "1",
    }


def run(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    """The block in one shell that stops at the first failure."""
    sfumato = f'sfumato() {{ "{sys.executable}" -m sfumato.cli.main "$@"; }}'
    script = f"set -eu\n{sfumato}\n{block.script}"
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_of_page_run(page: Path, tmp_path: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8")):
        done = run(block, tmp_path)
        where = f"{page.relative_to(ROOT)}:{block.line}"
        assert done.returncode == block.exit_code, f"{where}\n{block.script}\n{done.stdout}\n{done.stderr}"


def test_no_runnable_block_is_overlooked() -> None:
    for page in pages():
        text = page.read_text(encoding="utf-8")
        assert len(blocks(text)) == len(ANY_FENCE.findall(text)), page
        assert all(block.script.strip() for block in blocks(text)), page


PAGE = """
```console runnable
$ echo one \\
    two > out.txt
one two
$ test -f out.txt
```

```console
$ false
```

```sh runnable exit=3
exit 3
```

```python runnable
from pathlib import Path

assert Path("out.txt").read_text() == "one two\\n"
```
"""


def test_blocks_are_found_and_run(tmp_path: Path) -> None:
    first, second, third = blocks(PAGE)
    assert (first.line, second.line, second.exit_code) == (2, 13, 3)
    assert run(first, tmp_path).returncode == 0
    assert (tmp_path / "out.txt").read_text() == "one two\n"
    assert run(second, tmp_path).returncode == 3
    assert run(third, tmp_path).returncode == 0
    assert run(third, tmp_path / "..").returncode != 0


def test_a_failing_command_is_seen(tmp_path: Path) -> None:
    (block,) = blocks("```console runnable\n$ false\n$ true\n```\n")
    assert run(block, tmp_path).returncode != 0


@pytest.mark.slow
def test_sfumato_is_the_one_of_this_checkout(tmp_path: Path) -> None:
    (block,) = blocks("```console runnable\n$ sfumato --version\n```\n")
    done = run(block, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sfumato ")
