"""DP-SGD on the command line: fields that only the user can say, what it will cost, releases, and the ledger."""

import json
import stat
from pathlib import Path

import pytest

from sfumato.accounting.ledger import Ledger
from sfumato.audit.record import AuditRecord
from sfumato.cli.releases import write_release
from sfumato.cli.spelling import example_line
from sfumato.defences.dpsgd import DPSGD
from sfumato.errors import NotPrivateError
from sfumato.training.trained import Trained

NUMBERS = {
    "sample_rate": 0.2,
    "expected_batch_size": 10,
    "steps": 5,
    "delta": 1e-5,
    "adjacency": "ADD_OR_REMOVE_ONE",
    "noise_multiplier": 2.0,
}
SET = [word for key, value in NUMBERS.items() for word in ("--set", f"dpsgd.{key}={value}")]
DATA = ("digits", "--records", "60")
FAST = ("--set", "epochs=1", "--set", "replicates=20", "--models", "4", "--executor", "inline", "--attacks", "loss")


def test_missing_fields_are_asked_for_all_at_once_with_a_line_to_copy(sfumato) -> None:
    done = sfumato("plan", *DATA, "--defences", "undefended,dpsgd", "--set", "dpsgd.steps=5")
    assert done.exit_code == 1
    for name in ("sample_rate", "expected_batch_size", "delta", "adjacency"):
        assert f"`{name}`" in done.stderr
    assert "`steps`" not in done.stderr
    line = done.stderr.partition("For instance: ")[2].split()
    assert "--set dpsgd.noise_multiplier=1.0" in done.stderr
    assert sfumato("plan", *DATA, *FAST, "--defences", "dpsgd", *line).exit_code == 0  # the line works as it stands
    assert " ".join(line) == example_line(DPSGD)


def test_fields_of_a_defence_that_is_not_there_are_refused(sfumato) -> None:
    done = sfumato("plan", *DATA, "--defences", "undefended", "--set", "dpsgd.steps=5")
    assert "got dpsgd.steps" in done.stderr
    assert "--defences undefended,dpsgd" in done.stderr
    assert "'steps'" in sfumato("plan", *DATA, "--defences", "dpsgd", *SET, "--set", "dpsgd.stpes=5").stderr


def test_the_plan_says_epsilon_and_noise_before_anything_runs(sfumato) -> None:
    words = ("plan", *DATA, *FAST, "--defences", "undefended,dpsgd")
    (told,) = json.loads(sfumato(*words, *SET, "--json").stdout)["private"]
    assert (told["recipe"], told["noise_multiplier"], told["calibrated"]) == (
        "dpsgd(noise_multiplier=2.0)",
        2.0,
        False,
    )
    assert told["epsilon"] > 0
    target = [w.replace("noise_multiplier=2.0", "target_epsilon=3") for w in SET]
    (solved,) = json.loads(sfumato(*words, *target, "--json").stdout)["private"]
    assert solved["calibrated"]
    assert solved["epsilon"] == pytest.approx(3, rel=0.01)
    assert solved["epsilon"] <= 3
    said = sfumato(*words, *target).stdout
    assert f"noise multiplier {solved['noise_multiplier']:.6g} (calibrated)" in said
    assert "epsilon 3 at delta 1e-05" in said or "epsilon 2.9" in said


def test_compare_writes_an_audit_only_guarantee_and_its_curve(sfumato, tmp_path: Path) -> None:
    done = sfumato("compare", *DATA, *FAST, "--defences", "undefended,dpsgd", *SET, "--out", "here")
    assert done.exit_code == 0, done.stderr
    none, formal = AuditRecord.load(tmp_path / "here").subjects
    assert (none.guarantee.status, none.guarantee.numbers) == ("none", None)
    assert formal.guarantee.status == "formal"
    assert formal.guarantee.numbers.audit_only
    assert "audit run" in formal.guarantee.statement
    assert formal.guarantee.numbers.permitted.group_size == 2  # halves: a unit is exchanged
    assert 'class="permitted s1"' in (tmp_path / "here" / "report.html").read_text()
    card = (tmp_path / "here" / "MODEL_CARD.md").read_text()
    assert "no attack may lie above the curve" in card


