"""CORS rules: what is read, what is refused, what is kept, and which rule fits."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from pathlib import Path

import pytest

from predastore.base.errors import S3Error
from predastore.s3 import cors
from predastore.s3.cors import BucketCors, CorsRule, CorsRules
from predastore.s3.xml_read import parse
from predastore.s3.xml_write import document

FORMATS = Path(__file__).parent.parent / "formats"
MINIMAL = "<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
LONGEST_ID = "\u00e9" * 255
VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"

FULL = BucketCors(
    (
        CorsRule(
            *(("https://*.example", "http://caf\u00e9"), ("PUT", "GET")),
            *(("x-amz-*", "Content-Type"), ("ETag", "x-amz-meta-a"), 3000, "a rule"),
        ),
        CorsRule(("*",), ("HEAD",)),
        CorsRule(("",), ("POST", "DELETE"), max_age_s=0, id=""),
    )
)


def read(*rules: str, root: str = "CORSConfiguration") -> BucketCors:
    inner = "".join(f"<CORSRule>{rule}</CORSRule>" for rule in rules)
    return read_xml(f"<{root}>{inner}</{root}>".encode())


def read_xml(data: bytes) -> BucketCors:
    return cors.of_xml(asyncio.run(parse(data, cors.ROOT)))


def test_what_a_bucket_keeps_of_its_rules_does_not_change() -> None:
    stored = bytes.fromhex((FORMATS / "s3_cors_v2.hex").read_text())
    assert cors.to_document(FULL) == stored
    assert cors.of_stored(stored) == FULL


def test_rules_are_written_as_they_are_read() -> None:
    assert read_xml(document(cors.ROOT, cors.elements(FULL))) == FULL


def test_rules_and_what_is_in_them_may_stand_in_any_order() -> None:
    rule = (
        "<MaxAgeSeconds> 5 </MaxAgeSeconds><AllowedMethod>GET</AllowedMethod>"
        "<AllowedOrigin>b</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>"
        "<ID>x</ID><AllowedOrigin>a</AllowedOrigin>"
    )
    assert read(rule).rules == (CorsRule(("b", "a"), ("GET", "PUT"), max_age_s=5, id="x"),)


@pytest.mark.parametrize(
    "rules",
    [
        (),
        ("",),
        ("<AllowedOrigin>*</AllowedOrigin>",),
        ("<AllowedMethod>GET</AllowedMethod>",),
        (MINIMAL, ""),
        (MINIMAL + "<Color>red</Color>",),
        (MINIMAL + "<ID>a</ID><ID>b</ID>",),
        (MINIMAL + "<ID><b/></ID>",),
        (MINIMAL + "<AllowedHeader><b/></AllowedHeader>",),
        *(
            (MINIMAL + f"<MaxAgeSeconds>{text}</MaxAgeSeconds>",)
            for text in ("", "-1", "1.5", "a", "\u0665", "2147483648", "9" * 5000)
        ),
    ],
)
def test_what_is_no_configuration_is_malformed(rules: tuple[str, ...]) -> None:
    with pytest.raises(S3Error) as caught:
        read(*rules)
    assert caught.value.s3_code == "MalformedXML"


def test_another_element_in_place_of_a_rule_is_malformed() -> None:
    for data in (b"<CORSConfiguration><Rule/></CORSConfiguration>", b"<Other/>", b"<"):
        with pytest.raises(S3Error) as caught:
            read_xml(data)
        assert caught.value.s3_code == "MalformedXML"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        *(
            (
                f"<AllowedOrigin>*</AllowedOrigin><AllowedMethod>{method}</AllowedMethod>",
                "Found unsupported HTTP method in CORS config. Unsupported method is " + method,
            )
            for method in ("", "PATCH", "OPTIONS", "get", "*")
        ),
        (
            "<AllowedOrigin>http://*.*.a</AllowedOrigin><AllowedMethod>GET</AllowedMethod>",
            'AllowedOrigin "http://*.*.a" can not have more than one wildcard.',
        ),
        (
            MINIMAL + "<AllowedHeader>**</AllowedHeader>",
            'AllowedHeader "**" can not have more than one wildcard.',
        ),
        (
            MINIMAL + "<ExposeHeader>ETag</ExposeHeader><ExposeHeader>x-*</ExposeHeader>",
            'ExposeHeader "x-*" contains wildcard. We currently do not support wildcard for '
            "ExposeHeader.",
        ),
        (
            MINIMAL + "<ExposeHeader>a&#13;&#10;Set-Cookie: b</ExposeHeader>",
            'ExposeHeader "a\r\nSet-Cookie: b" contains invalid character.',
        ),
        (
            MINIMAL + "<ExposeHeader>caf\u00e9</ExposeHeader>",
            'ExposeHeader "caf\u00e9" contains invalid character.',
        ),
        (MINIMAL + f"<ID>{LONGEST_ID}i</ID>", "The ID of a rule may have 255 characters."),
    ],
)
def test_what_s3_does_not_take_is_told_in_its_words(rule: str, message: str) -> None:
    with pytest.raises(S3Error) as caught:
        read(MINIMAL, rule)
    assert (caught.value.s3_code, caught.value.message) == ("InvalidRequest", message)


def test_the_most_that_may_be() -> None:
    assert len(read(*[f"{MINIMAL}<ID>{LONGEST_ID}</ID>"] * 100).rules) == 100
    with pytest.raises(S3Error, match="should not exceed allowed limit of 100 rules"):
        read(*[MINIMAL] * 101)


def fields_of(origin: str, method: str, asked: str = "", *rules: CorsRule) -> dict[str, str] | None:
    found = CorsRules(BucketCors(rules or FULL.rules)).fields(origin, method, asked)
    if found is None:
        return None
    assert len({name for name, _ in found}) == len(found)
    return {name.removeprefix("Access-Control-"): value for name, value in found}


def test_the_rule_that_fits_says_what_the_answer_has() -> None:
    assert fields_of("https://a.example", "PUT", "X-Amz-Date,  content-TYPE,") == {
        "Allow-Origin": "https://a.example",
        "Allow-Methods": "PUT, GET",
        "Allow-Headers": "x-amz-date, content-type",
        "Expose-Headers": "ETag, x-amz-meta-a",
        "Max-Age": "3000",
        "Allow-Credentials": "true",
        "Vary": VARY,
    }
    assert fields_of("https://a.example", "HEAD") == {
        "Allow-Origin": "*",
        "Allow-Methods": "HEAD",
        "Vary": VARY,
    }


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("*suffix", ["suffix", "foo.suffix"], ["foo.suffix.get", "suffi"]),
        (
            "start*end",
            ["startend", "start1end", "start*end"],
            ["0start1end", "startend1", "staend"],
        ),
        ("prefix*", ["prefix", "prefix.suffix"], ["bla.prefix", "PREFIX"]),
        ("aa*aa", ["aaaa", "aaaaa"], ["aaa", "aa"]),
        ("https://a.b", ["https://a.b"], ["https://A.b", "https://a.b/", "https://a.b:443", "a.b"]),
        ("null", ["null"], ["", "*"]),
    ],
)
def test_a_wildcard_stands_for_any_text_or_none(
    pattern: str, fitting: list[str], others: list[str]
) -> None:
    rule = CorsRule((pattern,), ("GET",))
    for origin in fitting:
        found = fields_of(origin, "GET", "", rule)
        assert found is not None
        assert (found["Allow-Origin"], found["Allow-Credentials"]) == (origin, "true")
    for origin in others:
        assert fields_of(origin, "GET", "", rule) is None


def test_an_asterisk_beside_other_origins_is_for_anybody() -> None:
    found = fields_of("https://a", "GET", "", CorsRule(("https://a", "*"), ("GET",)))
    assert found is not None
    assert found["Allow-Origin"] == "*"
    assert "Allow-Credentials" not in found


@pytest.mark.parametrize(
    ("method", "asked", "fits"),
    [
        ("GET", "", True),
        ("POST", "", False),
        ("get", "", False),
        ("GET", "content-type", True),
        ("GET", "CONTENT-TYPE , x-amz-", True),
        ("GET", "content-type, other", False),
        ("GET", " , ,", True),
        ("GET", ",".join(["x-amz-a"] * 128), True),
        ("GET", ",".join(["x-amz-a"] * 129), False),
    ],
)
def test_all_that_is_asked_for_has_to_be_allowed(method: str, asked: str, fits: bool) -> None:
    rule = CorsRule(("*",), ("GET",), ("x-amz-*", "Content-Type"))
    assert (fields_of("a", method, asked, rule) is not None) == fits


def test_a_rule_that_names_no_headers_allows_none() -> None:
    assert fields_of("a", "GET", "x-a", CorsRule(("*",), ("GET",))) is None
    assert fields_of("a", "GET", "", CorsRule(("*",), ("GET",))) is not None


def test_the_first_rule_that_fits_decides() -> None:
    rules = (
        CorsRule(("a",), ("GET",), ("x-a",), max_age_s=1),
        CorsRule(("*",), ("GET",), ("*",), max_age_s=2),
    )
    for origin, asked, age in (("a", "", "1"), ("a", "x-b", "2"), ("b", "x-a", "2")):
        found = fields_of(origin, "GET", asked, *rules)
        assert found is not None
        assert found["Max-Age"] == age


def test_the_worst_rules_take_some_milliseconds() -> None:
    patterns = tuple(f"{number:03x}*z" for number in range(1500))  # about 64 KiB of XML
    rules = CorsRules(BucketCors((CorsRule(("*",), ("GET",), (*patterns, "*y")),)))
    asked = ",".join(["fff" + "x" * 100 + "y"] * 128)
    before = time.process_time()
    assert rules.fields("a", "GET", asked) is not None
    assert time.process_time() - before < 0.5


@pytest.mark.parametrize(
    "rules",
    [
        FULL.rules,
        (CorsRule(("*",), ("GET",)),),
        tuple(CorsRule((f"{number}",), ("GET",), max_age_s=number) for number in range(1000, 1100)),
        tuple(CorsRule((f"*{number}",), ("GET",), ("*",), ("a",)) for number in range(100)),
        (CorsRule(("*",), ("GET",), tuple(f"{number:x}*{number:x}" for number in range(2000))),),
        (CorsRule(("*",), ("GET",), tuple(f"{number:x}" for number in range(2000))),),
        (CorsRule(tuple(f"{number:x}*" for number in range(2000)), ("GET",)),),
        (CorsRule(("",) * 2000, ("GET",) * 500, ("",) * 9, ("",) * 99),),
    ],
    ids=range(8),
)
def test_rules_take_no_more_memory_than_they_count(rules: tuple[CorsRule, ...]) -> None:
    stored = cors.to_document(BucketCors(rules))
    cors.KIND.read(stored)  # what is made once for all
    tracemalloc.start()
    try:
        kept = [cors.KIND.read(stored) for _ in range(8)]
        taken = tracemalloc.get_traced_memory()[0] // len(kept)
    finally:
        tracemalloc.stop()
    assert taken <= cors.KIND.cost_bytes(stored)
