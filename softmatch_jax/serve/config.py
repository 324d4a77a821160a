"""Settings of the web app."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from softmatch_jax._checks import InputError

SHORTEST_TOKEN = 16
"""Characters of the shortest token that other machines may be asked for."""


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """What one client may ask of the server.

    Attributes:
        upload_bytes: Largest file of a picture.
        pixels: Most pixels of a picture.
        import_bytes: Largest archive of masks.
        json_bytes: Largest body of any other request.
        rate: Requests per second that a client may go on sending.
        burst: Requests that it may send at once before that.
        at_once: Requests of all clients that are answered at the same time; more are told to wait.
        receive_s: Seconds that a client may pause in the middle of a body.
        streams: Pages that may follow the project at the same time.
        replay: Most entries that are sent again to a page that comes back; beyond, it reads the state anew.
        send_s: Seconds after which a page that takes nothing from its stream is cut off.
        heartbeat_s: Seconds between signs of life on a stream.
        threads: Requests that may wait for the store at the same time.
        transfers: Long ones, such as imports and decoding, that may run at the same time.
    """

    upload_bytes: int = 50_000_000
    pixels: int = 64_000_000
    import_bytes: int = 2_000_000_000
    json_bytes: int = 8_000_000
    rate: float = 200.0
    burst: int = 1000
    at_once: int = 128
    receive_s: float = 60.0
    streams: int = 256
    replay: int = 5000
    send_s: float = 30.0
    heartbeat_s: float = 15.0
    threads: int = 8
    transfers: int = 4

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0:
                raise InputError(f"limits.{name} is {getattr(self, name)}; expected more than 0.")


@dataclass(frozen=True, kw_only=True)
class ConductorConfig:
    """How the engine is kept busy.

    Attributes:
        ahead: Matchings, and completions, that are handed to the engine at the same time.
        encode_ahead: Pictures that are handed to it for encoding when there is nothing else.
        encode_first: Pictures that are encoded when the server starts; others when they are added or viewed.
        settle_s: Seconds without a change of the references before targets are matched again.
        retry_s: Seconds before a full engine is asked again, where it does not say itself.
        tick_s: Seconds between looks at the engine's state.
    """

    ahead: int = 8
    encode_ahead: int = 2
    encode_first: int = 64
    settle_s: float = 0.005
    retry_s: float = 0.25
    tick_s: float = 0.5


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Settings of ``softmatch serve``.

    Attributes:
        project: Folder of the project, made when it is missing.
        host: Address to listen on. Any but loopback needs a token of the user's own.
        port: Port to listen on; 0 takes any that is free.
        token: What a page must know. None: one is made and kept in the folder of the project.
        allow_hosts: Further names by which pages reach the server.
        read_only: Whether nothing may be changed.
        limits: What one client may ask.
        conductor: How the engine is kept busy.
    """

    project: Path
    host: str = "127.0.0.1"
    port: int = 8321
    token: str | None = None
    allow_hosts: tuple[str, ...] = ()
    read_only: bool = False
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    conductor: ConductorConfig = field(default_factory=ConductorConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"--port is {self.port}; expected 0 to 65535.")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token):
            raise InputError(
                "--token is empty or holds other than printable ASCII characters; choose another."
            )
        if is_loopback(self.host):
            return
        if self.token is None:
            raise InputError(
                f"--host {self.host} lets other machines in; expected --token with a secret of your own of "
                f"at least {SHORTEST_TOKEN} characters (or leave --host out to serve this machine alone)."
            )
        if len(self.token) < SHORTEST_TOKEN:
            raise InputError(
                f"--token has {len(self.token)} characters, which other machines could guess; expected at "
                f"least {SHORTEST_TOKEN} beside --host {self.host}."
            )


def is_loopback(host: str) -> bool:
    """Whether an address, or the name of one, reaches this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
