"""Standard streams that may be closed, full, or unable to encode what is written to them."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from taskwell_cli.failures import UNWRITTEN, WRONG, CommandFailed

_LONGEST_TITLE = 64 * 1024
"""Bytes that are read of a title on standard input, far above what the service takes."""
_LONGEST_LINE = 1000
"""Characters of a message; an argument that it quotes may be long."""


def prepare() -> bool:
    """Make the standard streams fit for writing any text. Returns False if standard output is closed."""
    # A descriptor that is free would become that of the first connection.
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # noqa: PERF203 - three times
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return sys.stdout is not None


def escaped(text: str) -> str:
    """The text in one line, with everything escaped that is no visible character.

    That is what controls a terminal (ESC, C1), breaks the line, changes the direction of text, or has no width: with
    any of those a title could look like another row.
    """
    return text if text.isprintable() else "".join(map(_escaped_character, text))


def say(sentence: str) -> None:
    """Write a line to standard error, if it takes one."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(f"{escaped(sentence[:_LONGEST_LINE])}\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            abandon(sys.stderr)


def unwritten(error: OSError, done: str = "") -> CommandFailed:
    """The failure for output that could not be written. `done` says what was done all the same.

    Silent for a reader that has seen enough (`taskwell task list | head`), as other programs are.
    """
    if isinstance(error, BrokenPipeError) and not done:
        return CommandFailed("", UNWRITTEN)
    return CommandFailed(f"cannot write to standard output: {error.strerror}{done}", UNWRITTEN)


def abandon(stream: TextIO) -> None:
    """Have the interpreter write into the null device, when it exits, what the stream could not write."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def title_from_stdin() -> str:
    """The title on standard input: one line. Raises CommandFailed."""
    if sys.stdin is None:
        raise CommandFailed("standard input is closed, and the title '-' is read from it", WRONG)
    try:
        line = sys.stdin.buffer.read(_LONGEST_TITLE + 1).decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise CommandFailed("the title on standard input is not valid UTF-8", WRONG) from None
    except OSError as error:
        raise CommandFailed(f"cannot read standard input: {error.strerror}", WRONG) from None
    if not line or "\n" in line or len(line) > _LONGEST_TITLE:
        raise CommandFailed("standard input must have the title in one line", WRONG)
    return line


def _escaped_character(character: str) -> str:
    if character.isprintable() or character in "\N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}":
        return character
    return character.encode("unicode_escape").decode()
