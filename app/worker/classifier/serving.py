"""A folder → a classifier that is ready to run. What `loading` and `batches` do, put together."""

import time

from app.worker.classifier.batches import Batcher
from app.worker.classifier.loading import load_classifier
from app.worker.host import ServedClassifier
from app.worker.metrics import ClassifierMetrics
from app.worker.progress import Report


def load_served_classifier(path: str, *, metrics: ClassifierMetrics, report: Report) -> ServedClassifier:
    """Load the classifier and return everything that its route needs. Raises LoadFailed."""
    loaded = load_classifier(path, report=report)
    return ServedClassifier(
        name=loaded.name,
        batcher=Batcher(loaded.model, metrics=metrics),
        reader=loaded.reader,
        labels=loaded.labels,
        is_independent=loaded.is_independent,
        created=int(time.time()),
    )
