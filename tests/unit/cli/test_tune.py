import json
import tomllib

import pytest
from typer.testing import CliRunner

from sfumato.audit.tuning import Tuning
from sfumato.cli.config import dump, from_tables
from sfumato.cli.configuring import configured
from sfumato.cli.main import app
from sfumato.cli.options import RunOptions
from sfumato.errors import UsageError

DATA = {"data": {"source": "digits"}}
CRL = {"method": "crl", "tolerance": 0.02, "trials": 3, "grid": {"alpha": [0.4, 0.8], "threshold": ["batch"]}}


def test_one_table_or_several_are_read_and_written_back():
    one = from_tables(DATA | {"tune": CRL})
    made = Tuning(method="crl", tolerance=0.02, trials=3, grid={"alpha": (0.4, 0.8), "threshold": ("batch",)})
    assert one.tune == (made,)
    several = from_tables(DATA | {"tune": [CRL, {"method": "relaxloss"}]})
    assert several.tune == (made, Tuning(method="relaxloss"))
    assert from_tables(tomllib.loads(dump(several))) == several
    assert "tune" not in dump(from_tables(DATA))


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"method": "crl", "trails": 3}, "trails"),
        ({"method": "crl", "grid": {"alpha": 0.4}}, "list of candidates"),
        ({"method": "crl", "grid": [1]}, "table"),
        ({}, "method"),
    ],
)
def test_what_cannot_be_read_is_refused(table, text):
    with pytest.raises(UsageError, match=text):
        from_tables(DATA | {"tune": table})


def test_the_option_names_methods_and_takes_their_tables(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(dump(from_tables(DATA | {"tune": CRL})))
    assert configured(RunOptions(config=str(path)), compared=True).tune[0].trials == 3
    named = configured(RunOptions(config=str(path), tune="relaxloss,crl"), compared=True).tune
    assert [one.method for one in named] == ["relaxloss", "crl"]
    assert named[1].trials == 3
    with pytest.raises(UsageError, match="relaxlos"):
        configured(RunOptions(data="digits", tune="relaxlos"), compared=True)


LINE = ["digits", "--unit", "example", "--records", "160", "--defences", "undefended,label-smoothing", "--models", "2",
        "--design", "canaries", "--canaries", "20", "--attacks", "loss", "--set", "epochs=1", "--config"]  # fmt: skip


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tune.toml"
    path.write_text(
        '[data]\nsource = "digits"\n[tune]\nmethod = "label-smoothing"\ntolerance = 1.0\n[tune.grid]\n'
        "smoothing = [0.1, 0.4]\n"
    )
    return path


def test_compare_tunes_first_and_the_record_says_so(config, tmp_path):
    places = ["--store", tmp_path / "store", "--out", tmp_path / "out", "--executor", "inline", "--display", "none"]
    ran = CliRunner().invoke(app, [str(word) for word in ["compare", *LINE, config, *places, "--json"]])
    assert ran.exit_code == 0, ran.output
    (found,) = json.loads((tmp_path / "out" / "record.json").read_text())["tuning"]
    assert len(found["trials"]) == 2
    assert found["chosen"]["smoothing"] in (0.1, 0.4)


def test_the_plan_counts_the_trainings_of_tuning(config, tmp_path):
    words = ["plan", *LINE, config, "--store", tmp_path / "store", "--display", "none"]
    ran = CliRunner().invoke(app, [str(word) for word in words])
    assert ran.exit_code == 0, ran.output
    assert "label-smoothing is tuned: at most 3 more trainings" in ran.stdout
