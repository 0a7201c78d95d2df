"""Settings come from the environment; a wrong one is named."""

import pytest

from core.errors import UsageError
from core.settings import Settings, settings


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "REDIS_URL",
        "BROKER_URL",
        "ARTIFACTS_URL",
        "PLUMBLINE_HOME",
        "PLUMBLINE_PORT",
        "PLUMBLINE_CORS_ORIGINS",
    ):
        monkeypatch.delenv(name, raising=False)


def test_variables_have_our_prefix_but_for_the_well_known(monkeypatch):
    """PLUMBLINE_PORT is ours; REDIS_URL and its like are everybody's, and may carry our prefix too."""
    monkeypatch.setenv("PLUMBLINE_PORT", "9000")
    monkeypatch.setenv("REDIS_URL", "redis://a")
    monkeypatch.setenv("PLUMBLINE_BROKER_URL", "redis://b")
    monkeypatch.setenv("PORT", "1")
    found = settings()
    assert (found.port, found.redis_url, found.broker_url) == (9000, "redis://a", "redis://b")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PLUMBLINE_PORT", "0"),
        ("PLUMBLINE_PORT", "http"),
        ("PLUMBLINE_DTYPE", "int8"),
        ("PLUMBLINE_LEASE_S", "0"),
        ("PLUMBLINE_TRAIN_BY_DEFAULT", "maybe"),
        ("PLUMBLINE_MAX_BODY_BYTES", "1"),
        ("PLUMBLINE_ARCHIVE_AFTER_S", "0"),
        ("PLUMBLINE_CORS_ORIGINS", "*"),
        ("PLUMBLINE_CORS_ORIGINS", "null"),
        ("PLUMBLINE_CORS_ORIGINS", "https://a.example/"),
        ("PLUMBLINE_CORS_ORIGINS", "https://a.example,b.example"),
    ],
)
def test_wrong_value_is_one_line_that_names_the_variable(monkeypatch, name, value):
    """Not a traceback: which variable, what is wrong, what it holds."""
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        settings()
    assert str(caught.value).startswith(f"{name}: ")
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_origins_are_named_one_by_one(monkeypatch):
    """With commas between, as a browser sends them; none by default."""
    assert settings().vote_origins == []
    settings.cache_clear()
    monkeypatch.setenv("PLUMBLINE_CORS_ORIGINS", "https://app.example, http://localhost:8080,http://[::1]:81")
    assert settings().vote_origins == ["https://app.example", "http://localhost:8080", "http://[::1]:81"]


def test_places_are_absolute(monkeypatch, tmp_path):
    """Artifacts lie under home unless they have a place of their own."""
    monkeypatch.chdir(tmp_path)
    assert Settings(home="here").directory == tmp_path / "here"
    assert Settings(home="here").artifacts == tmp_path / "here" / "artifacts"
    assert Settings(artifacts_url=f"file://{tmp_path}/there").artifacts == tmp_path / "there"
    assert Settings(artifacts_url="there").artifacts == tmp_path / "there"
    assert Settings().directory.is_absolute()


def test_environment_of_a_child_reads_back_the_same(monkeypatch, tmp_path):
    """What a parent passes on is what the child reads."""
    given = Settings(
        home=tmp_path,
        redis_url="unix:///r.sock",
        port=9000,
        lease_s=2.5,
        train_by_default=False,
        max_model_len=None,
        cors_origins="https://a.example,https://b.example",
    )
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    assert settings() == given