def test_a_configuration_file_holds_the_fields_and_the_command_line_changes_them(sfumato, tmp_path: Path) -> None:
    words = ("compare", *DATA, *FAST, "--defences", "dpsgd", *SET)
    assert sfumato(*words, "--dump-config", "run.toml").exit_code == 0
    text = (tmp_path / "run.toml").read_text()
    assert "sample_rate = 0.2" in text
    again = json.loads(sfumato("plan", "--config", "run.toml", "--json").stdout)["private"][0]
    other = json.loads(sfumato("plan", "--config", "run.toml", "--set", "dpsgd.steps=50", "--json").stdout)
    assert other["private"][0]["epsilon"] > again["epsilon"]
    (tmp_path / "bad.toml").write_text(text.replace("sample_rate = 0.2\n", "").replace("delta = 1e-05\n", ""))
    refused = sfumato("plan", "--config", "bad.toml")
    assert "`sample_rate`, `delta`" in refused.stderr
    assert 'adjacency = "ADD_OR_REMOVE_ONE"' in refused.stderr


@pytest.fixture
def released(sfumato, tmp_path: Path) -> Path:
    done = sfumato("train", *DATA, "--defence", "dpsgd", *SET, "--fraction", "0.5", "--out", "model")
    assert done.exit_code == 0, done.stderr
    assert "Formal guarantee: epsilon " in done.stdout
    assert "No ledger" in done.stdout
    return tmp_path / "model"


def test_a_release_draws_from_the_system_and_carries_its_guarantee(sfumato, released: Path, tmp_path: Path) -> None:
    facts = json.loads((released / "recipe.json").read_text())
    assert facts["guarantee"].startswith("epsilon ")
    assert "audit run" not in facts["guarantee"]
    assert facts["guarantee_numbers"]["epsilon"] > 0
    assert facts["guarantee_numbers"]["mechanisms"][0]["steps"] == 5
    assert not Trained.load(released / "model.safetensors").guarantee.audit_only
    sfumato("train", *DATA, "--defence", "dpsgd", *SET, "--fraction", "0.5", "--out", "again")
    weights = [Trained.load(tmp_path / name / "model.safetensors").state for name in ("model", "again")]
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])  # same seed, other noise


def test_nothing_read_without_noise_is_in_the_files_that_may_be_given_away(released: Path) -> None:
    keeper = json.loads((released / "keeper.json").read_text())
    assert stat.S_IMODE((released / "keeper.json").stat().st_mode) == 0o600
    assert keeper["utility"]["training-accuracy"] >= 0
    assert keeper["history"][0]["records"] == 30
    public = json.loads((released / "recipe.json").read_text())
    assert not {"fingerprint", "utility"} & set(public)
    assert public["history"][0]["records"] == 50  # expected batch size over rate: public numbers
    assert public["seconds"] == 0
    assert keeper["fingerprint"].encode() not in b"".join(
        (released / name).read_bytes() for name in ("recipe.json", "model.safetensors")
    )
    assert Trained.load(released / "model.safetensors").history.events[0].records == 50


def test_the_audit_of_a_release_shows_its_guarantee(sfumato, released: Path) -> None:
    done = sfumato(
        "audit", "--release", released, "--models", "2", "--executor", "inline", "--attacks", "loss", "--json"
    )
    assert done.exit_code in (0, 2), done.stderr
    (subject,) = json.loads(done.stdout)["subjects"]
    assert subject["guarantee"]["status"] == "formal"
    assert subject["guarantee"]["numbers"]["audit_only"] is False
    assert subject["guarantee"]["numbers"]["permitted"]["group_size"] == 2
    (released / "keeper.json").unlink()
    assert "keeper.json" in sfumato("audit", "--release", released).stderr


def test_an_audit_model_cannot_be_exported(tmp_path: Path, released: Path) -> None:
    import numpy as np

    from sfumato.cli.releases import read_release
    from sfumato.data.population import Population
    from sfumato.models.mlp import MLP
    from sfumato.training.preparation import Assignment, LoopOptions
    from sfumato.training.recipe import Recipe
    from sfumato.training.task import Task

    data = Population(np.zeros((20, 4), dtype=np.float32), "example", labels=np.arange(20) % 2)
    recipe = Recipe(Task(model=MLP(hidden=(4,))), DPSGD.example())
    seeded = recipe.fit(data, [Assignment(np.arange(10), 1)], LoopOptions())[0]
    with pytest.raises(NotPrivateError, match="audit run"):
        write_release(tmp_path / "bad", read_release(released).config, recipe, seeded, data, {})
    assert not (tmp_path / "bad").exists()


