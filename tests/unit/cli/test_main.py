from pathlib import Path

import pytest

from sfumato.cli import failures
from sfumato.cli.commands import compare as compare_command
from sfumato.cli.failures import clean


def test_help_without_a_command(sfumato) -> None:
    done = sfumato()
    assert done.exit_code == 0
    for command in ("demo", "plan", "train", "audit", "compare", "report", "view", "list", "cite"):
        assert command in done.stdout


def test_version(sfumato) -> None:
    assert sfumato("--version").stdout.startswith("sfumato ")


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("compre",), "'compare'"),
        (("compare", "digits", "--modles", "3"), "'--models'"),
        (("compare", "digts"), "'digits'"),
        (("compare", "digits", "--attacks", "lira"), "'lira-online'"),
        (("compare", "digits", "--defences", "mixpu"), "'mixup'"),
        (("compare", "digits", "--recipe", "table-mpl"), "'table-mlp'"),
        (("compare", "digits", "--data-option", "as_image=true"), "'as_images'"),
        (("compare", "digits", "--display", "ritch"), "'rich'"),
        (("list", "attack"), "'attacks'"),
        (("audit", "digits", "--release", "nowhere"), "Check the path"),
        (("compare",), "Name them"),
        (("compare", "digits", "--models", "3"), "pairs"),
        (("compare", "digits", "--models", "many"), "--help"),
        (("compare", "digits", "--unit", "patient"), "unit"),
        (("compare", "digits", "--recipe", "image-cnn"), "'table-mlp'"),
    ],
)
def test_errors_say_what_to_do_and_exit_with_1(sfumato, words, near) -> None:
    done = sfumato(*words)
    assert done.exit_code == 1
    assert near in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_the_unit_example_is_accepted_for_bundled_sets(sfumato) -> None:
    done = sfumato(
        "plan", "digits", "--unit", "example", "--set", "epochs=1", "--defences", "undefended", "--models", "2"
    )
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize("out", ["taken", "taken/below"])
def test_a_file_in_the_place_of_the_folder(sfumato, predictions, tmp_path, out) -> None:
    (tmp_path / "taken").write_text("mine")
    done = sfumato("audit", "--predictions", predictions, "--out", out)
    assert done.exit_code == 1
    assert "--out" in done.stderr
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["a\x1b[31mb.csv", "-rf.csv", "über maß.csv", "'; rm -rf ~.csv", "<b>&.csv", "[red]x.csv"]
)
def test_hostile_names_are_names(sfumato, predictions, tmp_path, name) -> None:
    path = tmp_path / name
    path.write_text(predictions.read_text())
    done = sfumato("audit", "--predictions", path)
    assert done.exit_code == 0, done.stderr
    assert "\x1b" not in done.stdout
    page = (tmp_path / "audit" / "report.html").read_text(encoding="utf-8")
    assert "<b>&.csv" not in page
    missing = sfumato("audit", "--predictions", f"{path}x")
    assert missing.exit_code == 1
    assert "\x1b" not in missing.stderr


def test_control_characters_are_shown_not_sent() -> None:
    assert clean("a\x1b[2Jb\n5\u00a0%") == "a\\x1b[2Jb\n5\u00a0%"
    assert clean("\udcff") == "\\udcff"


def test_an_interrupt_says_what_is_kept(sfumato, table, monkeypatch) -> None:
    from sfumato.cli import running

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "compare_tuned", interrupted)
    done = sfumato("compare", table, "--label", "diagnosis", "--unit", "patient")
    assert done.exit_code == 130
    assert "are kept in" in done.stderr
    assert "Run the same command again" in done.stderr


def test_a_defect_is_called_one_and_debug_shows_it(sfumato, monkeypatch) -> None:
    from sfumato.cli.commands import list as list_command

    def broken(_: str) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(list_command, "entries", broken)
    done = sfumato("list", "attacks")
    assert (done.exit_code, "Traceback" in done.stderr) == (1, False)
    assert "defect in sfumato" in done.stderr
    assert "Traceback" in sfumato("list", "attacks", "--debug").stderr


def test_guarded_passes_codes_on() -> None:
    assert failures.guarded(lambda: 3, debug=False) == 3
    assert failures.guarded(lambda: None, debug=False) == 0


def test_a_failing_disk_is_an_error_with_its_place(capsys) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device", "/x")

    assert failures.guarded(full, debug=False) == 1
    assert "No space left on device" in capsys.readouterr().err


def test_every_command_has_help(sfumato) -> None:
    for command in ("demo", "plan", "train", "audit", "compare", "report", "view", "list", "cite"):
        done = sfumato(command, "--help")
        assert done.exit_code == 0
        assert "--help" in done.stdout
    assert compare_command.compare.__doc__
    assert Path(compare_command.__file__).name == "compare.py"
