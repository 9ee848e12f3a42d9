"""Which limit group a model's calls belong to, as the catalog has it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.limits.group import UNLIMITED, LimitGroup
from gateway.pricing import worst_cost_usd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from decimal import Decimal

    from gateway.catalog import Catalog
    from gateway.messages import ModelRef


@dataclass(frozen=True, slots=True)
class Shared:
    """Models that share limits, and the group of each account that may make their calls.

    models: None stands for all that no other group names.
    """

    models: tuple[str, ...] | None
    groups: tuple[LimitGroup, ...]


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

    def at(self, provider: str) -> Sequence[Shared]:
        """Return what a provider's models share."""
        models = defaultdict[str, list[str]](list)
        for name, model in self._catalog.models_of(provider).items():
            models[model.limit_group].append(name)
        shared = {group: tuple(names) for group, names in models.items()}
        found = [Shared(names, self._of_all_accounts(provider, group)) for group, names in shared.items()]
        others = self._catalog.providers[provider].other_models
        # Where models that are not listed share a group with some that are, they share its room, too.
        if others is not None:
            found = [one for one in found if one.groups[0].name != others.limit_group]
            found.append(Shared(None, self._of_all_accounts(provider, others.limit_group)))
        return found

    def models(self, group: LimitGroup) -> tuple[list[str] | None, list[str]]:
        """Return the models of a group, None for all that no other group names, and those that other groups name."""
        shared = {one.groups[0].name: one.models for one in self.at(group.provider)}
        models = shared.get(group.name, ())
        others = [model for name, found in shared.items() if name != group.name for model in found or ()]
        return None if models is None else list(models), others

    def worst_cost_usd(self, group: LimitGroup, day: date | None = None) -> Decimal | None:
        """Return what one call of a group may cost at most, whatever it asks: a full window, and all it may write.

        Args:
            group: one of these.
            day: whose prices; by default today's (UTC).

        Returns:
            US dollars; None where no model of the group has a price.
        """
        provider = self._catalog.providers[group.provider]
        entries = [*self._catalog.models_of(group.provider).values(), provider.other_models]
        worst = (
            worst_cost_usd(entry, entry.context_window, entry.max_output_tokens, day)
            for entry in entries
            if entry is not None and entry.limit_group == group.name
        )
        return max((usd for usd in worst if usd is not None), default=None)

    def _of_all_accounts(self, provider: str, name: str) -> tuple[LimitGroup, ...]:
        return tuple(self._group(provider, account, name) for account in self._catalog.accounts(provider))

    def _group(self, provider: str, account: str, name: str) -> LimitGroup:
        key = (provider, account, name)
        if key not in self._made:
            accounts = {entry.name: entry for entry in self._catalog.providers[provider].accounts}
            entry = accounts[account]
            limits = entry.limits.get(name, UNLIMITED)
            self._made[key] = LimitGroup(provider, account, name, limits, entry.zone)
        return self._made[key]
