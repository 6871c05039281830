"""A client of the Query API, for commands: blocking, one connection a call."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

from predastore.auth.client import connected
from predastore.auth.signing import sign_request
from predastore.auth.sigv4 import Credential
from predastore.base.errors import RemoteFailure
from predastore.base.limits import IAM_ANSWER_BYTES_MAX
from predastore.iam.query.service import VERSIONS

_REGION = "us-east-1"
_FORM = "application/x-www-form-urlencoded"


class Shown:
    """An element of an answer: its text, and the elements below it by their names."""

    def __init__(self, element: ElementTree.Element) -> None:
        self._element = element

    @property
    def text(self) -> str:
        return self._element.text or ""

    def get(self, name: str) -> str:
        """The text of the first element of this name, however deep; "" where there is none."""
        found = next(self._named(name), None)
        return "" if found is None else found.text or ""

    def members(self, name: str) -> list[Shown]:
        """Of the list of this name."""
        found = next(self._named(name), None)
        return [] if found is None else [Shown(one) for one in found]

    def _named(self, name: str) -> Iterator[ElementTree.Element]:
        return (one for one in self._element.iter() if one.tag.rpartition("}")[2] == name)


class QueryRefused(RemoteFailure):
    """The service has not done it. `query_code`: its code, as NoSuchEntity."""

    code = "query-refused"

    def __init__(self, message: str, query_code: str = "") -> None:
        super().__init__(message)
        self.query_code = query_code


@dataclass(frozen=True)
class QueryClient:
    """`url`: http or https, host and port. `context`: verifies its certificate."""

    url: str
    credential: Credential
    token: str = ""
    context: ssl.SSLContext | None = None

    def call(self, action: str, service: str = "iam", **form: str) -> Shown:
        """The answer of an action. PeerUnreachable; PeerRefused where the certificate can not be
        verified; QueryRefused. Of a parameter `a__b__c` the name is `a.b.c`."""
        fields = {name.replace("__", "."): value for name, value in form.items()}
        body = urlencode({"Action": action, "Version": VERSIONS[service], **fields}).encode()
        status, answer = self._post(service, body)
        try:
            shown = Shown(ElementTree.fromstring(answer))
        except ElementTree.ParseError:
            raise RemoteFailure(f"{self.url}: answered {status}, and no XML") from None
        if status != 200:
            code = shown.get("Code")
            raise QueryRefused(f"{code}: {shown.get('Message')}", code)
        return shown

    def every(self, action: str, called: str, **form: str) -> list[Shown]:
        """All of a listing, page by page."""
        found, marker = [], ""
        while True:
            page = self.call(action, **form, **({"Marker": marker} if marker else {}))
            found += page.members(called)
            marker = page.get("Marker")
            if page.get("IsTruncated") != "true" or not marker:
                return found

    def _post(self, service: str, body: bytes) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        host = parts.netloc
        headers = [("host", host), ("content-type", _FORM)]
        if self.token:
            headers.append(("x-amz-security-token", self.token))
        signed = sign_request(
            self.credential,
            method="POST",
            raw_path=b"/",
            raw_query=b"",
            headers=headers,
            payload=body,
            region=_REGION,
            service=service,
        )
        context = self.context or ssl.create_default_context() if parts.scheme == "https" else None
        with connected(host, None, context, where=self.url) as connection:
            connection.request("POST", "/", body, dict(signed))
            answer = connection.getresponse()
            return answer.status, answer.read(IAM_ANSWER_BYTES_MAX)
