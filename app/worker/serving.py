"""A model choice → an engine that is ready to run. What `loading`, `runner` and `engine` do, put together."""

import time

from app.worker.engine import Engine
from app.worker.host import Served
from app.worker.loading import ModelChoice, load
from app.worker.metrics import Metrics
from app.worker.progress import Report
from app.worker.runner import ModelRunner


def load_served(choice: ModelChoice, *, slots: int, queue_limit: int, metrics: Metrics, report: Report) -> Served:
    """Load the model and return everything that the routes need. Raises LoadFailed."""
    loaded = load(choice, report=report)
    engine = Engine(
        ModelRunner(loaded.model),
        decoder=loaded.vocabulary,
        hidden_ids=loaded.hidden_ids,
        slots=slots or loaded.slots,
        queue_limit=queue_limit,
        metrics=metrics,
    )
    return Served(
        engine=engine,
        vocabulary=loaded.vocabulary,
        vocab_size=loaded.vocab_size,
        profile=loaded.profile,
        prompt_format=loaded.prompt_format,
        created=int(time.time()),
    )
