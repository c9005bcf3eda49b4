"""One process of a data-parallel job, for tests: `python job_of_processes.py CASES OUT`, started as torchrun does."""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from sfumato.errors import SfumatoError
from sfumato.private.clipping import AdaptiveQuantile
from sfumato.private.costs import Chooser
from sfumato.private.fingerprint import fingerprint_of
from sfumato.private.plan import Plan
from sfumato.private.session import make

RECORDS = 24


class Charge:
    """Counts, and refuses the third step where it is told to."""

    def __init__(self, most=99):
        self.steps, self.most = 0, most

    def step(self):
        if self.steps == self.most:
            raise SfumatoError("Expected budget, got none.")
        self.steps += 1


class Shy(nn.Linear):
    """Refuses to run in the process of this rank after the first steps."""

    def __init__(self, *sizes, rank=-1):
        super().__init__(*sizes)
        self.rank, self.calls = rank, 0

    def forward(self, x):
        self.calls += 1
        if dist.is_initialized() and dist.get_rank() == self.rank and self.calls > 10:
            raise RuntimeError("out of memory")
        return super().forward(x)


def session_of(case, distributed):
    """The same session in every process, but for what the case spoils."""
    rank = dist.get_rank() if distributed else 0
    torch.manual_seed(rank if case == "other-weights" else 0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), Shy(6, 3, rank=1 if case == "one-fails" else -1)).double()
    x = torch.randn(RECORDS, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fields = {"sample_rate": 0.02 if case == "often-empty" else 0.4, "steps": 6, "expected_batch_size": 9}
    if case == "adaptive":
        fields["clipping"] = AdaptiveQuantile(initial=0.2)
    if case == "units":
        fields["max_records_per_unit"] = 3
    plan = Plan(noise_multiplier=0.8, delta=1e-3, adjacency="ADD_OR_REMOVE_ONE", **fields)
    return make(
        model,
        plan=plan,
        data=(x, torch.arange(RECORDS) % 3),
        loss=lambda net, x, y: F.cross_entropy(net(x), y, reduction="none"),
        audit_seed=None if case == "release" else 5,
        unit_of=np.arange(RECORDS) // 5 if case == "units" else None,
        method="loop" if case == "loop" else "auto",
        physical_batch_size=3,
        charge=Charge(2 if case == "no-budget" else 99),
        chooser=Chooser(),
        distributed=distributed,
    )


def trained(case, distributed):
    """Plain facts of a run, for comparison."""
    session = session_of(case, distributed)
    optimizer, drawn, error = torch.optim.SGD(session.model.parameters(), lr=0.3), [], ""
    try:
        for _ in session.steps():
            facts = session.backward()
            drawn.append(facts.units)
            optimizer.step()
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
    weights = {name: parameter.detach() for name, parameter in session.model.named_parameters()}
    return {
        "error": error,
        "drawn": drawn,
        "steps": session.steps_taken,
        "charged": session.charge.steps,
        "method": session.method,
        "gradients": sum(p.grad is not None for p in session.model.parameters()),
        "loss": session.last.loss if drawn and drawn[-1] else 0.0,
        "bounds": list(session.state.max_grad_norms),
        "digest": fingerprint_of(weights).hex(),
        "weights": torch.cat([w.reshape(-1) for w in weights.values()]).tolist(),
    }


def main():
    """Join the group, train, and write what came out."""
    case, out = sys.argv[1:]
    torch.set_num_threads(1)
    torch.optim.SGD([nn.Parameter(torch.zeros(1))])  # loads torch's compiler, which would keep an older group alive
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    found = {name: trained(name, distributed=True) for name in case.split(",")}
    Path(out, f"{os.environ['RANK']}.json").write_text(json.dumps(found))
    dist.barrier()  # the first process holds the store that the others still talk to
    dist.destroy_process_group()
    threads = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name], threads  # one that is left can abort the end of a process


if __name__ == "__main__":
    main()
