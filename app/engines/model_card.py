"""The model list of an engine: OpenAI's shape, vLLM's `max_model_len`, and what our worker adds under `haina`."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.domain.errors import EngineRefused
from app.domain.generation import ModelProfile
from app.domain.models import Sampling

_UNKNOWN_CONTEXT_LENGTH = 4096
_CLASSIFY = "classify"


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class _Defaults(_Part):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None


class _Haina(_Part):
    title: str = ""
    prompt_format: str | None = None
    stop_token_ids: tuple[int, ...] = ()
    defaults: _Defaults = _Defaults()
    revision: str = ""
    quantization: str = "none"
    dtype: str = ""
    adapter: str = ""
    is_embedded: bool = False
    license_url: str = ""
    source_url: str = ""


class _Card(_Part):
    id: str = Field(min_length=1)
    max_model_len: int | None = Field(default=None, gt=0)
    task: object = None
    """Our worker marks a classifier as such: it answers nobody."""
    haina: _Haina = _Haina()


class _Cards(_Part):
    data: tuple[_Card, ...]


def read_cards(body: bytes) -> tuple[ModelProfile, ...]:
    """Return a profile for each language model of a `/v1/models` answer. Raises EngineRefused."""
    try:
        cards = _Cards.model_validate_json(body)
    except ValidationError as error:
        raise EngineRefused("the engine's model list is not what it should be", engine_status=200) from error
    return tuple(_profile(card) for card in cards.data if card.task != _CLASSIFY)


def _profile(card: _Card) -> ModelProfile:
    about = card.haina
    return ModelProfile(
        id=card.id,
        title=about.title or card.id.rstrip("/").rpartition("/")[2] or card.id,
        prompt_format=about.prompt_format,
        context_length=card.max_model_len or _UNKNOWN_CONTEXT_LENGTH,
        stop_token_ids=about.stop_token_ids,
        defaults=Sampling(**about.defaults.model_dump()),
        revision=about.revision,
        quantization=about.quantization,
        dtype=about.dtype,
        adapter=about.adapter,
        is_embedded=about.is_embedded,
        license_url=about.license_url,
        source_url=about.source_url,
    )
