"""Which source of voices a text means: an address, a folder, or an installed package."""

from __future__ import annotations

from pathlib import Path

from greenroom.config.schema import DEFAULT_VOICE_INDEX, package_folders
from greenroom.errors import PullError
from greenroom.untrusted.printable import printable_repr
from greenroom.voices.folder_source import FolderSource
from greenroom.voices.voice_source import VoiceSource


def source_of(place: str | None) -> VoiceSource:
    """Return the source that a text means; `None` is Piper's own collection.

    An address (of an index, or of the folder with one), a folder (with an index, or with voices in
    it), or the name of an installed Python package with voices. Raises `PullError` for another.
    """
    from greenroom.voices.http_source import HttpSource  # httpx takes a tenth of a second

    place = DEFAULT_VOICE_INDEX if place is None else place
    if "://" in place:
        return HttpSource(place)
    if place and "\0" not in place and (folder := Path(place).expanduser()).is_dir():
        return FolderSource([folder], str(folder))
    if folders := package_folders(place):
        return FolderSource(folders, f"package {place}")
    raise PullError(
        "",
        f"{printable_repr(place)} is no source of voices: give an address (https://…), a folder "
        "that is there, or the name of an installed package",
    )
