"""`snapshotctl snapshot ...`: what the commands take by which a person decides about snapshots and checkpoints."""

from __future__ import annotations

from snapshotd.client import arguments as read
from snapshotd.client.label_parser import add_expiry, add_label_changes, add_labels
from snapshotd.client.parser import Subcommands, add_plan, add_request_id, add_wait


def add_to(group: Subcommands) -> None:
    """Declare the commands below `snapshot`."""
    update = group.command(
        "update", "change a snapshot's name, description, labels or expiry", "snapshot_decisions.update"
    )
    hold = group.command("hold", "keep a snapshot from being deleted by anyone", "snapshot_decisions.hold")
    release = group.command("release", "allow again that a snapshot is deleted", "snapshot_decisions.release")
    forget = group.command(
        "forget", "take a snapshot off the record; nothing on the host is touched", "snapshot_decisions.forget"
    )
    adopt = group.command("adopt", "make a checkpoint that others made a snapshot", "snapshot_decisions.adopt")
    ignore = group.command("ignore", "note that a checkpoint that others made may stay", "snapshot_decisions.ignore")
    for parser in (update, hold, release, forget, adopt, ignore):
        parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
        add_request_id(parser)
    for parser in (update, hold, release, forget):
        parser.add_argument("snapshot", type=read.named, metavar="SNAPSHOT", help="name or id")
    for parser in (adopt, ignore):
        parser.add_argument("checkpoint", type=read.named, metavar="CHECKPOINT", help="its name, or Hyper-V's id")
    for parser in (update, adopt):
        parser.add_argument("--name", type=read.named, metavar="NAME", help="its name")
        parser.add_argument("--description", metavar="TEXT")
        add_expiry(parser)
    for parser in (update, forget, adopt):
        add_plan(parser)
        add_wait(parser)
    add_label_changes(update)
    add_labels(adopt)
    ignore.add_argument("--reason", metavar="TEXT", help="why it may stay")
    ignore.add_argument("--undo", action="store_true", help="take that back")
    hold.add_argument("--reason", metavar="TEXT", help="why, for those who would delete it")
