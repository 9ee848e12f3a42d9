"""What a catalog entry says about an endpoint: all of it checked before the first call.

What an endpoint does not tell must be said to be so: `usage: estimated` and `finish: untold` are words an operator
writes knowingly, and never defaults. The least that an entry must say:

    dialect: http
    base_url: https://models.example.org
    key_env: EXAMPLE_API_KEY
    options:
      path: /v1/generate
      body: {model: "{model}", prompt: "{prompt}", max_tokens: "{max_tokens}", temperature: "{temperature}"}
      answer: /output
      usage: estimated
      finish: untold
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gateway.errors import ProviderError
from gateway.messages import FinishReason
from gateway.providers.rest import template
from gateway.providers.rest.pointer import Pointer

ERRORS: dict[str, type[ProviderError]] = {cls("").name: cls for cls in ProviderError.__subclasses__()}
"""The errors an entry may name, in the words the ledger has for them: `throttled`, `quota_exhausted`, …"""

OWN_HEADERS = frozenset(
    {
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "expect",
        "upgrade",
    }
)
"""Headers the connection itself writes."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,1022}[\x21-\x7e])?")


def _check_header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name) or name.lower() in OWN_HEADERS:
        raise ValueError(f"{name[:60]!r} is no header that can be set here")
    return name


def _check_header_value(value: str) -> str:
    # The value is not shown: somebody may have written a key into it.
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError("a header's value is 1 to 1,024 visible ASCII characters, without blanks at its ends")
    return value


def _check_auth_value(value: str) -> str:
    # What is wrong with it is not shown: somebody may have written the key itself.
    try:
        holds_key = template.Text.parse(value, ("key",)).names == {"key"}
    except ValueError:
        holds_key = False
    if not holds_key:
        raise ValueError("it says where the key goes, as `Bearer {key}` does")
    return _check_header_value(value)


def _check_path(value: str) -> str:
    if not re.fullmatch(r"/[\x21-\x7e]*", value) or "#" in value or len(value) > 1_024:
        raise ValueError("a path begins with a slash and holds neither blanks nor a fragment")
    template.Text.parse(value, ("model",))
    return value


def _parse_pointer(value: object) -> object:
    return Pointer.parse(value) if isinstance(value, str) else value


def _parse_body(value: object) -> template.Node:
    if not isinstance(value, dict):
        raise ValueError("a body is a JSON object with placeholders")
    return template.parse(value)


def _check_error(name: str) -> str:
    if name not in ERRORS:
        raise ValueError(f"no error {name[:60]!r}; known: {', '.join(sorted(ERRORS))}")
    return name


def _unless(word: str, otherwise: str) -> BeforeValidator:
    """Read `word` as None; refuse whatever is neither it nor a description."""

    def read(value: object) -> object:
        if value == word:
            return None
        if not isinstance(value, (dict, BaseModel)):
            raise ValueError(f"it is `{word}`, or says {otherwise}")
        return value

    return BeforeValidator(read)


Place = Annotated[Pointer, BeforeValidator(_parse_pointer)]
HeaderName = Annotated[str, AfterValidator(_check_header_name)]
HeaderValue = Annotated[str, AfterValidator(_check_header_value)]
Body = Annotated[InstanceOf[template.Tree], BeforeValidator(_parse_body)]
ErrorName = Annotated[str, AfterValidator(_check_error)]
Status = Annotated[int, Field(ge=201, le=599)]
Reason = str | bool | int


