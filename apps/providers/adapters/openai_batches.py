"""OpenAI's Batch API: a file of orders, half the price, done within a day.

The file is uploaded, which costs nothing, and then ordered as a batch under our own key (`metadata`), by which an order
whose answer was lost is found again in the list of batches. What came of the orders stands in two files, of successes
and of failures, in any order, by `custom_id`: our attempt. They are read from disk line by line: a picture as base64
has megabytes. As in batch_create_params and batch of openai 3.54.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, BinaryIO, Final

import httpx

from apps.providers import answers, http
from apps.providers.contract import BatchPending, BatchResults, GenerationRequest, Output, Result, Ticket
from apps.providers.errors import ErrorKind, ProviderError

ENDPOINT: Final = "/v1/images/generations"
_KEY = "genplatform_batch"
_CANCELABLE: Final = frozenset({"validating", "in_progress"})
_UNDER_WAY: Final = frozenset({*_CANCELABLE, "finalizing", "cancelling"})
_ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
# Of the batches that a lost one is looked for among, the newest first.
_PAGE, _MAX_PAGES = 100, 20
_MAX_FILE_BYTES = 4_000_000_000
_DOWNLOAD_S = 600.0
# In one line: as much as the answer to a single order may have.
_MAX_LINE = http.MAX_RESULT_BYTES

Refusal = Callable[[http.Answer], ProviderError]


class Desk:
    """Where batches are handed in. `refusal` makes the error of an answer that is none."""

    def __init__(self, base_url: str, headers: Mapping[str, str], refusal: Refusal) -> None:
        self._url, self._headers, self._refusal = base_url, dict(headers), refusal

    def order(
        self, requests: Sequence[GenerationRequest], key: str, body_of: Callable[[GenerationRequest], Any]
    ) -> Ticket:
        lines = (
            json.dumps(
                {
                    "custom_id": request.attempt_id,
                    "method": "POST",
                    "url": ENDPOINT,
                    "body": body_of(request),
                }
            )
            for request in requests
        )
        body = {
            "input_file_id": self._upload(f"{key}.jsonl", "\n".join(lines).encode()),
            "endpoint": ENDPOINT,
            "completion_window": "24h",
            "metadata": {_KEY: key},
        }
        headers = {**self._headers, "content-type": "application/json", "idempotency-key": key}
        answer = http.exchange(
            "POST", f"{self._url}/batches", headers=headers, content=json.dumps(body).encode()
        )
        return Ticket(_id(self._checked(answer)))

    def find(self, key: str) -> Ticket | None:
        after = ""
        for _ in range(_MAX_PAGES):
            answer = http.exchange("GET", f"{self._url}/batches?limit={_PAGE}{after}", headers=self._headers)
            page = self._checked(answer)
            batches = page.get("data")
            if not isinstance(batches, list) or not all(isinstance(batch, dict) for batch in batches):
                raise ProviderError(ErrorKind.MALFORMED, "no list of batches in the answer")
            for batch in batches:
                if (batch.get("metadata") or {}).get(_KEY) == key:
                    return Ticket(_id(batch))
            if not page.get("has_more") or not batches:
                return None
            after = f"&after={_id(batches[-1])}"
        raise ProviderError(ErrorKind.AMBIGUOUS, "too many batches to look through")

    def poll(self, ticket: Ticket) -> BatchPending | BatchResults:
        batch = self._batch(ticket)
        status = batch.get("status")
        if status not in _ENDED:
            counts = batch.get("request_counts") or {}
            done = sum(int(counts.get(name) or 0) for name in ("completed", "failed"))
            return BatchPending(
                status if status in _UNDER_WAY else "in_progress", done, cancelable=status in _CANCELABLE
            )
        results = Lines(ticket, str(status), self._refusal)
        try:
            for name in ("output_file_id", "error_file_id"):
                if batch.get(name):
                    self._fetch(str(batch[name]), results)
        except BaseException:
            results.close()
            raise
        return results

    def cancel(self, ticket: Ticket) -> bool:
        """It is `cancelling` for up to ten minutes, while what was begun is finished."""
        address = f"{self._url}/batches/{ticket.task_id}/cancel"
        answer = http.exchange("POST", address, headers=self._headers)
        if answer.status == 404:
            raise ProviderError(ErrorKind.NOT_FOUND, "no such batch")
        if answer.status in (400, 409):
            return False
        self._checked(answer)
        return True

    def result_of(self, attempt_id: str, batch: Ticket) -> Result | None:
        """Of one order; None while the batch is under way. Raises ProviderError: the order's end."""
        found = self.poll(batch)
        if isinstance(found, BatchPending):
            return None
        with closing(found):
            return found.of(attempt_id)

    def _batch(self, ticket: Ticket) -> dict[str, Any]:
        answer = http.exchange("GET", f"{self._url}/batches/{ticket.task_id}", headers=self._headers)
        if answer.status == 404:
            raise ProviderError(ErrorKind.NOT_FOUND, "no such batch")
        return self._checked(answer)

    def _upload(self, name: str, content: bytes) -> str:
        """The file's id. Nothing is bought by it: whatever went wrong, no order was placed."""
        kind, form = http.form({"purpose": "batch"}, {"file": (name, content)})
        headers = {**self._headers, "content-type": kind}
        try:
            answer = http.exchange("POST", f"{self._url}/files", headers=headers, content=form)
            return _id(self._checked(answer))
        except ProviderError as error:
            if error.policy.billed == "unknown":
                raise ProviderError(ErrorKind.CONNECT, f"the upload failed: {error.kind}") from error
            raise

    def _fetch(self, file_id: str, results: "Lines") -> None:
        url = f"{self._url}/files/{file_id}/content"
        answer = http.download(
            url,
            headers=self._headers,
            into=results.file,
            max_bytes=_MAX_FILE_BYTES,
            total_s=_DOWNLOAD_S,
        )
        if answer.status != 200:
            # Of the file, not of an order: it is asked for again.
            kind = ErrorKind.RATE_LIMITED if answer.status == 429 else ErrorKind.SERVER_ERROR
            raise ProviderError(kind, f"{answer.status} instead of the results")
        results.read()

    def _checked(self, answer: http.Answer) -> dict[str, Any]:
        if answer.status != 200:
            raise self._refusal(answer)
        return answer.json()


