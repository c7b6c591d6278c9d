"""What this process serves, from its first moment to its last. No torch: it is there while models still load."""

from dataclasses import dataclass

from app.domain.generation import ModelProfile
from app.domain.ports import PromptFormat
from app.worker.classifier.batches import Batcher
from app.worker.classifier.windows import Reader
from app.worker.engine import Engine
from app.worker.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A language model that is ready."""

    engine: Engine
    vocabulary: Vocabulary
    vocab_size: int
    profile: ModelProfile
    prompt_format: PromptFormat | None
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedClassifier:
    """A classifier that is ready."""

    name: str
    batcher: Batcher
    reader: Reader
    labels: tuple[str, ...]
    """In the order of the probabilities."""
    is_independent: bool
    """Whether several labels may hold at once: then the probabilities do not add up to 1."""
    created: int


class Host:
    """Nothing yet, or models. Written by the threads that load and run them, read by the routes."""

    def __init__(self) -> None:
        self.state = "loading"
        self.stage = "libraries"
        self.progress = 0.0
        self.served: Served | None = None
        self.classifier: ServedClassifier | None = None

    def report(self, stage: str, progress: float) -> None:
        """Take note of how far the load is."""
        self.stage, self.progress = stage, progress

    def classify(self, classifier: ServedClassifier) -> None:
        """Take texts for this classifier from now on, even while the language model loads."""
        self.classifier = classifier

    def serve(self, served: Served | None) -> None:
        """Take all requests from now on; None: the classifier is all that there is."""
        self.served = served
        self.stage, self.progress, self.state = "", 1.0, "ready"

    def close(self) -> None:
        """Take no more requests."""
        self.state = "stopping"
        if self.served:
            self.served.engine.stop()
        if self.classifier:
            self.classifier.batcher.stop()
