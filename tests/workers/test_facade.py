import regrow.workers as facade


def test_the_facade_offers_exactly_its_sorted_names() -> None:
    offered = {name for name, value in vars(facade).items() if not name.startswith("_") and not is_module(value)}
    assert facade.__all__ == sorted(facade.__all__)
    assert offered == set(facade.__all__)


def is_module(value: object) -> bool:
    return type(value).__name__ == "module"
