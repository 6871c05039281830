"""boto3 clients that are closed with the server that they are for.

A body that a test leaves unread keeps its connection out of its client's pool: closing the client
does not close it, and the collector finds it in some later test, which then fails.
"""

from __future__ import annotations

import threading
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient


class Clients:
    """Those of one server. They may be asked for in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session = boto3.session.Session()
        self._made: list[BaseClient] = []
        self._answers: list[AWSResponse] = []  # that have a connection of their own

    def make(self, service: str = "s3", **options: Any) -> BaseClient:
        with self._lock:
            client = self._session.client(service, **options)
            self._made.append(client)
        if service == "s3":
            client.meta.events.register("after-call.s3.GetObject", self._note)
        return client

    def _note(self, http_response: AWSResponse, **_: Any) -> None:
        with self._lock:
            known = (*self._answers, http_response)
            self._answers = [each for each in known if each.raw.connection is not None]

    def close(self) -> None:
        with self._lock:
            for answer in self._answers:
                answer.raw.close()
            for client in self._made:
                client.close()
            self._answers, self._made = [], []
