"""Dialects by name: built lazily, extended safely, refused clearly."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.errors import ConfigurationError
from gateway.providers import registry
from gateway.providers.base import Provider, ProviderConfig
from gateway.providers.fake.provider import FakeProvider


def config(dialect: str) -> ProviderConfig:
    return ProviderConfig(name="p", dialect=dialect, base_url="http://127.0.0.1:1/v1", api_key="sk-hidden")


@pytest.fixture(autouse=True)
def clean_registry(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


def test_a_dialect_that_ships_is_built():
    provider = registry.create(config("fake"))
    assert isinstance(provider, FakeProvider)
    assert provider.config.name == "p"


def test_an_sdk_is_imported_only_where_it_is_used():
    code = (
        "import sys\n"
        "from gateway.providers.registry import create\n"
        "from gateway.providers.base import ProviderConfig\n"
        "create(ProviderConfig(name='p', dialect='fake'))\n"
        "assert 'openai' not in sys.modules\n"
        "create(ProviderConfig(name='p', dialect='openai_compatible', base_url='http://127.0.0.1:1/v1'))\n"
        "assert 'openai' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_sdk_is_named_with_the_extra_that_brings_it(monkeypatch):
    for name in ("chat", "client", "errors"):
        monkeypatch.delitem(sys.modules, f"gateway.providers.openai.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigurationError, match=r"'p' needs the package 'openai': install assayline\[openai\]"):
        registry.create(config("openai_compatible"))


def test_an_unknown_dialect_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match="unknown dialect 'claude'; known: anthropic, command, fake"):
        registry.create(config("claude"))


def test_a_registered_adapter_is_used_and_may_be_registered_again():
    class Mine(FakeProvider):
        pass

    registry.register_provider("mine", Mine)
    registry.register_provider("mine", Mine)
    assert isinstance(registry.create(config("mine")), Mine)
    assert "mine" in registry.dialects()


def test_what_is_not_a_provider_is_refused():
    class Unfinished(Provider):
        pass

    with pytest.raises(ConfigurationError, match="not a subclass of Provider"):
        registry.register_provider("mine", dict)
    with pytest.raises(ConfigurationError, match="not a subclass of Provider"):
        registry.register_provider("mine", FakeProvider(config("fake")))
    with pytest.raises(ConfigurationError, match=r"Unfinished does not implement aclose, .*stream"):
        registry.register_provider("mine", Unfinished)


def test_a_name_is_not_taken_over():
    class Mine(FakeProvider):
        pass

    registry.register_provider("mine", Mine)
    for name in ("mine", "fake"):
        with pytest.raises(ConfigurationError, match="has an adapter already"):
            registry.register_provider(name, FakeProvider)


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Install packages that offer an adapter, by their metadata alone."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, dialect, value="gateway.providers.fake.provider:FakeProvider"):
        metadata = tmp_path / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[assayline.providers]\n{dialect} = {value}\n")

    return install


def test_an_installed_packages_adapter_is_found(packages):
    packages("theirs", "their_dialect")
    assert isinstance(registry.create(config("their_dialect")), FakeProvider)
    assert isinstance(registry.create(config("their_dialect")), FakeProvider)
    assert "their_dialect" in registry.dialects()


def test_a_dialect_that_two_packages_offer_is_refused_and_both_are_named(packages):
    packages("theirs", "their_dialect")
    packages("others", "their_dialect", "others.adapter:Other")
    with pytest.raises(ConfigurationError) as caught:
        registry.create(config("their_dialect"))
    assert str(caught.value) == (
        "dialect 'their_dialect' is offered by others 1.0 (others.adapter:Other) and by theirs 1.0 "
        "(gateway.providers.fake.provider:FakeProvider); uninstall or rename all but one"
    )


def test_a_package_does_not_take_over_a_dialect_that_ships(packages):
    packages("theirs", "fake")
    with pytest.raises(ConfigurationError, match=r"'fake' is offered by assayline itself and by theirs 1\.0"):
        registry.create(config("fake"))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("nowhere_at_all:Provider", "entry point theirs = nowhere_at_all:Provider: ModuleNotFoundError"),
        ("gateway.providers.fake.provider:Nobody", "AttributeError"),
        ("builtins:dict", "not a subclass of Provider"),
        ("gateway.providers.base:Provider", "does not implement"),
    ],
)
def test_a_packages_adapter_that_is_none_is_refused_and_named(packages, value, says):
    packages("somebody", "theirs", value)
    with pytest.raises(ConfigurationError, match=says):
        registry.create(config("theirs"))


def test_a_config_does_not_show_its_key():
    assert "sk-hidden" not in repr(config("fake"))