class Lines:
    """The lines of the files written so far, by `custom_id`, on disk."""

    def __init__(self, ticket: Ticket, status: str, refusal: Refusal) -> None:
        self._ticket, self._status, self._refusal = ticket, status, refusal
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - `close` is the caller's
        self._at: dict[str, int] = {}
        self._read_to = 0

    @property
    def file(self) -> BinaryIO:
        self._file.seek(0, 2)
        return self._file

    def read(self) -> None:
        """Takes note of the lines that were added. Raises ProviderError (malformed) for one that is none."""
        self._file.seek(self._read_to)
        while line := self._file.readline(_MAX_LINE):
            if line.strip():
                self._at[str(_parsed(line).get("custom_id"))] = self._read_to
            self._read_to += len(line)

    def of(self, attempt_id: str) -> Result:
        if attempt_id not in self._at:
            raise self._left_out()
        self._file.seek(self._at[attempt_id])
        line = _parsed(self._file.readline(_MAX_LINE))
        response = line.get("response")
        if not isinstance(response, dict):
            # Neither made nor billed: the batch's time was over, or it was canceled.
            raise ProviderError(ErrorKind.GENERATION_FAILED, _said(line.get("error")))
        answer = http.Answer(
            int(response.get("status_code") or 0),
            httpx.Headers(),
            json.dumps(response.get("body")).encode(),
        )
        if answer.status != 200:
            raise _end(self._refusal(answer))
        return Result(Ticket.in_batch(attempt_id, self._ticket), pictures(answer.json()))

    def close(self) -> None:
        self._file.close()

    def _left_out(self) -> ProviderError:
        if self._status == "completed":
            return ProviderError(ErrorKind.NOT_FOUND, "the batch completed and says nothing of it")
        # A batch with a file that it does not take fails before anything is made.
        return ProviderError(ErrorKind.GENERATION_FAILED, f"the batch is {self._status}")


def pictures(body: dict[str, Any]) -> tuple[Output, ...]:
    """Of the answer to an order of pictures. Raises ProviderError: malformed or bad_output."""
    data = body.get("data")
    if not isinstance(data, list):
        raise ProviderError(ErrorKind.MALFORMED, "no list of pictures in the answer")
    if not data:
        raise ProviderError(ErrorKind.BAD_OUTPUT, "finished without a picture")
    return tuple(map(answers.picture, data))


def _end(error: ProviderError) -> ProviderError:
    """A line with an error is the end of its order, whatever it says, and is not billed. Asked for alone it may do."""
    if error.kind == ErrorKind.CONTENT_REJECTED:
        return error
    return ProviderError(ErrorKind.GENERATION_FAILED, error.message)


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProviderError(ErrorKind.MALFORMED, "a line of the results is no JSON") from error
    if not isinstance(value, dict):
        raise ProviderError(ErrorKind.MALFORMED, "a line of the results is no object")
    return value


def _said(error: Any) -> str:
    return answers.quoted(str(error.get("message", ""))) if isinstance(error, dict) else "no response"


def _id(body: Mapping[str, Any]) -> str:
    found = body.get("id")
    if not isinstance(found, str) or not found:
        raise ProviderError(ErrorKind.MALFORMED, "no id in the answer")
    return found
