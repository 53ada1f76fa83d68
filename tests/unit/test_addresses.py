"""What is shown of a store's address holds no secret, however it was written."""

from __future__ import annotations

import pytest

from worker.cli.addresses import Address, shown


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("mongodb://host/haul", "mongodb://host/haul"),
        ("mongodb://u:hunter2@one:27017,two:27018/haul?replicaSet=rs&authSource=admin", "mongodb://one:27017,two:27018/haul"),
        ("mongodb+srv://u:hunter2@host/haul", "mongodb+srv://host/haul"),
        ("mongodb://u:hunter2/more@host/haul", "mongodb://host/haul"),
        ("mongodb://u:hunter2@more@host/haul", "mongodb://…"),
        ("mongodb://u:hunter2?not@encoded@host/haul", "mongodb://…"),
        ("mongodb://u:hunter2?more@host/haul", "mongodb://…"),
        ("mongodb://host/haul?tlsCertificateKeyFilePassword=hunter2", "mongodb://host/haul"),
        ("mongodb://host/haul?tlsCertificateKeyFilePassword=a@hunter2", "mongodb://…"),
        ("sqlite:////data/a@b?c/haul.db", "sqlite:////data/a@b?c/haul.db"),
        ("hunter2", "…"),
    ],
)
def test_secrets_are_cut_off(url: str, seen: str) -> None:
    assert shown(url) == seen


def test_an_address_is_not_shown_by_accident() -> None:
    address = Address.of("to", "mongodb://u:hunter2@host/haul")
    assert address.url == "mongodb://u:hunter2@host/haul"
    assert "hunter2" not in repr(address)
    assert address.setting == "HAUL_STORE_URL to the address you gave, mongodb://host/haul"