class Closed(BaseModel):
    """Base of all parts: closed, unchangeable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Auth(Closed):
    """The header that carries the key, and its form."""

    header: HeaderName = "Authorization"
    value: Annotated[str, AfterValidator(_check_auth_value)] = "Bearer {key}"


class UsagePlaces(Closed):
    """Where the endpoint counts tokens. `cached`: those of the input it read from its cache, if it tells.

    `input_includes_cached`: whether its input counts them too (as OpenAI's does, and Anthropic's does not).
    """

    input: Place
    output: Place
    cached: Place | None = None
    input_includes_cached: bool = True


class Finish(Closed):
    """Where the endpoint says why the model stopped, and which of its words mean what. A word not listed is refused."""

    at: Place
    stop: Annotated[tuple[Reason, ...], Field(min_length=1)]
    length: tuple[Reason, ...] = ()
    refusal: tuple[Reason, ...] = ()

    @model_validator(mode="after")
    def _no_word_twice(self) -> Self:
        if len(self.reasons) < len(self.stop) + len(self.length) + len(self.refusal):
            raise ValueError("a word stands twice in stop, length and refusal")
        return self

    @property
    def reasons(self) -> dict[tuple[type, Reason], FinishReason]:
        """What each word means. Keyed with its type too, or true would be 1."""
        lists = (
            (self.stop, FinishReason.STOP),
            (self.length, FinishReason.LENGTH),
            (self.refusal, FinishReason.REFUSAL),
        )
        return {(type(word), word): reason for words, reason in lists for word in words}


class Stream(Closed):
    """How the endpoint streams: server-sent events, or a JSON document a line.

    body: what is added to the body. text: where each event has its piece of the answer. done: the data of the event
    that ends a whole answer; finish: where an event says why the model stopped (in the words of `finish`). One of the
    two must be given: without it nobody could tell a whole answer from a broken one.
    """

    format: Literal["sse", "ndjson"] = "sse"
    body: dict[str, Any] = Field(default_factory=dict)
    text: Place
    done: str | None = None
    finish: Place | None = None

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.done is None and self.finish is None:
            raise ValueError("it says how a whole answer ends: `done`, `finish` or both")
        return self


class RestOptions(Closed):
    """`options` of a catalog entry whose dialect is http. Places are JSON pointers into the answer.

    path: below the base URL; {model} in it is the model's name. method: no other is offered, since aiohttp repeats an
        idempotent one when a kept connection breaks, and a repeated call is paid twice.
    auth, headers: the key's header, and further ones.
    body: see `template`.
    unbounded_output: the endpoint takes no max_tokens; an answer may then cost more than was reserved for it.
    answer: the text (or, where a schema was asked for, an object).
    usage: the places of the counts, or `estimated` where the endpoint tells none: usage and cost are then ours and
        marked as estimated in the ledger.
    finish: where it says why it stopped, or `untold`: if it counts tokens, an answer of max_tokens is then cut off.
    model, request_id, request_id_header: where the answer names its model and its id.
    error_message, error_code: where an error says what it is. errors: what a status means, where it is not the usual;
        error_codes: what a code means.
    availability_path: what to GET to see whether the endpoint is there; unset, the base URL.
    """

    path: Annotated[str, AfterValidator(_check_path)]
    method: Literal["POST"] = "POST"
    auth: Auth = Auth()
    headers: Annotated[dict[HeaderName, HeaderValue], Field(max_length=32)] = Field(default_factory=dict)
    body: Body
    unbounded_output: Annotated[bool, Field(validate_default=True)] = False
    answer: Place
    usage: Annotated[UsagePlaces | None, _unless("estimated", "where the counts are: {input: …, output: …}")]
    finish: Annotated[Finish | None, _unless("untold", "where the reason is: {at: …, stop: […]}")]
    model: Place | None = None
    request_id: Place | None = None
    request_id_header: HeaderName = "x-request-id"
    error_message: Place | None = None
    error_code: Place | None = None
    errors: dict[Status, ErrorName] = Field(default_factory=dict)
    error_codes: dict[str, ErrorName] = Field(default_factory=dict)
    stream: Stream | None = None
    availability_path: Annotated[str, Field(pattern=r"^/[\x21-\x7e]*$")] | None = None

    @field_validator("body")
    @classmethod
    def _asks_the_question(cls, body: template.Tree) -> template.Tree:
        if not body.names & {"prompt", "messages"}:
            raise ValueError("it holds neither {prompt} nor {messages}, so the question would not be sent")
        return body

    @field_validator("unbounded_output")
    @classmethod
    def _bounded_or_said_not_to_be(cls, unbounded: bool, info: ValidationInfo) -> bool:
        if "body" in info.data and ("max_tokens" in info.data["body"].names) == unbounded:
            raise ValueError("the body holds {max_tokens}, or this is true: one of the two")
        return unbounded

    @field_validator("headers")
    @classmethod
    def _leave_the_key_alone(cls, headers: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        names = [name.lower() for name in headers]
        if len(set(names)) < len(names) or ("auth" in info.data and info.data["auth"].header.lower() in names):
            raise ValueError("a header stands twice; the key's is set by `auth`")
        return headers

    @field_validator("error_codes")
    @classmethod
    def _lie_somewhere(cls, codes: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if codes and info.data.get("error_code") is None:
            raise ValueError("`error_code` must say where the code is")
        return codes

    @field_validator("stream")
    @classmethod
    def _knows_its_words(cls, stream: Stream | None, info: ValidationInfo) -> Stream | None:
        if stream is not None and stream.finish is not None and info.data.get("finish") is None:
            raise ValueError("the words of its `finish` must be listed in the `finish` of whole answers")
        return stream
