"""`s3d top`: a live view of running processes in the terminal, made of their metrics.

    s3d top [ADDRESS ...]     host:port or URLs of /metrics; else the hosts of the configuration
                              at its metrics_port, else at 9464
    -interval SECONDS         between two looks (2)
    --once                    one look, printed; also when standard output is no terminal

`q` ends it. Exit codes of --once: 0 every process answered, 1 one did not.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from predastore.base.config import Config
from predastore.base.config.model import LOOPBACK
from predastore.base.errors import ConfigError
from predastore.base.limits import TOP_INTERVAL_S_MAX, TOP_INTERVAL_S_MIN, TOP_PROCESSES_MAX
from predastore.process import flags, roles
from predastore.process.commands import samples
from predastore.process.commands.samples import SampleReading, SampleSpan
from predastore.process.commands.top_view import view

PORT: Final = 9464

_ENTER: Final = "\x1b[?1049h\x1b[?25l"  # the other screen, no cursor
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
_REST_OF_SCREEN: Final = "\x1b[J"


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """`s3d top ...`; the exit code."""
    given = parser().take(arguments)
    urls = addresses(given["address"], given, environment)
    with contextlib.suppress(KeyboardInterrupt):
        if given["once"] or not sys.stdout.isatty():
            return _once(urls, given["interval"])
        with _screen():
            _live(urls, given["interval"])
    return 0


def parser() -> flags.Parser:
    made = flags.Parser(
        prog="s3d top",
        usage="s3d top [ADDRESS ...] [flags]",
        description="Shows requests, nodes, members and processes, live. ADDRESS: host:port of a "
        "process that was started with -metrics-port; without any, the hosts of the configuration.",
    )
    made.add_argument("address", nargs="*", metavar="ADDRESS", help=argparse.SUPPRESS)
    output = made.add_argument_group("Output")
    output.add_argument(
        "-interval",
        "--interval",
        type=_seconds,
        default=2.0,
        metavar="SECONDS",
        help="between two looks (default: 2)",
    )
    output.add_argument(
        "-once",
        "--once",
        action="store_true",
        help="look once, and print it; exit code 1 where a process does not answer",
    )
    flags.add(made, [flag for flag in flags.FLAGS if flag.name in ("config", "metrics-port")])
    about = made.add_argument_group("About")
    about.add_argument("-h", "-help", "--help", action="help", help="show this and exit")
    return made


def _seconds(text: str) -> float:
    value = float(text)
    if not TOP_INTERVAL_S_MIN <= value <= TOP_INTERVAL_S_MAX:
        raise ValueError
    return value


def addresses(
    given: Sequence[str], options: Mapping[str, object], environment: Mapping[str, str]
) -> list[str]:
    """The URLs to ask; ConfigError."""
    if len(given) > TOP_PROCESSES_MAX:
        raise ConfigError([f"top: at most {TOP_PROCESSES_MAX} addresses"])
    if not given:
        settings, _ = flags.resolved(options, environment, serves=False)
        port = settings.metrics_port or PORT
        given = [f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in hosts(settings)]
    urls = []
    for one in given:
        url = one if "://" in one else f"http://{one}"
        if not url.startswith(("http://", "https://")):
            raise ConfigError([f"top: {one}: write host:port, or a URL of http"])
        urls.append(url if url.count("/") > 2 else f"{url}/metrics")
    return urls


def hosts(settings: Config) -> list[str]:
    """Where the processes of a configuration show their metrics: each host of it, and this one at
    its metrics_host. A host that is another loopback address of this one is asked there."""
    own = LOOPBACK.get(settings.metrics_host, settings.metrics_host)
    named = (*settings.hosts, *(host for host, _ in settings.cluster.join))
    if settings.backend == "filesystem" or len(set(named)) < 2:
        return [own]
    everywhere = settings.metrics_host in LOOPBACK
    asked = [
        host if everywhere or _is_loopback(host) or not roles.is_local(host) else own
        for host in named
    ]
    return list(dict.fromkeys(asked))[:TOP_PROCESSES_MAX]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def hint(readings: Sequence[SampleReading]) -> list[str]:
    """What to do about processes that do not answer."""
    if not any(one.problem for one in readings):
        return []
    return [
        "a process shows its metrics where metrics_port is set, and to other hosts where "
        'metrics_host = "0.0.0.0"'
    ]


def _spans(before: Sequence[SampleReading], now: Sequence[SampleReading]) -> list[SampleSpan]:
    return [SampleSpan(*pair) for pair in zip(before, now, strict=True)]


def _once(urls: Sequence[str], interval_s: float) -> int:
    before = samples.read(urls)
    if any(not reading.problem for reading in before):
        time.sleep(interval_s)
        now = samples.read(urls)
    else:
        now = before
    sys.stdout.write("\n".join([*view(_spans(before, now), _clock()), *hint(now)]) + "\n")
    return int(any(reading.problem for reading in now))


def _live(urls: Sequence[str], interval_s: float) -> None:
    before = samples.read(urls)
    _draw([*view(_spans(before, before), _clock()), *hint(before)])
    while not _quits_within(interval_s):
        now = samples.read(urls)
        _draw([*view(_spans(before, now), _clock()), *hint(now)])
        before = now


def _draw(lines: Sequence[str]) -> None:
    """As much of the lines as the terminal has room for, over what was there before."""
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    shown = [line[:columns] + _REST_OF_LINE for line in lines[: rows - 1]]
    sys.stdout.write(_HOME + "\r\n".join(shown) + _REST_OF_SCREEN)
    sys.stdout.flush()


def _quits_within(seconds: float) -> bool:
    """Waits, and whether `q` was typed meanwhile."""
    if not sys.stdin.isatty():
        time.sleep(seconds)
        return False
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([sys.stdin], [], [], left)[0]:
            return False
        typed = os.read(sys.stdin.fileno(), 64)
        if not typed or b"q" in typed.lower():
            return True
    return False


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """The terminal for us alone, and as it was afterwards."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard) if os.isatty(keyboard) else None
    sys.stdout.write(_ENTER)
    try:
        if before is not None:
            tty.setcbreak(keyboard)
        yield
    finally:
        if before is not None:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


def _clock() -> str:
    return time.strftime("%H:%M:%S")
