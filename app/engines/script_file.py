"""Scripts of the scripted engine as TOML files.

    tokens_per_s = 20
    default = "I do not know."

    [[rules]]
    pattern = "(?i)hello"
    reply = "Hello!"

An unknown name is an error, as in the settings.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.domain.errors import InvalidInput
from app.engines.scripted import Fault, Rule, Script


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _RuleTable(_Table):
    pattern: re.Pattern[str]
    reply: str
    fault: Fault | None = None
    fault_after: int = Field(default=0, ge=0)
    hang_after: int | None = Field(default=None, ge=0)
    first_token_s: float = Field(default=0.0, ge=0)


class _ScriptTable(_Table):
    rules: tuple[_RuleTable, ...] = ()
    default: str | None = None
    tokens_per_s: float = Field(default=0.0, ge=0)
    tokens_per_delta: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 1)
    seed: int = 0


def read_script(text: str) -> Script:
    """Return the script that a TOML text holds. Raises InvalidInput with one line for each fault."""
    try:
        table = _ScriptTable.model_validate(tomllib.loads(text))
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise InvalidInput("\n".join(lines), param="script") from error
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise InvalidInput(f"the script is not TOML: {error}", param="script") from error
    least, most = table.tokens_per_delta
    if least > most:
        raise InvalidInput("tokens_per_delta: the least is more than the most", param="script")
    return Script(
        rules=tuple(Rule(**dict(rule)) for rule in table.rules),
        **{name: value for name, value in table if name != "rules"},
    )


def load_script(address: str) -> Script:
    """Return the script of an address: `scripted:` is the built-in one, `scripted:FILE.toml` a file.

    Raises InvalidInput, naming the file in each line, where it cannot be read or is wrong.
    """
    name = address.removeprefix("scripted:")
    if not name:
        return Script()
    try:
        text = Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"the script {name} cannot be read: {error.strerror}", param="script") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the script {name} is not UTF-8", param="script") from error
    try:
        return read_script(text)
    except InvalidInput as error:
        faults = "\n".join(f"{name}: {fault}" for fault in error.detail.splitlines())
        raise InvalidInput(faults, param="script") from error
