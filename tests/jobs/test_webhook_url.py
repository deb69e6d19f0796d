"""Which URLs and addresses webhooks may go to."""

from ipaddress import ip_address

import pytest

from jobs.errors import BadRequest
from jobs.webhook_url import LOOPBACK, Reach, Target, check, is_reachable

PUBLIC = Reach.of("", "443,8443")


def reason(url: str, reach: Reach = PUBLIC) -> str:
    with pytest.raises(BadRequest) as refusal:
        check(url, reach, "webhook.url")
    assert (refusal.value.param, refusal.value.code) == ("webhook.url", "invalid_url")
    return refusal.value.message


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        ("https://example.com", Target("https", "example.com", 443, "/"), "example.com"),
        ("https://example.com/a/b?c=d&e", Target("https", "example.com", 443, "/a/b?c=d&e"), "example.com"),
        ("https://example.com?c", Target("https", "example.com", 443, "/?c"), "example.com"),
        (
            "HTTPS://Hooks.Example.COM.:8443/A",
            Target("https", "hooks.example.com", 8443, "/A"),
            "hooks.example.com:8443",
        ),
        ("https://xn--bcher-kva.example/", Target("https", "xn--bcher-kva.example", 443, "/"), "xn--bcher-kva.example"),
        ("https://93.184.215.14/", Target("https", "93.184.215.14", 443, "/"), "93.184.215.14"),
        ("https://[2606:2800:021F::1]/", Target("https", "2606:2800:21f::1", 443, "/"), "[2606:2800:21f::1]"),
        ("https://example.com/%20//..?a=https://b", None, "example.com"),
    ],
)
def test_a_public_url_is_taken_apart(url: str, target: Target | None, authority: str) -> None:
    found = check(url, PUBLIC, "url")
    assert found.authority == authority
    assert target in (None, found)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://example.com/", "begin with https://"),
        ("ftp://example.com/", "begin with https://"),
        ("file:///etc/passwd", "begin with https://"),
        ("//example.com/", "begin with https://"),
        ("example.com", "begin with https://"),
        ("", "begin with https://"),
        ("https:/example.com", "begin with https://"),
        ("https:///path", "no valid host"),
        ("https://user@example.com/", "user name or password"),
        ("https://user:secret@example.com/", "user name or password"),
        ("https://example.com@127.0.0.1/", "user name or password"),
        ("https://example.com:22/", "port 22 is not open"),
        ("https://example.com:80/", "port 80 is not open"),
        ("https://example.com:0/", "1 to 65535"),
        ("https://example.com:65536/", "1 to 65535"),
        ("https://example.com:/", "no valid host and port"),
        ("https://example.com:443:443/", "no valid host and port"),
        ("https://example.com/#part", "#fragment"),
        ("https://example.com/a b", "percent-encoded"),
        ("https://example.com/\r\nHost: x", "percent-encoded"),
        ("https://example.com\\@127.0.0.1/", "percent-encoded"),
        ("https://bücher.example/", "percent-encoded"),
        ("https://①②⑦.0.0.1/", "percent-encoded"),
        ("https://ex%61mple.com/", "no valid host"),
        ("https://a..example.com/", "no valid host"),
        ("https://-a.example.com/", "no valid host"),
        ("https://" + "a" * 64 + ".com/", "no valid host"),
        ("https://" + "a." * 127 + "com/", "no valid host"),
        ("https://example.com/" + "a" * 2048, "longer than 2048"),
    ],
)
def test_a_url_of_another_form_is_refused_with_the_reason(url: str, fault: str) -> None:
    assert fault in reason(url)


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.01",
        "127.0.0.1.1",
        "256.1.1.1",
        "example.0x",
        "example.1",
        "[::1%25lo]",
        "[::1",
        "[127.0.0.1]",
        "[1::2::3]",
    ],
)
def test_an_address_that_is_not_spelled_plainly_is_refused(host: str) -> None:
    assert "plain form" in reason(f"https://{host}/") or "no valid host" in reason(f"https://{host}/")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1.", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "[fd00:ec2::254]"],
)
def test_an_address_that_is_not_public_is_refused_by_its_form(host: str) -> None:
    assert "is not a public address" in reason(f"https://{host}/")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "receiver.localhost"])
def test_localhost_is_this_machine_without_asking_anyone(host: str) -> None:
    assert "is not a public address" in reason(f"https://{host}/")
    assert check(f"http://{host}:9000/", Reach.of(LOOPBACK, ""), "url").port == 9000


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.255",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:100.64.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2001:1ff::1",
        "2002:7f00:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_an_address_that_is_not_public_is_not_reachable(address: str) -> None:
    assert not is_reachable(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.215.14", "172.32.0.1", "192.0.1.1", "::ffff:1.1.1.1", "2606:4700::1111", "2a00:1450::1"],
)
def test_a_public_address_is_reachable(address: str) -> None:
    assert is_reachable(ip_address(address))


def test_a_host_that_is_named_is_reached_by_http_and_at_any_port() -> None:
    reach = Reach.of("Hooks.Internal, .corp.example", "443")
    for url in ("http://hooks.internal:9000/", "https://hooks.internal:22/", "http://a.b.corp.example/"):
        check(url, reach, "url")
    for url in ("http://corp.example/", "http://notcorp.example/", "http://x.hooks.internal/"):
        assert "https://" in reason(url, reach)


def test_a_network_adds_addresses_and_urls_that_spell_them() -> None:
    reach = Reach.of("10.0.0.0/8, ::1", "443")
    assert check("http://10.1.2.3:9000/", reach, "url") == Target("http", "10.1.2.3", 9000, "/")
    assert check("http://[::ffff:10.1.2.3]:9000/", reach, "url").port == 9000
    assert reach.takes(ip_address("10.1.2.3"))
    assert reach.takes(ip_address("::ffff:10.1.2.3"))
    assert reach.takes(ip_address("1.1.1.1"))
    assert not reach.takes(ip_address("192.168.0.1"))
    assert "https://" in reason("http://hooks.internal/", reach)
    assert "not a public" in reason("https://192.168.0.1/", reach)


@pytest.mark.parametrize(
    ("allow", "ports"),
    [("http://hooks.internal", ""), ("10.0.0.1/8", ""), ("127.1", ""), ("a b", ""), ("", "0"), ("", "x")],
)
def test_a_list_that_cannot_be_meant_is_refused(allow: str, ports: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Reach.of(allow, ports)
