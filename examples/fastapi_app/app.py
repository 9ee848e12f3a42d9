"""A web app on FastAPI that has its users' code snippets analysed by Assayline.

The snippet and its job are one transaction: either both exist or neither. The answer is read from the same database,
and whoever asks with `?wait=` hears of it the moment the job ends.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

from assayline_client import AsyncClient, InvalidJob, WaitTimeout
from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel, Field
from sqlalchemy import ForeignKey, String, Uuid
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

DATABASE_URL = os.environ["DATABASE_URL"]  # postgresql://… : the database that Assayline uses too
REDIS_URL = os.environ.get("REDIS_URL")  # so that waiting ends at once; without it the client polls

engine = create_async_engine(DATABASE_URL.replace("postgresql://", "postgresql+psycopg://", 1))
sessions = async_sessionmaker(engine, expire_on_commit=False)
assayline = AsyncClient(DATABASE_URL, REDIS_URL)


class Base(DeclarativeBase):
    """The app's own tables."""


class Author(Base):
    """Who writes snippets."""

    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)


class Snippet(Base):
    """A snippet, and the job that judges it."""

    __tablename__ = "snippets"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    code: Mapped[str]
    job_id: Mapped[UUID] = mapped_column(Uuid)


class NewSnippet(BaseModel):
    """What a user hands in."""

    author: str = Field(min_length=1, max_length=100)
    code: str = Field(min_length=1, max_length=100_000)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Make the tables at the start, close the connections at the end."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await assayline.aclose()
    await engine.dispose()


app = FastAPI(title="Snippets", lifespan=lifespan)


@app.post("/snippets", status_code=201)
async def create(new: NewSnippet) -> dict[str, Any]:
    """Store a snippet and have its skills named, as one transaction."""
    async with sessions() as session, session.begin():
        try:
            receipt = await assayline.enqueue(
                "skill_extraction", new.code, subject=new.author, source="snippets", connection=session
            )
        except InvalidJob as error:
            raise HTTPException(422, str(error)) from error
        # Two requests may bring the same new author at once: whoever comes second takes the first one's row.
        known = insert(Author).values(name=new.author)
        known = known.on_conflict_do_update(index_elements=[Author.name], set_={"name": new.author})
        author_id = await session.scalar(known.returning(Author.id))
        snippet = Snippet(author_id=author_id, code=new.code, job_id=receipt.id)
        session.add(snippet)
        await session.flush()
        return {"id": snippet.id, "job_id": str(receipt.id)}


@app.get("/snippets/{snippet_id}")
async def read(snippet_id: int, wait: Annotated[float, Query(ge=0, le=60)] = 0) -> dict[str, Any]:
    """Show a snippet with what was found; `wait` seconds for it, if it is not there yet."""
    async with sessions() as session:
        snippet = await session.get(Snippet, snippet_id)
    if snippet is None:
        raise HTTPException(404, "no such snippet")
    try:
        job = await assayline.wait(snippet.job_id, wait) if wait else await assayline.get(snippet.job_id)
    except WaitTimeout:
        job = await assayline.get(snippet.job_id)
    return {
        "id": snippet.id,
        "code": snippet.code,
        "state": job.state,
        "skills": job.result.data if job.result else None,
        "cost_usd": str(job.result.cost_usd) if job.result and job.result.cost_usd is not None else None,
    }
