"""What is done to virtual disks, or takes their VM away, over the real model: done, done twice, killed, and refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand
from snapshotd.simulator.hypervisor import DriveView
from snapshotd.simulator.model import SimulatedHyperV
from snapshotd.simulator.needs import Engine
from tests.host_script.conversation import Conversation
from tests.host_script.engines import BOTH, engine_on
from tests.host_script.host_commands import effect, entry, known_journal, observe
from tests.host_script.recording_host import OTHER as DB
from tests.host_script.recording_host import WEB
from tests.unit.simulator_model.hosts import Script, bring, host_at, of, settled, truth

OLD = f"{WEB[:-2]}03"
INVENTORY = {
    "host": {"name": "hv01"},
    "vms": [
        {"id": WEB, "name": "web01", "state": "Running", "disks": [{"location": "SCSI:0:0"}]},
        {"id": DB, "name": "db01", "state": "Off", "disks": [{"location": "SCSI:0:0"}, {"location": "SCSI:0:2"}]},
        {"id": OLD, "name": "old01", "state": "Running", "disks": [{"location": "IDE:0:0"}]},
    ],
}
MIB = 1 << 20
AT = "SCSI:0:1"


@pytest.fixture
def hyperv(tmp_path: Path) -> Iterator[SimulatedHyperV]:
    with host_at(tmp_path, INVENTORY) as opened:
        yield opened


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, hyperv: SimulatedHyperV, tmp_path: Path) -> Iterator[Engine]:
    yield from engine_on(request.param, hyperv, tmp_path / "engine")


class Vm:
    """One VM, and the steps that a script is asked for, each under a token and a number of its own."""

    def __init__(self, hyperv: SimulatedHyperV, script: Conversation, at: Path, vm_id: str = WEB) -> None:
        self.hyperv, self.script, self.at, self.vm_id = hyperv, script, at, vm_id
        self.token, self.step = 1, 0
        self.journal_id = known_journal(script, vm=vm_id)

    def command(self, action: str, **fields: object) -> HostCommand:
        """Write the next step, on what is there now."""
        self.token, self.step = self.token + 1, self.step + 1
        command = effect(action, self.hyperv, self.journal_id, self.token, self.step, self.vm_id)
        paths = fields.pop("paths", ())
        for name, value in fields.items():
            setattr(getattr(command, action), name, value)
        if action == "files_delete":
            command.files_delete.paths.extend(map(str, paths))  # type: ignore[call-overload]
        if action == "disk_create":
            command.before.absent_files.append(command.disk_create.path)
        return command

    def do(self, action: str, **fields: object) -> HostAnswer:
        """Have a step done."""
        return self.script.ask(self.command(action, **fields))

    def again(self, command: HostCommand) -> HostCommand:
        """Write a step's next attempt, on what is there now."""
        action, self.step = command.WhichOneof("action") or "", command.step - 1
        again = self.command(action)
        getattr(again, action).CopyFrom(getattr(command, action))
        if action == "disk_create":
            again.before.absent_files[:] = [again.disk_create.path]
        return again

    def effects(self) -> list[str]:
        """Return what the steps have done, in order."""
        return [line["effect"] for line in truth(self.at) if line["operation"]]

    def blocks(self, location: str) -> object:
        """Return what the guest reads at a place."""
        return self.hyperv.read_disk(self.vm_id, location)["blocks"]


@pytest.fixture
def web(hyperv: SimulatedHyperV, talk: Callable[[], Conversation], tmp_path: Path) -> Vm:
    return Vm(hyperv, talk(), tmp_path)


@pytest.fixture
def loose(hyperv: SimulatedHyperV, tmp_path: Path) -> str:
    """A disk that no VM has."""
    hyperv.new_vhd(Script(), f"{tmp_path}/loose.vhdx", 16 * MIB)
    return f"{tmp_path}/loose.vhdx"


def drives(hyperv: SimulatedHyperV, vm_id: str = WEB) -> dict[str, str]:
    """Return what is attached to a VM, by place."""
    vm = hyperv.vm(vm_id)
    assert vm is not None
    return {drive.location: drive.path for drive in vm.drives}


