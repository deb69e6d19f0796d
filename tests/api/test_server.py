"""Where the API listens, and to whom."""

import pytest

from api.server import refuse_open_doors
from jobs.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_machine_of_ones_own_needs_no_keys(host: str) -> None:
    refuse_open_doors(Settings(host=host, auth="none"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])
def test_a_public_address_without_keys_is_refused_unless_forced(host: str) -> None:
    with pytest.raises(SystemExit, match="LONGHAUL_AUTH_NONE_ANYWHERE=true"):
        refuse_open_doors(Settings(host=host, auth="none"))
    refuse_open_doors(Settings(host=host, auth="none", auth_none_anywhere=True))
    refuse_open_doors(Settings(host=host, auth="keys"))
