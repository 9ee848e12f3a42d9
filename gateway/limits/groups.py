"""Which limit group a model's calls belong to, as the catalog has it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from gateway.limits.group import UNLIMITED, LimitGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.catalog import Catalog
    from gateway.messages import ModelRef


class LimitGroups:
    """The groups of a catalog, each made once."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._made: dict[tuple[str, str, str], LimitGroup] = {}

    def of(self, model: ModelRef, account: str) -> LimitGroup:
        """Return the group of a model's calls with an account.

        Raises:
            RequestError: the catalog has no such model.
        """
        return self._group(model.provider, account, self._catalog.model(model).limit_group)

    def at(self, provider: str) -> Mapping[LimitGroup, tuple[str, ...] | None]:
        """Return the groups of a provider's account, each with its models; None stands for all that are not listed."""
        entry, account = self._catalog.providers[provider], self._catalog.account(provider)
        models = defaultdict[LimitGroup, list[str]](list)
        for name, model in self._catalog.models_of(provider).items():
            models[self._group(provider, account, model.limit_group)].append(name)
        found: dict[LimitGroup, tuple[str, ...] | None] = {group: tuple(names) for group, names in models.items()}
        if entry.other_models is not None:
            found[self._group(provider, account, entry.other_models.limit_group)] = None
        return found

    def _group(self, provider: str, account: str, name: str) -> LimitGroup:
        key = (provider, account, name)
        if key not in self._made:
            accounts = {entry.name: entry for entry in self._catalog.providers[provider].accounts}
            limits = accounts[account].limits.get(name, UNLIMITED)
            self._made[key] = LimitGroup(provider, account, name, limits)
        return self._made[key]