def test_a_running_vm_gets_a_new_disk_which_is_resized_detached_and_attached_again_with_what_is_on_it(
    web: Vm, tmp_path: Path
) -> None:
    path = f"{tmp_path}/new.vhdx"
    made = web.do("disk_create", path=path, size_bytes=8 * MIB)
    there = web.hyperv.vhd(path)
    assert there is not None
    assert (made.verdict, made.disk_create.identifier) == (HostAnswer.DONE, there.identifier.lower())
    assert web.do("volume_attach", location=AT, path=path).verdict == HostAnswer.DONE
    web.hyperv.write_disk(WEB, AT, "1", "mine")
    assert web.do("volume_resize", location=AT, path=path, size_bytes=32 * MIB).verdict == HostAnswer.DONE
    assert web.do("volume_resize", location=AT, path=path, size_bytes=4 * MIB).verdict == HostAnswer.DONE
    assert web.blocks(AT) == {"1": "mine"}
    detached = web.do("volume_detach", location=AT, path=path)
    assert (detached.verdict, [disk.location for disk in detached.vms[0].disks]) == (HostAnswer.DONE, ["SCSI:0:0"])
    assert web.do("volume_attach", location="SCSI:3:63", path=path).verdict == HostAnswer.DONE
    assert web.blocks("SCSI:3:63") == {"1": "mine"}
    assert web.do("volume_detach", location="SCSI:3:63", path=path).verdict == HostAnswer.DONE
    deleted = web.do("files_delete", paths=[path], only_identifier=made.disk_create.identifier)
    assert (deleted.verdict, Path(path).exists()) == (HostAnswer.DONE, False)
    assert [e for e in web.effects() if e != "file_deleted"] == [
        *("disk_created", "drive_added", "disk_resized", "disk_resized", "drive_removed"),
        *("drive_added", "drive_removed"),
    ]


def test_a_vm_that_is_off_gets_a_disk_on_ide(
    hyperv: SimulatedHyperV, talk: Callable[[], Conversation], loose: str, tmp_path: Path
) -> None:
    bring(hyperv, "Off", OLD)
    old = Vm(hyperv, talk(), tmp_path, OLD)
    assert old.do("volume_attach", location="IDE:1:1", path=loose).verdict == HostAnswer.DONE
    assert old.do("volume_resize", location="IDE:1:1", path=loose, size_bytes=20 * MIB).verdict == HostAnswer.DONE
    assert drives(hyperv, OLD)["IDE:1:1"] == loose
    assert old.do("volume_detach", location="IDE:1:1", path=loose).verdict == HostAnswer.DONE
    assert list(drives(hyperv, OLD)) == ["IDE:0:0"]


def test_what_is_asked_for_twice_is_done_once_and_answered_alike(web: Vm, tmp_path: Path) -> None:
    path = f"{tmp_path}/new.vhdx"
    at = {"location": AT, "path": path}
    for action, fields in (
        ("disk_create", {"path": path, "size_bytes": 8 * MIB}),
        ("volume_attach", at),
        ("volume_resize", at | {"size_bytes": 20 * MIB}),
        ("volume_detach", at),
        ("files_delete", {"paths": [path]}),
    ):
        command = web.command(action, **fields)
        first = web.script.ask(command)
        state, lines = web.hyperv.state(), len(truth(web.at))
        second = web.script.ask(command)
        assert (first.verdict, second.verdict) == (HostAnswer.DONE, HostAnswer.DONE), action
        assert second.disk_create == first.disk_create
        assert (web.hyperv.state(), len(truth(web.at))) == (state, lines)


@pytest.mark.parametrize(
    ("action", "cmdlet", "decisive"),
    [
        ("disk_create", "New-VHD", "disk_created"),
        ("volume_attach", "Add-VMHardDiskDrive", "drive_added"),
        ("volume_detach", "Remove-VMHardDiskDrive", "drive_removed"),
        ("volume_resize", "Resize-VHD", "disk_resized"),
    ],
)
def test_what_was_killed_anywhere_shows_in_the_next_observation_and_is_done_once(
    action: str, cmdlet: str, decisive: str, web: Vm, talk: Callable[[], Conversation], tmp_path: Path
) -> None:
    for number, place in enumerate(("before", "started", "after"), 1):
        killed, at, path, size = talk(), f"SCSI:0:{number}", f"{tmp_path}/{number}.vhdx", (8 + number) * MIB
        if action != "disk_create":
            web.hyperv.new_vhd(Script(), path, 8 * MIB)
        if action in ("volume_detach", "volume_resize"):
            web.hyperv.add_drive(Script(), WEB, at, path)
        told = {"path": path, "location": at, "size_bytes": size}
        command = web.command(action, **{name: told[name] for name in FIELDS[action]})
        web.hyperv.kill_script(f"{cmdlet}:{place}", 1)
        killed.send(command)
        assert killed.wait_for_end() == 1
        assert entry(web.hyperv, WEB).phase == "BEGUN"
        web.token += 1
        look = observe(web.token, action, step=command.step)
        look.watched_files.append(path)
        while (seen := web.script.ask(look)).verdict == HostAnswer.IN_PROGRESS:
            pass
        assert web.script.ask(command).verdict == HostAnswer.STALE
        (vm,) = seen.vms
        assert web.effects().count(decisive) == number - (place == "before")
        assert (place != "before") == {
            "disk_create": path in vm.existing_files,
            "volume_attach": any(disk.location == at for disk in vm.disks),
            "volume_detach": all(disk.location != at for disk in vm.disks),
            "volume_resize": any(file.size_bytes == size for file in vm.files),
        }[action], vm
        if place == "before":
            assert web.script.ask(web.again(command)).verdict == HostAnswer.DONE
        assert web.effects().count(decisive) == number


