"""`snapshotctl vm ...`: what the commands take."""

from __future__ import annotations

from snapshotd.client import arguments as read
from snapshotd.client import (
    destroy_parser,
    export_parser,
    offering_parser,
    power_parser,
    take_over_parser,
    volume_parser,
)
from snapshotd.client.label_parser import add_label_changes, add_label_filter, add_labels
from snapshotd.client.parser import Subcommands, add_at, add_columns, add_request_id


def add_to(commands: Subcommands) -> None:
    """Declare the commands."""
    group = commands.group("vm", "virtual machines")
    register = group.command("register", "register a VM that its host reports", "vm_commands.register")
    register.add_argument("host", type=read.named, metavar="HOST")
    register.add_argument("vm", type=read.named, nargs="?", metavar="VM", help="its name on the host, or Hyper-V's id")
    register.add_argument("--all", action="store_true", help="all VMs of the host that are not registered yet")
    register.add_argument(
        "--match",
        type=read.named,
        action="append",
        default=[],
        metavar="PATTERN",
        help="those whose names match (* and ?)",
    )
    register.add_argument("--dry-run", action="store_true", help="with --all or --match: show which, and do nothing")
    register.add_argument("--owner", type=read.named, metavar="NAME", help="its owner (default: the caller)")
    listing = group.command("list", "show the registered VMs", "vm_commands.list_all")
    listing.add_argument("--host", type=read.named, help="only those of a host")
    add_label_filter(listing)
    add_columns(listing)
    add_labels(register)
    update = group.command("update", "change a VM's owner, labels or export policy", "vm_commands.update")
    update.add_argument("--owner", type=read.named, metavar="NAME", help="its owner")
    update.add_argument(
        "--export-policy",
        choices=export_parser.POLICIES,
        help="when it is exported by itself (default: as the server's settings say)",
    )
    add_label_changes(update)
    unregister = group.command(
        "unregister", "unregister a VM; nothing on its host is touched", "vm_commands.unregister"
    )
    show = group.command("show", "show a VM", "vm_commands.show")
    add_at(show)
    for parser in (unregister, show, update):
        parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
    for parser in (register, unregister, update):
        add_request_id(parser)
    take_over_parser.add_to_vms(group)
    for module in (power_parser, volume_parser, offering_parser, export_parser, destroy_parser):
        module.add_to(group)
