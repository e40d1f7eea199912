"""`snapshotctl host ...`: what the commands take."""

from __future__ import annotations

from typing import Final

from snapshotd.client import arguments as read
from snapshotd.client import take_over_parser
from snapshotd.client.parser import Subcommands, add_columns, add_request_id

_TRANSPORTS: Final = (
    "NTLM_HTTP",
    "NTLM_HTTPS",
    "KERBEROS_HTTP",
    "KERBEROS_HTTPS",
    "CERTIFICATE_HTTPS",
    "BASIC_HTTPS",
    "CREDSSP_HTTPS",
)
"""Those of the API; a test compares them."""
_CA_FILE: Final = "PEM file of the host's CA on the executor's machine, or sha256:HEX of its certificate; for https"


def add_to(commands: Subcommands) -> None:
    """Declare the commands."""
    group = commands.group("host", "Hyper-V hosts")
    add = group.command("add", "register a host; it is not contacted", "host_commands.add")
    add.add_argument("host", type=read.named, metavar="ID", help="the name it gets: a-z, 0-9 and -")
    add.add_argument(
        "address", type=read.named, metavar="ADDRESS", help="DNS name or IP address, as executors reach it"
    )
    add.add_argument(
        "--port", type=read.port, metavar="N", help="TCP port of WinRM (default: 5985 for http, 5986 for https)"
    )
    add.add_argument("--transport", choices=_TRANSPORTS, help="how to sign in (default: NTLM_HTTP)")
    add.add_argument("--ca-file", type=read.named, metavar="FILE", help=_CA_FILE)
    add.add_argument(
        "--credential", type=read.named, required=True, metavar="NAME", help="name of a credential of the executor"
    )
    add.add_argument(
        "--journal-directory",
        type=read.named,
        metavar="DIR",
        help="directory on the host (default: %%ProgramData%%\\snapshotd)",
    )
    add_request_id(add)
    update = group.command("update", "change how a host is reached; what is not given stays", "host_commands.update")
    update.add_argument("host", type=read.named, metavar="HOST")
    update.add_argument("--address", type=read.named, metavar="ADDRESS", help="DNS name or IP address")
    update.add_argument("--port", type=read.port, metavar="N", help="TCP port of WinRM")
    update.add_argument("--credential", type=read.named, metavar="NAME", help="name of a credential of the executor")
    update.add_argument("--transport", choices=_TRANSPORTS, help="how to sign in")
    update.add_argument("--ca-file", metavar="FILE", help=f"{_CA_FILE}; '' for the system's CAs")
    add_request_id(update)
    add_columns(group.command("list", "show all hosts", "host_commands.list_all"))
    take_over_parser.add_to_hosts(group)
    for name, text, run in (
        ("show", "show a host", "host_commands.show"),
        ("remove", "unregister a host; nothing on it is touched", "host_commands.remove"),
        ("discover", "ask a host which VMs it has", "host_commands.discover"),
        ("sync", "ask a host what is there, and record what differs", "host_commands.sync"),
    ):
        parser = group.command(name, text, run)
        parser.add_argument("host", type=read.named, metavar="HOST")
        if run in ("host_commands.remove", "host_commands.sync"):
            add_request_id(parser)
        if run == "host_commands.remove":
            parser.add_argument(
                "--unregister", action="store_true", help="unregister its VMs first: all of them, or nothing is done"
            )
        if run == "host_commands.discover":
            add_columns(parser)
