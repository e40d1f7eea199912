"""Paths on Hyper-V hosts: joined, read and compared as Windows does it. Asks no host, and follows no link.

Two spellings of one path have one normal form. That two normal forms are one file (a link, a share that leads back to
the host, a short 8.3 name) cannot be seen here.
"""

from __future__ import annotations

import re
from typing import Final

_WINDOWS: Final = "\\"
_POSIX: Final = "/"
_ABSOLUTE: Final = re.compile(r"([A-Za-z]:|\\\\[^\\]+\\[^\\]+|\\\\\?\\volume\{[^\\]+\}|)\\[^\\].*", re.IGNORECASE)
"""A drive, a share, a volume by its GUID, or nothing: the root of a simulated host."""
_FORBIDDEN: Final = re.compile(r'[\x00-\x1f<>"|?*]|:(?!\\)')
"""What no name of a file has on Windows. A colon stands only behind a drive's letter: elsewhere it names a stream."""
_SYSTEM: Final = re.compile(
    r"([a-z]:|\\\\\?\\volume\{[^\\]+\})\\(windows|winnt|program files[^\\]*|[^\\]*~[0-9]+[^\\]*|boot|recovery)(\\|$)"
)
"""In normal form. Where a volume is named by its GUID, it may be the system's."""
_ADMINISTRATIVE: Final = re.compile(r"\\\\[^\\]+\\([a-z]|admin|print|ipc)\$(\\|$)")
_LONGEST: Final = 1024


def separator(path: str) -> str:
    r"""Return what separates the names in a path: a backslash, unless it has slashes only."""
    return _POSIX if _POSIX in path and _WINDOWS not in path else _WINDOWS


def join(directory: str, *names: str) -> str:
    """Return the path of something in a directory, with the separator that the directory has."""
    between = separator(directory)
    return between.join((directory.rstrip(r"\/") or "", *names))


def name_in(path: str) -> str:
    """Return the last name in a path."""
    return re.split(r"[\\/]", path.rstrip(r"\/"))[-1]


def suffix(path: str) -> str:
    """Return what a path ends in, from its last dot, in lower case: ".vhdx"; empty: its last name has no dot."""
    _, dot, end = name_in(path).rpartition(".")
    return dot + end.lower()


def normalised(path: str) -> str:
    r"""Return the form that all spellings of a path share.

    Letter case, the kind and number of separators, the prefix \\?\, dots as names, and dots and blanks at the end of a
    name do not count on Windows (documented).
    """
    text = path.replace(_POSIX, _WINDOWS).lower()
    for prefix, instead in (("\\\\?\\unc\\", "\\\\"), ("\\\\.\\unc\\", "\\\\"), ("\\\\.\\", "\\\\?\\")):
        text = instead + text.removeprefix(prefix) if text.startswith(prefix) else text
    if text.startswith("\\\\?\\") and not text.startswith("\\\\?\\volume{"):
        text = text.removeprefix("\\\\?\\")
    root = "\\\\" if text.startswith("\\\\") else "\\" if text.startswith("\\") else ""
    kept: list[str] = []
    for part in text.split(_WINDOWS):
        name = part if part in (".", "..") else part.rstrip(" .")
        if name == "..":
            above = 2 if root == "\\\\" else int(kept[:1] != [] and kept[0].endswith(":"))
            del kept[max(above, len(kept) - 1) :]
        elif name not in ("", "."):
            kept.append(name)
    return root + _WINDOWS.join(kept)


def same(one: str, other: str) -> bool:
    """Return whether two paths are spellings of one."""
    return one == other or normalised(one) == normalised(other)


def shared(path: str) -> bool:
    r"""Return whether a path surely names the same file on every host: on a share, or on a cluster's shared volume.

    Those are below ClusterStorage on the drive of the system (documented).
    """
    return re.match(r"\\\\[^\\?]|[a-z]:\\clusterstorage\\", normalised(path)) is not None


def problem(path: str) -> str:
    r"""Return why a text cannot be the path of a file on a host, for people; empty: it can."""
    if len(path) > _LONGEST:
        return f"must have at most {_LONGEST} characters."
    text = path.replace(_POSIX, _WINDOWS)
    bare = text[4:] if text.startswith("\\\\?\\") and not text.lower().startswith("\\\\?\\volume{") else text
    bare = "\\\\" + bare[4:] if bare.lower().startswith("unc\\") else bare
    if not _ABSOLUTE.fullmatch(bare) or not path.isprintable():
        return r"must be a whole path on the host, such as D:\disks\data.vhdx or \\server\share\data.vhdx."
    if _FORBIDDEN.search(bare.removeprefix("\\\\?\\")):
        return 'must not hold < > " | ? * or a colon but that of its drive.'
    return ""


def folder_problem(path: str) -> str:
    r"""Return why a text cannot be the path of a folder on a host; empty: it can. A drive is one, and a share."""
    if not path.strip(r"\/ "):
        return r"must be a folder on the host, such as D:\exports or \\server\share."
    wrong = problem(join(path, "x"))
    return wrong.replace(r"D:\disks\data.vhdx or \\server\share\data.vhdx", r"D:\exports or \\server\share")


def journal_folder_problem(path: str) -> str:
    r"""Return why a text cannot be the folder of a host's journals; empty: it can, or it is the default (empty).

    The folders of the system are refused, whatever an executor allows, and so are the administrative shares by which
    they are reached. A short name (PROGRA~1) is no way around.
    """
    if not path:
        return ""
    if wrong := folder_problem(path):
        return wrong
    text = normalised(path)
    if _SYSTEM.match(text) or _ADMINISTRATIVE.match(text):
        return r"must not be in a folder of the system, such as C:\Windows, nor on an administrative share (C$)."
    return ""


def within(path: str, folder: str) -> bool:
    """Return whether a path is a folder, or in it."""
    inner, outer = normalised(path), normalised(folder)
    return inner == outer or inner.startswith(outer.rstrip(_WINDOWS) + _WINDOWS)
