import pytest

from sfumato.cli.invocation import Invocation, without_folders


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("/home/alice/data/patients.csv", "patients.csv"),
        ("/patients.csv", "patients.csv"),
        ("cifar10:/mnt/sets/cifar.zip", "cifar10:cifar.zip"),
        ("--out=/home/alice/report", "--out=report"),
        ("unit_file=/home/alice/who.csv", "unit_file=who.csv"),
        ("../shared/data/cifar.zip", "../shared/data/cifar.zip"),
        ("data/patients.csv", "data/patients.csv"),
        ("~/patients.csv", "~/patients.csv"),
        (r"C:\Users\alice\patients.csv", "patients.csv"),
        ("mixup(alpha=0.4)", "mixup(alpha=0.4)"),
    ],
)
def test_absolute_folders_are_cut_off(word: str, kept: str) -> None:
    assert without_folders(word) == kept


def test_command_repeats_the_run_without_local_options() -> None:
    words = ("compare", "/home/alice/p.csv", "--store", "/big/disk", "--display=json", "--title", "a b")
    assert Invocation(words).command == "sfumato compare p.csv --title 'a b'"
