"""The guards of a defence between a model and whoever asks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from sfumato.seeding import Name
from sfumato.training.composition import guarded
from sfumato.training.defence import Behind, Defence
from sfumato.training.draws import Draws
from sfumato.training.trained import Predict

Answer = Callable[[torch.Tensor], torch.Tensor]


def behind_guards(
    defence: Defence,
    predict: Predict,
    shape: tuple[int, ...],
    state: Mapping[str, torch.Tensor],
    draws: Draws,
    at: tuple[Name, ...],
) -> Answer:
    """From what the network says to what the user sees: every guard of the chain, innermost first.

    Args:
        defence: of the model.
        predict: the network alone, from records [b, *shape] to logits [b, classes].
        shape: of one record.
        state: `Trained.guards`.
        draws: streams of the model's guards.
        at: names of the question: the same one gets the same answer.
    """

    def answer(logits: torch.Tensor) -> torch.Tensor:
        inner: Predict = predict
        for part in reversed(guarded(defence)):
            own = {
                name.removeprefix(f"{part.name}/"): v for name, v in state.items() if name.startswith(f"{part.name}/")
            }
            behind, streams = Behind(inner, shape, own), draws.at(part.name, *at)
            logits = part.guard(logits, streams, behind)
            inner = _through(part, behind, streams.at("behind"))
        return logits

    return answer


def _through(part: Defence, behind: Behind, draws: Draws) -> Predict:
    return lambda x: part.guard(behind.predict(x), draws, behind)
