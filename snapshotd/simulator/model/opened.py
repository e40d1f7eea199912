"""One simulated Hyper-V host, opened on its state: what engines and the control port act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snapshotd.simulator.model.checkpointing import Checkpointing
from snapshotd.simulator.model.cmdlets import Cmdlets
from snapshotd.simulator.model.conditions import Conditions
from snapshotd.simulator.model.controls import Controls
from snapshotd.simulator.model.converting import Converting
from snapshotd.simulator.model.drives import Drives
from snapshotd.simulator.model.exporting import Exporting
from snapshotd.simulator.model.host import HostState
from snapshotd.simulator.model.importing import Importing
from snapshotd.simulator.model.merging import Merging
from snapshotd.simulator.model.offering import Offering
from snapshotd.simulator.model.power import Power
from snapshotd.simulator.model.registering import Registering
from snapshotd.simulator.model.vhds import Vhds
from snapshotd.simulator.model.views import HostViews
from snapshotd.simulator.settings import SimulateHostSettings


class SimulatedHyperV:
    """A host.

    Args:
        state: what it consists of.
    """

    def __init__(self, state: HostState) -> None:
        self._state = state
        self._merging = Merging(state)
        checkpointing = Checkpointing(state, self._merging)
        power = Power(state, checkpointing)
        cmdlets = Cmdlets(state, self._merging, checkpointing, power)
        views = HostViews(state, self._merging)
        drives, vhds, offering = Drives(state, self._merging), Vhds(state), Offering(state)
        controls = Controls(state, cmdlets, power, drives, vhds)
        self.vms, self.vm, self.vhd, self.state = views.vms, views.vm, views.vhd, views.whole
        self.jobs, self.all_jobs, self.manages = views.jobs, views.all_jobs, views.manages
        self.set_checkpoint_type = cmdlets.set_checkpoint_type
        self.set_vm, self.restart_vm = cmdlets.set_vm, power.restart_vm
        self.checkpoint_vm = cmdlets.checkpoint_vm
        self.rename_snapshot, self.restore_snapshot = cmdlets.rename_snapshot, cmdlets.restore_snapshot
        self.remove_snapshot = cmdlets.remove_snapshot
        self.start_vm, self.resume_vm, self.stop_vm = power.start_vm, power.resume_vm, power.stop_vm
        self.save_vm, self.suspend_vm = power.save_vm, power.suspend_vm
        self.add_drive, self.remove_drive = drives.add_drive, drives.remove_drive
        self.new_vhd, self.resize_vhd = vhds.new_vhd, vhds.resize_vhd
        self.exists, self.delete_file = vhds.exists, vhds.delete_file
        self.delete_folder, self.move_folder = vhds.delete_folder, vhds.move_folder
        registering = Registering(state, self._merging)
        self.new_vm, self.remove_vm = registering.new_vm, registering.remove_vm
        self.set_processor, self.set_memory = offering.set_processor, offering.set_memory
        exporting = Exporting(state)
        self.export_vm, self.job, self.terminate_job = exporting.export_vm, exporting.job, exporting.terminate_job
        self.convert_disk = Converting(state).convert_disk
        importing = Importing(state, self._merging)
        self.compare_vm, self.import_vm = importing.compare_vm, importing.import_vm
        self.write_disk, self.read_disk = controls.write_disk, controls.read_disk
        self.kill_script, self.fail, self.lose_journal = controls.kill_script, controls.fail, controls.lose_journal
        self.durations, self.set_guest, self.admin = controls.durations, controls.set_guest, controls.admin
        self.restart_host, self.storage = controls.restart_host, controls.storage
        conditions = Conditions(state, self._merging)
        self.hide, self.critical = conditions.hide, conditions.critical
        self.move_out, self.move_in = conditions.move_out, conditions.move_in
        self.share = conditions.share
        self.clock, self.now, self.free_space = conditions.clock, state.now, conditions.free_space
        self.set_checkpoint, self.stray_file = conditions.set_checkpoint, conditions.stray_file

    @property
    def name(self) -> str:
        """The host's name."""
        return self._state.name

    @property
    def journal_directory(self) -> Path:
        """Where the journals are when a command names no directory."""
        return self._state.journal_directory

    @property
    def storage_directory(self) -> Path:
        """Where the VMs and their disks are."""
        return self._state.disks.directory

    def close(self) -> None:
        """End jobs and merges, and close the files."""
        self._merging.close()
        self._state.close()


@contextmanager
def open_host(settings: SimulateHostSettings) -> Iterator[SimulatedHyperV]:
    """Open a host on its state directory. Raises ValueError and OSError for files that make no sense."""
    host = SimulatedHyperV(
        HostState(settings.state, settings.truth, settings.inventory, settings.durations, settings.storage)
    )
    try:
        yield host
    finally:
        host.close()
