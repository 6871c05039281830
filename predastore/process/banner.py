"""What a person reads when `s3d` has started: where it is, what it holds, what to paste next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from predastore import __version__
from predastore.base.config import Auth, Config, losses
from predastore.process.roles import Roles


@dataclass(frozen=True)
class BannerFacts:
    """What the text is made of. `ca`: file that clients verify TLS by, if we made it."""

    settings: Config
    roles: Roles
    auth: Auth
    generated: bool
    ca: Path | None


def text(facts: BannerFacts) -> str:
    """The banner, with a line feed at the end."""
    settings, roles = facts.settings, facts.roles
    lines = [f"Predastore {__version__}", ""]
    if roles.s3:
        lines.append(f"  endpoint     {endpoint(settings)}")
        lines.append(f"  credentials  {_credentials(facts)}")
        if facts.ca is not None and settings.tls:
            lines.append(f"  CA file      {facts.ca}")
    lines += [f"  {name:<12} {value}" for name, value in _storage(settings, roles)]
    if roles.s3:
        lines += ["", "Paste:", "", *(f"  {line}" for line in _paste(facts))]
    return "\n".join(lines) + "\n\n"


def endpoint(settings: Config) -> str:
    """The URL that a client on this host uses."""
    host = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host
    host = "[::1]" if host == "::" else f"[{host}]" if ":" in host else host
    return f"{'https' if settings.tls else 'http'}://{host}:{settings.port}"


def _credentials(facts: BannerFacts) -> str:
    if facts.generated:
        file = facts.settings.base_path / "credentials.json"
        return f"generated, kept in {file} (mode 0600)"
    count = str(len(facts.settings.auth)) if facts.settings.auth else "that of [[db]]"
    return f"{count} from {facts.settings.source}"


def _storage(settings: Config, roles: Roles) -> list[tuple[str, str]]:
    if settings.backend == "filesystem":
        return [("backend", f"filesystem, plain files below {settings.base_path}/")]
    rs = settings.rs
    rows: list[tuple[str, str]] = []
    if roles.s3:
        rows.append(("code", f"RS({rs.data},{rs.parity})"))
        rows.append(("may be lost", losses.summary(losses.Layout.of(settings))))
        rows.append(("writes", losses.writes(losses.Layout.of(settings))))
    if roles.nodes:
        ids = ", ".join(str(row.id) for row in roles.nodes)
        rows.append(("shard nodes", f"{ids} here, {len(settings.nodes)} in all"))
    if roles.members:
        ids = ", ".join(str(row.id) for row in roles.members)
        kind = "embedded" if settings.embedded_db else f"{len(settings.db)} members in all"
        rows.append(("database", f"member {ids} here, {kind}"))
    else:
        rows.append(("database", ", ".join(f"{row.host}:{row.port}" for row in settings.db)))
    return rows


def _paste(facts: BannerFacts) -> list[str]:
    """Two lines: the environment, and a first command."""
    words = [f"AWS_ACCESS_KEY_ID={shlex.quote(facts.auth.access_key_id)}"]
    # A configured secret is known to whoever wrote the file: it is not repeated on a terminal.
    secret = shlex.quote(facts.auth.secret_access_key) if facts.generated else "..."
    words.append(f"AWS_SECRET_ACCESS_KEY={secret}")
    words.append(f"AWS_DEFAULT_REGION={facts.settings.region}")
    if facts.ca is not None and facts.settings.tls:
        words.append(f"AWS_CA_BUNDLE={shlex.quote(str(facts.ca.resolve()))}")
    return [
        "export " + " ".join(words),
        f"aws --endpoint-url {endpoint(facts.settings)} s3 mb s3://my-bucket",
    ]
