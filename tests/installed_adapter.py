"""An adapter as an installed package has it, for processes that are started in its folder."""

from __future__ import annotations

from pathlib import Path


def install_adapter(folder: Path, name: str, class_name: str, code: str) -> None:
    """Write a module with `code` into `folder`, and register its class as adapter `name`.

    A process finds both if `folder` is in its `PYTHONPATH`.
    """
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    dist = folder / f"{module}-1.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (dist / "entry_points.txt").write_text(
        f"[greenroom.adapters]\n{name} = {module}:{class_name}\n"
    )
