"""The options of `assayline submit` that are a job's fields, each under the name of the field it sets.

What an option may hold is judged where the job is made: here are only its name, its help and its panel.
"""

from __future__ import annotations

from typing import Annotated

import typer

WHERE, HOW, WHEN, WHOSE = "Where it may run", "How it is asked", "When", "Whose it is"


def _option(panel: str, text: str | None = None, *names: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(*names, help=text, rich_help_panel=panel)
    return option


Context = Annotated[
    list[str] | None,
    _option(HOW, "A prompt variable, k=v (v as JSON where it is JSON, else as text), or @file.json. May be repeated."),
]
Messages = Annotated[str | None, _option(HOW, "A conversation: @file.json or JSON.")]
Schema = Annotated[str | None, _option(HOW, "A JSON schema for the answer: @file.json or JSON.")]
PromptVersion = Annotated[str | None, _option(HOW)]
OutputFormat = Annotated[str | None, _option(HOW)]
MaxTokens = Annotated[int | None, _option(HOW)]
Temperature = Annotated[float | None, _option(HOW)]

Tenant = Annotated[str | None, _option(WHOSE)]
Subject = Annotated[str | None, _option(WHOSE, "About whom or what.")]
Source = Annotated[str | None, _option(WHOSE, "The calling service.")]
Tags = Annotated[list[str] | None, _option(WHOSE, "May be repeated.", "--tag")]
IdempotencyKey = Annotated[str | None, _option(WHOSE, "The same key and request again is the same job.")]

Provider = Annotated[str | None, _option(WHERE)]
Model = Annotated[str | None, _option(WHERE, "provider/model")]
Chain = Annotated[list[str] | None, _option(WHERE, "provider/model, first choice first. May be repeated.")]
MaxCostUsd = Annotated[str | None, _option(WHERE)]
MaxAttempts = Annotated[int | None, _option(WHERE, "Provider calls at most.")]
UseCache = Annotated[bool | None, _option(WHERE, None, "--cache/--no-cache")]
UseFallback = Annotated[bool | None, _option(WHERE, None, "--fallback/--no-fallback")]

Lane = Annotated[str | None, _option(WHEN, "interactive or bulk")]
Priority = Annotated[int | None, _option(WHEN, "0 (first) to 9 (last)")]
NotBefore = Annotated[str | None, _option(WHEN, "A time with its offset, 2026-11-05T08:00:00Z.")]
DeadlineAt = Annotated[str | None, _option(WHEN, "No call runs on beyond it.")]
ExpiresAt = Annotated[str | None, _option(WHEN, "Not wanted if unclaimed by then.")]
