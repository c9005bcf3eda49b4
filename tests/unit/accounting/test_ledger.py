import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sfumato.accounting import chain as chain_module
from sfumato.accounting import meter as meter_module
from sfumato.accounting.accountants.pld import PLD
from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.guarantee import NoGuarantee
from sfumato.accounting.ledger import Ledger, declared_names
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.errors import NotPrivateError, UsageError

ONE = PoissonGaussian(sample_rate=0.01, noise_multiplier=1.0, steps=1000, adjacency="ADD_OR_REMOVE_ONE")


def planned(steps=1000, **changes):
    return ONE.lasting(steps).plain() | {"unit": "patient", "audit_only": False, "delta": 1e-5} | changes


@pytest.fixture
def ledger(tmp_path):
    found = Ledger.open(tmp_path / "ledgers", "ward 7", create=True)
    found.declare(3.0, 1e-5, "patient", "ADD_OR_REMOVE_ONE")
    return found


def begin(ledger, run="a", steps=1000, config=None, fingerprint="f", block=None, **changes):
    return ledger.begin(
        run, planned(steps, **changes), config=config or {"lr": 0.1}, fingerprint=fingerprint, block=block
    )


def charge_often(meter, times, steps):
    for _ in range(times):
        meter.charge(steps)


def lines(ledger):
    return ledger.chain.path.read_bytes().split(b"\n")[:-1]


def rewrite(ledger, rows):
    ledger.chain.path.write_bytes(b"".join(row + b"\n" for row in rows))


def test_a_run_that_ends_in_order_pays_for_the_steps_it_released(ledger):
    with begin(ledger) as meter:
        for _ in range(257):
            meter.charge()
    run = ledger.runs()[0]
    assert (run.charged, run.closed, run.audit_only, run.data_changed) == (257, True, False, False)
    assert ledger.spent() == PLD().epsilon([ONE.lasting(257)], 1e-5)
    assert ledger.spent(1e-7) > ledger.spent()


