"""The benchmark of start-up: phases are read as the API exports them, medians are by checkout and cache."""

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from benchmarks import startup
from core import metrics


def test_phases_are_those_of_the_metrics() -> None:
    """Of that gauge alone, in seconds, whatever else stands in the text."""
    registry = CollectorRegistry()
    gauge = Gauge(metrics.STARTUP._name, "", ["phase"], registry=registry)
    Gauge("plumbline_engine_up", "", registry=registry).set(1)
    gauge.labels("imports").set(4.25)
    gauge.labels("warm_up").set(2.5e-05)
    assert startup.phases(generate_latest(registry).decode()) == {"imports": 4.25, "warm_up": 0.0}
    assert startup.phases("plumbline_engine_up 1.0\n") == {}


def test_medians_are_by_checkout_and_cache() -> None:
    """One slow start does not count."""
    starts = [
        startup.Start(checkout=checkout, cache="warm", seconds=seconds, phases={})
        for checkout, seconds in (("this", 5.0), ("this", 6.0), ("this", 60.0), ("beside", 9.0))
    ]
    assert startup.medians(starts) == {"this, warm": 6.0, "beside, warm": 9.0}
