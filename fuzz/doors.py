"""Every door by its name."""

from __future__ import annotations

from collections.abc import Mapping

from fuzz.adapter import AdapterDoor
from fuzz.configuration import ConfigurationDoor
from fuzz.door import Door
from fuzz.http import HttpDoor
from fuzz.packs import PacksDoor
from fuzz.rpc import RpcDoor
from fuzz.wyoming import WyomingDoor

DOORS: Mapping[str, type[Door]] = {
    door.name: door
    for door in (
        *(AdapterDoor, PacksDoor, ConfigurationDoor),
        *(HttpDoor, RpcDoor, WyomingDoor),
    )
}
