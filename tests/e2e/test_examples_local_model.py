"""Shipped examples, asked of a real model through the gateway: does an answer of the described shape come back?

One of each family, those that `assayline demo` does not ask; all of them with ASSAYLINE_TEST_ALL_EXAMPLES=1 (three
minutes). That each goes through the queue, tests/integration/test_cli_examples.py shows.
The model is the small one that comes along, so nothing is said here of how good its answers are. They differ from run
to run (the fence's marker does), which is as well: a shape must hold whatever a model writes.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator

import pytest

from gateway.analyses.base import Ask
from gateway.analyses.registry import AnalysisRegistry, load_analyses
from gateway.build import build_gateway
from gateway.catalog import load_catalog
from gateway.errors import GatewayError, OutputTruncated
from gateway.messages import AnalysisResult, ModelRef
from gateway.providers.openai import chat_request
from gateway.response import Parsed
from gateway.settings import Settings
from ops.embedded.local_model import MODEL, SLOTS, LocalModel

ANALYSES: AnalysisRegistry = load_analyses([])
SOME = (
    "attrition_risk",
    "bug_fixing",
    "completion",
    "developer_profile",
    "interview_rubric",
    "task_matching",
    "text_classification",
)
ASKED = ANALYSES.names() if os.environ.get("ASSAYLINE_TEST_ALL_EXAMPLES") else SOME
SHORT_STRING_CHARS, SHORT_LIST_ITEMS = 12, 1
"""The bounds of strings and lists here, in place of the provider's own: most of the time goes into writing, and the
second item of a list has the shape of the first."""
MAX_TOKENS, TRIES = 800, 4
"""No answer in these bounds is half as long; where no grammar ends it, in free text, the model does not always stop."""
DEADLINE_S = 300.0

Outcomes = dict[str, AnalysisResult | GatewayError]

pytestmark = pytest.mark.timeout(2 * DEADLINE_S)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes]:
    """What became of the examples, all run in one go, as many at a time as the model answers at once."""
    model = LocalModel(tmp_path_factory.mktemp("model"))
    cores = os.sched_getaffinity(0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chat_request, "BOUND_STRING_CHARS", SHORT_STRING_CHARS)
        patched.setattr(chat_request, "BOUND_ARRAY_ITEMS", SHORT_LIST_ITEMS)
        try:
            os.sched_setaffinity(0, {max(cores)})  # the other tests have the other cores
            url = model.start()
            os.sched_setaffinity(0, cores)
            yield asyncio.run(all_asked({"ASSAYLINE_LOCAL_BASE_URL": url}))
        finally:
            os.sched_setaffinity(0, cores)
            model.stop()


async def all_asked(env: dict[str, str]) -> Outcomes:
    gateway = build_gateway(Settings.from_env(env), load_catalog(None, env), env, ANALYSES)
    slots = asyncio.Semaphore(SLOTS)

    async def asked(name: str) -> AnalysisResult | GatewayError:
        example = ANALYSES.get(name).analysis.example
        assert example is not None, f"{name} ships without an example"
        content = example.content.read_text(encoding="utf-8")
        async with slots:
            for _ in range(TRIES):
                try:
                    return await gateway.analyze(
                        name,
                        content,
                        context=example.context,
                        model=ModelRef("local", MODEL),
                        max_tokens=MAX_TOKENS,
                        timeout_s=DEADLINE_S,
                        use_cache=False,
                    )
                except OutputTruncated as error:
                    outcome: GatewayError = error
                except GatewayError as error:
                    return error
            return outcome

    try:
        found = await asyncio.gather(*(asked(name) for name in ASKED))
    finally:
        await gateway.aclose()
    return dict(zip(ASKED, found, strict=True))


@pytest.mark.parametrize("name", ASKED)
def test_the_example_gets_an_answer_of_the_described_shape(outcomes: Outcomes, name: str) -> None:
    result = outcomes[name]
    if isinstance(result, GatewayError):
        pytest.fail(f"{result.name}: {result}\n{getattr(result, 'raw_text', None)}")
    analysis = ANALYSES.get(name).analysis
    assert analysis.example is not None
    assert (result.provider, result.model) == ("local", MODEL)
    assert result.usage.output_tokens > 0
    shape = analysis.shape_for(Ask(analysis.example.content.read_text(encoding="utf-8"), analysis.example.context))
    if shape.schema is None:
        assert any(result.data.values())
    else:
        assert list(result.data) == list(shape.schema["properties"])
        assert shape.read(json.dumps(result.data)) == Parsed(result.data, repaired=False)