FIELDS = {
    "disk_create": ("path", "size_bytes"),
    "volume_attach": ("location", "path"),
    "volume_detach": ("location", "path"),
    "volume_resize": ("location", "path", "size_bytes"),
}
NO_EFFECT, FAILED = HostAnswer.NO_EFFECT, HostAnswer.FAILED


def test_what_a_running_vm_is_refused_has_no_effect(
    hyperv: SimulatedHyperV, talk: Callable[[], Conversation], loose: str, tmp_path: Path
) -> None:
    old, mine = Vm(hyperv, talk(), tmp_path, OLD), f"{tmp_path}/mine.vhdx"
    hyperv.new_vhd(Script(), mine, 16 * MIB)
    hyperv.add_drive(Script(), OLD, AT, mine)
    for block in range(6):
        hyperv.write_disk(OLD, AT, str(block), "mine")
    state, lines = hyperv.state(), len(truth(tmp_path))
    for what, action, location, path, size, verdict, told in (
        ("the place is taken", "volume_attach", AT, loose, 0, FAILED, "OperationFailed,"),
        ("IDE of a VM that runs", "volume_attach", "IDE:1:0", loose, 0, NO_EFFECT, "InvalidState,"),
        ("no such place", "volume_attach", "SCSI:4:0", loose, 0, NO_EFFECT, "InvalidParameter,"),
        ("nothing is there", "volume_detach", "SCSI:0:5", loose, 0, NO_EFFECT, "DriveNotFound,"),
        ("IDE, which is in use", "volume_detach", "IDE:0:0", mine, 0, NO_EFFECT, "InvalidState,"),
        ("smaller than what is written", "volume_resize", AT, mine, 3 * MIB, NO_EFFECT, "InvalidParameter,"),
        ("larger than a VHDX can be", "volume_resize", AT, mine, 65 << 40, NO_EFFECT, "InvalidParameter,"),
    ):
        answer = old.do(action, location=location, path=path, **({"size_bytes": size} if size else {}))
        assert (answer.verdict, answer.error.id.startswith(told)) == (verdict, True), (what, answer.error)
        assert (hyperv.state(), len(truth(tmp_path))) == (state, lines), what
    assert hyperv.read_disk(OLD, AT)["blocks"] == {str(block): "mine" for block in range(6)}


def test_a_file_that_is_not_there_is_not_attached(web: Vm, tmp_path: Path) -> None:
    answer = web.do("volume_attach", location=AT, path=f"{tmp_path}/none.vhdx")
    assert answer.verdict == HostAnswer.FAILED
    assert "cannot find the file" in answer.error.message
    assert list(drives(web.hyperv)) == ["SCSI:0:0"]


def below_a_leaf(hyperv: SimulatedHyperV) -> str:
    """Have db01's disk stand on a file that none of its disks, and no checkpoint, begins with; return that file."""
    made = [hyperv.checkpoint_vm(Script(), DB, name) for name in ("one", "two")]
    hyperv.restore_snapshot(Script(), made[0])
    hyperv.remove_snapshot(Script(), made[0])
    settled(hyperv, DB)
    heads = {d.path for d in of_heads(hyperv)}
    (shared,) = [f for f in of(hyperv, DB)["files"] if f not in heads and f.endswith("-0.vhdx")]
    return str(shared)


def of_heads(hyperv: SimulatedHyperV) -> list[DriveView]:
    """Return the drives of db01 and of its checkpoints."""
    vm = hyperv.vm(DB)
    assert vm is not None
    return [*vm.drives, *(d for c in vm.checkpoints for d in c.drives)]


def otherwise(path: str) -> str:
    """Spell a path with dots and more separators."""
    return path.replace("/state/", "//./state/../state/")


def prefixed(path: str) -> str:
    """Spell a path with the prefix of long ones. No file is found by that here, as one is on Windows."""
    return rf"\\?\{path}"


