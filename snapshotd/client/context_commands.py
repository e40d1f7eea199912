"""`snapshotctl context ...`: what the commands do. They call no server."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping
from dataclasses import replace

from snapshotd.client.contexts import SETTINGS, Context, Contexts, changing, is_context_name, load
from snapshotd.client.documents import DOCUMENTS, document
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.render import facts, quoted, table

_HEADS = ("", "NAME", "SERVER", "SIGNS IN BY")


def list_all(server: None, arguments: argparse.Namespace) -> ExitCode:
    """Print all contexts."""
    del server
    contexts = load(arguments.environ)
    rows = [
        ("*" if name == contexts.current else "", name, context.server, _way(context))
        for name, context in contexts.known.items()
    ]
    match arguments.output:
        case "jsonl":
            sys.stdout.writelines(f"{document(_plain(contexts, name), 'jsonl')}\n" for name in contexts.known)
        case "json" | "yaml":
            found = {"contexts": [_plain(contexts, name) for name in contexts.known]}
            sys.stdout.write(document(found, arguments.output) + "\n")
        case "name":
            sys.stdout.writelines(f"{name}\n" for name in contexts.known)
        case "csv":
            csv.writer(sys.stdout, lineterminator="\n").writerows([("CURRENT", *_HEADS[1:]), *rows])
        case _:
            sys.stdout.write(table(_HEADS, rows) + "\n")
    return ExitCode.OK


def use(server: None, arguments: argparse.Namespace) -> ExitCode:
    """Make a context the current one."""
    del server
    with changing(arguments.environ) as contexts:
        chosen = contexts.get(arguments.context)
        replace(contexts, current=arguments.context).save()
    return _told(f"The current context is {arguments.context} ({chosen.server}).")


def show(server: None, arguments: argparse.Namespace) -> ExitCode:
    """Print a context."""
    del server
    contexts = load(arguments.environ)
    if not (name := arguments.context or arguments.environ.get("SNAPSHOTD_CONTEXT") or contexts.current):
        raise Failed("There is no current context. Choose one: snapshotctl context use NAME.", ExitCode.NOT_FOUND)
    context = contexts.get(name)
    if arguments.output in DOCUMENTS:
        sys.stdout.write(document(_plain(contexts, name), arguments.output) + "\n")
    elif arguments.output == "name":
        sys.stdout.write(f"{name}\n")
    elif arguments.output == "csv":
        raise Failed("Cannot print this as CSV: it is no list. Use -o json.", ExitCode.USAGE)
    else:
        current = "yes" if name == contexts.current else "no"
        pairs = [("Name", name), ("Current", current)]
        pairs += [(key.replace("_", " ").capitalize(), value) for key, value in context.settings.items()]
        sys.stdout.write(facts([*pairs, ("File", str(contexts.file))]) + "\n")
    return ExitCode.OK


def change(server: None, arguments: argparse.Namespace) -> ExitCode:
    """Make or change a context."""
    del server
    name = arguments.context
    if not is_context_name(name):
        text = f"Cannot name a context {quoted(name)}: 1 to 63 letters, digits, - and _, a letter or digit first."
        raise Failed(text, ExitCode.USAGE)
    given = {key: value for key in SETTINGS if (value := getattr(arguments, key))}
    with changing(arguments.environ) as contexts:
        context = _with(contexts, name, given)
        current = contexts.current or name
        replace(contexts, current=current, known={**contexts.known, name: context}).save()
    return _told(f"Context {name} is kept in {contexts.file}." + (" It is the current one." if current == name else ""))


def _with(contexts: Contexts, name: str, given: Mapping[str, str]) -> Context:
    """Return a context with other settings. Raises Failed if it makes no sense."""
    context = replace(contexts.known.get(name, Context()), **given)
    if not context.server:
        raise Failed(f"Cannot make context {name} without its server. Give --server HOST:PORT.", ExitCode.USAGE)
    if not given:
        raise Failed(f"Cannot change context {name}: no option says what. Give --server, --ca, ...", ExitCode.USAGE)
    if bool(context.certificate) != bool(context.key):
        raise Failed("A certificate and its key are used together: give --certificate and --key.", ExitCode.USAGE)
    return context


def remove(server: None, arguments: argparse.Namespace) -> ExitCode:
    """Remove a context."""
    del server
    name = arguments.context
    with changing(arguments.environ) as contexts:
        contexts.get(name)
        left = {other: context for other, context in contexts.known.items() if other != name}
        replace(contexts, current="" if contexts.current == name else contexts.current, known=left).save()
    return _told(f"Context {name} is removed.")


def _plain(contexts: Contexts, name: str) -> dict[str, object]:
    return {"name": name, "current": name == contexts.current, **contexts.known[name].settings}


def _way(context: Context) -> str:
    ways = [("token", context.token_file), ("certificate", context.certificate)]
    return ", ".join(way for way, there in ways if there) or "name only"


def _told(text: str) -> ExitCode:
    sys.stdout.write(f"{text}\n")
    return ExitCode.OK
