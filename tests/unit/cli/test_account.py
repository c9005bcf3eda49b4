import json
import subprocess
import sys

import pytest

KNOWN = ("--sample-rate", "0.0042666667", "--noise-multiplier", "0.8", "--steps", "14062", "--delta", "1e-6")


def test_json_has_the_three_accountants_and_nothing_else(sfumato) -> None:
    done = sfumato("account", *KNOWN, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ["pld", "rdp", "rdp_classic"]
    assert found["pld"] == pytest.approx(5.14, abs=0.005)
    assert found["rdp"] == pytest.approx(5.60, abs=0.005)
    assert 6.22 <= found["rdp_classic"] <= 6.23


def test_the_table_says_the_neighbours(sfumato) -> None:
    done = sfumato("account", *KNOWN)
    assert done.exit_code == 0, done.stderr
    for part in ("one unit added or removed (ADD_OR_REMOVE_ONE)", "5.14", "delta 1e-06", "14062 steps", "Poisson"):
        assert part in done.stdout


def test_what_no_accountant_covers_is_null_with_the_reason(sfumato) -> None:
    done = sfumato("account", *KNOWN, "--adjacency", "REPLACE_ONE", "--json")
    found = json.loads(done.stdout)
    assert (found["rdp"], found["rdp_classic"]) == (None, None)
    assert found["pld"] > 7
    assert "RDP has no bound" in done.stderr


def test_without_noise_nothing_is_bounded(sfumato) -> None:
    done = sfumato("account", "--sample-rate", "0.1", "--noise-multiplier", "0", "--steps", "1", "--delta", "1e-5")
    assert done.stdout.count("not bounded") == 3


@pytest.mark.parametrize("left_out", ["--sample-rate", "--noise-multiplier", "--steps"])
def test_a_target_finds_what_is_left_out(sfumato, left_out) -> None:
    place = KNOWN.index(left_out)
    words = (*KNOWN[:place], *KNOWN[place + 2 :], "--target-epsilon", "5.2")
    found = json.loads(sfumato("account", *words, "--json").stdout)
    name = left_out.removeprefix("--").replace("-", "_")
    assert list(found) == [name, "pld", "rdp", "rdp_classic"]
    assert found[name] == pytest.approx(float(KNOWN[place + 1]), rel=0.05)
    assert 5.14 <= found["pld"] <= 5.2
    assert f"{name} = " in sfumato("account", *words).stdout


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (KNOWN[:2] + KNOWN[6:], "--target-epsilon"),
        ((*KNOWN, "--target-epsilon", "3"), "left out"),
        ((*KNOWN[:4], *KNOWN[6:], "--target-epsilon", "-3"), "target_epsilon"),
        ((*KNOWN, "--adjacency", "REPLACE"), "'REPLACE_ONE'"),
        ((*KNOWN[:6], "--delta", "0"), "delta"),
        (("--sample-rate", "2", *KNOWN[2:]), "sample_rate"),
        (KNOWN[:6], "--delta"),
    ],
)
def test_errors_say_what_to_do(sfumato, words, near) -> None:
    done = sfumato("account", *words)
    assert (done.exit_code, done.stdout) == (1, "")
    assert near in done.stderr


def test_it_does_not_wait_for_torch() -> None:
    code = (
        "import sys\nfrom sfumato.cli.main import app\n"
        f"code = app(['account', *{KNOWN!r}], standalone_mode=False)\nprint(code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
