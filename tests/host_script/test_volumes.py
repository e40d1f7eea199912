"""What the actions about virtual disks do by cmdlets and by themselves, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand
from snapshotd.domain.state import replace
from snapshotd.simulator.hypervisor import DriveView
from tests.host_script.conversation import Conversation
from tests.host_script.host_commands import any_effect, effect, entry, known_journal, loose_file, observe
from tests.host_script.recording_host import OTHER, WEB, RecordingHost

GIB = 1 << 30


def attach(host: RecordingHost, journal_id: str, token: int, path: str, location: str = "SCSI:0:9") -> HostCommand:
    """Write the attachment of a file."""
    command = effect("volume_attach", host, journal_id, token)
    command.volume_attach.location, command.volume_attach.path = location, path
    return command


def delete(host: RecordingHost, journal_id: str, token: int, *paths: str, only: str = "") -> HostCommand:
    """Write the deletion of files."""
    command = effect("files_delete", host, journal_id, token)
    command.files_delete.paths.extend(paths)
    command.files_delete.only_identifier = only
    return command


@pytest.mark.parametrize("location", ["SCSI:0:9", "IDE:1:0"])
def test_a_file_is_attached_at_the_place_that_is_named(
    location: str, script: Conversation, host: RecordingHost
) -> None:
    path = loose_file(host)
    host.calls.clear()
    answer = script.ask(attach(host, known_journal(script), 2, path, location))
    assert answer.verdict == HostAnswer.DONE, answer
    assert [(disk.location, disk.path) for disk in answer.vms[0].disks][1:] == [(location, path)]
    assert host.calls == [("Add-VMHardDiskDrive", location, path)]


@pytest.mark.parametrize("user", ["another VM", "another VM's checkpoint", "the VM itself"])
def test_a_file_that_a_vm_of_the_host_has_is_not_attached(user: str, script: Conversation, host: RecordingHost) -> None:
    path = loose_file(host)
    drive = DriveView(location="SCSI:0:5", path=path)
    if user == "the VM itself":
        host.set(WEB, drives=(*host.machines[WEB].drives, drive))
    elif user == "another VM":
        host.set(OTHER, drives=(drive,))
    else:
        host.take(OTHER, "before")
        (taken,) = host.machines[OTHER].checkpoints
        host.set(OTHER, checkpoints=(replace(taken, drives=(drive,)),))
    host.calls.clear()
    answer = script.ask(attach(host, known_journal(script), 2, path.upper() if user == "another VM" else path))
    assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, "FileInUse,snapshotd")
    assert host.calls == []


def test_a_disk_is_detached_and_its_file_stays(script: Conversation, host: RecordingHost) -> None:
    path = host.machines[WEB].drives[0].path
    answer = script.ask(any_effect("volume_detach", host, known_journal(script), 2))
    assert (answer.verdict, list(answer.vms[0].disks)) == (HostAnswer.DONE, [])
    assert host.calls == [("Remove-VMHardDiskDrive", "SCSI:0:0")]
    assert Path(path).exists()


def test_a_place_where_nothing_is_any_more_is_another_vm_than_before(script: Conversation, host: RecordingHost) -> None:
    command = any_effect("volume_detach", host, known_journal(script), 2)
    host.set(WEB, drives=())
    assert script.ask(command).verdict == HostAnswer.CHANGED
    assert host.calls == []


def test_a_volume_gets_its_size(script: Conversation, host: RecordingHost) -> None:
    answer = script.ask(any_effect("volume_resize", host, known_journal(script), 2))
    assert (answer.verdict, answer.vms[0].files[0].size_bytes) == (HostAnswer.DONE, 9 << 20)
    assert host.calls == [("Resize-VHD", host.machines[WEB].drives[0].path, str(9 << 20))]


def test_a_disk_is_made_and_told_by_its_identifier(script: Conversation, host: RecordingHost) -> None:
    command = any_effect("disk_create", host, known_journal(script), 2)
    answer = script.ask(command)
    made = host.vhd(command.disk_create.path)
    assert made is not None
    assert (answer.verdict, answer.disk_create.identifier) == (HostAnswer.DONE, made.identifier.lower())
    assert (made.size_bytes, made.vhd_type) == (9 << 20, "Dynamic")
    look = observe(3, "disk_create")
    look.watched_files.append(command.disk_create.path)
    told = script.ask(look).vms[0]
    assert list(told.existing_files) == [command.disk_create.path]
    assert dict(told.journal.output) == {"identifier": made.identifier.lower()}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_nothing_that_is_there_is_made_anew(kind: str, script: Conversation, host: RecordingHost) -> None:
    command = any_effect("disk_create", host, known_journal(script), 2)
    path = Path(command.disk_create.path)
    path.mkdir() if kind == "folder" else path.write_text("mine")
    assert script.ask(command).verdict == HostAnswer.CHANGED
    assert host.calls == []
    assert path.is_dir() or path.read_text() == "mine"


def test_exactly_the_named_files_are_deleted_and_again_is_no_error(script: Conversation, host: RecordingHost) -> None:
    path = loose_file(host)
    other = Path(f"{path}.other")
    other.touch()
    journal = known_journal(script)
    assert script.ask(delete(host, journal, 2, path, f"{path}.gone.vhdx")).verdict == HostAnswer.DONE
    assert not Path(path).exists()
    assert other.exists()
    again = delete(host, journal, 3, path)
    again.step = 2
    assert script.ask(again).verdict == HostAnswer.DONE


@pytest.mark.parametrize("which", ["the disk", "its base", "a checkpoint's"])
def test_no_file_in_a_chain_of_any_vm_of_the_host_is_deleted(
    which: str, script: Conversation, host: RecordingHost
) -> None:
    loose, base = loose_file(host), host.machines[OTHER].drives[0].path
    host.take(OTHER, "before")
    leaf = host.machines[OTHER].drives[0].path
    if which == "a checkpoint's":
        host.set(OTHER, drives=())
    path = leaf if which == "the disk" else base
    answer = script.ask(delete(host, known_journal(script), 2, loose, path))
    assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, "FileInUse,snapshotd")
    assert "in a chain of db01" in answer.error.message
    assert Path(path).exists()
    assert Path(loose).exists(), "all are looked at before the first one goes"


def test_a_file_that_is_another_disk_by_now_is_not_deleted(script: Conversation, host: RecordingHost) -> None:
    path, journal = loose_file(host), known_journal(script)
    made = host.vhd(path)
    assert made is not None
    answer = script.ask(delete(host, journal, 2, path, only="11111111-2222-4333-8444-555555555555"))
    assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, "AnotherDisk,snapshotd")
    assert made.identifier.lower() in answer.error.message
    assert Path(path).exists()
    assert script.ask(delete(host, journal, 3, path, only=made.identifier)).verdict == HostAnswer.DONE
    assert not Path(path).exists()


def test_files_are_deleted_though_the_host_does_not_have_the_vm(script: Conversation, host: RecordingHost) -> None:
    path = loose_file(host)
    command = delete(host, known_journal(script), 2, path)
    del host.machines[WEB]
    answer = script.ask(command)
    assert (answer.verdict, answer.vms[0].present) == (HostAnswer.DONE, False)
    assert not Path(path).exists()


def test_what_is_gone_is_told_of_each_action_that_is_done(script: Conversation, host: RecordingHost) -> None:
    journal = known_journal(script)
    command = any_effect("volume_attach", host, journal, 2)
    assert script.ask(command).verdict == HostAnswer.DONE
    calls = len(host.calls)
    assert script.ask(command).verdict == HostAnswer.DONE
    assert (len(host.calls), entry(host).phase) == (calls, "DONE")
