"""What providers write of their limits, header by header: read where it can be, left out where not."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import ProviderError, Throttled, UnknownAnalysis
from gateway.limits.kinds import LimitKind
from gateway.limits.told import LONGEST_RESET_S, MOST_TOLD, ToldLimit, ToldLimits
from gateway.messages import Completion, FinishReason, Usage
from gateway.providers.anthropic.limits import LIMIT_HEADERS as ANTHROPIC
from gateway.providers.limit_headers import OPENAI, WAIT_ONLY, count, duration_s, until_s
from gateway.providers.wire import MAX_RETRY_AFTER_S, moment, retry_after_s

DATE = "Sat, 21 Nov 2026 03:00:00 GMT"
AT = 1_795_230_000.0


def anthropic(word, remaining, limit=None, reset=None):
    told = {"remaining": remaining, "limit": limit, "reset": reset}
    return {f"anthropic-ratelimit-{word}-{what}": text for what, text in told.items() if text is not None}


def openai(word, remaining, limit=None, reset=None):
    told = {"remaining": remaining, "limit": limit, "reset": reset}
    return {f"x-ratelimit-{what}-{word}": text for what, text in told.items() if text is not None}


def test_anthropic_tells_four_limits_and_when_each_is_whole_again():
    headers = {
        "date": DATE,
        **anthropic("requests", "49", "50", "2026-11-21T03:00:02Z"),
        **anthropic("input-tokens", "29000", "30000", "2026-11-21T03:00:02+00:00"),
        **anthropic("output-tokens", "8000", "8000", "2026-11-21T02:59:59Z"),
        **anthropic("tokens", "37000", "38000", "2026-11-20T22:00:01.500-05:00"),
    }
    assert ANTHROPIC.read(headers) == ToldLimits(
        {
            LimitKind.REQUESTS: ToldLimit(49, 50, 2.0),
            LimitKind.INPUT_TOKENS: ToldLimit(29_000, 30_000, 2.0),
            LimitKind.OUTPUT_TOKENS: ToldLimit(8_000, 8_000, 0.0),
            LimitKind.TOKENS: ToldLimit(37_000, 38_000, 1.5),
        },
        AT,
    )


def test_openai_tells_requests_and_tokens_and_how_long_until_they_are_whole():
    headers = {"date": DATE, **openai("requests", "59", "60", "1s"), **openai("tokens", "149984", "150000", "6m0s")}
    assert OPENAI.read(headers) == ToldLimits(
        {LimitKind.REQUESTS: ToldLimit(59, 60, 1.0), LimitKind.TOKENS: ToldLimit(149_984, 150_000, 360.0)}, AT
    )


def test_what_mistral_names_after_the_minute_counts_where_nothing_else_does():
    mistral = openai("req-minute", "717", "720") | openai("tokens-minute", "4999911", "5000000")
    limits = {LimitKind.REQUESTS: ToldLimit(717, 720), LimitKind.TOKENS: ToldLimit(4_999_911, 5_000_000)}
    assert OPENAI.read(mistral) == ToldLimits(limits)
    assert OPENAI.read(mistral | openai("requests", "3")) == ToldLimits(limits | {LimitKind.REQUESTS: ToldLimit(3)})


@pytest.mark.parametrize("provider", [ANTHROPIC, OPENAI, WAIT_ONLY])
@pytest.mark.parametrize("headers", [{}, {"date": DATE}, {"date": DATE, "retry-after": "soon"}, {"server": "nginx"}])
def test_where_nothing_is_told_there_is_nothing(provider, headers):
    assert provider.read(headers) is None


def test_a_wait_alone_is_told_too_and_the_bodys_own_is_the_better_word():
    assert WAIT_ONLY.read({"retry-after": "7", "date": DATE}) == ToldLimits({}, AT, 7.0)
    assert WAIT_ONLY.read({"retry-after": "7"}, 34.0) == ToldLimits({}, None, 34.0)
    assert ANTHROPIC.read({"retry-after-ms": "1500", **anthropic("requests", "0")}) == ToldLimits(
        {LimitKind.REQUESTS: ToldLimit(0)}, None, 1.5
    )


UNREADABLE = ["", " ", "-1", "+5", "nan", "NaN", "inf", "1e3", "5.0", "0x10", "1_000", "many", "٣", "3, 4", "5\x00"]


@pytest.mark.parametrize("text", [*UNREADABLE, str(MOST_TOLD + 1), "9" * 5_000, None])
def test_an_amount_that_is_none_leaves_its_kind_out_and_a_limit_that_is_none_itself(text):
    assert count(text) is None
    given_ = {} if text is None else {"x-ratelimit-remaining-requests": text}
    assert OPENAI.read({**given_, **openai("tokens", "5")}) == ToldLimits({LimitKind.TOKENS: ToldLimit(5)})
    assert OPENAI.read(openai("tokens", "5", text)) == ToldLimits({LimitKind.TOKENS: ToldLimit(5)})


def test_an_amount_goes_from_nothing_to_the_most():
    assert (count("0"), count("007"), count(str(MOST_TOLD))) == (0, 7, MOST_TOLD)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("7.66s", 7.66),
        ("2m59.56s", 179.56),
        ("8h38m24s", 31_104.0),
        ("0s", 0.0),
        ("24h0m0s", LONGEST_RESET_S),
        ("86400", LONGEST_RESET_S),
        ("10", 10.0),
        ("11.38", 11.38),
        # None of these:
        *((text, None) for text in ("-1s", "nan", "inf", "NaNs", "soon", "", " ", "s", "1d", "1s1m", "1s ", "1m1m")),
        *((text, None) for text in ("24h0m1s", "86401", "1795230000", "9" * 400, "9" * 400 + "s", "999h99999m", "٣s")),
        (None, None),
    ],
)
def test_a_reset_as_a_duration(text, seconds):
    """Longer than a day is none either: a date in seconds since 1970, say."""
    told = OPENAI.read(openai("tokens", "5", reset=text))
    assert told is not None
    found = told.limits[LimitKind.TOKENS].reset_s
    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-21T03:01:00Z", 60.0),
        ("2026-11-22T03:00:00Z", LONGEST_RESET_S),
        ("2026-11-21T02:00:00Z", 0.0),
        ("2026-11-22T03:00:01Z", None),
        ("9999-12-31T23:59:59Z", None),
        ("2026-11-21T03:01:00", None),
        ("2026-11-21T99:01:00Z", None),
        *((text, None) for text in ("60", "1s", "-1", "nan", "soon", "", "9" * 400, None)),
    ],
)
def test_a_reset_as_a_moment(text, seconds):
    told = ANTHROPIC.read({"date": DATE, **anthropic("tokens", "5", reset=text)})
    assert told == ToldLimits({LimitKind.TOKENS: ToldLimit(5, None, seconds)}, AT)


@pytest.mark.parametrize("date", [None, "", "now", "Sat, 99 Nov 2026 03:00:00 GMT", "-1", "9" * 400])
def test_without_the_servers_date_a_moment_tells_nothing_and_a_duration_does(date):
    headers = {} if date is None else {"date": date}
    moments = headers | anthropic("requests", "5", reset="2026-11-21T03:01:00Z")
    assert ANTHROPIC.read(moments) == ToldLimits({LimitKind.REQUESTS: ToldLimit(5)})
    durations = headers | openai("requests", "5", reset="1s")
    assert OPENAI.read(durations) == ToldLimits({LimitKind.REQUESTS: ToldLimit(5, None, 1.0)})


@settings(deadline=None)  # a machine under load is no fault
@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59_999))
def test_every_duration_that_go_writes_is_read(hours, minutes, milliseconds):
    """Go leaves out leading units that are zero, and writes what is below a second in ms."""
    total_s = hours * 3600 + minutes * 60 + milliseconds / 1000
    seconds = f"{milliseconds // 1000}.{milliseconds % 1000:03}".rstrip("0").rstrip(".")
    parts = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    written = f"{parts}{seconds}s" if parts or milliseconds >= 1000 else f"{milliseconds}ms" if milliseconds else "0s"
    assert duration_s(written) == pytest.approx(total_s)


@settings(deadline=None)  # a machine under load is no fault
@given(st.text(alphabet="0123456789.hmsunµ-+e_ ") | st.text(max_size=40))
@example("0" * 100_000)
@example("1." * 50_000)
def test_no_text_breaks_a_duration_or_reads_as_a_negative_one(text):
    assert (duration_s(text) or 0.0) >= 0


dates = st.datetimes(timezones=st.timezones() | st.none()).map(lambda when: when.isoformat())
http_dates = st.from_regex(
    r"(Sat, )?[0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,5} [0-9]{1,2}:[0-9]{2}(:[0-9]{2})? [-+A-Z0-9]{0,6}"
)


@settings(deadline=None)  # a machine under load is no fault
@given(dates | st.text(max_size=40), http_dates | st.text(max_size=40), http_dates | st.text(max_size=40))
@example("0001-01-01T00:00:00+23:59", "Fri, 31 Dec 9999 23:59:59 -2359", DATE)
@example("", "21 Nov 2026 03:00:00 +999999999999", "1e400")
def test_no_text_breaks_a_date(until, date, wait):
    assert (until_s(until, moment(date)) or 0.0) >= 0
    assert 0 <= (retry_after_s({"retry-after": wait, "retry-after-ms": until, "date": date}) or 0) <= MAX_RETRY_AFTER_S


def answer(headers):
    return Completion("hello", FinishReason.STOP, Usage(1, 1), "m", headers=headers)


def test_an_answer_gets_what_its_headers_tell():
    assert OPENAI.added_to(answer(openai("requests", "3"))).told == ToldLimits({LimitKind.REQUESTS: ToldLimit(3)})
    assert OPENAI.added_to(answer({"date": DATE})).told is None


def test_a_providers_error_gets_it_where_it_has_none_and_no_other_error_does():
    headers = openai("requests", "3")
    own = ToldLimits({}, None, 1.0)
    for before, after in ((None, ToldLimits({LimitKind.REQUESTS: ToldLimit(3)})), (own, own)):
        with pytest.raises(Throttled) as caught, OPENAI.added_to_errors(headers):
            raise Throttled("busy", told=before)
        assert caught.value.told == after
    with pytest.raises(UnknownAnalysis) as other, OPENAI.added_to_errors(headers):
        raise UnknownAnalysis("what")
    assert other.value.told is None


def test_what_was_told_survives_pickling():
    told = ToldLimits({LimitKind.REQUESTS: ToldLimit(3, 4, 5.0)}, AT, 6.0)
    assert pickle.loads(pickle.dumps(ProviderError("no", told=told))).told == told
