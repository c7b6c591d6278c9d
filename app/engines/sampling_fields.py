"""The part of a request that both APIs share: how the next token is chosen, and when to stop."""

from dataclasses import asdict

from app.domain.generation import GenerationRequest


def sampling_fields(request: GenerationRequest) -> dict[str, object]:
    """Return the JSON fields of a request's sampling; what is not set is left to the engine."""
    fields = {name: value for name, value in asdict(request.sampling).items() if value is not None and value != ()}
    if fields.get("top_k") == 0:
        fields["top_k"] = -1  # older vLLM knows only this for "not limited"
    if request.stop_token_ids:
        fields["stop_token_ids"] = request.stop_token_ids
    if request.logit_bias:
        fields["logit_bias"] = dict(request.logit_bias)
    return fields
