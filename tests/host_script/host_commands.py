"""The commands that tests send, and what they leave in the journal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from snapshotd.api.v1.executor_pb2 import Before, HostAnswer, HostCommand, VmStop
from snapshotd.simulator.hypervisor import Hypervisor
from snapshotd.simulator.journal import JournalEntry, read_journal
from snapshotd.simulator.reporting import report_vm
from tests.host_script.conversation import INSTALLATION, Conversation
from tests.host_script.recording_host import WEB


def effect(action: str, host: Hypervisor, journal_id: str, token: int, step: int = 1, vm: str = WEB) -> HostCommand:
    """Write an effect that depends on what is there now. The action has to be filled in, but for vm_start."""
    report = report_vm(host, host.journal_directory, vm)
    command = observe(token, action, step=step, vm=vm)
    command.kind = HostCommand.EFFECT
    command.journal_id = journal_id
    command.before.CopyFrom(
        Before(
            power=report.power,
            checkpoint_ids=[checkpoint.checkpoint_id for checkpoint in report.checkpoints],
            current_checkpoint_id=report.current_checkpoint_id,
            leaf_paths=[disk.path for disk in report.disks],
            chain_files=[file.path for file in report.files],
            drives=[f"{disk.location}={disk.path}" for disk in report.disks],
            offering=report.offering,
        )
    )
    return command


def observe(token: int, action: str = "", *, step: int = 1, vm: str = WEB) -> HostCommand:
    """Write an observation, of a step whose action is named or not."""
    command = HostCommand(
        protocol=1,
        kind=HostCommand.OBSERVE,
        installation_id=INSTALLATION,
        vm_id=vm,
        operation="operations/web.1",
        step=step,
        token=token,
    )
    command.deadline.FromDatetime(datetime.now(UTC) + timedelta(minutes=30))
    if action:
        getattr(command, action).SetInParent()
    return command


def look(kind: HostCommand.Kind.ValueType = HostCommand.REPORT, vm: str = WEB) -> HostCommand:
    """Write a REPORT or POLL."""
    return HostCommand(protocol=1, kind=kind, vm_id=vm)


def entry(host: Hypervisor, vm: str = WEB) -> JournalEntry:
    found = read_journal(host.journal_directory, vm)
    assert found is not None
    return found


def known_journal(script: Conversation, token: int = 1, vm: str = WEB) -> str:
    """Make the VM's journal known, as a first observation does."""
    answer = script.ask(observe(token, vm=vm))
    assert answer.verdict == HostAnswer.OBSERVED, answer
    return answer.vms[0].journal.journal_id


def create(host: Hypervisor, journal_id: str, token: int, *, step: int = 1, name: str = "nightly #1") -> HostCommand:
    command = effect("checkpoint_create", host, journal_id, token, step)
    command.checkpoint_create.checkpoint_name = name
    return command


def loose_file(host: Hypervisor) -> str:
    """Make a virtual disk that no VM uses."""
    path = f"{host.storage_directory}/loose.vhdx"
    if host.vhd(path) is None:
        host.new_vhd(_NOBODY, path, 9 << 20)
    return path


class _Nobody:
    """A caller that is no script."""

    killed = False

    def kill(self) -> None:
        """Do nothing."""


_NOBODY = _Nobody()


def any_effect(action: str, host: Hypervisor, journal_id: str, token: int) -> HostCommand:
    """Write any effect; the VM has a checkpoint for those that need one."""
    command = effect(action, host, journal_id, token)
    vm = host.vm(WEB)
    checkpoints = vm.checkpoints if vm else ()
    match action:
        case "vm_stop":
            command.vm_stop.mode = VmStop.TURN_OFF
        case "checkpoint_create":
            command.checkpoint_create.checkpoint_name = "nightly #1"
        case "checkpoint_rename":
            command.checkpoint_rename.checkpoint_id = checkpoints[0].checkpoint_id
            command.checkpoint_rename.checkpoint_name = "new name"
        case "checkpoint_restore":
            command.checkpoint_restore.checkpoint_id = checkpoints[0].checkpoint_id
        case "checkpoint_remove":
            command.checkpoint_remove.checkpoint_id = checkpoints[0].checkpoint_id
        case "vm_configure":
            command.vm_configure.cpu_count = 4
        case "vm_start" | "vm_remove":
            pass
        case _:
            _of_volumes(command, action, host)
    return command


def _of_volumes(command: HostCommand, action: str, host: Hypervisor) -> None:
    """Write what an effect on a volume needs."""
    match action:
        case "volume_attach":
            command.volume_attach.location, command.volume_attach.path = "SCSI:0:9", loose_file(host)
        case "volume_detach" | "volume_resize":
            vm = host.vm(WEB)
            assert vm is not None
            told = getattr(command, action)
            told.location, told.path = vm.drives[0].location, vm.drives[0].path
            if action == "volume_resize":
                command.volume_resize.size_bytes = 9 << 20
        case "disk_create":
            command.disk_create.path, command.disk_create.size_bytes = f"{host.storage_directory}/new.vhdx", 9 << 20
            command.before.absent_files.append(command.disk_create.path)
        case "files_delete":
            command.files_delete.paths.append(loose_file(host))
        case "export_end":
            command.export_end.directory = f"{host.storage_directory}/1-a-1.partial"
        case _:
            of_copies(command, action, host)


def of_copies(command: HostCommand, action: str, host: Hypervisor) -> None:
    """Write what an effect about copies of disks needs."""
    vm, directory = host.vm(WEB), f"{host.storage_directory}/copy.partial-1"
    assert vm is not None
    match action:
        case "disk_export":
            told = command.disk_export
            told.checkpoint_id, told.directory = vm.checkpoints[0].checkpoint_id, directory
            told.location = vm.checkpoints[0].drives[0].location
        case "disk_convert":
            wanted = command.disk_convert
            wanted.location, wanted.path, wanted.directory = vm.drives[0].location, vm.drives[0].path, directory
        case "disk_place":  # as when an earlier script has moved it
            command.disk_place.directory, command.disk_place.target = directory, loose_file(host)
        case _:
            of_exports(command, action, complete_export(host))


def complete_export(host: Hypervisor) -> str:
    """Return the folder of a complete export, as far as only files tell."""
    folder = Path(host.storage_directory) / WEB / "1-a-1"
    (folder / "Virtual Machines").mkdir(parents=True, exist_ok=True)
    (folder / "Virtual Machines" / f"{WEB}.vmcx").touch()
    vm = host.vm(WEB)
    assert vm is not None
    ticks = {drive.path: Path(drive.path).stat().st_mtime_ns // 100 + 621_355_968_000_000_000 for drive in vm.drives}
    (folder / "snapshotd.export").write_text("".join(f"{ticks[path]} {path}\n" for path in sorted(ticks)))
    return str(folder)


def of_exports(command: HostCommand, action: str, folder: str) -> None:
    """Write what an effect about exports needs."""
    match action:
        case "vm_export" | "export_end":
            getattr(command, action).directory = f"{folder}.partial"
        case "export_complete":
            command.export_complete.directory, command.export_complete.target = f"{folder}.partial", folder
        case "vm_release":
            command.vm_release.directory = folder
        case "vm_import":
            command.vm_import.configuration_path = f"{folder}/Virtual Machines/{WEB}.vmcx"
            command.before.vm_absent = True
        case _:
            raise AssertionError(f"write here what {action} needs")
