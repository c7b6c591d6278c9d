"""The error tree.

    ChatError
     ├ InvalidInput                 the request itself is wrong
     │   ├ TextTooLong              a message beyond the character limit
     │   ├ ContextLengthExceeded    prompt and answer do not fit the model's context
     │   ├ RequestTooLarge          a body beyond the limit
     │   ├ MethodNotAllowed         the route is there, and does not take this method
     │   └ InvalidPolicy            a filter policy or one of its lists is wrong
     ├ ContentBlocked               the filter refused; carries the category, never the text
     ├ AccessDenied                 not signed in, wrong password, wrong role, suspended by an admin
     │   └ Suspended                too many refused questions; carries until when
     ├ NotFound                     unknown, or somebody else's: the two are not told apart
     ├ Conflict                     the state has moved on (an answer is already running, a name is taken)
     ├ QuotaExceeded                too many requests; carries retry_after_s
     ├ EngineUnavailable
     │   ├ EngineStarting           the model loads; carries stage and progress
     │   ├ EngineBusy               the queue is full; carries retry_after_s
     │   ├ EngineDied               the engine went away in the middle
     │   ├ EngineRefused            the engine answered with an error of its own
     │   ├ GenerationTimeout        no token for too long
     │   └ OutOfMemory
     ├ EvidenceSealed               the text behind a decision cannot be opened
     ├ ServerStopping               this process is about to end
     ├ SafetyUnavailable            the filter cannot decide, so nothing passes
     └ StorageFailure
         ├ StorageBusy              locked for longer than we wait
         ├ StorageFull              no room on the disk
         ├ StorageReadOnly
         ├ StorageOwned             another server uses this database
         ├ SchemaOutdated           older or newer than this program
         └ StorageCorrupt

Errors carry data. The words for people are in `app.domain.words`, in Chinese and English.
"""

from typing import ClassVar


class ChatError(Exception):
    """Anything that may go wrong and that a person is told about."""

    code: ClassVar[str] = "internal_error"
    """Stable, for programs; on `/v1` it is the OpenAI error's `code`."""
    status: ClassVar[int] = 500
    """The HTTP status that this error becomes."""
    is_retryable: ClassVar[bool] = False
    """Whether the same request may succeed later, unchanged."""

    def __init__(self, detail: str = "", **data: object) -> None:
        """`detail` is for logs and developers, in English, and never carries message text; `data` fills the words."""
        super().__init__(detail or self.code)
        self.detail = detail
        self.data: dict[str, object] = data


class InvalidInput(ChatError):
    """The request is wrong; `data["param"]` names the field where there is one, `data["kind"]` chooses the words."""

    code = "invalid_request"
    status = 400


class TextTooLong(InvalidInput):
    """`data`: `limit` and `length`, in characters."""

    code = "text_too_long"


class ContextLengthExceeded(InvalidInput):
    """`data`: `limit` and `length`, in tokens."""

    code = "context_length_exceeded"


class RequestTooLarge(InvalidInput):
    """The body is beyond `data["limit_mib"]`."""

    code = "request_too_large"
    status = 413


class MethodNotAllowed(InvalidInput):
    """`data["allow"]`: the methods that the route takes, as the `Allow` header lists them."""

    code = "method_not_allowed"
    status = 405


class InvalidPolicy(InvalidInput):
    """A policy, or a list that it names, cannot be used. `faults` has one line for each reason."""

    code = "invalid_policy"

    def __init__(self, *faults: str) -> None:
        """Each fault begins with file and line, where there is one."""
        super().__init__("\n".join(faults), faults="; ".join(faults))
        self.faults = faults


class ContentBlocked(ChatError):
    """The filter refused. `data`: `category`, `stage`, `decision_id`."""

    code = "content_filter"
    status = 400


class AccessDenied(ChatError):
    """Not signed in, or not allowed. `reason` chooses the words (`sign_in`, `wrong_password`, `locked_out`, …)."""

    code = "access_denied"
    status = 403

    def __init__(self, reason: str = "forbidden", **data: object) -> None:
        """Carry the reason as data."""
        super().__init__(reason, reason=reason, **data)
        self.reason = reason


