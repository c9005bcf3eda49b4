"""`sfumato audit`: one recipe, a released model itself, a table of predictions, or a table of scores."""

from __future__ import annotations

from pathlib import Path

import typer

from sfumato.audit.compare import Run
from sfumato.audit.predictions import audit_predictions, audit_scores
from sfumato.audit.record import Notice
from sfumato.audit.settings import AuditSettings
from sfumato.cli.configuring import audit_of, configured
from sfumato.cli.options import AuditOptions, takes
from sfumato.cli.releasing import release_audited
from sfumato.cli.running import carried_out, command_of
from sfumato.cli.screen import Screen
from sfumato.cli.strengthening import refuse_full
from sfumato.cli.writing import checks_from, finish, output_folder
from sfumato.errors import UsageError
from sfumato.targets.predictions import PredictionColumns, Predictions, read_predictions

UNIT_NOT_SAID = Notice(
    severity="theoretical",
    text="The unit of privacy was not stated; every row was taken as a unit of its own.",
    remedy="Name the column of the person with `--unit`, or say `--unit example`.",
)


@takes(AuditOptions)
def audit(context: typer.Context, options: AuditOptions) -> int:
    """Attack one recipe on your data, a released model itself, or only its predictions.

    Examples: sfumato audit digits | sfumato audit --release model/ | sfumato audit --predictions predictions.csv
    """
    doors = [name for name in ("release", "predictions", "scores") if getattr(options, name) is not None]
    if len(doors) > 1:
        raise UsageError(
            f"Expected one of --release, --predictions and --scores, got {' and '.join(doors)}.",
            remedy="Audit them one after the other.",
        )
    if doors == ["release"]:
        return release_audited(context, options)
    if doors:
        return _table_audited(context, options)
    return carried_out(context, options, configured(options, compared=False), "audit")


def _table_audited(context: typer.Context, options: AuditOptions) -> int:
    screen, checks = Screen.of(options), checks_from(options.checks)
    _refuse_unused(options)
    settings, command, title = audit_of(options), command_of(context), options.title or ""
    refuse_full(settings, "a table")
    _refuse_inversion(settings)
    table = _table(options)
    folder = output_folder(options.out or "audit")
    judge = audit_predictions if options.predictions is not None else audit_scores
    run = judge(table, settings, command=command, title=title)
    return finish(run if options.unit else _with_notice(run), checks, folder, screen)


def _refuse_inversion(settings: AuditSettings) -> None:
    if settings.inversion is not None:
        raise UsageError(
            f"Expected membership attacks on a table, got {settings.inversion.attacks[0].method}: inversion asks the "
            "model itself.",
            remedy="Audit the model: sfumato audit DATA --release MODEL --attacks inversion",
        )


def _table(options: AuditOptions) -> Predictions:
    unit = options.unit or "example"
    columns = PredictionColumns(
        label=options.label or options.label_column,
        member=options.member_column,
        probabilities=tuple((options.probability_columns or "").split(",")) if options.probability_columns else (),
        score=options.score_column if options.scores is not None else None,
        unit=None if unit == "example" else unit,
        groups=tuple(options.groups.split(",")) if options.groups else (),
    )
    return read_predictions(Path(options.predictions or options.scores or ""), columns, unit=unit)


def _with_notice(run: Run) -> Run:
    record = run.record.model_copy(update={"notices": [*run.record.notices, UNIT_NOT_SAID]})
    return Run(record, run.worst)


def _refuse_unused(options: AuditOptions) -> None:
    training = (
        "data",
        "records",
        "recipe",
        "model",
        "train",
        "estimator",
        "defences",
        "models",
        "budget",
        "config",
        "tune",
        "probe",
    )
    for name in (*training, "dump_config", "members"):
        if getattr(options, name) is not None:
            shown = "data" if name == "data" else f"--{name.replace('_', '-')}"
            raise UsageError(
                f"Expected nothing to train beside a table of predictions or scores, got {shown}.",
                remedy="Leave it out; a table is audited as it is.",
            )
