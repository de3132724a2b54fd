"""Run the steps of a Dockerfile in an empty folder.

Each stage is a folder, and the paths of the image are paths in it; the base image's Python is the
one of this machine. What is not shown is the base image itself.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

UID = 1000
RUN_S = 900.0
_OWN = re.compile(r"(?<![\w./-])/(opt|src|etc|var)(?=[/\s\"':]|$)")
"""Folders of the image that are in the stage's; others are this machine's."""
_PASSED_ON = re.compile(r"^(PIP_.*|.*_proxy|.*_PROXY|HOME|LANG|TMPDIR)$")


class StepError(Exception):
    """A step cannot be run, or what came of it does not work."""


@dataclass
class Stage:
    """A stage of an image: its folder, and what was said of it."""

    root: Path
    base_bin: Path
    """Where the base image's `python` is."""
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0"
    health: list[str] = field(default_factory=list)
    command: dict[str, list[str]] = field(default_factory=dict)
    """`ENTRYPOINT` and `CMD`."""

    def here(self, text: str) -> str:
        """Return text with the image's paths as paths of this machine."""
        text = text.replace("/usr/local/bin", str(self.base_bin))
        return _OWN.sub(lambda match: f"{self.root}{match[0]}", text)

    def path(self, name: str) -> Path:
        """Return where a path of the image is, relative ones from its working directory."""
        return self.root / os.path.join(self.workdir, name).lstrip("/")

    def environment(self) -> dict[str, str]:
        """Return what a container of the stage has, in paths of this machine."""
        return {name: self.here(value) for name, value in self.env.items()}


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the rest of each instruction, on one line and without comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()


class Build:
    """Carries out the instructions of one Dockerfile, each stage in a folder below `folder`."""

    def __init__(self, context: Path, folder: Path) -> None:
        self._context = context
        self._folder = folder
        self._stages: dict[str, Stage] = {}
        self._base_bin = folder / "base"
        self._base_bin.mkdir()
        (self._base_bin / "python").symlink_to(base_python())
        self.stage: Stage | None = None

    def run(self, dockerfile: Path) -> Stage:
        """Carry out all of it and return the last stage; raises `StepError`."""
        ignored = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
        self._allowed = [
            line[1:] for line in ignored.read_text().splitlines() if line.startswith("!")
        ]
        for name, rest in instructions(dockerfile.read_text()):
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                raise StepError(f"{name} is not known here")
            print(f"  {name} {rest}"[:100], flush=True)
            step(rest)
        assert self.stage is not None
        return self.stage

    @property
    def _now(self) -> Stage:
        if self.stage is None:
            raise StepError("nothing may stand before FROM")
        return self.stage

    def _from(self, rest: str) -> None:
        _, _, name = rest.partition(" AS ")
        root = self._folder / f"stage-{len(self._stages)}"
        root.mkdir()
        self.stage = Stage(root, self._base_bin)
        self._stages[name or str(len(self._stages))] = self.stage

    def _arg(self, rest: str) -> None:
        """The base image's version: it is this machine's Python here."""

    def _label(self, rest: str) -> None:
        shlex.split(rest)

    def _expose(self, rest: str) -> None:
        if not all(port.isdecimal() for port in rest.split()):
            raise StepError(f"no ports: {rest}")

    def _volume(self, rest: str) -> None:
        for place in json.loads(rest):
            if not self._now.path(place).is_dir():
                raise StepError(f"a volume is where nothing is: {place}")

    def _workdir(self, rest: str) -> None:
        self._now.workdir = rest
        self._now.path("").mkdir(parents=True, exist_ok=True)

    def _user(self, rest: str) -> None:
        self._now.user = rest

    def _env(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            self._now.env[name] = value

    def _healthcheck(self, rest: str) -> None:
        self._now.health = json.loads(rest[rest.index("CMD") + 3 :])

    def _entrypoint(self, rest: str) -> None:
        self._now.command["ENTRYPOINT"] = json.loads(rest)

    def _cmd(self, rest: str) -> None:
        self._now.command["CMD"] = json.loads(rest)

    def _run(self, rest: str) -> None:
        command = self._now.here(re.sub(r"--mount=\S+\s+", "", rest))
        if os.geteuid():
            command = command.replace(f"-o {UID} -g {UID}", "")
        passed = {name: value for name, value in os.environ.items() if _PASSED_ON.match(name)}
        path = f"{self._base_bin}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-ec", command],
            cwd=self._now.path(""),
            env={**passed, "PATH": path, **self._now.environment()},
            timeout=RUN_S,
            check=False,
        )
        if done.returncode:
            raise StepError(f"exit code {done.returncode}: {rest}")

    def _copy(self, rest: str) -> None:
        words = rest.split()
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        *sources, target = [word for word in words if not word.startswith("--")]
        stage = self._stages[options["from"]] if "from" in options else None
        for source in sources:
            if stage is None and not any(source.startswith(each) for each in self._allowed):
                raise StepError(f"{source} is kept out of the build by .dockerignore")
            found = self._context / source if stage is None else stage.path(source)
            into = self._now.path(target)
            if found.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info") if not stage else None
                shutil.copytree(found, into, symlinks=True, ignore=ignored, dirs_exist_ok=True)
            else:
                if target.endswith(("/", ".")):
                    into = into / found.name
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, into)
            if stage is not None:
                _moved(into, stage.root, self._now.root)


def _moved(folder: Path, before: Path, after: Path) -> None:
    """Rename a folder in the files of an environment that name it, as if it had never moved."""
    for file in (*folder.glob("pyvenv.cfg"), *folder.glob("bin/*")):
        if not file.is_symlink() and str(before).encode() in (content := file.read_bytes()):
            file.write_bytes(content.replace(str(before).encode(), str(after).encode()))


def base_python() -> str:
    """Return this machine's Python, outside of any environment."""
    return str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