def test_a_ledger_is_charged_for_every_step_and_refuses_to_overspend(sfumato, tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "books", "pupils", create=True)
    epsilon = json.loads(sfumato("plan", *DATA, *FAST, "--defences", "dpsgd", *SET, "--json").stdout)["private"][0]
    ledger.declare(1.2 * epsilon["epsilon"], 1e-5, "example", "ADD_OR_REMOVE_ONE")
    words = ("train", *DATA, "--defence", "dpsgd", *SET, "--ledger", "books", "--people", "pupils", "--out", "m")
    done = sfumato(*words)
    assert done.exit_code == 0, done.stderr
    assert "All trainings on pupils together: epsilon" in done.stdout
    (run,) = ledger.runs()
    assert (run.charged, run.closed, run.audit_only) == (5, True, False)
    assert ledger.spent() == pytest.approx(epsilon["epsilon"])
    again = sfumato(*words)
    assert again.exit_code == 1
    assert "as declared" in again.stderr
    assert len(ledger.runs()) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--defence", "dpsgd", *SET, "--ledger", "books"), "together"),
        (("--defence", "dpsgd", *SET, "--ledger", "books", "--people", "nobody"), "name of a ledger"),
        (("--defence", "undefended", "--ledger", "books", "--people", "pupils"), "private update"),
    ],
)
def test_a_ledger_is_never_ignored(sfumato, words, told) -> None:
    done = sfumato("train", *DATA, *words)
    assert done.exit_code == 1
    assert told in done.stderr


def test_what_given_weights_leave_fresh_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    import numpy as np
    from safetensors.torch import save_file

    from sfumato.cli.promises import left_fresh
    from sfumato.data.population import Population
    from sfumato.defences.pretrained import Pretrained
    from sfumato.defences.tl_dmi import TLDMI
    from sfumato.models.mlp import MLP
    from sfumato.training.recipe import Recipe
    from sfumato.training.task import Task

    data = Population(np.zeros((20, 4), dtype=np.float32), "example", labels=np.arange(20) % 5)
    task = Task(model=MLP(hidden=(6,)))
    recipes = []
    for classes in (3, 5):
        save_file(task.model.build((4,), classes).state_dict(), f"{classes}.safetensors")
        recipes.append(Recipe(task, Pretrained(weights=f"{classes}.safetensors", data="public"), f"from {classes}"))
    recipes.append(Recipe(task, TLDMI(weights="3.safetensors"), "tuned"))
    told, tuned = left_fresh(recipes, data)
    assert tuned == told.replace("from 3", "tuned")
    assert told.startswith("from 3: 2 tensors come from the given weights; left fresh: ")
    assert told.count("weight") == 2  # "weights" and the head's own


def test_private_weights_are_composed_in_the_plan(sfumato, released: Path) -> None:
    weights = released / "model.safetensors"
    given = ("--defences", "pretrained+dpsgd", "--set", f"pretrained.weights={weights}", *SET)
    missing = sfumato("plan", *DATA, *given)
    assert "`data`" in missing.stderr
    told = sfumato("plan", *DATA, *FAST, *given, "--set", "pretrained.data=private", "--json")
    assert told.exit_code == 0, told.stderr
    (promise,) = json.loads(told.stdout)["private"]
    alone = json.loads(sfumato("plan", *DATA, *FAST, "--defences", "dpsgd", *SET, "--json").stdout)["private"][0]
    assert promise["epsilon"] > alone["epsilon"]  # two stages


def test_lists(sfumato) -> None:
    assert {"dpsgd", "pretrained"} <= {row["name"] for row in json.loads(sfumato("list", "defences", "--json").stdout)}
    assert "flat" in {row["name"] for row in json.loads(sfumato("list", "clippings", "--json").stdout)}
