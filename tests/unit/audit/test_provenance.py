import os
import platform
from datetime import datetime

from sfumato.audit import provenance as module
from sfumato.audit.provenance import provenance


def test_facts_that_repeat_a_run_and_nobodys_name():
    found = provenance("sfumato demo", 7, 1.23456)
    assert (found.command, found.seed, found.seconds) == ("sfumato demo", 7, 1.23)
    assert datetime.fromisoformat(found.created).tzinfo is not None
    assert found.versions["python"] == platform.python_version()
    assert found.versions.keys() >= {"torch", "numpy", "scikit-learn"}
    text = found.model_dump_json()
    assert os.path.expanduser("~") not in text
    assert platform.node() == "" or platform.node() not in text


def test_a_package_that_is_not_there_is_said_so(monkeypatch):
    monkeypatch.setattr(module, "PACKAGES", ("no-such-package-anywhere",))
    assert provenance("", 0, 0.0).versions["no-such-package-anywhere"] == "not installed"
