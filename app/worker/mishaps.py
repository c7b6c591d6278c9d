"""What torch, safetensors and transformers raise while a model is loaded → one line for the operator."""

from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from app.worker.failures import LoadFailed


@contextmanager
def told_in_one_line(model: str, *, hint: str = "") -> Iterator[None]:
    """Turn what may go wrong while a model is loaded into LoadFailed.

    `model` is what to call it, `the model PATH`; `hint` says what to do where it does not fit the memory.
    """
    no_memory = f"no memory for {model}" + (f": {hint}" if hint else "")
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise LoadFailed(no_memory) from error
    except SafetensorError as error:
        raise LoadFailed(f"a weights file of {model} is damaged: {error}") from error
    except UnpicklingError as error:  # its words would have the operator read it as code
        raise LoadFailed(f"a weights file of {model} is no file of weights alone, and is not read") from error
    except (OSError, ValueError, StrictDataclassError) as error:
        raise LoadFailed(f"{model} cannot be loaded: {first_line(error)}") from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise LoadFailed(no_memory) from error
        raise LoadFailed(f"{model} cannot be loaded: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type's name where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
