import json
import stat
from pathlib import Path

import pytest

from sfumato.audit.record import AuditRecord

FAST = (
    "--set",
    "epochs=2",
    "--set",
    "replicates=20",
    "--models",
    "4",
    "--executor",
    "inline",
    "--attacks",
    "loss,rmia",
)
COLUMNS = ("--label", "diagnosis", "--unit", "patient")


def write_checks(folder: Path, **fields: object) -> Path:
    path = folder / "checks.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
    path.write_text("\n".join(["[[check]]", 'name = "mine"', *lines]) + "\n")
    return path


def test_compare_writes_a_report_and_says_where(sfumato, table, tmp_path) -> None:
    done = sfumato("compare", table, *COLUMNS, *FAST, "--defences", "undefended,mixup(alpha=0.4)", "--out", "here")
    assert done.exit_code == 0, done.stderr
    for name in ("report.html", "record.json", "record.npz", "report.md", "MODEL_CARD.md", "worst-units.csv"):
        assert (tmp_path / "here" / name).is_file(), name
    assert stat.S_IMODE((tmp_path / "here" / "worst-units.csv").stat().st_mode) == 0o600
    assert "here/report.html" in done.stdout
    assert "Next: " in done.stdout
    assert "4 models trained" not in done.stdout
    assert "models" in done.stderr
    record = AuditRecord.load(tmp_path / "here")
    assert [s.name for s in record.subjects] == ["undefended", "mixup(alpha=0.4)"]
    assert record.data.unit == "patient"
    assert record.provenance.command.startswith("sfumato compare patients.csv --label diagnosis")


