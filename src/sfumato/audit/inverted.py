"""What inversion found on one subject, in the form the record keeps. Numbers only: no picture, no value, no id."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sfumato.audit.measured import Finding, Value

Game = Literal["class", "gradient", "attribute", "label"]
Level = Literal["class", "record", "none"]


class Measure(Value):
    """One measure of success, beside the same measure where nothing can have leaked.

    Attributes:
        name: one of `audit.inversion.measures.NAMES`.
        level: what it shows to have leaked: how a "class" looks, a "record" of the training set, or "none" for one that
            only describes the guesses.
        more: which direction means more leakage.
        attacked: the measure.
        control: the same for guesses or records about which the model cannot know; None where there is no such thing.
        difference: by how much the attacked one leaks more: positive means leakage, whatever `more` says.
        control_is: in one sentence.
    """

    name: str
    level: Level
    more: Literal["higher", "lower"]
    attacked: Finding
    control: Finding | None = None
    difference: Finding | None = None
    control_is: str = ""


class ReconstructionBound(Value):
    """What a guarantee permits of the game that was played, beside what was measured.

    Attributes:
        prior: success without the model (kappa).
        permitted: highest success that the guarantee permits.
        measured: name of the measure that it bounds; it is drawn beside it.
        unit: what the guarantee protects.
        method: formula or accountant, with its source.
        applies: whether the game is the one that the bound is for; else `note` says why not, and nothing is compared.
        note: see there.
    """

    prior: float
    permitted: float
    measured: str
    unit: str
    method: str
    applies: bool = True
    note: str = ""


class InversionResult(Value):
    """One attack on one subject.

    Attributes:
        name: of the attack.
        game: which one is played.
        variant: what is asked, where one attack plays several games ("batch of 8", "column 3"); else "".
        access: what is touched.
        knowledge: what else the attacker has.
        reconstruction: what of the published attack is not known to us; "" for one that is.
        measures: each with its control.
        bounds: what the guarantee permits.
        targets: models attacked.
        questions: classes, steps or records, over all targets.
        guesses: for each question.
        queries: records put to a model (or, for updates, to the attacker's copy) for each question; those of what is
            trained first stand in `note`, for each model.
        seconds: for each question, without what is trained first.
        fit_seconds: for each target, of what is trained first; what targets share counts in full.
        note: what the reader must know.
    """

    name: str
    game: Game
    variant: str = ""
    access: str
    knowledge: str = ""
    reconstruction: str = ""
    measures: list[Measure]
    bounds: list[ReconstructionBound] = Field(default_factory=list)
    targets: int
    questions: int
    guesses: int
    queries: float = 0.0
    seconds: float = 0.0
    fit_seconds: float = 0.0
    note: str = ""

    def measure(self, name: str) -> Measure | None:
        """The measure called `name`, or None."""
        return next((one for one in self.measures if one.name == name), None)


class EvaluatorSummary(Value):
    """The network that judges guesses: trained on most private records, of a kind that no target has."""

    name: str
    accuracy: Finding
    note: str = ""


class InversionDesign(Value):
    """How inversion was audited, for all subjects.

    Attributes:
        public: what the attackers' public records are, in words; "" for none.
        public_records: how many.
        classes: how many classes there are in the population, and how many of them were inverted.
        inverted: see there.
        unit: of privacy.
        unit_is_class: whether each class is one unit: then to learn a class is to learn a person.
        evaluator: who judged guesses of classes; None where none was needed.
        gallery: whether pictures were kept for a local file.
    """

    public: str = ""
    public_records: int = 0
    classes: int = 0
    inverted: int = 0
    unit: str = ""
    unit_is_class: bool = False
    evaluator: EvaluatorSummary | None = None
    gallery: bool = False
