"""`greenroom service install`: a hardened unit of systemd that keeps a worker running."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import stat
import sys
from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from greenroom.cli.shared_options import ConfigFile, configuration
from greenroom.cli.terminal.console import CommandError, print_text
from greenroom.config.schema import Config

NAME = "greenroom.service"
_OURS = "# Written by `greenroom service install`; `systemctl edit greenroom` changes it."
_SYSTEM_UNITS = Path("/etc/systemd/system")
_HOMES = ("/home", "/root", "/run/user")
_STOP_S = 30
"""How long the end may take beyond the drain."""

_SERVICE = """\
[Unit]
Description=Greenroom, speech voices ready to speak
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=2
# A worker whose event loop is stuck is restarted; its threads' stacks are in the journal then.
WatchdogSec=30
TimeoutStartSec=300
TimeoutStopSec={stop_s}
KillMode=mixed
# The worker replaces an engine's process that the kernel ends for want of memory.
OOMPolicy=continue
LimitNOFILE=65536
Environment=ORT_DISABLE_TELEMETRY=1 OPENBLAS_NUM_THREADS=1 PYTHONFAULTHANDLER=1
"""
_SECLUDED = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
UMask=0077
"""
_OF_THE_SYSTEM = """\
# Keys are best kept here, readable by root alone: GREENROOM_WORKER__API_KEYS=[...]
EnvironmentFile=-/etc/greenroom/greenroom.env
Environment=XDG_DATA_HOME=%S XDG_CACHE_HOME=%C
StateDirectory=greenroom greenroom/voices
CacheDirectory=greenroom
WorkingDirectory=%S/greenroom
DynamicUser=yes
CapabilityBoundingSet=
AmbientCapabilities=
PrivateIPC=yes
PrivateMounts=yes
PrivateTmp=yes
PrivateUsers=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome={home}
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
"""
_WITHOUT_DEVICES = """\
DevicePolicy=closed
PrivateDevices=yes
"""
_WITHOUT_NEW_CODE = "MemoryDenyWriteExecute=yes\n"


def install(
    config: ConfigFile = None,
    user: Annotated[
        bool,
        typer.Option(
            "--user", help="A unit of your own, without root, for as long as you are logged in."
        ),
    ] = False,
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the unit, and write nothing.")
    ] = False,
) -> None:
    """Have systemd run a worker.

    It is started at boot, restarted when it fails or its event loop is stuck, and confined: it has
    a user of its own, sees no home and no devices, and writes only its cache and its voices, which
    are in /var/lib/greenroom/voices. `systemctl reload greenroom` has it read its configuration
    again.
    """
    settings = configuration(config)
    path = None if config is None else Path(os.path.abspath(config))
    executable = _executable()
    if not (user or print_only):
        _check_readable(executable, path)
    text = unit(executable, path, settings, user=user)
    if print_only:
        print_text(text.rstrip("\n"))
        return
    folder = platformdirs.user_config_path("systemd") / "user" if user else _SYSTEM_UNITS
    place = _write(folder, text)
    systemctl = "systemctl --user" if user else "systemctl"
    print_text(f"{place} is written; start it, and at every boot:")
    print_text(f"  {systemctl} daemon-reload && {systemctl} enable --now greenroom")


def unit(executable: Path, config: Path | None, settings: Config, *, user: bool = False) -> str:
    """Return the unit of a worker with a configuration, for the system or for one user."""
    words = [str(executable), "serve", *(() if config is None else ("--config", str(config)))]
    stop_s = math.ceil(settings.worker.drain_timeout_ms / 1000) + _STOP_S
    parts = [_SERVICE.format(command=" ".join(map(_quoted, words)), stop_s=stop_s)]
    if not user:
        in_home = any(str(path).startswith(_HOMES) for path in (executable, config) if path)
        parts.append(_OF_THE_SYSTEM.format(home="read-only" if in_home else "yes"))
    parts.append(_SECLUDED)
    on_devices = any(model.device not in (None, "cpu") for model in settings.models)
    compiles = any(model.options.get("runtime") == "openvino" for model in settings.models)
    if not (user or on_devices):
        parts.append(_WITHOUT_DEVICES)
    if not (on_devices or compiles):
        parts.append(_WITHOUT_NEW_CODE)
    wanted_by = "default.target" if user else "multi-user.target"
    return f"{_OURS}\n{''.join(parts)}\n[Install]\nWantedBy={wanted_by}\n"


def _quoted(word: str) -> str:
    """Return a word of a command as systemd reads it: its specifiers and variables doubled."""
    plain = word.replace("%", "%%").replace("$", "$$")
    if shlex.quote(word) == word:
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _executable() -> Path:
    beside = Path(sys.executable).with_name("greenroom")
    found = str(beside) if beside.exists() else shutil.which("greenroom")
    if found is None:
        raise CommandError("there is no command `greenroom`; install the package with pip.")
    return Path(os.path.abspath(found))


def _check_readable(executable: Path, config: Path | None) -> None:
    """Refuse what the service's own user could not read, before systemd says `status=203/EXEC`."""
    for each in (executable, Path(sys.executable).resolve()):
        for folder in each.parents:
            if not folder.stat().st_mode & stat.S_IXOTH:
                raise CommandError(
                    f"{folder} may be entered by its owner alone, and the service has a user of "
                    "its own; install Greenroom into /opt/greenroom, or use --user."
                )
    if config is not None and not config.stat().st_mode & stat.S_IROTH:
        raise CommandError(
            f"{config} may be read by its owner alone, and the service has a user of its own; "
            "make it readable, and keep keys in /etc/greenroom/greenroom.env."
        )


def _write(folder: Path, text: str) -> Path:
    """Write the unit whole or not at all; raises `CommandError` for one that is not ours."""
    place = folder / NAME
    try:
        if place.exists() and not place.read_text(errors="replace").startswith(_OURS[:40]):
            raise CommandError(
                f"{place} was not written by `greenroom service install`; remove it, or "
                "compare it with --print."
            )
        folder.mkdir(parents=True, exist_ok=True)
        beside = place.with_suffix(".service.new")
        beside.write_text(text)
        beside.chmod(0o644)
        beside.replace(place)
    except OSError as error:
        raise CommandError(
            f"{error.filename or place} cannot be written: {error.strerror}; run it with sudo, or "
            "with --user."
        ) from error
    return place
