"""What the classifier answers: vLLM's shape, and what vLLM does not tell, the names of all labels.

Source of the shape: vllm/entrypoints/pooling/classify/protocol.py.
"""

import asyncio
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from app.worker import answers
from app.worker.answers import Json
from app.worker.classifier.batches import Scores
from app.worker.classifier.windows import Reader, Window
from app.worker.engine import EngineStopped, JobFailed, QueueFull
from app.worker.host import ServedClassifier
from app.worker.protocol import ClassifyBody
from app.worker.requests import Refused, queue_full, shutting_down

MAX_CHARACTERS = 256 * 1024
"""Of one text."""


async def answer(request: Request, *, body: ClassifyBody, classifier: ServedClassifier) -> Json:
    """Return the answer to a request whose body was read. Raises Refused, ClientDisconnect."""
    if any(len(text) > MAX_CHARACTERS for text in body.texts):
        raise Refused(
            f"a text is longer than {MAX_CHARACTERS:,} characters",
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            param="input",
        )
    batcher = classifier.batcher
    try:
        batcher.require_room()
        # A long text takes a while: other requests go on meanwhile.
        texts = await asyncio.to_thread(_read, body.texts, classifier.reader)
        scores = await _unless_gone(request.receive, batcher.submit(texts))
    except QueueFull as error:
        raise queue_full(expected_wait_s=batcher.expected_wait_s) from error
    except EngineStopped as error:
        raise shutting_down() from error
    except JobFailed as error:
        raise Refused(str(error), status=HTTPStatus.INTERNAL_SERVER_ERROR, code=error.code) from error
    tokens = sum(len(window) for windows in texts for window in windows)
    return {
        "id": f"classify-{body.request_id or uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": classifier.name,
        "data": [
            {
                "index": index,
                "label": classifier.labels[max(range(len(row)), key=row.__getitem__)],
                "probs": row,
                "num_classes": len(row),
            }
            for index, row in enumerate(scores)
        ],
        "labels": classifier.labels,  # ours: what the probabilities belong to
        "usage": answers.usage(prompt_tokens=tokens, completion_tokens=0),
    }


def card(classifier: ServedClassifier) -> Json:
    """Return a classifier as `/v1/models` lists it."""
    return {
        "id": classifier.name,
        "object": "model",
        "created": classifier.created,
        "owned_by": "haina",
        "root": classifier.name,
        "parent": None,
        "max_model_len": classifier.reader.length,
        "task": "classify",
        "labels": list(classifier.labels),
        "is_multi_label": classifier.is_independent,
    }


def health(classifier: ServedClassifier) -> Json:
    """Return a classifier as `/health` tells of it."""
    batcher = classifier.batcher
    return {"model": classifier.name, "requests": batcher.requests, "windows": batcher.windows}


def _read(texts: Sequence[str], reader: Reader) -> list[tuple[Window, ...]]:
    read = []
    for at, text in enumerate(texts):
        windows = reader.read(text)
        if not windows:
            raise Refused(f"text {at} has no tokens", param="input")
        read.append(windows)
    return read


async def _unless_gone(receive: Receive, future: Future[Scores]) -> Scores:
    """Wait for the scores, or for the client to go away, which cancels them. Raises ClientDisconnect then."""
    scores = asyncio.wrap_future(future)
    gone = asyncio.create_task(_gone(receive))
    gone.add_done_callback(lambda _: scores.cancel())
    try:
        await asyncio.wait([scores])
        if scores.cancelled():
            raise ClientDisconnect
        return scores.result()
    finally:
        gone.cancel()
        scores.cancel()  # the future too, unless it is done


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
