from dataclasses import dataclass, replace

import numpy as np
import pytest

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.errors import UsageError
from sfumato.execution import code, jobs
from sfumato.execution.code import COVERED, foreign_sources, source_digest
from sfumato.execution.jobs import TrainJob
from sfumato.models.user_file import FileModel
from sfumato.training.defence import Defence
from sfumato.training.recipe import Recipe, recipe_from_file


@dataclass(frozen=True, kw_only=True)
class OwnDefence(Defence):
    """Defined outside sfumato."""

    name = "own"


def test_equal_specifications_have_equal_keys_and_the_label_does_not_count(make_jobs):
    job = make_jobs(2)[0]
    assert TrainJob(job.recipe, job.population, job.rows.copy(), job.seed, job.dtype, "other").key == job.key


def test_every_part_of_the_specification_changes_the_key(make_jobs, table):
    job = make_jobs(2)[0]
    x = table.records.array.copy()
    x[0, 0] += 1
    others = [
        replace(job, recipe=Recipe(replace(job.recipe.task, epochs=3), job.recipe.defence)),
        replace(job, recipe=Recipe(job.recipe.task, LabelSmoothing())),
        replace(job, population=replace(table, records=ArrayRecords(x))),
        replace(job, population=replace(table, class_names=("a", "b", "c", "d"))),
        replace(job, rows=job.rows[:-1]),
        replace(job, rows=job.rows[::-1]),
        replace(job, seed=7),
        replace(job, dtype="float32"),
    ]
    keys = [job.key, *(other.key for other in others)]
    assert len(set(keys)) == len(keys)


def test_changed_code_changes_the_key(make_jobs, monkeypatch):
    job = make_jobs(2)[0]
    before = job.key
    monkeypatch.setattr(jobs, "code_digest", lambda: "another")
    assert replace(job).key != before


def test_the_code_digest_covers_contents_and_names(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    one = source_digest({"a": tmp_path / "a.py"})
    assert source_digest({"b": tmp_path / "a.py"}) != one
    (tmp_path / "a.py").write_text("x = 2")
    assert source_digest({"a": tmp_path / "a.py"}) != one


def test_the_covered_code_holds_the_loop_the_networks_and_the_asking():
    files = code._files(COVERED)
    assert {"sfumato.training/loop.py", "sfumato.models/mlp.py", "sfumato.targets.asking"} <= files.keys()
    assert all(path.is_file() for path in files.values())


def test_a_class_of_the_users_own_is_named_by_its_source(make_jobs):
    job = make_jobs(2)[0]
    own = Recipe(job.recipe.task, OwnDefence())
    assert any(name.startswith(OwnDefence.__module__) for name in foreign_sources(own))
    assert foreign_sources(job.recipe) == {}


def test_a_changed_model_file_and_a_changed_training_function_change_the_key(make_jobs, tmp_path):
    job = make_jobs(2)[0]
    model, function = tmp_path / "net.py", tmp_path / "loop.py"
    keys = set()
    for width in (4, 5):
        model.write_text(f"from torch import nn\ndef make(shape, outputs): return nn.Linear({width}, outputs)\n")
        function.write_text(f"def fit(x, y, seed): return {width}\n")
        own = Recipe(replace(job.recipe.task, model=FileModel(path=str(model))), job.recipe.defence)
        keys |= {replace(job, recipe=own).key}
        keys |= {replace(job, recipe=recipe_from_file(function, "fit", job.recipe.defence)).key}
    assert len(keys) == 4


@pytest.mark.parametrize("rows", [[], [0.5], [0, 0], [-1], [60], [[1]]])
def test_rows_must_be_distinct_positions(make_jobs, rows):
    with pytest.raises(UsageError, match="positions"):
        replace(make_jobs(2)[0], rows=np.array(rows))


def test_reads_that_built_the_population_are_part_of_the_key(make_jobs, table):
    from sfumato.accounting.history import Event

    job = make_jobs(2)[0]
    read = replace(table, events=(Event("data", "fitted categories", 60),))
    assert isinstance(read, Population)
    assert replace(job, population=read).key != job.key