@pytest.mark.parametrize("where", ["its disk", "below its disk and its checkpoint"])
def test_a_file_in_a_chain_of_another_vm_is_neither_attached_nor_deleted_however_it_is_spelt(
    where: str, web: Vm
) -> None:
    used = drives(web.hyperv, DB)["SCSI:0:2"] if where == "its disk" else below_a_leaf(web.hyperv)
    lines = len(truth(web.at))
    attached = [web.do("volume_attach", location=AT, path=s(used)) for s in (str, str.upper, otherwise, prefixed)]
    deleted = [web.do("files_delete", paths=[s(used)]) for s in (str, otherwise)]
    for answer in (*attached, *deleted):
        assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, "FileInUse,snapshotd"), answer.error
        assert answer.error.message == f"{used} is in a chain of db01."
    assert Path(used).exists()
    assert len(truth(web.at)) == lines
    assert list(drives(web.hyperv)) == ["SCSI:0:0"]


def test_a_chain_that_cannot_be_read_hinders_a_deletion_and_no_attachment(web: Vm, loose: str) -> None:
    web.hyperv.storage(DB, up=False)
    refused = web.do("files_delete", paths=[loose])
    assert refused.error.id == "StorageUnreachable,snapshotd", refused
    assert Path(loose).exists()
    assert web.do("volume_attach", location=AT, path=loose).verdict == HostAnswer.DONE


def test_a_file_spelt_otherwise_is_attached_as_what_it_is(web: Vm, loose: str) -> None:
    spelt = loose.replace("/loose", "/./loose")
    assert web.do("volume_attach", location=AT, path=spelt).verdict == HostAnswer.DONE
    assert Path(drives(web.hyperv)[AT]).resolve() == Path(loose)
    assert web.do("volume_detach", location=AT, path=loose).verdict == HostAnswer.DONE


def test_where_there_is_no_room_no_disk_is_made_and_none_grows(web: Vm, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    path = f"{tmp_path}/small/fixed.vhdx"
    web.hyperv.new_vhd(Script(), path, 8 * MIB, fixed=True)
    web.hyperv.add_drive(Script(), WEB, AT, path)
    web.hyperv.free_space(volume=f"{tmp_path}/small", free_bytes=0)
    grown = web.do("volume_resize", location=AT, path=path, size_bytes=16 * MIB)
    made = web.do("disk_create", path=f"{tmp_path}/small/new.vhdx", size_bytes=8 * MIB)
    for answer in (grown, made):
        assert answer.verdict == HostAnswer.FAILED
        assert "There is not enough space on the disk. (0x80070070)" in answer.error.message
    there = web.hyperv.vhd(path)
    assert there is not None
    assert (there.size_bytes, sorted(p.name for p in (tmp_path / "small").iterdir())) == (8 * MIB, ["fixed.vhdx"])


def test_a_folder_that_is_not_there_gets_no_disk(web: Vm, tmp_path: Path) -> None:
    answer = web.do("disk_create", path=f"{tmp_path}/none/new.vhdx", size_bytes=8 * MIB)
    assert answer.error.id == "StorageUnreachable,snapshotd", answer
    assert not (tmp_path / "none").exists()


def test_a_vm_that_is_removed_leaves_its_disks_which_can_be_deleted_then(
    hyperv: SimulatedHyperV, talk: Callable[[], Conversation], tmp_path: Path
) -> None:
    db = Vm(hyperv, talk(), tmp_path, DB)
    disks = [disk["chain"][0] for disk in of(hyperv, DB)["disks"].values()]
    refused = db.do("files_delete", paths=disks)
    assert refused.error.id == "FileInUse,snapshotd"
    removed = db.do("vm_remove")
    assert (removed.verdict, removed.vms[0].present) == (HostAnswer.DONE, False)
    assert all(Path(path).exists() for path in disks)
    assert db.do("files_delete", paths=disks).verdict == HostAnswer.DONE
    assert not any(Path(path).exists() for path in disks)
    assert db.effects()[0] == "vm_removed"


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_removal_of_a_vm_that_is_killed_is_found_by_the_next_observation_and_done_once(
    place: str, hyperv: SimulatedHyperV, talk: Callable[[], Conversation], tmp_path: Path
) -> None:
    db = Vm(hyperv, talk(), tmp_path, DB)
    command = db.command("vm_remove")
    hyperv.kill_script(f"Remove-VM:{place}", 1)
    db.script.send(command)
    assert db.script.wait_for_end() == 1
    other = talk()
    observed = other.ask(observe(3, "vm_remove", vm=DB))
    assert (observed.verdict, observed.vms[0].present) == (HostAnswer.OBSERVED, place == "before")
    assert other.ask(command).verdict == HostAnswer.STALE
    if place == "before":
        db.script, db.token = other, 3
        assert other.ask(db.again(command)).verdict == HostAnswer.DONE
    assert hyperv.vm(DB) is None
    assert [line["effect"] for line in truth(tmp_path)].count("vm_removed") == 1