def test_json_is_one_document_and_nothing_else(sfumato, table) -> None:
    done = sfumato("audit", table, *COLUMNS, *FAST, "--json", "--display", "json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["exit_code"]) == (0, 0)
    assert {(f["name"], f["attack"]) for f in found["findings"]} >= {("auc", "loss"), ("auc", "rmia"), ("accuracy", "")}
    assert found["record"].endswith("record.json")
    assert found["subjects"][0]["name"] == "undefended"
    assert all(json.loads(line)["event"] for line in done.stderr.splitlines())


def test_predictions_give_an_auc_with_its_interval(sfumato, predictions) -> None:
    done = sfumato("audit", "--predictions", predictions, "--json")
    auc = next(f for f in json.loads(done.stdout)["findings"] if f["name"] == "auc")
    assert done.exit_code == 0
    assert 0.5 < auc["low"] < auc["value"] < auc["high"] <= 1
    assert auc["subject"] == "predictions.csv"
    assert "unit of privacy was not stated" in done.stdout
    told = sfumato("audit", "--predictions", predictions, "--json", "--unit", "example")
    assert "unit of privacy was not stated" not in told.stdout


def test_scores(sfumato, tmp_path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("in,s\n" + "".join(f"{row % 2},{row % 2 + row / 100}\n" for row in range(60)))
    done = sfumato("audit", "--scores", path, "--member-column", "in", "--score-column", "s", "--json")
    assert next(f for f in json.loads(done.stdout)["findings"] if f["name"] == "auc")["value"] > 0.9


def test_a_table_is_not_trained_on(sfumato, predictions) -> None:
    done = sfumato("audit", "digits", "--predictions", predictions)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "got data" in done.stderr
    assert sfumato("audit", "--predictions", predictions, "--scores", predictions).exit_code == 1


@pytest.mark.parametrize(
    ("bound", "code", "word"),
    [({"max": 0.99}, 0, "passed"), ({"max": 0.1}, 2, "failed"), ({"at": 1e-5, "max": 0.5}, 3, "unknown")],
)
def test_checks_decide_the_exit_code(sfumato, predictions, tmp_path, bound, code, word) -> None:
    finding = "tpr_at_fpr" if "at" in bound else "auc"
    checks = write_checks(tmp_path, finding=finding, attack="loss", **bound)
    done = sfumato("audit", "--predictions", predictions, "--checks", checks)
    assert done.exit_code == code, done.stderr
    assert f"Check {word}: mine" in done.stdout
    record = AuditRecord.load(tmp_path / "audit")
    assert (record.verdict.status, record.checks[0].outcome) == (word, word)


def test_damaged_checks_stop_before_anything_is_trained(sfumato, table, tmp_path) -> None:
    (tmp_path / "checks.toml").write_text("[[check]]\nname='x'\nfindng='auc'\nmax=1\n")
    done = sfumato("audit", table, *COLUMNS, *FAST, "--checks", "checks.toml", "--out", "there")
    assert done.exit_code == 1
    assert not (tmp_path / "there").exists()


def test_plan_counts_and_then_finds_what_is_stored(sfumato, table) -> None:
    words = (table, *COLUMNS, *FAST, "--defences", "undefended", "--set", "lr=0.03")
    before = json.loads(sfumato("plan", *words, "--json").stdout)
    assert (before["models"], before["models_to_train"], before["models_ready"]) == (4, 4, 0)
    assert 0 < before["seconds_low"] <= before["seconds_high"]
    assert sfumato("compare", *words).exit_code == 0
    after = json.loads(sfumato("plan", *words, "--json").stdout)
    assert (after["models_to_train"], after["models_ready"]) == (0, 4)
    said = sfumato("plan", *words)
    assert "Stored and reused: 4." in said.stdout
    assert "of training on this machine" in said.stdout
    assert "answers at random" not in said.stdout
    hides = sfumato("plan", table, *COLUMNS, *FAST, "--defences", "hamp(gamma=0.9)", "--set", "draws=1,4")
    assert "hamp(gamma=0.9) answers at random: each record in the game is put to each model up to" in hides.stdout
    assert "--set draws=1,4 --set draws_attacks=lira-online" in hides.stdout
    assert "GB" in said.stdout


def test_budget_prints_what_it_chose(sfumato, table) -> None:
    done = sfumato("plan", table, *COLUMNS, "--set", "epochs=1", "--budget", "1h", "--json", "--defences", "undefended")
    assert json.loads(done.stdout)["models_per_recipe"] == 64
    assert "Budget 1h: 64 models per recipe" in done.stderr
    assert sfumato("plan", table, *COLUMNS, "--budget", "soon").exit_code == 1


def test_train_then_audit_the_model_itself(sfumato, table, tmp_path) -> None:
    done = sfumato("train", table, *COLUMNS, "--set", "epochs=2", "--fraction", "0.5", "--out", "model")
    assert done.exit_code == 0, done.stderr
    assert "Formal guarantee: none, because of" in done.stdout
    members = tmp_path / "model" / "members.csv"
    assert stat.S_IMODE(members.stat().st_mode) == 0o600
    assert len(members.read_text().splitlines()) == 1 + 40
    assert str(tmp_path) not in (tmp_path / "model" / "recipe.json").read_text()
    audited = sfumato("audit", table, "--release", "model", "--models", "4", "--executor", "inline", "--json")
    assert audited.exit_code == 0, audited.stderr
    found = json.loads(audited.stdout)
    assert (found["kind"], found["subjects"][0]["name"]) == ("release", "model")
    assert found["design"]["references_per_target"] == 4


def test_a_release_meets_other_data_or_another_recipe_with_an_error(sfumato, table, tmp_path) -> None:
    assert sfumato("train", table, *COLUMNS, "--set", "epochs=1", "--fraction", "0.5", "--out", "m").exit_code == 0
    table.write_text(table.read_text().replace("p1\n", "p2\n"))
    assert "fingerprints differ" in sfumato("audit", table, "--release", "m").stderr
    assert "got one" in sfumato("audit", "--release", "m", "--defence", "mixup").stderr
    (tmp_path / "m" / "recipe.json").write_text("{}")
    assert "recipe.json" not in sfumato("audit", "--release", "m").stdout
    assert "Expected a model folder" in sfumato("audit", "--release", "m").stderr


def test_foreign_weights_with_a_list_of_members(sfumato, table, tmp_path) -> None:
    import torch
    from safetensors.torch import save_file

    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make(shape, outputs):\n    return nn.Sequential(nn.Linear(shape[0], outputs))\n"
    )
    save_file({"0.weight": torch.zeros(2, 3), "0.bias": torch.zeros(2)}, tmp_path / "net.safetensors")
    torch.save({"0.weight": torch.zeros(2, 3)}, tmp_path / "half.pt")
    (tmp_path / "ids.csv").write_text("id\n" + "".join(f"{row}\n" for row in range(40)))
    words = ("audit", table, *COLUMNS, *FAST, "--model", "net.py:make", "--members", "ids.csv", "--release")
    done = sfumato(*words, "net.safetensors", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["subjects"][0]["history"][-1]["purpose"] == "training elsewhere, which was not seen"
    assert "weights of the network" in sfumato(*words, "half.pt").stderr
    assert "Expected weights" in sfumato(*words, "net.py").stderr
    assert "`--members`" in sfumato("audit", table, *COLUMNS, "--release", "net.safetensors").stderr


def test_scikit_learn_and_own_training(sfumato, table, tmp_path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\ndef train(x, y, seed):\n    return nn.Linear(x.shape[1], 2)\n"
    )
    words = ("compare", table, *COLUMNS, *FAST[2:], "--estimator", "decision-tree", "--train", "mine.py", "--json")
    done = sfumato(*words)
    assert done.exit_code == 0, done.stderr
    assert [s["name"] for s in json.loads(done.stdout)["subjects"]] == ["mine.train", "decision-tree"]
    assert "`epochs`" in sfumato(*words, "--set", "epochs=3").stderr
    own = ("compare", table, *COLUMNS, *FAST[2:], "--train", "mine.py", "--defences")
    assert "only guards answers beside your own training, got relaxloss" in sfumato(*own, "relaxloss").stderr
    assert "only guards answers beside your own training, got memguard" in sfumato(*own, "memguard").stderr
    guarded = sfumato(*own, "top-1", "--json")
    assert guarded.exit_code == 0, guarded.stderr
    assert json.loads(guarded.stdout)["subjects"][0]["defence"]["name"] == "top-1"
    classifier = ("compare", table, *COLUMNS, *FAST[2:], "--estimator", "decision-tree", "--defences", "relaxloss")
    assert "no defence beside a classifier" in sfumato(*classifier).stderr
    assert "'random-forest'" in sfumato("audit", table, *COLUMNS, "--estimator", "random-forrest").stderr
    assert "Python file that exists" in sfumato("audit", table, *COLUMNS, "--train", "none.py:train").stderr


def test_dumped_configuration_repeats_the_run(sfumato, table, tmp_path) -> None:
    words = (table, *COLUMNS, *FAST, "--defences", "undefended,dropout(rate=0.3)+mixup", "--out", "x")
    assert sfumato("compare", *words, "--dump-config", "run.toml").exit_code == 0
    assert not (tmp_path / "x").exists()
    first = json.loads(sfumato("compare", *words, "--json").stdout)
    again = json.loads(sfumato("compare", "--config", "run.toml", "--json").stdout)
    assert again["findings"] == first["findings"]
    assert (again["design"]["trained"], again["design"]["reused"]) == (0, 8)


def test_report_and_cite_from_a_record(sfumato, predictions, tmp_path) -> None:
    assert sfumato("audit", "--predictions", predictions, "--out", "a").exit_code == 0
    done = sfumato("report", "a/record.json", "--format", "html,markdown,card", "--out", "again")
    assert done.exit_code == 0
    assert (tmp_path / "again" / "report.html").read_bytes() == (tmp_path / "a" / "report.html").read_bytes()
    assert "@inproceedings{yeom2018privacy" in sfumato("cite", "a").stdout
    assert sfumato("cite", "mixup").stdout.startswith("@inproceedings{zhang2018mixup")
    assert list(json.loads(sfumato("cite", "image-resnet8", "--json").stdout)) == ["he2016deep"]
    assert list(json.loads(sfumato("cite", "sde-net", "--json").stdout)) == ["liu2019neural"]
    assert "'mixup'" in sfumato("cite", "mixp").stderr
    assert "none to cite" in sfumato("cite", "undefended").stderr
    assert "'markdown'" in sfumato("report", "a", "--format", "markdwn").stderr
    assert sfumato("report", "nothing").exit_code == 1


@pytest.mark.parametrize("family", ["attacks", "defences", "models", "recipes"])
def test_list_is_an_array_of_objects(sfumato, family) -> None:
    entries = json.loads(sfumato("list", family, "--json").stdout)
    assert entries
    assert all({"name", "family", "reference", "summary"} <= set(entry) and entry["summary"] for entry in entries)
    assert entries[0]["name"] in sfumato("list", family).stdout


def test_defences_say_what_they_need_and_which_are_rebuilt(sfumato) -> None:
    entries = json.loads(sfumato("list", "defences", "--json").stdout)
    told = {"reconstruction", "needs", "guard", "couples", "trainings", "branches", "canary", "adaptive"}
    assert all(told <= set(entry) for entry in entries)
    by_name = {entry["name"]: entry for entry in entries}
    assert by_name["mixup"]["couples"]
    assert by_name["label-smoothing"]["needs"] == []
    assert by_name["memguard"]["guard"]
    table = sfumato("list", "defences").stdout
    assert table.count("(reconstruction)") == sum(bool(entry["reconstruction"]) for entry in entries)


@pytest.mark.slow
def test_demo_on_few_models(sfumato, tmp_path) -> None:
    done = sfumato("demo", "--models", "2", "--executor", "stacked", "--display", "none")
    assert done.exit_code == 0, done.stderr
    record = AuditRecord.load(tmp_path / "demo")
    assert len(record.subjects) == 4
    assert (tmp_path / "demo" / "report.html").is_file()
    assert done.stderr == ""
