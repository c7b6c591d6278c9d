"""A request's body, read and checked."""

from http import HTTPStatus
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from app.worker.requests import Refused

MAX_BODY_BYTES = 8 * 1024 * 1024

_Body = TypeVar("_Body", bound=BaseModel)


async def read_body(request: Request, kind: type[_Body]) -> _Body:
    """Read and check a body. Raises Refused, which names the first field that is wrong."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY_BYTES:
            raise Refused("the body is too large", status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    try:
        return kind.model_validate_json(bytes(content))
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        param = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            raise Refused(f"unknown field: {param}", code="unknown_parameter", param=param) from error
        raise Refused(f"{param}: {fault['msg']}" if param else fault["msg"], param=param or None) from error
