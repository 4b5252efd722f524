"""What docs/guide/rest.md says of the comparison with Envoy; `make compare-envoy` makes it."""

from tests.oracle.envoy import REASONS, reasons
from tests.oracle.exchanges import EXCHANGES
from tools.openapi.contract import bindings


def test_every_difference_has_its_reason() -> None:
    assert {exchange.differs for exchange in EXCHANGES} - {""} == reasons()


def test_the_numbers_are_those_of_the_list() -> None:
    alike = [exchange for exchange in EXCHANGES if not exchange.differs]
    assert f"{len(EXCHANGES)} requests over all bindings" in REASONS.read_text()
    assert f"{len(alike)} of them get the same response" in REASONS.read_text()
    assert len(alike) >= 60


def test_every_binding_is_asked() -> None:
    asked = {(exchange.verb, exchange.path.partition("?")[0]) for exchange in EXCHANGES if not exchange.differs}
    for binding in bindings():
        shape = binding.path.replace("{id}", "{milk}").replace("{milk}/complete", "{call}/complete")
        assert (binding.verb.upper(), shape) in asked | {
            (verb, path.replace(name, "{milk}")) for verb, path in asked for name in ("{call}", "{once}", "{cheese}")
        }
