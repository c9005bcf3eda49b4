"""A private training inside a user's own loop: the session samples, clips, adds noise, counts and keeps the history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from sfumato.accounting.history import Event, History
from sfumato.errors import NotCaptured, NotPrivateError, UsageError
from sfumato.private.batches import Data, PhysicalSize, gathered, rows_by_unit, trimmed
from sfumato.private.capture.layouts import Site, UnknownSite
from sfumato.private.clipping.base import ClippingState
from sfumato.private.costs import Chooser
from sfumato.private.distributed import ranks_of_this_job
from sfumato.private.engine import Engine
from sfumato.private.fingerprint import fingerprint, fingerprint_of
from sfumato.private.job import Alone, Job
from sfumato.private.loop import Loop
from sfumato.private.noise.seeded import SeededNoise
from sfumato.private.noise.source import NoiseSource
from sfumato.private.noise.system import SystemNoise
from sfumato.private.plan import Plan
from sfumato.private.probe import CANDIDATES, finite_records, probe
from sfumato.private.refusals import refuse_unsupported
from sfumato.private.sampling.physical import PhysicalBatch, physical_batches
from sfumato.seeding import stream
from sfumato.types import Rows

Loss = Callable[..., torch.Tensor]
METHODS = ("auto", "capture", "loop")
PROBE_RATE = 0.002


class Charge(Protocol):
    """Where steps are charged before they are released (a ledger's run)."""

    def step(self) -> None:
        """Charge one step, or refuse it."""
        ...


@dataclass(frozen=True)
class StepFacts:
    """What a step saw. Private: for the trainer's own eyes, never for release.

    Args:
        units: drawn.
        not_finite: units whose gradient was not finite and counted as zero.
        loss: mean over the drawn units' losses; NaN for an empty step.
    """

    units: int
    not_finite: int
    loss: float


class _Clipped(NamedTuple):
    """What this process found: clipped sums by parameter, squared norms [units, parameters], the units' mask, loss."""

    sums: dict[str, torch.Tensor]
    squared: torch.Tensor
    mask: torch.Tensor
    loss: torch.Tensor


class Session:
    """Private steps for one network; see `make`."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        data: Data,
        plan: Plan,
        source: NoiseSource,
        *,
        unit_of: Rows | None,
        method: str,
        size: PhysicalSize,
        charge: Charge | None,
        chooser: Chooser | None,
        job: Job,
    ) -> None:
        self.model, self.plan, self.source, self.charge, self.job = model, plan, source, charge, job
        self._loss, self._data = loss, data
        self.engine = Engine(model, chooser or Chooser.of_this_machine())
        self.method, self.why_loop = method, ""
        self.rows_of_unit = rows_by_unit(data, unit_of)
        self.physical_batch_size, self.fixed_shapes, self._size = size.rows(plan), size.fixed, size
        self.steps_taken = 0
        self.state: ClippingState = plan.clipping.initial_state(len(self.engine.parameters))
        self._drawn: Rows | None = None
        self._probed = False
        self._guessed: set[Site] = set()
        self._start: dict[str, bytes] = {}
        self._last = StepFacts(0, 0, float("nan"))

    @property
    def history(self) -> History:
        """One event: the steps that were taken. Stages before this session are the caller's to add."""
        mechanism = self.plan.mechanism(audit_only=self.source.audit_only, steps=self.steps_taken)
        purpose = f"DP-SGD, {self.steps_taken} steps"
        return History((Event("training", purpose, len(self.rows_of_unit.rows), mechanism),))

    @property
    def last(self) -> StepFacts:
        """Facts of the last step."""
        return self._last

    def steps(self) -> Iterator[int]:
        """Draw the units of each step in turn; ends after `plan.steps`, also when resumed from `steps_taken`."""
        while self.steps_taken < self.plan.steps:
            self._drawn = self.draw()
            yield self.steps_taken

    def draw(self) -> Rows:
        """The units of the next step, int64."""
        source = self.source.at("sample", self.steps_taken)
        return self.job.drawn(lambda: self.plan.sampler.draw(len(self.rows_of_unit.sizes), source))

    def backward(self, units: Rows | None = None) -> StepFacts:
        """Clip and add up the gradients of the drawn units, charge the step, add noise, and leave it in `.grad`.

        The parameters' `.grad` is then the noisy sum over the expected batch size: all that an optimiser may see.

        Args:
            units: for tests of audit models, in place of the draw of `steps`; a release takes its own draw only.

        Raises:
            NotPrivateError: if anything would make the guarantee false; `.grad` stays empty.
        """
        if self.steps_taken >= self.plan.steps:
            raise NotPrivateError(
                f"Expected at most {self.plan.steps} steps, got one more.",
                remedy="Plan for more steps; the noise was calibrated for these.",
            )
        if units is not None and not self.source.audit_only:
            raise NotPrivateError(
                "Expected the session's own draw of units, got another one.",
                remedy="Loop over `session.steps()`; the accounting is that of the plan's sampler, and of no other.",
            )
        drawn = self._drawn if units is None else units
        if drawn is None:
            raise UsageError("Expected a draw before the step.", remedy="Loop over `session.steps()`.")
        self._drawn = None
        try:
            self._last = self._step(drawn)
        except BaseException:
            for parameter in self.engine.parameters.values():
                parameter.grad = None
            raise
        self.steps_taken += 1
        return self._last

    def unmoved(self) -> list[str]:
        """Names of the parameters that are to the last bit what they were before this session's first step.

        Every release has noise on every parameter, so one that stays has not reached the optimiser, or the learning
        rate was 0 so far.
        """
        return [n for n, p in self.engine.parameters.items() if self._start.get(n) == fingerprint(p)]

    def _step(self, drawn: Rows) -> StepFacts:
        self.job.refuse_difference(self.steps_taken, self._agreement)
        if not self._start:
            self._start = {name: fingerprint(p) for name, p in self.engine.parameters.items()}
        found = self.job.together(lambda: self._clipped(drawn))
        self._release(found.sums)
        squared, mask = self.job.joined(found.squared), self.job.joined(found.mask)
        self._adapt(squared, mask)
        return _facts(squared, mask, self.job.total(found.loss), len(drawn))

    def _agreement(self) -> bytes:
        """What must be the same in every process of a job: plan, position, data, and all weights."""
        facts = f"{self.plan!r} {self.steps_taken} {len(self.rows_of_unit.rows)} {sorted(self.engine.parameters)}"
        return fingerprint_of({facts: torch.from_numpy(self.rows_of_unit.starts), **self.model.state_dict()})

    def _clipped(self, drawn: Rows) -> _Clipped:
        self._ensure_probed(drawn)
        sums: dict[str, torch.Tensor] = {}
        squares, masks, loss = [], [], torch.zeros((), dtype=torch.float64)
        for batch in self._physical(self.job.share(drawn)):
            squared, here = self._followed(batch, sums, drawn)
            squares.append(squared.double())
            masks.append(torch.from_numpy(batch.mask.any(axis=1)))
            loss += here.double().cpu()
        nothing = torch.zeros(0, len(self.engine.parameters), dtype=torch.float64)
        squared = torch.cat(squares) if squares else nothing
        return _Clipped(sums, squared, torch.cat([torch.zeros(0, dtype=torch.bool), *masks]).to(squared.device), loss)

    def _physical(self, drawn: Rows) -> Iterator[PhysicalBatch]:
        size, source = self.physical_batch_size, self.source.at("records", self.steps_taken)
        batches = physical_batches(drawn, self.rows_of_unit, size, self.plan.max_records_per_unit, source)
        return batches if self.fixed_shapes else (trimmed(batch) for batch in batches)

    def _followed(self, batch: PhysicalBatch, sums: dict[str, torch.Tensor], drawn: Rows) -> tuple[torch.Tensor, ...]:
        """`_add`; where the network takes another course than so far (more steps of a solver), it is learned anew.

        Nothing of the batch was added then: what is unknown is met in the forward pass.
        """
        try:
            return self._add(batch, sums)
        except UnknownSite as unknown:
            self._guessed.add(unknown.site)  # for where learning does not come by either
            self._probed = False
            self._ensure_probed(drawn)
            return self._followed(batch, sums, drawn)

    def _add(self, batch: PhysicalBatch, sums: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        copies = self.plan.augmentations
        rows = torch.from_numpy(batch.rows).reshape(-1).repeat_interleave(copies)
        mask = torch.from_numpy(batch.mask)
        count = mask.sum(dim=1, keepdim=True).clamp(min=1) * copies
        weights = (mask.double() / count).reshape(-1).repeat_interleave(copies)
        tensors = gathered(self._data, rows)
        weights = weights.to(tensors[0].device)
        if self.method == "loop":
            clipped = Loop(self.model).add(self._on, tensors, weights, len(mask), self._factors, sums)
        else:
            clipped = self.engine.add(lambda: self._on(tensors), weights, len(mask), self._factors, sums, self._guessed)
        return clipped.squared, clipped.loss

    def _on(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        return self._loss(self.model, *tensors)

    def _factors(self, squared: torch.Tensor) -> torch.Tensor:
        return self.plan.clipping.factors(squared, self.state) * self._scale

    @property
    def _std(self) -> float:
        """Standard deviation of the noise on what is released."""
        plan = self.plan
        z = plan.clipping.gradient_noise_multiplier(plan.noise_multiplier, plan.expected_batch_size)
        return z * self._sensitivity

    @property
    def _sensitivity(self) -> float:
        """L2 bound of one unit's contribution to what is released."""
        bound = self.plan.clipping.sensitivity(self.state, len(self.engine.parameters))
        return bound / self.plan.expected_batch_size

    @property
    def _scale(self) -> float:
        """From clipped gradients to contributions; a kind of noise that rounds takes its share of the bound."""
        entries = sum(parameter.numel() for parameter in self.engine.parameters.values())
        slack = self.plan.noise.sensitivity_slack(entries, self._std) / self._sensitivity
        if not slack < 1:
            raise NotPrivateError(
                f"Expected rounding to take less than the clip bound, got {slack:.2g} of it for {entries} parameters.",
                remedy="Use a finer grid for the noise.",
            )
        return (1 - slack) / self.plan.expected_batch_size

    def _release(self, sums: Mapping[str, torch.Tensor]) -> None:
        """Noise on every parameter, whether or not any unit used it; charged before anything can be seen."""
        totals: dict[str, torch.Tensor] = {}
        for name, parameter in self.engine.parameters.items():
            kind = torch.promote_types(parameter.dtype, torch.float32)
            total = sums[name].to(kind) if name in sums else torch.zeros_like(parameter, dtype=kind)
            totals[name] = self.job.total(total.contiguous())
        noisy = self.job.together(lambda: self._noisy(totals))
        for name, parameter in self.engine.parameters.items():
            parameter.grad = self.job.from_first(noisy[name]).to(parameter.dtype)

    def _noisy(self, totals: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Charged, and with noise, in the first process; what the others hold is replaced by it."""
        if not self.job.first:
            return totals
        if self.charge is not None:
            self.charge.step()
        std, noise = self._std, self.plan.noise
        return {n: noise.add(total, std, self.source.at("noise", self.steps_taken, n)) for n, total in totals.items()}

    def _adapt(self, squared: torch.Tensor, mask: torch.Tensor) -> None:
        source = self.source.at("adapt", self.steps_taken)
        state = self.plan.clipping.updated(self.state, squared, mask, source, self.plan.expected_batch_size)
        bounds = torch.tensor(state.max_grad_norms, dtype=torch.float64, device=squared.device)
        self.state = ClippingState(tuple(self.job.from_first(bounds).tolist()))

    def _ensure_probed(self, drawn: Rows) -> None:
        """At the first batch, and now and then afterwards: no example may move another one's gradient.

        Every process of a job probes the same rows, so that all come to the same decision.
        """
        if self.method == "loop":
            self._refuse_in_loop()
        if self.method == "loop" or not len(drawn):
            return
        chance = float(stream(0, "probe", self.steps_taken).random())  # when it happens is no secret
        if self._probed and chance >= PROBE_RATE:
            return
        try:
            if not self._probed:
                refuse_unsupported(self.model)
            rows = finite_records(self._on, self._probe_rows(drawn))
            if not self._probed:
                self.engine.learn(lambda index: self._on([tensor[list(index)] for tensor in rows]))
            probe(self.engine, self._on, rows, complete=not self._probed)
        except NotCaptured as error:
            if self.method == "capture":
                raise
            self.method, self.why_loop = "loop", error.message
        self.method = "capture" if self.method == "auto" else self.method
        if not self._probed and self.method == "capture":
            self.physical_batch_size = self._size.fitting(self.physical_batch_size, self.engine.bytes_kept)
        self._probed = True

    def _refuse_in_loop(self) -> None:
        """A loop of single examples needs no probe, and can follow what one pass cannot; the rest is refused."""
        if not self._probed:
            with suppress(NotCaptured):
                refuse_unsupported(self.model)
            self._probed = True

    def _probe_rows(self, drawn: Rows) -> list[torch.Tensor]:
        """Records of some drawn units, one each; small draws are filled up from the data."""
        units, table = drawn[:CANDIDATES], self.rows_of_unit
        rows = table.rows[table.starts[units[table.sizes[units] > 0]]]
        filled = np.resize(np.concatenate([rows, table.rows[:CANDIDATES]]), CANDIDATES)
        return gathered(self._data, torch.from_numpy(filled))


def make(
    model: nn.Module,
    *,
    plan: Plan,
    data: Data,
    loss: Loss,
    audit_seed: int | None = None,
    unit_of: Rows | None = None,
    method: str = "auto",
    physical_batch_size: int | None = None,
    fixed_shapes: bool = False,
    charge: Charge | None = None,
    chooser: Chooser | None = None,
    distributed: bool = False,
) -> Session:
    """Private training of a network as it is, in five lines of a user's own loop.

        session = private.make(model, plan=plan, data=(x, y), loss=loss)
        for step in session.steps():
            session.backward()
            optimizer.step()

    Args:
        model: any network; it is not wrapped, and its state dict stays as it is.
        plan: all public numbers.
        data: tensors with records first, or a function from int64 positions [rows] to a tuple of such tensors with a
            `len`.
        loss: model and tensors of some rows to one loss per row, [rows].
        audit_seed: None for a release (noise from the operating system). A seed makes every draw repeatable, for audit
            models only: the history is stamped so, and the weights must not be released as private.
        unit_of: int64 [records], the unit of each record; by default each record is a unit.
        method: "capture" (one pass), "loop" (single examples), or "auto": one pass where every use of every parameter
            can be followed, else the loop, with the reason in `session.why_loop`.
        physical_batch_size: units that are computed at once; by default enough for nearly every draw, or fewer where
            the gradients that are kept of each would take too much memory.
        fixed_shapes: pad every physical batch to the full size (for networks that want one shape); else the padding is
            left away.
        charge: is told of each step before it is released; it may refuse.
        chooser: of kernels; by default the machine's.
        distributed: share the work among the processes that `torchrun` started; each holds the whole network, not
            wrapped, and all the data, and takes the same steps.

    Raises:
        UsageError: if `distributed` is asked for and there is no process group.
    """
    if method not in METHODS:
        raise UsageError(f"Expected `method` to be one of {METHODS}, got {method!r}.")
    source = SystemNoise() if audit_seed is None else SeededNoise(audit_seed, "private")
    size = PhysicalSize(physical_batch_size, fixed_shapes)
    return Session(
        model, loss, data, plan, source,
        unit_of=unit_of, method=method, size=size, charge=charge, chooser=chooser,
        job=ranks_of_this_job() if distributed else Alone(),
    )  # fmt: skip


def _facts(squared: torch.Tensor, mask: torch.Tensor, loss: torch.Tensor, units: int) -> StepFacts:
    bad = int((~squared.isfinite().all(dim=1) & mask).sum())
    return StepFacts(units, bad, float(loss) / units if units else float("nan"))


def facts_of(session: Session) -> dict[str, Any]:
    """Plain facts for a record: method, ways, steps. Nothing about any example."""
    return {
        "method": session.method,
        "why_loop": session.why_loop,
        "ways": dict(session.engine.ways),
        "steps": session.steps_taken,
        "noise": session.source.describe(),
        "physical_batch_size": session.physical_batch_size,
    }