def test_steps_are_on_disk_before_they_are_released(ledger):
    meter = begin(ledger, block=4)
    for step in range(1, 11):
        meter.charge()
        assert Ledger.open(ledger.folder, "ward 7").runs()[0].charged == 4 * -(-step // 4)


def test_a_crash_costs_at_most_the_rest_of_a_block_and_gives_nothing_back(ledger):
    meter = begin(ledger, block=10)
    meter.charge(13)
    again = begin(ledger, block=10)  # the first meter is gone with its process
    assert again.left == 0
    again.charge(1)
    assert ledger.runs()[0].charged == 13 + 10
    second = begin(ledger, "b", block=10)
    second.charge(3)
    second.__exit__(RuntimeError, RuntimeError("stopped"), None)
    assert (ledger.runs()[1].charged, ledger.runs()[1].closed) == (10, False)


def test_loading_twice_does_not_reset_the_budget(ledger):
    for _ in range(3):
        begin(ledger, block=100).charge(100)
    assert ledger.runs()[0].charged == 300


def test_several_trainings_are_composed(ledger):
    for run, steps in (("a", 300), ("b", 500)):
        with begin(ledger, run, steps) as meter:
            meter.charge(steps)
    assert ledger.spent() == pytest.approx(PLD().epsilon([ONE.lasting(800)], 1e-5), rel=1e-6)
    found = ledger.guarantee()
    assert found.epsilon == ledger.spent()
    assert found.unit == "patient"
    assert len(ledger.history().events) == 2


def test_nothing_spent_is_no_guarantee(ledger):
    assert ledger.spent() == 0
    assert isinstance(ledger.guarantee(), NoGuarantee)


def test_a_plan_above_the_target_is_refused_before_it_begins(ledger):
    with pytest.raises(NotPrivateError, match="epsilon 3 at delta"):
        begin(ledger, steps=20_000)
    assert ledger.runs() == ()
    with begin(ledger, steps=2000) as meter:
        meter.charge(2000)
    with pytest.raises(NotPrivateError, match="1 other runs"):
        begin(ledger, "b", steps=2000)


def test_steps_beyond_the_target_are_refused_while_running(ledger):
    meter = begin(ledger, steps=2000, block=500)
    meter.charge(2000)
    with pytest.raises(NotPrivateError, match="declared"):
        charge_often(meter, 10, 500)
    assert ledger.spent() <= 3.0


def test_what_others_spend_meanwhile_counts(ledger):
    first, second = begin(ledger, "a", 2000, block=400), begin(ledger, "b", 2000, block=400)
    first.charge(2000)
    with pytest.raises(NotPrivateError, match="other runs"):
        charge_often(second, 5, 400)
    assert ledger.spent() <= 3.0


def test_the_plan_is_not_accounted_anew_for_each_block(ledger, monkeypatch):
    meter = begin(ledger, steps=1000, block=10)
    monkeypatch.setattr(meter_module, "PLD", None)
    meter.charge(300)


def test_remaining_says_how_many_steps_fit(ledger):
    with begin(ledger) as meter:
        meter.charge(1000)
    left = ledger.remaining(planned())
    assert PLD().epsilon([ONE, ONE.lasting(left)], 1e-5) <= 3.0
    assert PLD().epsilon([ONE, ONE.lasting(left)], 1e-5) >= 0.985 * 3.0
    assert ledger.remaining(planned(noise_multiplier=0.1)) == 0


def test_audit_runs_are_listed_and_not_charged(ledger):
    with begin(ledger, "shadow", 10**6, audit_only=True) as meter:
        meter.charge(10**6)
    assert (ledger.runs()[0].audit_only, ledger.runs()[0].charged, ledger.spent()) == (True, 0, 0)


@pytest.mark.parametrize(
    "change", [{"config": {"lr": 0.2}}, {"steps": 900}, {"noise_multiplier": 1.1}, {"audit_only": True}]
)
def test_a_changed_configuration_is_not_resumed(ledger, change):
    begin(ledger).charge()
    with pytest.raises(UsageError, match="another one"):
        begin(ledger, **change)


def test_a_closed_run_is_not_resumed_or_charged(ledger):
    meter = begin(ledger)
    meter.close()
    with pytest.raises(UsageError, match="over"):
        begin(ledger)
    with pytest.raises(NotPrivateError, match="closed"):
        meter.charge()


def test_changed_data_are_flagged_and_charged_to_the_same_name(ledger):
    for run, fingerprint in (("a", "one"), ("b", "two"), ("c", "one")):
        with begin(ledger, run, 100, fingerprint=fingerprint) as meter:
            meter.charge(100)
    assert [run.data_changed for run in ledger.runs()] == [False, True, False]
    assert ledger.spent() == pytest.approx(PLD().epsilon([ONE.lasting(300)], 1e-5), rel=1e-6)
    begin(ledger, "d", 50, fingerprint="one")
    begin(ledger, "d", 50, fingerprint="three")
    assert ledger.runs()[3].data_changed


@pytest.mark.parametrize("change", [{"unit": "example"}, {"adjacency": "REPLACE_ONE"}, {"audit_only": "no"}])
def test_runs_must_fit_the_declaration(ledger, change):
    with pytest.raises(UsageError):
        begin(ledger, **change)


def test_a_declaration_is_made_once(ledger):
    assert ledger.declare(3, 1e-5, "patient", "ADD_OR_REMOVE_ONE").adjacency is Adjacency.ADD_OR_REMOVE_ONE
    assert ledger.verify() == 1
    for other in ((4.0, 1e-5, "patient"), (3.0, 1e-6, "patient"), (3.0, 1e-5, "example")):
        with pytest.raises(UsageError, match="before"):
            ledger.declare(*other, "ADD_OR_REMOVE_ONE")
    assert ledger.declared.target_epsilon == 3.0


def test_names_are_known_or_meant(ledger, tmp_path):
    assert declared_names(ledger.folder) == ("ward 7",)
    with pytest.raises(UsageError, match="ward 7"):
        Ledger.open(ledger.folder, "ward 8")
    with pytest.raises(UsageError, match="declare"):
        begin(Ledger.open(ledger.folder, "ward 8", create=True))
    with pytest.raises(UsageError, match="name"):
        Ledger.open(ledger.folder, " ", create=True)
    awkward = Ledger.open(tmp_path, "../../ä b/c", create=True)
    awkward.declare(1.0, 1e-5, "x", "REPLACE_ONE")
    assert awkward.chain.path.parent == tmp_path


def test_a_missing_ledger_of_a_known_name_is_an_error(ledger):
    begin(ledger).charge()
    ledger.chain.path.unlink()
    for create in (False, True):
        with pytest.raises(NotPrivateError, match="missing"):
            Ledger.open(ledger.folder, "ward 7", create=create)
    for left in ledger.folder.glob("ward-7*"):
        left.unlink()
    with pytest.raises(NotPrivateError, match="declared before"):
        Ledger.open(ledger.folder, "ward 7", create=True)


def test_a_ledger_that_the_index_lost_is_an_error(ledger):
    begin(ledger).charge()
    for left in ledger.folder.glob("index*"):
        left.unlink()
    with pytest.raises(NotPrivateError, match="index"):
        Ledger.open(ledger.folder, "ward 7", create=True)


def test_a_declaration_that_was_interrupted_can_be_repeated(ledger):
    for left in ledger.folder.glob("index*"):
        left.unlink()
    Ledger.open(ledger.folder, "ward 7", create=True).declare(3.0, 1e-5, "patient", "ADD_OR_REMOVE_ONE")
    assert declared_names(ledger.folder) == ("ward 7",)


def spent_some(ledger):
    with begin(ledger, block=100) as meter:
        for _ in range(5):
            meter.charge(100)
    return lines(ledger)


@pytest.mark.parametrize(
    "forge",
    [
        lambda rows: [*rows[:3], rows[3].replace(b'"steps":100', b'"steps":1'), *rows[4:]],
        lambda rows: [*rows[:3], *rows[4:]],
        lambda rows: rows[:-1],
        lambda rows: rows[:1],
        lambda rows: [],
        lambda rows: [*rows[:3], rows[4], rows[3], *rows[5:]],
        lambda rows: [*rows, rows[-1]],
        lambda rows: [rows[0].replace(b"3.0", b"30.0"), *rows[1:]],
        lambda rows: [*rows[:3], b"not json", *rows[4:]],
        lambda rows: [*rows[:3], b"[]", *rows[4:]],
        lambda rows: [*rows[:3], b"\xff\xfe", *rows[4:]],
    ],
)
def test_tampering_truncation_and_reordering_are_found(ledger, forge):
    rewrite(ledger, forge(spent_some(ledger)))
    with pytest.raises(NotPrivateError, match="damaged"):
        ledger.verify()
    with pytest.raises(NotPrivateError, match="damaged"):
        begin(ledger, "b")


def test_a_lost_or_damaged_head_is_found(ledger):
    spent_some(ledger)
    head = ledger.chain.path.with_name(ledger.chain.path.name + ".head")
    head.write_text("{}")
    with pytest.raises(NotPrivateError, match="damaged"):
        ledger.verify()
    head.unlink()
    with pytest.raises(NotPrivateError, match="missing"):
        ledger.verify()


def test_the_ledger_of_another_name_does_not_pass(ledger):
    other = Ledger.open(ledger.folder, "ward 9", create=True)
    other.declare(3.0, 1e-5, "patient", "ADD_OR_REMOVE_ONE")
    for ending in ("", ".head"):
        source = other.chain.path.with_name(other.chain.path.name + ending)
        os.replace(source, ledger.chain.path.with_name(ledger.chain.path.name + ending))
    with pytest.raises(NotPrivateError):
        ledger.verify()


def test_an_older_copy_of_everything_is_found_by_a_checkpoint_only(ledger):
    begin(ledger, block=5).charge(5)
    kept = {path: path.read_bytes() for path in ledger.folder.iterdir()}
    begin(ledger, "b", 10).charge(10)
    carried = ledger.head
    assert ledger.expect(carried) is ledger
    for path, content in kept.items():
        path.write_bytes(content)
    assert ledger.verify() == 3
    with pytest.raises(NotPrivateError, match="checkpoint"):
        ledger.expect(carried)


def test_an_interrupted_append_is_noted_and_costs_a_block(ledger):
    begin(ledger, block=10).charge(10)
    with ledger.chain.path.open("ab") as file:
        file.write(b'{"kind":"charged","run":"a","st')
    assert ledger.runs()[0].charged == 20
    meter = begin(ledger, block=10)
    assert json.loads(lines(ledger)[-2])["kind"] == "interrupted"
    assert ledger.runs()[0].charged == 20
    meter.charge(1)
    assert ledger.runs()[0].charged == 30
    assert ledger.verify() == len(lines(ledger))


def test_a_head_that_was_not_written_in_time_is_no_damage(ledger, monkeypatch):
    meter = begin(ledger, block=1)
    monkeypatch.setattr(chain_module, "write_atomic", lambda *_, **__: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        meter.charge()
    monkeypatch.undo()
    assert ledger.runs()[0].charged == 1
    meter.charge()
    assert ledger.runs()[0].charged == 2


def test_an_unknown_kind_of_record_is_not_skipped(ledger):
    with ledger.chain.locked():
        ledger.chain.append(ledger.chain.read(), kind="refund", run="a", steps=100)
    with pytest.raises(NotPrivateError, match="refund"):
        ledger.spent()


def test_only_the_owner_reads_it(ledger):
    assert ledger.chain.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_charges_are_whole(ledger, steps):
    with pytest.raises(UsageError, match="steps"):
        begin(ledger).charge(steps)


def charge_in_a_process(folder, name, run):
    meter = Ledger.open(folder, name).begin(run, planned(100), config=1, fingerprint="f", block=1)
    for _ in range(8):
        meter.charge()


def test_processes_do_not_tread_on_each_other(ledger):
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=charge_in_a_process, args=(ledger.folder, "ward 7", run)) for run in ("x", "y", "z")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert [run.charged for run in ledger.runs()] == [8, 8, 8]


def test_a_record_that_comes_while_the_file_is_read_is_no_damage(ledger, monkeypatch):
    whole = Path.read_bytes

    def overtaken(path):
        content = whole(path)
        if path == ledger.chain.path:
            monkeypatch.setattr(Path, "read_bytes", whole)
            with ledger.chain.locked():
                ledger.chain.append(ledger.chain.read(), kind="of another process")
        return content

    before = len(ledger.chain.read().rows)
    monkeypatch.setattr(Path, "read_bytes", overtaken)
    assert len(ledger.chain.read().rows) == before
    assert len(ledger.chain.read().rows) == before + 1


def test_a_killed_process_leaves_what_it_charged(ledger):
    code = (
        "import os\nfrom sfumato.accounting.ledger import Ledger\n"
        f"meter = Ledger.open({str(ledger.folder)!r}, 'ward 7').begin('k', {planned(100)!r}, config=1, "
        "fingerprint='f', block=7)\nmeter.charge(3)\nos.kill(os.getpid(), 9)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=60).returncode == -9
    assert (ledger.runs()[0].charged, ledger.runs()[0].closed) == (7, False)
