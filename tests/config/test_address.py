"""Addresses: what is one, who can reach it, and one parser for all who ask."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from greenroom.cli import main
from greenroom.config.address import Address
from greenroom.config.schema import WorkerSettings, load_config
from greenroom.errors import ConfigError, InvalidInputError
from greenroom.worker.client import Client

FORM = "must be HOST:PORT, such as 127.0.0.1:50051, or unix:/path"

BAD = {
    "": FORM,
    "here": FORM,
    "50051": FORM,
    ":50051": FORM,
    "host:": FORM,
    "host:port": FORM,
    "host:65536": FORM,
    "host:99999": FORM,
    "host:-1": FORM,
    "host:+1": FORM,
    "host:1.0": FORM,
    "host:1²": FORM,
    "host:１": FORM,
    "host:" + "9" * 5_000: FORM,
    "ho st:1": FORM,
    " host:1": FORM,
    "host:1 ": FORM,
    "host\n:1": FORM,
    "ho\x1b[2Jst:1": FORM,
    "a..b:1": FORM,
    "a" * 64 + ".example:1": FORM,
    "[::1:1": FORM,
    "::1]:1": FORM,
    "[::1]": FORM,
    "[host]:1": FORM,
    "[127.0.0.1]:1": FORM,
    "a:b:1": FORM,
    "host/path:1": FORM,
    "user@host:1": FORM,
    "http://127.0.0.1:8880": f"{FORM}: without http://",
    "dns:///host:1": f"{FORM}: without dns://",
    "unix": FORM,
    "unix:": FORM,
    "unix://": FORM,
    "unix:/a\0b": FORM,
    "unix:/" + "x" * 107: "must be the path of a unix socket, of at most 107 bytes",
    "unix:/" + "é" * 54: "must be the path of a unix socket, of at most 107 bytes",
}


@pytest.mark.parametrize(
    ("listen", "shown", "loopback"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051", True),
        ("127.8.9.1:1", "127.8.9.1:1", True),
        ("localhost:0", "localhost:0", True),
        ("[::1]:50051", "[::1]:50051", True),
        ("::1:50051", "[::1]:50051", True),
        ("0.0.0.0:50051", "0.0.0.0:50051", False),
        ("[::]:50051", "[::]:50051", False),
        ("192.168.1.7:80", "192.168.1.7:80", False),
        ("greenroom.example:80", "greenroom.example:80", False),
        ("unix:/run/green.sock", "unix:/run/green.sock", True),
        ("unix:///run/green.sock", "unix:/run/green.sock", True),
        ("unix:green.sock", "unix:green.sock", True),
        ("unix:/" + "x" * 106, "unix:/" + "x" * 106, True),
        ("bücher.example:080", "bücher.example:80", False),
        ("host.:65535", "host.:65535", False),
        ("[fe80::1%eth0]:1", "[fe80::1%eth0]:1", False),
    ],
)
def test_addresses(listen: str, shown: str, loopback: bool) -> None:
    address = Address.parse(listen)
    assert str(address) == shown
    assert Address.parse(str(address)) == address
    assert address.is_loopback is loopback


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(BAD[text])}$"):
        Address.parse(text)


@pytest.mark.parametrize("key", ["listen", "http_listen"])
@pytest.mark.parametrize("text", BAD)
def test_a_configuration_is_refused_with_its_file_the_key_and_the_fix(
    tmp_path: Path, key: str, text: str
) -> None:
    file = tmp_path / "worker.yaml"
    quoted = text.replace("\\", "\\\\").encode("unicode_escape").decode()
    file.write_text(f'worker: {{{key}: "{quoted}"}}\n')
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{file}: worker.{key}: {BAD[text]}')}"):
        load_config(file)


@pytest.mark.parametrize("value", ["7", "null", "[127.0.0.1, 50051]", "true"])
def test_what_is_no_text_is_no_address_of_the_worker(tmp_path: Path, value: str) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text(f"worker: {{listen: {value}}}\n")
    with pytest.raises(ConfigError, match=f"worker.listen: {FORM}"):
        load_config(file)


def test_settings_have_addresses_and_not_text() -> None:
    settings = WorkerSettings()
    assert settings.listen == Address("127.0.0.1", 50051)
    assert settings.http_listen == Address("127.0.0.1", 8880)
    assert WorkerSettings(listen=Address("::1", 1)).listen == Address("::1", 1)
    dumped = WorkerSettings(http_listen=None).model_dump()
    assert (dumped["listen"], dumped["http_listen"]) == ("127.0.0.1:50051", None)


@pytest.mark.parametrize("text", ["", "unix://", "http://127.0.0.1:8880", "[::1:1"])
@pytest.mark.parametrize(
    ("command", "where"),
    [
        (["serve", "--listen"], "the command line: worker.listen"),
        (["serve", "--http-listen"], "the command line: worker.http_listen"),
        (["config", "check"], "worker.yaml: worker.http_listen"),
        (["serve", "--config"], "worker.yaml: worker.http_listen"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_the_command_line_refuses_it_before_anything_is_started(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str], where: str, text: str
) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text(f"worker: {{http_listen: '{text}'}}\n")
    in_file = where.startswith("worker.yaml")
    assert main([*command, str(file) if in_file else text]) == 1
    told = capsys.readouterr().err
    assert f"{where}: {BAD[text]}" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("text", [text for text in BAD if not text.startswith("dns:///")])
def test_a_client_is_refused_it_before_it_calls(text: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(BAD[text])):
        Client(text)


@pytest.mark.parametrize("from_environment", [True, False])
@pytest.mark.parametrize("command", ["ps", "say x", "top", "explain x"])
def test_a_command_that_asks_a_worker_names_its_flag(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    from_environment: bool,
) -> None:
    if from_environment:
        monkeypatch.setenv("GREENROOM_ADDRESS", "https://127.0.0.1:8880")
    flag = [] if from_environment else ["--address", "https://127.0.0.1:8880"]
    assert main([*command.split(), *flag]) == 2
    told = capsys.readouterr().err
    assert "--address" in told
    assert "without https://, not 'https://127.0.0.1:8880'" in " ".join(told.split())


def test_a_client_may_write_a_name_as_grpc_does_and_a_server_may_not() -> None:
    assert str(Address.parse_target("dns:///tts.example:50051")) == "tts.example:50051"
    assert Client("dns:///tts.example:50051").address == "tts.example:50051"
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        Address.parse("dns:///tts.example:50051")


def test_the_schema_of_the_configuration_says_that_addresses_are_text() -> None:
    fields = WorkerSettings.model_json_schema()["properties"]
    assert fields["listen"]["type"] == "string"
    assert fields["listen"]["default"] == "127.0.0.1:50051"
    assert {"type": "string"} in fields["http_listen"]["anyOf"]
    assert WorkerSettings().listen == Address.parse("127.0.0.1:50051")


@pytest.mark.parametrize(
    ("reached", "told", "beside"),
    [
        ("10.0.0.7:8880", "0.0.0.0:50051", "10.0.0.7:50051"),
        ("[::1]:8880", "[::]:50051", "[::1]:50051"),
        ("tts.local:8880", "127.0.0.1:50051", "tts.local:50051"),
        ("10.0.0.7:8880", "unix:/run/g.sock", "unix:/run/g.sock"),
        ("unix:/run/h.sock", "127.0.0.1:50051", "127.0.0.1:50051"),
    ],
)
def test_the_other_port_of_a_server_is_where_the_first_is_reached(
    reached: str, told: str, beside: str
) -> None:
    assert str(Address.parse(reached).beside(Address.parse(told))) == beside
