"""The engine over the real model: what its scripts leave behind, whole, failed or killed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand, VmStop
from snapshotd.simulator.model import SimulatedHyperV, open_host
from snapshotd.simulator.needs import Engine
from snapshotd.simulator.settings import SimulateHostSettings
from tests.host_script.conversation import Conversation
from tests.host_script.engines import BOTH, engine_on
from tests.host_script.host_commands import any_effect, create, effect, entry, known_journal, look, observe
from tests.host_script.recording_host import WEB

INVENTORY = {
    "host": {"name": "hv07"},
    "vms": [{"id": WEB, "name": "web01", "state": "Running", "disks": [{"location": "SCSI:0:0", "size_bytes": 4096}]}],
}


@pytest.fixture
def settings(tmp_path: Path) -> SimulateHostSettings:
    inventory = tmp_path / "inventory.json"
    inventory.write_text(json.dumps(INVENTORY))
    return SimulateHostSettings(
        listen="127.0.0.1:0",
        control="127.0.0.1:0",
        state=tmp_path / "state",
        inventory=inventory,
        truth=tmp_path / "truth",
        credential=tmp_path / "credential",
        engine="builtin",
        pwsh=None,
        rtt_ms=0,
        powershell_start_ms=0,
        durations={},
    )


@pytest.fixture
def hyperv(settings: SimulateHostSettings) -> Iterator[SimulatedHyperV]:
    with open_host(settings) as host:
        yield host


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, hyperv: SimulatedHyperV, tmp_path: Path) -> Iterator[Engine]:
    yield from engine_on(request.param, hyperv, tmp_path)


@pytest.fixture
def scripts(engine: Engine) -> Iterator[tuple[Conversation, Conversation]]:
    both = Conversation(engine), Conversation(engine)
    yield both
    for conversation in both:
        conversation.process.kill()


def effects(settings: SimulateHostSettings) -> list[tuple[str, str, int]]:
    """Return what the truth says of scripts: effect, operation and step."""
    lines = [json.loads(line) for line in settings.truth.read_text().splitlines()]
    return [(line["effect"], line["operation"], line["step"]) for line in lines if line["by"] == "script"]


def test_each_kind_of_effect_comes_true(
    scripts: tuple[Conversation, Conversation], hyperv: SimulatedHyperV, settings: SimulateHostSettings
) -> None:
    script, _ = scripts
    journal = known_journal(script)
    with_memory = create(hyperv, journal, 2)
    with_memory.checkpoint_create.with_memory = True
    made = script.ask(with_memory)
    assert made.verdict == HostAnswer.DONE
    assert (made.host.name, made.vms[0].checkpoints[0].has_memory) == ("hv07", True)
    assert made.vms[0].current_checkpoint_id == made.checkpoint_create.checkpoint_id

    stop = effect("vm_stop", hyperv, journal, 3, step=2)
    stop.vm_stop.mode = VmStop.TURN_OFF
    assert script.ask(stop).vms[0].host_state == "Off"
    assert script.ask(effect("vm_start", hyperv, journal, 4, step=3)).vms[0].host_state == "Running"
    for step, action in enumerate(("checkpoint_rename", "checkpoint_restore", "checkpoint_remove"), 4):
        command = any_effect(action, hyperv, journal, step + 1)
        command.step = step
        answer = script.ask(command)
        assert answer.verdict == HostAnswer.DONE, answer
        assert answer.vms[0].checkpoint_type == "Production"
    vm = hyperv.vm(WEB)
    assert vm is not None
    assert vm.checkpoints == ()
    operation = "operations/web.1"
    told = effects(settings)
    assert [line for line in told if line[0] != "checkpoint_type_set"] == [
        ("checkpoint_made", operation, 1),
        ("checkpoint_renamed", operation, 1),
        ("power_changed", operation, 2),
        ("power_changed", operation, 3),
        ("checkpoint_renamed", operation, 4),
        ("restore_saved", operation, 5),
        ("checkpoint_applied", operation, 5),
        ("restore_resumed", operation, 5),
        ("checkpoint_removed", operation, 6),
    ]


@pytest.mark.parametrize(
    ("with_memory", "fallback", "vss", "has_memory"),
    [
        (False, False, True, False),
        (False, True, True, False),
        (False, True, False, True),
        (True, False, True, True),
    ],
)
def test_a_checkpoint_that_is_made_is_told_with_or_without_memory_and_so_when_asked_again(
    scripts: tuple[Conversation, Conversation],
    hyperv: SimulatedHyperV,
    *,
    with_memory: bool,
    fallback: bool,
    vss: bool,
    has_memory: bool,
) -> None:
    script, other = scripts
    hyperv.set_guest(WEB, vss=vss)
    command = create(hyperv, known_journal(script), 2)
    command.checkpoint_create.with_memory, command.checkpoint_create.allow_fallback = with_memory, fallback
    made = script.ask(command)
    (checkpoint,) = made.vms[0].checkpoints
    assert (made.verdict, made.checkpoint_create.checkpoint_id) == (HostAnswer.DONE, checkpoint.checkpoint_id)
    assert made.checkpoint_create.has_memory == checkpoint.has_memory == has_memory
    assert entry(hyperv).output == {"checkpoint_id": checkpoint.checkpoint_id, "has_memory": has_memory}
    hyperv.admin("remove", WEB, checkpoint=checkpoint.checkpoint_id)
    assert other.ask(command).checkpoint_create == made.checkpoint_create


@pytest.mark.parametrize("place", ["before", "started", "after"])
@pytest.mark.parametrize("cmdlet", ["Set-VM", "Checkpoint-VM"])
def test_a_create_killed_anywhere_is_found_by_the_next_observation_and_made_once(
    cmdlet: str, place: str, scripts: tuple[Conversation, Conversation], hyperv: SimulatedHyperV
) -> None:
    killed, other = scripts
    command = create(hyperv, known_journal(killed), 2)
    hyperv.kill_script(f"{cmdlet}:{place}", 1)
    killed.send(command)
    assert killed.wait_for_end() == 1
    assert entry(hyperv).phase == "BEGUN"
    deadline = time.monotonic() + 5
    observed = other.ask(observe(3))
    while observed.verdict == HostAnswer.IN_PROGRESS and time.monotonic() < deadline:
        observed = other.ask(observe(3))  # the hypervisor's job goes on without the script
    assert observed.verdict == HostAnswer.OBSERVED
    assert observed.vms[0].checkpoint_type == "Production"
    there = len(observed.vms[0].checkpoints)
    assert there == (cmdlet == "Checkpoint-VM" and place != "before")
    command.token = 2
    assert other.ask(command).verdict == HostAnswer.STALE
    command.token = 4
    again = other.ask(command)
    assert again.verdict == (HostAnswer.CHANGED if there else HostAnswer.DONE)
    assert len(again.vms[0].checkpoints) == 1


def test_a_merge_is_not_taken_for_done_while_the_storage_is_away(
    scripts: tuple[Conversation, Conversation], hyperv: SimulatedHyperV
) -> None:
    script, _ = scripts
    journal = known_journal(script)
    script.ask(create(hyperv, journal, 2))
    remove = any_effect("checkpoint_remove", hyperv, journal, 3)
    remove.step = 2
    hyperv.durations(merge=1)
    hyperv.storage(WEB, up=False)
    assert script.ask(remove).error.id == "StorageUnreachable,snapshotd"
    hyperv.storage(WEB, up=True)
    hyperv.durations(merge=60_000)
    remove.token = 4
    assert script.ask(remove).verdict == HostAnswer.DONE
    hyperv.storage(WEB, up=False)
    hyperv.durations(merge=0)
    poll = look(HostCommand.POLL)
    poll.watched_files.extend(set(remove.before.chain_files))
    for command in (poll, observe(5)):
        assert script.ask(command).error.id == "StorageUnreachable,snapshotd"
    hyperv.storage(WEB, up=True)
    deadline = time.monotonic() + 5
    while (told := script.ask(poll).vms[0]).activities and time.monotonic() < deadline:
        pass
    (disk,), (file,) = told.disks, told.files
    assert [disk.path] == [file.path] == list(told.existing_files)


@pytest.mark.parametrize(("cmdlet", "doing"), [("Checkpoint-VM", "CREATE"), ("Remove-VMSnapshot", "DELETE")])
def test_a_job_is_seen_although_the_vms_status_lags_behind(
    cmdlet: str, doing: str, scripts: tuple[Conversation, Conversation], hyperv: SimulatedHyperV
) -> None:
    killed, other = scripts
    journal = known_journal(killed)
    command = create(hyperv, journal, 2)
    if doing == "DELETE":
        killed.ask(command)
        command = any_effect("checkpoint_remove", hyperv, journal, 3)
        command.step = 2
    hyperv.durations(status_delay=60_000, checkpoint=60_000, remove=60_000)
    hyperv.kill_script(f"{cmdlet}:started", 1)
    killed.send(command)
    assert killed.wait_for_end() == 1
    vm = hyperv.vm(WEB)
    assert vm is not None
    assert vm.secondary_status == ()
    answer = other.ask(observe(9))
    assert (answer.verdict, list(answer.vms[0].activities)) == (HostAnswer.IN_PROGRESS, [doing])


@pytest.mark.parametrize("after_effect", [True, False])
def test_a_planned_failure_is_without_effect_only_before_it(
    scripts: tuple[Conversation, Conversation], hyperv: SimulatedHyperV, *, after_effect: bool
) -> None:
    script, _ = scripts
    command = create(hyperv, known_journal(script), 2)
    hyperv.fail("Checkpoint-VM", "OutOfMemory", "no memory", 1, after_effect=after_effect)
    answer = script.ask(command)
    assert answer.verdict == (HostAnswer.FAILED if after_effect else HostAnswer.NO_EFFECT)
    assert answer.error.id == "OutOfMemory,Microsoft.HyperV.PowerShell.Commands.CheckpointVM"
    vm = hyperv.vm(WEB)
    assert vm is not None
    assert vm.checkpoint_type == "Production"
