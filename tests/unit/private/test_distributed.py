"""Jobs of 2 and 4 processes against one: the same draws, one draw of noise, the same weights."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sfumato.errors import UsageError
from sfumato.private.fingerprint import fingerprint, fingerprint_of
from sfumato.private.job import Alone

SCRIPT = Path(__file__).with_name("job_of_processes.py")
SOURCE = Path(__file__).parents[3] / "src"
SAME = ("plain", "often-empty", "adaptive", "units", "loop")
CASES = (*SAME, "release", "one-fails", "no-budget", "other-weights")


@pytest.fixture(scope="module")
def alone():
    """The script as a module, for the run of one process."""
    spec = importlib.util.spec_from_file_location("job_of_processes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def job(size, folder, cases=CASES):
    """What each process of a job found, by case."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), ",".join(cases), str(folder)],
            env={**os.environ, **common, "RANK": str(rank), "PYTHONPATH": str(SOURCE)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0] * size, "\n".join(errors)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]


def check(found, alone, size):
    for case in SAME:
        expected = alone.trained(case, distributed=False)
        assert len({process[case]["digest"] for process in found}) == 1, case
        for process in found:
            got = process[case]
            assert got["error"] == ""
            for fact in ("drawn", "steps", "method"):
                assert got[fact] == expected[fact], (case, fact)
            for fact in ("weights", "bounds", "loss"):
                torch.testing.assert_close(torch.tensor(got[fact]), torch.tensor(expected[fact]), rtol=1e-9, atol=1e-9)
        assert [process[case]["charged"] for process in found] == [6] + [0] * (size - 1)
    assert found[0]["often-empty"]["drawn"].count(0) > 1
    assert found[0]["plain"]["digest"] != found[0]["release"]["digest"]
    assert len({process["release"]["digest"] for process in found}) == 1
    assert len({tuple(process["release"]["drawn"]) for process in found}) == 1


def check_refusals(found):
    assert [p["one-fails"]["error"].split(":")[0] for p in found[:2]] == ["NotPrivateError", "RuntimeError"]
    assert "process 1: RuntimeError: out of memory" in found[0]["one-fails"]["error"]
    assert "budget" in found[0]["no-budget"]["error"]
    assert "process 0: SfumatoError: Expected budget" in found[1]["no-budget"]["error"]
    assert all("the same plan, step and weights" in p["other-weights"]["error"] for p in found)
    for case, steps in (("no-budget", 2), ("other-weights", 0)):
        assert [p[case]["steps"] for p in found] == [steps] * len(found)
    for case in ("one-fails", "no-budget", "other-weights"):
        assert [p[case]["gradients"] for p in found] == [0] * len(found), case


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_a_job_ends_where_one_process_does(size, tmp_path, alone):
    found = job(size, tmp_path)
    check(found, alone, size)
    check_refusals(found)


@pytest.mark.slow
def test_torchrun_starts_it(tmp_path):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(SCRIPT), "plain", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len({json.loads(file.read_text())["plain"]["digest"] for file in tmp_path.glob("*.json")}) == 1


def test_without_a_group_it_says_what_to_do(alone):
    with pytest.raises(UsageError, match="init_process_group") as refused:
        make_distributed(alone)
    assert "torchrun" in refused.value.remedy


def make_distributed(alone):
    whole = alone.session_of("plain", False)
    return alone.make(whole.model, plan=whole.plan, data=whole._data, loss=whole._loss, distributed=True)


def test_one_process_is_a_job_of_its_own():
    job, rows = Alone(), torch.arange(3)
    assert job.first
    assert job.total(rows) is job.joined(rows) is job.from_first(rows) is rows
    assert job.together(lambda: 5) == 5
    assert job.share(rows.numpy()) is not None
    job.refuse_difference(0, lambda: pytest.fail("one process has nobody to differ from"))


def test_a_fingerprint_tells_content_type_and_shape_apart():
    zero = torch.zeros(2, 3)
    others = [torch.zeros(3, 2), torch.zeros(6), zero.double(), -zero, torch.zeros(2, 3, dtype=torch.int32), zero + 1]
    assert len({fingerprint(t) for t in (zero, *others)}) == len(others) + 1
    assert fingerprint(zero) == fingerprint(torch.zeros(3, 2).T.contiguous().clone())
    assert fingerprint(torch.arange(6.0).view(2, 3).T) == fingerprint(torch.arange(6.0).view(2, 3).T.contiguous())
    assert fingerprint(torch.zeros(0)) != fingerprint(torch.zeros(1))
    assert fingerprint(torch.zeros(2, dtype=torch.bfloat16)) != fingerprint(torch.zeros(2, dtype=torch.float16))
    assert fingerprint_of({"a": zero, "b": zero}) != fingerprint_of({"b": zero, "a": zero})