class Suspended(AccessDenied):
    """Too many questions were refused. `data`: `until`, in UTC (`2026-03-01 12:00`), and `retry_after_s`.

    403 and not 429: clients try a 429 again by themselves.
    """

    code = "suspended"

    def __init__(self, *, until: str = "", retry_after_s: float = 0.0) -> None:
        """`retry_after_s` becomes the `Retry-After` header."""
        super().__init__("strikes", until=until, retry_after_s=retry_after_s)


class InvalidApiKey(AccessDenied):
    """No key, an unknown one or a revoked one."""

    code = "invalid_api_key"
    status = 401

    def __init__(self) -> None:
        """There is one reason only."""
        super().__init__("api_key")


class NotFound(ChatError):
    """Unknown, or not yours. `data["kind"]` says what: a conversation, a message, a template."""

    code = "not_found"
    status = 404


class ModelNotFound(NotFound):
    """`data["model"]` is what was asked for."""

    code = "model_not_found"


class Conflict(ChatError):
    """The state has moved on. `data["kind"]` chooses the words."""

    code = "conflict"
    status = 409


class QuotaExceeded(ChatError):
    """Too many requests."""

    code = "rate_limit_exceeded"
    status = 429
    is_retryable = True

    def __init__(self, detail: str = "", *, retry_after_s: float, **data: object) -> None:
        """`retry_after_s` becomes the `Retry-After` header."""
        super().__init__(detail, retry_after_s=retry_after_s, **data)
        self.retry_after_s = retry_after_s


class EngineUnavailable(ChatError):
    """No engine can answer now."""

    code = "engine_unavailable"
    status = 503
    is_retryable = True


class EngineStarting(EngineUnavailable):
    """The model is loading. `data`: `stage`, `progress` from 0 to 1."""

    code = "engine_starting"


class EngineBusy(EngineUnavailable):
    """The queue is full."""

    code = "rate_limit_exceeded"
    status = 429

    def __init__(self, detail: str = "", *, retry_after_s: float, **data: object) -> None:
        """`retry_after_s` is the expected wait for a free place."""
        super().__init__(detail, retry_after_s=retry_after_s, **data)
        self.retry_after_s = retry_after_s


class EngineDied(EngineUnavailable):
    """The engine closed the connection in the middle, or its process ended."""

    code = "engine_died"


class EngineRefused(EngineUnavailable):
    """The engine answered with an error. `data["engine_status"]` is its HTTP status."""

    code = "engine_refused"
    status = 502


class GenerationTimeout(EngineUnavailable):
    """No token came for `data["after_s"]` seconds."""

    code = "generation_timeout"
    status = 504


class OutOfMemory(EngineUnavailable):
    """The engine ran out of memory on this request."""

    code = "out_of_memory"


class EvidenceSealed(ChatError):
    """The evidence cannot be opened. `data["kind"]`: `key_missing`, `key_other`, `damaged`; `key_id` names the key."""

    code = "evidence_sealed"
    status = 409


class ServerStopping(ChatError):
    """The process is about to end; another one may follow."""

    code = "server_stopping"
    status = 503
    is_retryable = True


class SafetyUnavailable(ChatError):
    """A part of the filter failed or hung; nothing passes."""

    code = "safety_unavailable"
    status = 503
    is_retryable = True


class StorageFailure(ChatError):
    """The database did not do its work."""

    code = "storage_failure"
    status = 503
    is_retryable = True


class StorageBusy(StorageFailure):
    """Locked for longer than we wait."""

    code = "storage_busy"


class StorageFull(StorageFailure):
    """No room left on the disk."""

    code = "storage_full"
    status = 507


class StorageReadOnly(StorageFailure):
    """The file or the folder cannot be written."""

    code = "storage_read_only"


class StorageOwned(StorageFailure):
    """Another server uses this database; two would close each other's answers."""

    code = "storage_owned"
    is_retryable = False


class SchemaOutdated(StorageFailure):
    """`data`: `found` and `expected`, Alembic revisions, which grow, and `kind`: the database is `newer` or `older`."""

    code = "schema_outdated"
    is_retryable = False

    def __init__(self, detail: str = "", *, found: str = "", expected: str = "") -> None:
        """Whether to bring up to date the database or the program follows from the two."""
        super().__init__(detail, found=found, expected=expected, kind="newer" if found > expected else "older")


class StorageCorrupt(StorageFailure):
    """The file is not a database, or is damaged."""

    code = "storage_corrupt"
    is_retryable = False
