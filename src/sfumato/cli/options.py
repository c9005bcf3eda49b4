"""The options of the commands as frozen dataclasses: each option is written once, and a command takes one value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

Option, Argument = typer.Option, typer.Argument
O = TypeVar("O")  # noqa: E741 - a type of options
DISPLAYS = ("auto", "rich", "plain", "json", "none")

_DATA, _WHAT, _HOW, _WHERE = "Data", "What is trained and attacked", "How hard", "Where"


@dataclass(frozen=True, kw_only=True)
class ShownOptions:
    """What every command that runs for a while takes."""

    display: Annotated[
        str, Option(help="Progress: rich, plain, json (one event a line), none; auto picks by the terminal.")
    ] = "auto"
    as_json: Annotated[bool, Option("--json", help="Print one JSON document on stdout; progress goes to stderr.")] = (
        False
    )


@dataclass(frozen=True, kw_only=True)
class DataOptions(ShownOptions):
    """Which data, and what is trained on them."""

    data: Annotated[
        str | None,
        Argument(help="digits, breast-cancer, fashion-mnist, cifar10:PATH, or a .csv, .parquet, .npz, .zip or folder."),
    ] = None
    label: Annotated[str | None, Option(help="Column of the classes.", rich_help_panel=_DATA)] = None
    unit: Annotated[
        str | None,
        Option(help='Whose privacy counts: the column that names the person, or "example".', rich_help_panel=_DATA),
    ] = None
    groups: Annotated[str | None, Option(help="Columns for results by group: a,b.", rich_help_panel=_DATA)] = None
    data_option: Annotated[
        list[str] | None,
        Option(
            metavar="KEY=VALUE",
            help="Any other option of the source, or canaries=natural=250,mislabelled=250; repeatable.",
            rich_help_panel=_DATA,
        ),
    ] = None
    records: Annotated[int | None, Option(help="How many records, at random by unit.", rich_help_panel=_DATA)] = None
    recipe: Annotated[str | None, Option(help="See `sfumato list recipes`.", rich_help_panel=_WHAT)] = None
    changes: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a number of the recipe or the audit, e.g. epochs=12, lr=0.05, dtype=float64, or of a defence, "
            "e.g. dpsgd.steps=2000; repeatable.",
            rich_help_panel=_WHAT,
        ),
    ] = None
    model: Annotated[
        str | None,
        Option(metavar="FILE.py:FUNCTION", help="Your own network: f(shape, outputs).", rich_help_panel=_WHAT),
    ] = None
    train: Annotated[
        str | None,
        Option(metavar="FILE.py:FUNCTION", help="Your own training: f(x, y, seed).", rich_help_panel=_WHAT),
    ] = None
    estimator: Annotated[
        str | None,
        Option(
            metavar="NAME|FILE.py:FUNCTION",
            help="A scikit-learn classifier: random-forest, gradient-boosting, ...; several with commas.",
            rich_help_panel=_WHAT,
        ),
    ] = None
    defences: Annotated[
        str | None,
        Option(
            "--defences",
            "--defence",
            metavar="NAMES",
            help='As listed, with commas: mixup, "mixup(alpha=0.4)", "memguard(hidden=16|8)", outer+inner.',
            rich_help_panel=_WHAT,
        ),
    ] = None
    seed: Annotated[int | None, Option(help="Root of all randomness.", rich_help_panel=_HOW)] = None
    out: Annotated[str | None, Option(help="Folder to write into.", rich_help_panel=_WHERE)] = None


@dataclass(frozen=True, kw_only=True)
class RunOptions(DataOptions):
    """A comparison, an audit or a plan of one."""

    config: Annotated[str | None, Option(help="Read the run from a TOML file.", rich_help_panel=_WHERE)] = None
    dump_config: Annotated[
        str | None, Option(help="Write this run as a TOML file and stop.", rich_help_panel=_WHERE)
    ] = None
    attacks: Annotated[
        str | None,
        Option(
            metavar="NAMES",
            help='As listed, with commas: loss, "rmia(...)"; inversion is all usual attacks of that kind.',
            rich_help_panel=_WHAT,
        ),
    ] = None
    tune: Annotated[
        str | None,
        Option(
            metavar="METHODS",
            help="Choose these defences' numbers first, from their grids, on records that are never attacked.",
            rich_help_panel=_WHAT,
        ),
    ] = None
    probe: Annotated[
        float | None,
        Option(
            metavar="SHARE",
            help="Set this share of the units apart, probe the network on it first, and protect the regions found.",
            rich_help_panel=_WHAT,
        ),
    ] = None
    strength: Annotated[
        str | None,
        Option(
            help="usual, or full: 64 models, 500 canaries of several kinds, the best attacks; `--models` scales it.",
            rich_help_panel=_HOW,
        ),
    ] = None
    models: Annotated[
        int | None, Option(help="Models per recipe; each in turn is the target.", rich_help_panel=_HOW)
    ] = None
    design: Annotated[str | None, Option(help="halves, coins or canaries.", rich_help_panel=_HOW)] = None
    canaries: Annotated[int | None, Option(help="How many, for that design.", rich_help_panel=_HOW)] = None
    public: Annotated[
        str | None,
        Option(
            metavar="SHARE|SOURCE",
            help="Share kept as known non-members, 0 to 0.9; or, for inversion, where the attackers' public records "
            "come from.",
            rich_help_panel=_HOW,
        ),
    ] = None
    public_classes: Annotated[
        str | None,
        Option(
            metavar="NAMES",
            help="For inversion: these classes are the attackers' public records, and no model is trained on them.",
            rich_help_panel=_HOW,
        ),
    ] = None
    queries: Annotated[
        int | None, Option(help="Repeats of each query, for models that answer at random.", rich_help_panel=_HOW)
    ] = None
    augmentation: Annotated[
        str | None, Option(help="Queries per image: none, mirror, mirror-shift.", rich_help_panel=_HOW)
    ] = None
    budget: Annotated[
        str | None,
        Option(metavar="TIME", help="The one dial: fit models and attacks into 30min, 2h, ...", rich_help_panel=_HOW),
    ] = None
    executor: Annotated[str | None, Option(help="auto, inline, stacked or processes.", rich_help_panel=_WHERE)] = None
    store: Annotated[
        str | None, Option(help="Folder of finished models; reused by later runs.", rich_help_panel=_WHERE)
    ] = None
    checks: Annotated[
        str | None, Option(help="TOML file of thresholds; they decide the exit code.", rich_help_panel=_WHERE)
    ] = None
    title: Annotated[str | None, Option(help="Title of the report.", rich_help_panel=_WHERE)] = None
    gallery: Annotated[
        bool,
        Option(
            "--gallery",
            help="Write what inversion reconstructed as a local file of pictures. They show people.",
            rich_help_panel=_WHERE,
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class AuditOptions(RunOptions):
    """An audit, which may also start from a released model, from predictions or from scores."""

    release: Annotated[
        str | None, Option(help="Attack this model itself: a folder of `sfumato train`, or weights.")
    ] = None
    members: Annotated[
        str | None, Option(help="CSV with a column `id`: the records that the released model was trained on.")
    ] = None
    predictions: Annotated[str | None, Option(help="A CSV or Parquet file with columns label, member, p0, p1, ...")] = (
        None
    )
    scores: Annotated[str | None, Option(help="A CSV or Parquet file with columns member, score.")] = None
    label_column: Annotated[str, Option(help="In the table of predictions.")] = "label"
    member_column: Annotated[str, Option(help="In the table.")] = "member"
    probability_columns: Annotated[str | None, Option(help="a,b,c in the order of the classes.")] = None
    score_column: Annotated[str, Option(help="In the table of scores.")] = "score"


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(DataOptions):
    """A probe of one network."""

    regions: Annotated[
        str | None,
        Option(
            metavar="KIND",
            help="depth, type, or regular expressions of parameter names with commas.",
            rich_help_panel=_WHAT,
        ),
    ] = None
    operations: Annotated[
        str | None,
        Option(
            metavar="NAMES", help="Of transplant, rewind, rewind-private, freeze; all by default.", rich_help_panel=_HOW
        ),
    ] = None
    models: Annotated[int | None, Option(help="Of each variant, in complementary halves.", rich_help_panel=_HOW)] = None
    tuning_epochs: Annotated[
        int | None, Option(metavar="EPOCHS", help="In which a rewound region is tuned.", rich_help_panel=_HOW)
    ] = None
    plan: Annotated[bool, Option("--plan", help="Say what it will cost, and stop.", rich_help_panel=_HOW)] = False
    executor: Annotated[str | None, Option(help="auto, inline, stacked or processes.", rich_help_panel=_WHERE)] = None
    store: Annotated[
        str | None, Option(help="Folder of finished models; reused by later runs.", rich_help_panel=_WHERE)
    ] = None
    title: Annotated[str | None, Option(help="Title of the map.", rich_help_panel=_WHERE)] = None


@dataclass(frozen=True, kw_only=True)
class TrainOptions(DataOptions):
    """Training of one model for release."""

    ledger: Annotated[
        str | None,
        Option(
            metavar="FOLDER",
            help="Charge every private step here before it is released; `--people` names whose records they are.",
            rich_help_panel=_WHERE,
        ),
    ] = None
    people: Annotated[str | None, Option(metavar="NAME", help="As declared in the ledger.", rich_help_panel=_WHERE)] = (
        None
    )

    fraction: Annotated[
        float, Option(help="Share of the units to train on; the others can serve an audit.", rich_help_panel=_DATA)
    ] = 1.0
    members: Annotated[
        str | None, Option(help="CSV with a column `id`: train on these records only.", rich_help_panel=_DATA)
    ] = None


def takes(kind: type[O]) -> Callable[[Callable[[typer.Context, O], int]], Callable[..., int]]:
    """Turn `command(context, options)` into what typer reads: one parameter per field of the options."""

    def wrapped(function: Callable[[typer.Context, O], int]) -> Callable[..., int]:
        def command(context: typer.Context, **values: Any) -> int:
            return function(context, kind(**values))

        hints = get_type_hints(kind, include_extras=True)
        parameters = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is MISSING else field.default,
                annotation=hints[field.name],
            )
            for field in fields(kind)  # type: ignore[arg-type] - a dataclass of this file
        ]
        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        command.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]
        command.__annotations__ = {"context": typer.Context, **hints, "return": int}
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        return command

    return wrapped
